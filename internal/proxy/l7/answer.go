package l7

import (
	"context"

	"github.com/fairlead/fairlead/internal/proxy/l4"
)

// respond sends the answer on, whose head is at hand.
func (x *exchange) respond(ctx context.Context) (more bool) {
	p, err := x.up.open()
	if err != nil { // nothing has been sent yet
		return x.fail(ctx, err)
	}
	x.dress()
	if x.resp.Status == 101 || x.resp.Tunnel {
		return x.relay(ctx, p)
	}
	x.size.begin(&x.resp.Fields)
	if err := x.size.take(p); err != nil {
		return x.fail(ctx, err)
	}
	if !x.whole && !x.upload.running { // nobody reads the rest, and nobody will
		x.caller.giveUp()
	}
	if x.upload.running { // a conversation has its own pace
		x.server.paces.remove(&x.upload.pace)
	}
	x.answered()
	if err := x.start(p); err != nil {
		return x.broken(ctx, err)
	}
	if !p.last {
		if err := x.passDown(); err != nil {
			return x.broken(ctx, err)
		}
	}
	x.letGo(x.settleUpload())
	return x.finish()
}

// start sends the head of the answer and the first of its body.
func (x *exchange) start(p piece) error {
	x.started = true
	x.renew() // the wait for the endpoint begins anew after each piece
	err := x.caller.answer(&x.resp, x.answer, p)
	if err == nil {
		x.rec.Sent += int64(len(p.data))
		x.showTrailer(p)
	}
	return err
}

// passDown passes the rest of the body on.
func (x *exchange) passDown() (err error) {
	b := x.server.buffers.Get().(*buffer)
	if !x.isGRPC() {
		x.pace.begin(x.server, true, x.caller.stopWriting)
	}
	defer func() {
		x.server.putBuffer(b)
		if late := x.pace.end(); late {
			err = errSlow
		}
	}()
	for {
		x.renew()
		x.server.rest(x.up, &b)
		p, err := x.up.read(b)
		if err == nil {
			err = x.size.take(p)
		}
		if err != nil {
			return err
		}
		x.renew()
		x.pace.wait(len(p.data))
		err = x.caller.write(b, p)
		if inTime := x.pace.moved(0); err == nil && !inTime {
			err = errSlow
		}
		if err != nil {
			return err
		}
		x.rec.Sent += int64(len(p.data))
		x.showTrailer(p)
		if p.last {
			return nil
		}
	}
}

// broken ends an exchange whose answer cannot be completed.
func (x *exchange) broken(ctx context.Context, cause error) (more bool) {
	x.breakOff(ctx, cause)
	x.caller.abort(cause)
	return x.finish()
}

// relay turns both sides into a WebSocket or a tunnel, until that ends. p is what has
// come of it from the endpoint.
func (x *exchange) relay(ctx context.Context, p piece) (more bool) {
	x.answered()
	if err := x.start(p); err != nil {
		return x.broken(ctx, err)
	}
	r, up := &x.rec, x.up.hijack()
	down, ahead := x.caller.hijack()
	if len(ahead) > 0 {
		if _, err := up.Write(ahead); err != nil {
			return x.broken(ctx, err)
		}
		r.Received += int64(len(ahead))
	}
	// A drain is not the end of a conversation that has no requests to stop
	// between: the listener cuts what is left at its deadline.
	x.caller.untie() // the relay sees to both ends itself
	x.stopTimer()
	x.up.setTimeout(0) // it keeps their time too
	sent, received, err := l4.Relay(ctx, down, up)
	r.Received += sent
	r.Sent += received
	switch {
	case err != nil && ctx.Err() != nil:
		x.judge(cutByDrain, waited(cut(ctx)))
	case err != nil:
		r.Err = err.Error()
	}
	x.letGo(false)
	return x.finish()
}
