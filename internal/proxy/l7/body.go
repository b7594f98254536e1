package l7

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/l4"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// Why a body did not get through.
var (
	errGone     = errors.New("the caller went away")
	errUpload   = errors.New("the body breaks HTTP")
	errUpstream = errors.New("the endpoint stopped reading")
	errStopped  = errors.New("the answer was over first")
	errPanic    = errors.New("panic")
	errCut      = errors.New("the drain is over")
)

// room is left before and after the data of a piece for its chunk framing.
const room = 24

// frame makes a chunk of b[room:room+n] in place, the last of its body if last
// says so, and returns it. n may be 0 only if last.
func (b *buffer) frame(n int, last bool) []byte {
	end := room + n
	from := room
	if n > 0 {
		var size [room]byte
		s := h1.AppendChunkSize(size[:0], n)
		from -= len(s)
		copy(b[from:], s)
		end += copy(b[end:], "\r\n")
	}
	if last {
		end += copy(b[end:], h1.LastChunk)
	}
	return b[from:end]
}

// startUpload begins to pass the rest of the request's body on.
func (x *exchange) startUpload() {
	x.upload.running = true
	go x.passUp(x.conn.down, x.up)
}

// passUp is the goroutine of an upload.
func (x *exchange) passUp(down, up *transport.Conn) {
	u := &x.upload
	b := x.server.buffers.Get().(*buffer)
	defer func() {
		if p := recover(); p != nil {
			x.server.crashed(p, string(x.rec.Path))
			u.err = fmt.Errorf("%w: %v", errPanic, p)
		}
		if u.err != nil && !errors.Is(u.err, errUpstream) && !u.stopping.Load() {
			_ = up.Close() // the answer, if it still comes, answers half a request
		}
		x.server.buffers.Put(b)
		u.done <- struct{}{}
	}()
	for last := false; !last; {
		data := b[room : len(b)-room]
		if x.req.Framing == h1.Length {
			data = data[:min(int64(len(data)), x.left)]
		}
		n, err := down.Read(data)
		if n == 0 && err != nil {
			u.err = errGone
			if u.stopping.Load() {
				u.err = errStopped
			}
			return
		}
		var piece []byte
		if piece, last, u.err = x.repack(b, n); u.err != nil {
			return
		}
		if last {
			u.last.Store(true)
			if x.timeout > 0 {
				_ = up.SetDeadline(time.Now().Add(x.timeout)) // fails on a closed conn alone
			}
		}
		if len(piece) == 0 {
			continue
		}
		renew(up, x.conn.manager)
		if _, err := up.Write(piece); err != nil {
			u.err = errUpstream
			return
		}
	}
}

// repack makes what was read into what is sent on.
func (x *exchange) repack(b *buffer, n int) (piece []byte, last bool, err error) {
	if x.req.Framing == h1.Length {
		x.left -= int64(n)
		x.upload.received += int64(n)
		return b[room : room+n], x.left == 0, nil
	}
	size, used, err := x.dec.Compact(b[room : room+n])
	if err != nil {
		return nil, false, fmt.Errorf("%w: %w", errUpload, err)
	}
	x.upload.received += int64(size)
	if last = x.dec.Done(); last && used < n {
		x.upload.spill = bytes.Clone(b[room+used : room+n])
	}
	if size == 0 && !last {
		return nil, false, nil
	}
	return b.frame(size, last), last, nil
}

// stopUpload ends the upload if it runs, and waits for it.
func (x *exchange) stopUpload() {
	u := &x.upload
	if !u.running {
		return
	}
	u.stopping.Store(true)
	_ = x.conn.down.SetReadDeadline(time.Unix(1, 0)) // both fail on a closed conn alone
	_ = x.up.Close()
	<-u.done
	x.uploaded()
	x.closing, x.linger = true, true
}

// uploaded takes the results of an upload that is over.
func (x *exchange) uploaded() {
	x.upload.running = false
	x.rec.Received += x.upload.received
	x.whole = x.upload.err == nil
}

// settleUpload is called when the answer is over. It reports whether the whole
// request went out; if it did not, the upload is ended, and with it the
// connections on both sides.
func (x *exchange) settleUpload() bool {
	u := &x.upload
	if !u.running {
		return x.whole
	}
	if !u.last.Load() {
		x.stopUpload()
		return false
	}
	// The last piece is being written; an endpoint that has answered but does
	// not read it gets a moment.
	_ = x.up.SetWriteDeadline(time.Now().Add(lingerIdle)) // fails on a closed conn alone
	<-u.done
	x.uploaded()
	_ = x.up.SetWriteDeadline(time.Time{}) // likewise
	return u.err == nil
}

// blame returns why an exchange broke: what the caller did, if it did anything,
// since the endpoint sees only the consequence.
func (x *exchange) blame(ctx context.Context, cause error) error {
	switch {
	case ctx.Err() != nil:
		return errCut
	case x.conn.down.PeerGone():
		return errGone
	case x.conn.down.TimedOut():
		return os.ErrDeadlineExceeded
	}
	if err := x.upload.err; err != nil && !errors.Is(err, errUpstream) && !errors.Is(err, errStopped) {
		return err
	}
	return cause
}

// A download is the body of an answer on its way to the caller.
type download struct {
	framing h1.Framing // as the endpoint sends it
	chunked bool       // as the caller gets it
	left    int64
	dec     h1.Decoder
	extra   bool // bytes followed that belong to no answer
	over    bool // all of it is at hand
}

