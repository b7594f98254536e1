package streams

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// A Stream is one request and its answer. One goroutine may read it while
// another one writes; Tie and Untie are its owner's. Reset, Cut, StopRead, Err,
// SetTimeout and SetDeadline may be called at any time before it is closed;
// SetPatience is the writer's.
type Stream struct {
	conn *conn
	core h2.Stream // guarded, as all below, by conn.mu

	body     body
	over     bool // the peer ended the stream; what is in body is the rest
	bodyless bool // … with the head already
	held     int  // bytes, as conn knows
	at       int  // in conn.all
	waited   bool // a reader was there before the data
	deaf     bool // nobody reads any more
	readable sync.Cond
	writable sync.Cond
	queued   bool // in conn.queue

	err     error // why the stream ended early
	stopped error // why nothing more can be sent

	tied    Cutter
	cutting bool // tied is being cut

	timeout  time.Duration
	active   int64         // on conn.clock
	patience time.Duration // the sender's
	waiting  bool          // Send waits for room
	deadline time.Time
	timer    *time.Timer
	armed    bool // the timer may call still
}

// A Cutter is what else ends when a stream does: a *transport.Conn or another
// Stream.
type Cutter interface{ Cut() }

func newStream() *Stream {
	s := new(Stream)
	s.core.Owner = s
	return s
}

// begin makes s a stream of c, which is locked.
func (s *Stream) begin(c *conn) {
	s.conn = c
	s.readable.L, s.writable.L = &c.mu, &c.mu
	s.active = c.clock
	c.enlist(s)
	c.busy()
}

// Head is the text of the request. It is a server's stream's, and good until
// that is closed.
func (s *Stream) Head() []byte { return s.core.Text }

// Fault says why a request must be refused though its head is well formed: it is
// too large, and Head holds only the beginning. It is nil for all others.
func (s *Stream) Fault() *h1.Error { return s.core.Large }

// Bodyless reports whether a request ended with its head.
func (s *Stream) Bodyless() bool { return s.bodyless }

// HTTPS reports whether the scheme of a request is https.
func (s *Stream) HTTPS() bool { return s.core.HTTPS }

// ID is the number of the stream on its connection.
func (s *Stream) ID() uint32 { return s.core.ID }

// ReadHead waits for a head of the answer and appends all that have come to dst:
// interim ones and the final one, one after the other.
func (s *Stream) ReadHead(dst []byte) ([]byte, error) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(s.core.Text) == 0 {
		switch {
		case s.err != nil:
			return dst, s.err
		case s.over:
			return dst, io.ErrUnexpectedEOF // ReadHead after the final one
		}
		s.readable.Wait()
	}
	dst = append(dst, s.core.Text...)
	s.core.Text = s.core.Text[:0]
	return dst, nil
}

// ReadNow is Read of what is there, without waiting. ended says that it is all
// there is to come: Trailers then holds what came last.
func (s *Stream) ReadNow(p []byte) (n int, ended bool) {
	c := s.conn
	c.lock()
	defer c.unlock()
	if s.err != nil || s.deaf {
		return 0, false
	}
	if s.body.n > 0 {
		n = s.body.read(p, c.mem)
		c.charge(s)
		c.core.Consumed(&s.core, n, false)
	}
	return n, s.over && s.body.n == 0
}

// Readable reports whether a Read would return at once.
func (s *Stream) Readable() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.hasSay()
}

// WaitReadable parks until a Read would return at once. Its error is always nil:
// how the stream ended is the Read's to tell.
func (s *Stream) WaitReadable() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	for !s.hasSay() {
		s.waited = true
		s.readable.Wait()
	}
	return nil
}

func (s *Stream) hasSay() bool { return s.body.n > 0 || s.err != nil || s.over || s.deaf }

// Read reads of the body. It returns io.EOF once the peer has ended the stream
// in order; Trailers then holds what it sent last.
func (s *Stream) Read(p []byte) (int, error) {
	c := s.conn
	c.lock()
	defer c.unlock()
	for s.body.n == 0 || s.deaf {
		switch {
		case s.err != nil:
			return 0, s.err
		case s.deaf:
			return 0, ErrCut
		case s.over:
			return 0, io.EOF
		case len(p) == 0:
			return 0, nil
		}
		s.waited = true
		s.readable.Wait()
	}
	if s.err != nil {
		return 0, s.err
	}
	n := s.body.read(p, c.mem)
	c.charge(s)
	c.core.Consumed(&s.core, n, s.waited)
	s.waited = false
	return n, nil
}

