package transport

import (
	"cmp"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A tie is what works for a Conn: the way to an endpoint for a caller's. It lets
// others than the owner of both end the work.
type tie struct {
	on    atomic.Bool  // there is one, for those who only look
	since atomic.Int64 // on the sweeper's clock
	mu    sync.Mutex
	with  Cutter // guarded by mu, which is held while it is cut
	asker Asker  // guarded by mu
	ended int64  // guarded by mu; on the sweeper's clock, since when an end has been a farewell; 0: it is none
}

// A Cutter is what can be tied to a Conn. Cut ends it, so that whoever waits for
// it wakes; it must not wait itself.
type Cutter interface{ Cut() }

// An Asker knows what the peer of a tied Conn is to be sent. Waits reports that the
// peer has said all it has to, and was told nothing of the answer yet. It is called
// by others than its owner, and only while the tie holds; it must not wait.
type Asker interface{ Waits() bool }

const (
	// tieGrace is how long a tie is left alone: most exchanges are over by then, and
	// cost no look.
	tieGrace = time.Second
	// farewell is how long a peer that ended its direction, and waits, is taken for
	// one that still listens. TCP does not tell: a peer that is gone is found by what
	// is sent to it, and nothing is.
	farewell = 5 * time.Second
)

// Tie says that the owner of c, a caller's connection, may now be waiting for
// up. While it does it does not read from c, and would not notice that its peer
// is gone: the Sweeper that adopted c looks for that once the tie is a second
// old, and then cuts up, as Cut does. A peer that only ended its own direction
// is gone Sweeper.Farewell after that was seen, if asker says that it waits: no sooner,
// as it may be one that listens, nor ever once it was sent something. A nil asker
// leaves such a peer be. A tie is ended by Untie.
func (c *Conn) Tie(up Cutter, asker Asker) {
	if c.sweeper != nil {
		c.tie.since.Store(c.sweeper.clock.Load())
	}
	c.tie.mu.Lock()
	c.tie.with, c.tie.asker, c.tie.ended = up, asker, 0
	c.tie.on.Store(true)
	c.tie.mu.Unlock()
}

// Untie ends a tie. It reports whether there was one still: false says that what
// was tied has been cut, if there was anything. Nobody cuts it after Untie.
func (c *Conn) Untie() bool {
	c.tie.mu.Lock()
	defer c.tie.mu.Unlock()
	held := c.tie.with != nil
	c.tie.with, c.tie.asker = nil, nil
	c.tie.on.Store(false)
	return held
}

// Cut resets c and cuts what is tied to it, so that the owner of both wakes
// whatever it waits for. It may be called at any time.
func (c *Conn) Cut() {
	_ = c.Reset() // a Conn that is closed already needs no more
	c.cutTied()
}

func (c *Conn) cutTied() {
	c.tie.mu.Lock()
	defer c.tie.mu.Unlock()
	if c.tie.with != nil {
		c.tie.with.Cut()
		c.tie.with, c.tie.asker = nil, nil
		c.tie.on.Store(false)
	}
}

// Drop closes c without waiting and without a word to its peer beyond the end of
// the stream, so that whoever reads or writes it wakes. It may be called at any
// time.
func (c *Conn) Drop() {
	c.leave()
	_ = c.under().Close() // its reads and writes tell
}

// PeerGone reports whether the Sweeper found the peer of a tied Conn gone.
func (c *Conn) PeerGone() bool { return c.fate.Load() == gone }

// Hung reports, without waiting, that nothing can be sent and nothing more can
// arrive: the peer reset the stream, or both sides ended it. What had arrived
// may still be there to read. Where there is no descriptor to ask it is false.
func (c *Conn) Hung() bool {
	hung, _ := c.ends()
	return hung
}

// ends is Hung, and reports besides that the peer ended its direction, though what it
// said before may not be read yet.
func (c *Conn) ends() (hung, ended bool) {
	if c.raw == nil {
		return false, false
	}
	var is int16
	err := c.raw.Control(func(fd uintptr) { is = endsOf(fd) })
	return err == nil && is&(unix.POLLHUP|unix.POLLERR) != 0, err == nil && is&unix.POLLRDHUP != 0
}

func endsOf(fd uintptr) int16 {
	one := unix.PollFd{Fd: int32(fd), Events: unix.POLLRDHUP} //nolint:gosec // G115: a descriptor is an int
	if _, err := poll(&one); err != nil {
		return 0
	}
	return one.Revents
}

// tied appends the Conns of the shard whose ties are old enough for a look.
func (sh *shard) tied(clock int64, conns []*Conn) []*Conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, c := range sh.conns {
		if c.tie.on.Load() && clock-c.tie.since.Load() >= int64(tieGrace) {
			conns = append(conns, c)
		}
	}
	return conns
}

// lookAtTied ends the ties of those whose peers are gone. It returns conns, emptied.
func lookAtTied(clock int64, conns []*Conn) []*Conn {
	for i, c := range conns {
		if hung, ended := c.ends(); hung || ended && c.left(clock) {
			c.fate.CompareAndSwap(0, gone)
			c.cutTied()
		}
		conns[i] = nil
	}
	return conns[:0]
}

// left decides at the time clock whether the peer, which ended its direction, is gone.
// The time runs from when it began to wait: it may have sent all of a long request,
// with the end, before that was read.
func (c *Conn) left(clock int64) bool {
	c.tie.mu.Lock()
	defer c.tie.mu.Unlock()
	switch {
	case c.tie.asker == nil || !c.tie.asker.Waits():
		c.tie.ended = 0
	case c.tie.ended == 0:
		c.tie.ended = clock
	default:
		return clock-c.tie.ended >= int64(cmp.Or(c.sweeper.Farewell, farewell))
	}
	return false
}

// A broken is the failure of a stream that a write learned of. The kernel tells
// it once: a read that follows sees an orderly end, and what is torn would look
// whole.
type broken struct {
	writing sync.Mutex // held during a write
	err     error      // guarded by writing
}

// BeginWrite and EndWrite enclose a write to the socket past the Conn, as Write
// encloses its own: what ends it is remembered for Ended.
func (c *Conn) BeginWrite() { c.broken.writing.Lock() }

// EndWrite is told how the write ended.
func (c *Conn) EndWrite(err error) {
	if err != nil {
		c.broken.note(err)
	}
	c.broken.writing.Unlock()
}

// note keeps what the kernel says of the stream, but for EPIPE: that is a reset
// after the peer's end of its own direction, all of which has arrived.
func (b *broken) note(err error) {
	var errno syscall.Errno
	if b.err == nil && errors.As(err, &errno) && errno != syscall.EPIPE {
		b.err = err
	}
}

// Ended tells how the stream ended on which a read met the end: io.EOF, or the
// failure that a write was told instead. Read asks it; who reads past the Conn has to.
func (c *Conn) Ended() error {
	if !c.Hung() {
		return io.EOF
	}
	// A write still in progress fails at once, and then has noted why.
	c.broken.writing.Lock()
	defer c.broken.writing.Unlock()
	if c.broken.err != nil {
		return c.broken.err
	}
	return io.EOF
}

// under is what can be closed without a word to the peer: a TLS connection
// would send a farewell and could wait for it.
func (c *Conn) under() io.Closer {
	if t, ok := c.Conn.(interface{ NetConn() net.Conn }); ok {
		return t.NetConn()
	}
	return c.Conn
}
