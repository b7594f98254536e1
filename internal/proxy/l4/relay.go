package l4

import (
	"context"
	"errors"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// bufferSize is what a piece may have before the bytes count as bulk.
const bufferSize = 16 << 10

// buffers holds *[bufferSize]byte between the pieces of all relays.
var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// Relay passes bytes both ways until both directions ended, half-close
// included, and closes a and b. A reset of one end resets the other. It is
// l7's way to end an upgrade too. ctx ending resets both at once; so does an
// hour in which no byte moved. It returns the bytes moved from a to b and back.
func Relay(ctx context.Context, a, b *transport.Conn) (sent, received int64, err error) {
	p := &pair{a: a, b: b, idle: IdleTimeout}
	r := p.run(ctx)
	return r.there, r.back, r.err
}

// A result is how a relay ended.
type result struct {
	there, back int64 // bytes from a to b, and from b to a
	err         error // nil: both directions ended in order
	far         bool  // it was b that failed
}

// A pair is what the two directions of one relay share.
type pair struct {
	a, b *transport.Conn
	idle time.Duration
	// whole says that the pair has every byte that the two have carried.
	whole bool

	mu  sync.Mutex
	err error // guarded by mu; the first failure
	far bool  // guarded by mu; it was b's
}

// relay is Relay for connections on which nothing was said elsewhere.
func relay(ctx context.Context, a, b *transport.Conn, idle time.Duration) result {
	p := &pair{a: a, b: b, idle: idle, whole: true}
	return p.run(ctx)
}

func (p *pair) run(ctx context.Context) result {
	a, b := p.a, p.b
	failed := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(failed)
		p.fail(context.Cause(ctx), false)
	})
	defer func() {
		if !stop() {
			<-failed // whose ends are not to be touched any more once we return
		}
	}()
	p.renew()
	there, back := newHalf(p, b, a), newHalf(p, a, b)
	var wg sync.WaitGroup
	wg.Go(back.run)
	there.run()
	wg.Wait()

	// Where an end was reset, fail has done it. Otherwise all that could be
	// delivered is on its way, and an orderly end lets it arrive.
	_, _ = a.Close(), b.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	return result{there: there.moved, back: back.moved, err: p.err, far: p.far}
}

// renew counts both ends as alive: a relay is idle only as a whole.
func (p *pair) renew() {
	p.a.SetTimeout(p.idle)
	p.b.SetTimeout(p.idle)
}

// fail ends the relay at once because of err; far says that it was b's.
func (p *pair) fail(err error, far bool) {
	p.note(err, far)
	p.reset()
}

// failed reports whether c is an end that failed.
func (p *pair) failed(c *transport.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err != nil && p.far == (c == p.b)
}

// note remembers the first failure.
func (p *pair) note(err error, far bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.err == nil {
		p.err, p.far = err, far
	}
}

func (p *pair) reset() {
	_, _ = p.a.Reset(), p.b.Reset() // a Conn that is closed already needs no more
}

// A half is one direction of a relay.
type half struct {
	pair     *pair
	dst, src *transport.Conn
	moved    int64
	bulk     *bulk // nil: bytes can only be copied
}

func newHalf(p *pair, dst, src *transport.Conn) *half {
	h := &half{pair: p, dst: dst, src: src}
	from, readable := src.Raw()
	to, writable := dst.Raw()
	if readable && writable {
		h.bulk = newBulk(to, from)
	}
	return h
}

// run moves bytes until the source ended or something failed, and passes on
// which of the two it was.
func (h *half) run() {
	if head := h.src.TakeBuffered(); len(head) > 0 && !h.write(head) {
		return
	}
	for {
		err := h.src.WaitReadable()
		if err == nil {
			err = h.step()
		}
		switch {
		case err == nil:
		case errors.Is(err, errWrite):
			return
		case errors.Is(err, io.EOF) && h.torn():
			h.pair.fail(syscall.ECONNRESET, h.src == h.pair.b)
			return
		case errors.Is(err, io.EOF):
			// It fails only if dst is gone, which the other direction notices.
			_ = h.dst.CloseWrite()
			return
		default:
			h.pair.fail(err, h.src == h.pair.b)
			return
		}
	}
}

// errWrite says that dst took no more; write has noted why.
var errWrite = errors.New("destination failed")

// step moves what is there to read.
func (h *half) step() error {
	full, err := h.copyOnce()
	if err != nil || !full || h.bulk == nil {
		return err
	}
	return h.spliceAll()
}

// copyOnce moves one bufferful and reports whether there may be more.
func (h *half) copyOnce() (full bool, err error) {
	buf, _ := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	n, err := h.src.Read(buf[:])
	if n > 0 && !h.write(buf[:n]) {
		return false, errWrite
	}
	return n == len(buf), err
}

// spliceAll moves bytes within the kernel until none are waiting.
func (h *half) spliceAll() error {
	p, err := getPipe()
	if err != nil {
		h.bulk = nil // no descriptors left for a pipe: go on by copying
		return nil
	}
	defer func() { p.release() }()
	for {
		n, err := h.bulk.pull(p)
		if errors.Is(err, syscall.EAGAIN) {
			return nil
		}
		if errors.Is(err, syscall.EINVAL) {
			h.bulk = nil // this kind of socket does not splice
			return nil
		}
		if err != nil {
			return h.explain(err)
		}
		h.pair.renew()
		for p.held > 0 {
			h.dst.BeginWrite()
			m, err := h.bulk.push(p)
			h.dst.EndWrite(err)
			h.moved += int64(m)
			if err != nil {
				h.failWrite(h.explain(err))
				return errWrite
			}
			h.pair.renew()
		}
		if n == 0 {
			return h.src.Ended()
		}
	}
}

// write writes all of b to dst, or notes why it could not.
func (h *half) write(b []byte) bool {
	h.pair.renew()
	n, err := h.dst.Write(b)
	h.moved += int64(n)
	if err != nil {
		h.failWrite(err)
		return false
	}
	h.pair.renew()
	return true
}

// failWrite ends this direction. The other goes on: what dst said before it
// went is still to be delivered, and how it went is read there.
func (h *half) failWrite(err error) {
	h.pair.note(err, h.dst == h.pair.b)
}

// explain makes errors from below the Conns look like theirs.
func (h *half) explain(err error) error {
	if h.src.TimedOut() || h.dst.TimedOut() {
		return os.ErrDeadlineExceeded
	}
	return err
}

// Plain is the cause of err in the system's words: "connection reset by peer".
func Plain(err error) string {
	var dial *cluster.DialError
	if errors.As(err, &dial) {
		return dial.Cause
	}
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno.Error()
	}
	return err.Error()
}
