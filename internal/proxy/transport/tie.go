package transport

import (
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
}

// A Cutter is what can be tied to a Conn. Cut ends it, so that whoever waits for
// it wakes; it must not wait itself.
type Cutter interface{ Cut() }

// tieGrace is how long a tie is left alone: most exchanges are over by then, and
// cost no look.
const tieGrace = time.Second

// Tie says that the owner of c, a caller's connection, may now be waiting for
// up. While it does it does not read from c, and would not notice that its peer
// is gone: the Sweeper that adopted c looks for that once the tie is a second
// old, and then cuts up, as Cut does. A peer that only ended its own direction
// is not gone. A tie is ended by Untie.
func (c *Conn) Tie(up Cutter) {
	if c.sweeper != nil {
		c.tie.since.Store(c.sweeper.clock.Load())
	}
	c.tie.mu.Lock()
	c.tie.with = up
	c.tie.on.Store(true)
	c.tie.mu.Unlock()
}

// Untie ends a tie. It reports whether there was one still: false says that what
// was tied has been cut, if there was anything. Nobody cuts it after Untie.
func (c *Conn) Untie() bool {
	c.tie.mu.Lock()
	defer c.tie.mu.Unlock()
	held := c.tie.with != nil
	c.tie.with = nil
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
		c.tie.with = nil
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
	if c.raw == nil {
		return false
	}
	is := false
	err := c.raw.Control(func(fd uintptr) { is = hung(fd) })
	return is && err == nil
}

func hung(fd uintptr) bool {
	one := unix.PollFd{Fd: int32(fd)} //nolint:gosec // G115: a descriptor is an int
	_, err := poll(&one)
	return err == nil && one.Revents&(unix.POLLHUP|unix.POLLERR) != 0
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
func lookAtTied(conns []*Conn) []*Conn {
	for i, c := range conns {
		if c.Hung() {
			c.fate.CompareAndSwap(0, gone)
			c.cutTied()
		}
		conns[i] = nil
	}
	return conns[:0]
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