// StopRead makes a Read that waits return at once, and every later one, with
// ErrCut. What is sent goes on. It may be called at any time before the stream is
// closed.
func (s *Stream) StopRead() {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.deaf = true
	s.readable.Broadcast()
}

// Err is why the stream ended early; nil if it did not.
func (s *Stream) Err() error {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.err
}

// Ended reports whether a Read would return io.EOF at once.
func (s *Stream) Ended() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.over && s.body.n == 0 && s.err == nil
}

// Trailers are the field lines of the trailer, each ended by CR LF, once Read has
// returned io.EOF. They are good until the stream is closed.
func (s *Stream) Trailers() []byte { return s.core.Trailer }

// Send sends a header block, if there is one, and then data, and with end ends
// our direction. A block by itself that ends it is a trailer if data or a final
// head went before. What fits in the windows of the peer goes out together; for
// the rest it waits. It keeps neither slice, and returns how much of p was taken.
func (s *Stream) Send(block, p []byte, end bool) (n int, err error) {
	c := s.conn
	c.lock()
	defer c.unlock()
	if err := s.sendable(); err != nil {
		return 0, err
	}
	s.active = c.clock
	if len(block) > 0 {
		if err := s.waitForHead(); err != nil {
			return 0, err
		}
		c.core.Headers(&s.core, block, end && len(p) == 0)
		if len(p) == 0 {
			return 0, nil
		}
	} else if len(p) == 0 {
		if end {
			c.core.Data(&s.core, nil, true)
		}
		return 0, nil
	}
	return s.send(p, end)
}

// Write is Send for data alone.
func (s *Stream) Write(p []byte) (int, error) { return s.Send(nil, p, false) }

// CloseWrite ends our direction.
func (s *Stream) CloseWrite() error {
	_, err := s.Send(nil, nil, true)
	return err
}

// sendable returns why nothing can be sent any more.
func (s *Stream) sendable() error {
	switch {
	case s.err != nil:
		return s.err
	case s.stopped != nil:
		return s.stopped
	case s.core.LocalEnd:
		return errSentEnd
	}
	return nil
}

var errSentEnd = fmt.Errorf("the end of the stream was sent before: %w", io.ErrClosedPipe)

// send sends data while the windows and the buffer have room, waiting otherwise.
func (s *Stream) send(p []byte, end bool) (n int, err error) {
	c := s.conn
	defer c.next()
	for {
		k := min(len(p)-n, turn, c.core.Room(&s.core), c.most()-len(c.core.Out))
		if k > 0 {
			last := n+k == len(p)
			c.core.Data(&s.core, p[n:n+k], end && last)
			n += k
			s.active = c.clock
			if last {
				return n, nil
			}
			if len(c.queue) == 0 {
				continue
			}
		}
		c.next()
		c.kick()
		s.waitForRoom()
		if err := s.sendable(); err != nil {
			return n, err
		}
	}
}

// waitForHead waits until a header block finds room, which no window grants.
func (s *Stream) waitForHead() error {
	c := s.conn
	for len(c.core.Out) >= maxOut {
		c.kick()
		s.waiting = true
		if s.patience > 0 {
			c.expect(s, s.patience)
		}
		c.roomy.Wait()
		s.waiting = false
		if err := s.sendable(); err != nil {
			return err
		}
	}
	return nil
}

func (s *Stream) waitForRoom() {
	c := s.conn
	s.waiting = true
	if s.patience > 0 {
		c.expect(s, s.patience)
	}
	if c.core.Blocked(&s.core) {
		s.writable.Wait()
	} else {
		c.await(s)
	}
	s.waiting = false
}

// Reset ends the stream at once, in both directions.
func (s *Stream) Reset(code h2.Code) {
	c := s.conn
	c.lock()
	defer c.unlock()
	s.end(ErrCut, code)
}

// Cut ends the stream because nobody wants it any more, so that whoever waits on
// it wakes.
func (s *Stream) Cut() { s.Reset(h2.Cancel) }