// respond sends the answer on, whose head is at hand.
func (x *exchange) respond(ctx context.Context) bool {
	if x.resp.Status == 101 {
		return x.relay(ctx)
	}
	d := download{framing: x.resp.Framing, left: x.resp.Length}
	untold := d.framing == h1.Chunked || d.framing == h1.UntilClose
	d.chunked = untold && x.req.Minor == 1
	if untold && !d.chunked || x.conn.ending.Err() != nil {
		x.closing = true
	}
	if !x.whole && !(x.upload.running && x.upload.last.Load()) {
		// The answer is early: what the caller still sends is the rest of this
		// request, never another one. Nobody may be reading it.
		x.closing, x.linger = true, !x.upload.running
	}
	x.rec.Status, x.rec.Details = x.resp.Status, "via_upstream"
	x.out = x.resp.AppendTo(x.out[:0], x.answer, h1.Reply{
		Chunked: d.chunked, Close: x.closing, KeepAlive: !x.closing && x.req.Minor == 0,
	})
	data, err := d.take(x.answer[x.resp.Len:x.answered])
	if err != nil { // nothing has been sent yet
		return x.fail(ctx, err)
	}
	if !d.chunked {
		x.out = append(x.out, data...)
	} else {
		x.out = appendChunk(x.out, data)
		if d.over {
			x.out = append(x.out, h1.LastChunk...)
		}
	}
	x.started = true
	if err := x.send(x.out); err != nil {
		return x.broken(ctx, err, d.chunked)
	}
	x.rec.Sent += int64(len(data))
	if !d.over {
		if err := x.passDown(&d); err != nil {
			return x.broken(ctx, err, untold && !d.chunked)
		}
	}
	whole := x.settleUpload()
	x.letGo(whole && x.resp.Persistent() && d.framing != h1.UntilClose && !d.extra)
	return x.end()
}

// take takes what was read of the body: it returns the data in it, a part of b.
func (d *download) take(b []byte) ([]byte, error) {
	switch d.framing {
	case h1.NoBody:
		d.over, d.extra = true, len(b) > 0
		return nil, nil
	case h1.Length:
		n := min(d.left, int64(len(b)))
		d.left -= n
		d.over, d.extra = d.left == 0, int(n) < len(b)
		return b[:n], nil
	case h1.Chunked:
		n, used, err := d.dec.Compact(b)
		d.over, d.extra = d.dec.Done(), used < len(b)
		return b[:n], err
	case h1.UntilClose:
	}
	return b, nil
}

// send sends a part of the answer to the caller, which is bounded in how long
// it may take nothing of it. The wait for the endpoint begins anew after it.
func (x *exchange) send(b []byte) error {
	down, idle := x.conn.down, x.conn.manager.StreamIdleTimeout
	if idle > 0 {
		renew(x.up, x.conn.manager)
		down.SetTimeout(idle)
		defer down.SetTimeout(0) // it is not the caller that is waited for
	}
	if _, err := down.Write(b); err != nil {
		return errGone
	}
	return nil
}

// passDown passes the rest of the body on.
func (x *exchange) passDown(d *download) error {
	b := x.server.buffers.Get().(*buffer)
	defer x.server.buffers.Put(b)
	for !d.over {
		renew(x.up, x.conn.manager)
		n, err := x.up.Read(b[room : len(b)-room])
		if n == 0 && err != nil {
			if d.framing != h1.UntilClose || !errors.Is(err, io.EOF) {
				return err
			}
			d.over = true
		}
		data, err := d.take(b[room : room+n])
		if err != nil {
			return err
		}
		if len(data) == 0 && !(d.over && d.chunked) {
			continue
		}
		piece := data
		if d.chunked {
			piece = b.frame(len(data), d.over)
		}
		if err := x.send(piece); err != nil {
			return err
		}
		x.rec.Sent += int64(len(data))
	}
	return nil
}

// broken ends an exchange whose answer cannot be completed. The caller must see
// that: where only the end of the connection would tell, it is a reset.
func (x *exchange) broken(ctx context.Context, cause error, untold bool) bool {
	x.breakOff(ctx, cause)
	x.closing, x.linger = true, false
	if untold {
		_ = x.conn.down.Reset() // the connection is given up either way
	}
	return x.end()
}

// relay turns both connections into a WebSocket, until that ends.
func (x *exchange) relay(ctx context.Context) bool {
	x.closing = true
	r := &x.rec
	r.Status, r.Details = x.resp.Status, "via_upstream"
	early := x.answer[x.resp.Len:x.answered]
	x.out = x.resp.AppendTo(x.out[:0], x.answer, h1.Reply{WebSocket: true})
	x.out = append(x.out, early...)
	x.started = true
	if err := x.send(x.out); err != nil {
		return x.broken(ctx, err, false)
	}
	r.Sent += int64(len(early))
	if ahead := x.in[x.used:x.filled]; len(ahead) > 0 {
		if _, err := x.up.Write(ahead); err != nil {
			return x.broken(ctx, err, false)
		}
		r.Received += int64(len(ahead))
	}
	// A drain is not the end of a conversation that has no requests to stop
	// between: the listener cuts what is left at its deadline.
	x.conn.down.Untie() // the relay sees to both ends itself
	x.stopTimer()
	sent, received, err := l4.Relay(ctx, x.conn.down, x.up)
	r.Received += sent
	r.Sent += received
	if err != nil {
		r.Err = err.Error()
	}
	x.letGo(false)
	return x.end()
}

// dropPrivate keeps what steers the mesh inside it.
func (x *exchange) dropPrivate() {
	for i := range x.req.N() {
		f := x.req.Field(i)
		if f.Kind != h1.Envoy {
			continue
		}
		name := f.Name.In(x.in)
		for _, p := range private {
			if len(p) == len(name) && bytes.EqualFold(name, []byte(p)) {
				x.req.Drop(i)
			}
		}
	}
}
