package streams

import (
	"errors"
	"fmt"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/overload"
)

// slack is by how many bytes the account may be wrong about a connection, so that
// small exchanges do not meet at it.
const slack = 16 << 10

// reserve is what the streams of a connection may always hold, so that one whose
// streams are read goes on whatever others do.
const reserve = 64 << 10

// ErrShort says that a stream was ended, or not opened, because the process holds
// as many bytes for streams as it may.
var ErrShort = errors.New("the proxy holds as much of the bodies of HTTP/2 as it may")

// A ShortError is ErrShort with the numbers.
type ShortError struct{ Held, Limit int64 }

// Error has the numbers in MiB.
func (e *ShortError) Error() string {
	return fmt.Sprintf("%d KiB are held for streams of HTTP/2 that are not read fast enough, and %d KiB may be", e.Held>>10, e.Limit>>10)
}

// Is makes a ShortError ErrShort.
func (*ShortError) Is(target error) bool { return target == ErrShort }

func (m *Memory) short() error { return &ShortError{m.Account.Held(), m.Account.Limit()} }

// windows sets in cfg what fits the memory there is: what one connection may be
// sent on all its streams, unread, makes an account no more than lean.
func (m *Memory) windows(cfg h2.Config) h2.Config {
	limit := m.Account.Limit()
	if limit == 0 {
		return cfg
	}
	streams := int64(cfg.MaxStreams)
	if streams <= 0 {
		streams = h2.DefaultMaxStreams
	}
	cfg.Window = int(min(1<<16-1, max(h2.LeanWindow, limit/4/streams)))
	cfg.Growth = int(min(h2.DefaultGrowth, limit/8+1))
	if m.Account.Level() >= overload.Lean {
		cfg.Window = h2.LeanWindow
	}
	return cfg
}

// measure takes in how full the account is.
func (c *conn) measure() {
	c.level = c.mem.Account.Level()
	c.core.Lean = c.level >= overload.Lean
}

// most is how much may wait to be sent before data of streams waits elsewhere.
func (c *conn) most() int {
	if c.level >= overload.Full {
		return outSize
	}
	return maxOut
}

// charge takes in what s holds now.
func (c *conn) charge(s *Stream) {
	n := s.body.size + cap(s.core.Text) + cap(s.core.Trailer)
	c.held += n - s.held
	s.held = n
}

// holds is how many bytes the connection holds, but for what it needs while it reads.
func (c *conn) holds() int64 {
	return int64(c.held + cap(c.core.Out) + c.flight + c.partial + c.core.Buffered())
}

// tell tells the account, if it is wrong by more than slack.
func (c *conn) tell(slack int64) {
	now := c.holds()
	if d := now - c.told; d > slack || d < -slack || now == 0 {
		c.mem.Account.Move(c.told, now)
		c.told = now
	}
}

// relieve ends streams, the largest first, until all hold no more than the share of
// the connection. What waits to be sent is bounded otherwise, and cannot be taken back.
func (c *conn) relieve() {
	if c.level < overload.Full {
		return
	}
	for c.tell(0); c.excessive(); c.tell(0) {
		s := c.largest()
		if s == nil {
			return
		}
		s.giveUp()
		if s.held > h2.LeanWindow {
			return // its head goes with whoever serves it
		}
	}
}

// largest is the stream that holds most, of those worth ending.
func (c *conn) largest() (most *Stream) {
	for _, s := range c.all {
		if s.err == nil && (s.body.n > 0 || s.held > h2.LeanWindow) && (most == nil || s.held > most.held) {
			most = s
		}
	}
	return most
}

// giveUp ends the stream for want of memory.
func (s *Stream) giveUp() {
	s.end(s.conn.mem.short(), h2.EnhanceYourCalm)
	s.forget()
}

// forget drops what is unread.
func (s *Stream) forget() {
	c := s.conn
	if n := s.body.clear(c.mem); n > 0 {
		c.core.Consumed(&s.core, n, false)
	}
	c.charge(s)
}

// Short returns a ShortError where nothing more should be begun on the connection:
// memory is short, and it holds more than its share. Else it returns nil.
func (s *Stream) Short() error {
	c := s.conn
	if c.mem.Account.Level() < overload.Full {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.excessive() {
		return c.mem.short()
	}
	return nil
}

// excessive reports whether c holds more than it may now.
func (c *conn) excessive() bool {
	return c.held > reserve && (c.mem.Account.Level() == overload.Brim || c.mem.Account.Above(int64(c.held)))
}

// enlist makes s one of all streams of c.
func (c *conn) enlist(s *Stream) {
	s.at = len(c.all)
	c.all = append(c.all, s)
}

// discharge is told that s holds nothing more, and is no stream of c.
func (c *conn) discharge(s *Stream) {
	c.held -= s.held
	s.held = 0
	last := len(c.all) - 1
	if last < s.at || c.all[s.at] != s {
		return
	}
	c.all[last].at = s.at
	c.all[s.at], c.all[last] = c.all[last], nil
	c.all = c.all[:last]
}