// end ends the stream because of err, unless it has ended. The peer is told code
// if it does not know.
func (s *Stream) end(err error, code h2.Code) {
	c := s.conn
	c.core.Abort(&s.core, code)
	if s.err != nil {
		return
	}
	s.err = err
	s.readable.Broadcast()
	s.writable.Broadcast()
	c.roomy.Broadcast()
	if s.tied != nil {
		s.cutting = true
		c.cuts = append(c.cuts, s)
	}
}

// Tie says that what the owner of s may now be waiting for ends together with s:
// with is cut when the peer resets the stream or its connection ends, or a time
// runs out. It is cut at once if that has happened. A tie is ended by Untie.
func (s *Stream) Tie(with Cutter) {
	c := s.conn
	c.lock()
	defer c.unlock()
	s.tied = with
	if s.err != nil {
		s.cutting = true
		c.cuts = append(c.cuts, s)
	}
}

// Untie ends a tie. It reports whether there was one still: false says that what
// was tied has been cut, if there was anything; Untie has waited for that.
func (s *Stream) Untie() bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	for s.cutting {
		s.readable.Wait()
	}
	held := s.tied != nil
	s.tied = nil
	return held
}

// cut cuts what was tied; conn.mu is not held.
func (s *Stream) cut() {
	c := s.conn
	c.mu.Lock()
	with := s.tied
	c.mu.Unlock()
	defer c.rescue()
	defer func() {
		c.mu.Lock()
		s.tied, s.cutting = nil, false
		s.readable.Broadcast()
		c.mu.Unlock()
	}()
	if with != nil {
		with.Cut()
	}
}

// SetTimeout ends the stream if nothing moves on it for d, in either direction;
// 0 means never. It is coarse: up to 300 ms late below 10 s, up to 3 s above.
func (s *Stream) SetTimeout(d time.Duration) {
	c := s.conn
	c.mu.Lock()
	defer c.mu.Unlock()
	s.timeout = d
	c.expect(s, d)
}

// SetPatience is SetTimeout for the time in which Send waits for room alone. It
// costs nothing where there is room, and is the sender's to call.
func (s *Stream) SetPatience(d time.Duration) { s.patience = d }

// SetDeadline ends the stream at t; the zero t means never.
func (s *Stream) SetDeadline(t time.Time) {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	s.deadline = t
	switch {
	case t.IsZero():
		s.disarm()
	case s.timer == nil:
		s.armed = true
		s.timer = time.AfterFunc(time.Until(t), s.late)
	default:
		if s.disarm(); s.armed {
			s.timer = time.AfterFunc(time.Until(t), s.late) // the other one is calling
		} else {
			s.armed = true
			s.timer.Reset(time.Until(t))
		}
	}
}

// disarm stops the timer, unless it has called already.
func (s *Stream) disarm() {
	if s.armed && s.timer.Stop() {
		s.armed = false
	}
}

// errLate is what a stream ends with whose deadline or timeout is over.
var errLate = fmt.Errorf("the time of the stream is over: %w", os.ErrDeadlineExceeded)

// late is called by the timer, perhaps after s was closed.
func (s *Stream) late() {
	c := s.conn
	defer c.rescue()
	c.lock()
	defer c.unlock()
	if !s.deadline.IsZero() && !time.Now().Before(s.deadline) {
		s.end(errLate, h2.Cancel)
	}
}

// serve has the handler of a server serve s, on a goroutine of the crew.
func (s *Stream) serve() {
	c := s.conn
	defer c.work.Done()
	defer c.rescue()
	c.handle(s)
	s.Close()
}

// Close gives the stream up, which must not be used any more. If it has not
// ended, it is reset. A server's handler need not call it.
func (s *Stream) Close() {
	m := s.conn.mem
	if s.close() {
		m.streams.Put(s)
	}
}

// close reports whether s may be used again.
func (s *Stream) close() (again bool) {
	c := s.conn
	c.lock()
	defer c.unlock()
	for s.cutting {
		s.readable.Wait()
	}
	s.disarm()
	again = !s.armed // a timer that calls still needs s as it is
	c.core.Release(&s.core)
	s.forget()
	c.discharge(s)
	c.released()
	s.core.Reset()
	s.over, s.bodyless, s.waited, s.deaf, s.queued = false, false, false, false, false
	s.err, s.stopped, s.tied = nil, nil, nil
	s.timeout, s.patience, s.deadline = 0, 0, time.Time{}
	if again {
		s.conn, s.readable.L, s.writable.L = nil, nil, nil
	}
	return again
}
