package l7

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"
)

// Why a body did not get through.
var (
	errGone     = errors.New("the caller went away")
	errReset    = fmt.Errorf("%w: it reset the stream", errGone)
	errUpload   = errors.New("the body breaks HTTP")
	errUpstream = errors.New("the endpoint stopped reading")
	errStopped  = errors.New("the answer was over first")
	errPanic    = errors.New("panic")
	errOurs     = errors.New("the proxy closed the connection of its caller")
	errCut      = errors.New("the drain is over")
)

// An upload is the body of a request on its way to the endpoint, from the
// moment a goroutine takes it over until done is received from. Between these
// the goroutine owns size, err and received, reads from the caller and writes to the
// upstream; once last is set it leaves what was kept alone.
type upload struct {
	done     chan struct{}
	size     measure // what passed so far
	pace     pace
	running  bool
	stopping atomic.Bool
	last     atomic.Bool // the last piece is at hand or gone
	err      error       // why it did not get through; nil: it did
	received int64

	keeps   bool   // all of the body so far is in kept, to be sent once more if need be
	kept    []byte // with what came with the head
	trailer []byte
	ended   time.Time // when the last piece came
}

// maxReplay bounds a body that is kept while it passes.
const maxReplay = 16 << 10

// keep keeps one more piece, while there is room.
func (u *upload) keep(p piece) {
	if u.keeps = u.keeps && len(u.kept)+len(p.data) <= maxReplay; u.keeps {
		u.kept = append(u.kept, p.data...)
	}
	if p.last {
		u.trailer, u.ended = p.trailer, time.Now()
	}
}

// atHand reports whether all of the body was kept.
func (u *upload) atHand() bool { return u.last.Load() && u.keeps }

func (u *upload) reset() {
	u.running, u.err, u.received = false, nil, 0
	u.pace.reset()
	u.keeps, u.trailer = false, nil
	if cap(u.kept) > maxKept {
		u.kept = nil
	}
	u.stopping.Store(false)
	u.last.Store(false)
}

// startUpload begins to pass the rest of the request's body on: what is left of the
// first piece, and what follows it.
func (x *exchange) startUpload(left piece) {
	x.upload.running = true
	x.upload.last.Store(left.last)
	if streams := x.toH2 != nil && x.up == upstream(x.toH2); streams && !x.first.last { // no other can say that it did not look at it
		x.upload.keeps, x.upload.kept = true, x.upload.kept[:0]
		x.upload.keep(piece{data: x.first.data})
	}
	if !left.last && !x.isGRPC() { // calls may be silent, and have deadlines
		begun := len(x.first.data) > 0 // else it may wait for a word, as that to go on (100)
		x.upload.pace.begin(x.server, begun, x.caller.stopReading)
	}
	go x.passUp(x.caller, x.up, left)
}

// passUp is the goroutine of an upload.
func (x *exchange) passUp(from caller, to upstream, left piece) {
	u := &x.upload
	b := x.server.buffers.Get().(*buffer)
	defer func() {
		if p := recover(); p != nil {
			x.server.crashed(p, string(x.rec.Path))
			u.err = fmt.Errorf("%w: %v", errPanic, p)
		}
		if late := u.pace.end(); late && !errors.Is(u.err, errPanic) {
			u.err = errSlow
		}
		if u.err != nil && !errors.Is(u.err, errUpstream) && !u.stopping.Load() {
			to.Cut() // the answer, if it still comes, answers half a request
		}
		x.server.putBuffer(b)
		u.done <- struct{}{}
	}()
	if !left.none() && to.write(b, left) != nil {
		u.err = errUpstream
		return
	}
	for last := left.last; !last; {
		u.pace.wait(0)
		x.server.rest(from, &b)
		p, err := from.read(b)
		if inTime := u.pace.moved(len(p.data)); !inTime {
			u.err = errSlow
			return
		}
		if err == nil {
			if err = u.size.take(p); err != nil {
				err = fmt.Errorf("%w: %w", errUpload, err)
			}
		}
		if err != nil {
			u.err = err
			if errors.Is(err, errGone) && u.stopping.Load() {
				u.err = errStopped
			}
			return
		}
		u.received += int64(len(p.data))
		u.keep(p)
		if last = p.last; last {
			u.last.Store(true)
			if x.timeout > 0 {
				to.setDeadline(time.Now().Add(x.timeout))
			}
		}
		renew(to, x.manager)
		if to.write(b, p) != nil {
			u.err = errUpstream
			return
		}
	}
}

// recallUpload ends an upload of what is at hand, so that it can be sent once more.
func (x *exchange) recallUpload() {
	if !x.upload.running {
		return
	}
	u := &x.upload
	x.up.Cut()
	<-u.done
	if u.atHand() {
		x.first, x.whole = piece{data: u.kept, last: true, trailer: u.trailer}, true
		x.rec.Received = int64(len(u.kept))
		if u.kept = nil; x.timeout > 0 {
			x.deadline = u.ended.Add(x.timeout)
		}
	}
	u.reset()
}

// stopUpload ends the upload if it runs, and waits for it.
func (x *exchange) stopUpload() {
	if !x.upload.running {
		return
	}
	x.upload.stopping.Store(true)
	x.caller.stopReading()
	x.up.Cut()
	<-x.upload.done
	x.uploaded()
	x.caller.giveUp()
}

// uploaded takes the results of an upload that is over.
func (x *exchange) uploaded() {
	x.upload.running = false
	x.rec.Received += x.upload.received
	x.whole = x.upload.err == nil
}

// settleUpload is called when the answer is over. It reports whether the whole
// request went out; if it did not, the upload is ended, and with it the try and
// what the caller still sends.
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
	x.up.setDeadline(time.Now().Add(lingerIdle))
	<-u.done
	x.uploaded()
	x.up.setDeadline(time.Time{})
	return u.err == nil
}
