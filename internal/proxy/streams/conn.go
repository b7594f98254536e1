package streams

import (
	"errors"
	"fmt"
	"io"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A conn is one connection in either role.
type conn struct {
	t      *transport.Conn
	o      Options
	mem    *Memory
	handle func(*Stream)  // server
	work   sync.WaitGroup // handlers and the flusher

	// The reader's.
	raw      syscall.RawConn // nil: none
	readStep func(fd uintptr) bool
	in       *[inSize]byte // nil while nothing is there
	filled   int
	got      int
	errno    error
	early    []byte // read before us

	mu      sync.Mutex
	core    h2.Conn   // guarded, as all below, by mu
	queue   []*Stream // that wait to send, though their own windows are open
	cuts    []*Stream // whose ties are to be cut once mu is free
	dead    error     // why the connection has ended
	flusher func()
	flushed sync.Cond

	flushing bool
	pushing  bool  // a write is in progress
	pushed   int64 // on clock: when it began
	part     int64 // on clock, plus one: since when a frame or block is not whole; 0: it is
	draining bool
	warned   int64 // on clock: when drain was begun
	closing  bool  // all is done: end our direction once all is sent

	// The clock counts time in which the process ran, in steps of a tick, and
	// only while there are streams.
	timer    *time.Timer
	clock    int64
	last     time.Time // when clock was set
	spent    time.Time // when the core was told the time
	awake    bool      // the timer ticks
	short    bool      // … quickly
	idleFrom time.Time // when the last stream ended
}

func newConn(t *transport.Conn, o Options) *conn {
	if o.Memory == nil {
		o.Memory = new(Memory)
	}
	if o.WriteTimeout <= 0 {
		o.WriteTimeout = 5 * time.Minute
	}
	c := &conn{t: t, o: o, mem: o.Memory}
	c.flushed.L = &c.mu
	c.flusher, c.readStep = c.flush, c.read
	c.raw, _ = t.Raw()
	return c
}

// start prepares everything and lets our first frames out.
func (c *conn) start(cfg h2.Config) {
	c.lock()
	defer c.unlock()
	now := time.Now()
	c.last, c.spent, c.idleFrom = now, now, now
	c.early = c.t.TakeBuffered()
	c.core.Init(cfg)
	c.part = 1 // the preface and the settings of the peer are awaited
	c.awake = true
	c.timer = time.AfterFunc(longTick, c.tick)
}

// lock locks mu and sees to a buffer for what may be sent; unlock sends it.
func (c *conn) lock() {
	c.mu.Lock()
	if c.core.Out == nil {
		c.core.Out = c.mem.out()
	}
}

func (c *conn) unlock() {
	if c.dead == nil && len(c.core.Out) > maxUnread {
		c.stop(h2.ErrUnread)
	}
	c.kick()
	if len(c.core.Out) == 0 && !c.flushing && c.core.Live() == 0 {
		c.mem.putOut(c.core.Out)
		c.core.Out = nil
	}
	cuts := c.cuts
	c.cuts = nil
	c.mu.Unlock()
	for _, s := range cuts {
		s.cut()
	}
}

// run reads until the connection ends, and closes it.
func (c *conn) run() error {
	err := c.readAll()
	c.lock()
	c.fail(err)
	err = c.dead
	for c.flushing {
		// What is to be sent last tells the peer why; it is not waited for long.
		_ = c.t.SetWriteDeadline(time.Now().Add(lingerTime)) // fails on a closed conn alone
		c.flushed.Wait()
	}
	c.timer.Stop()
	c.unlock()
	c.linger()
	_ = c.t.Close()
	c.work.Wait()
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mem.putOut(c.core.Out)
	c.core.Out = nil
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// errDone is what a connection ends with that was ended in order.
var errDone = errors.New("the connection is done")

// linger lets the peer read what was sent last: a socket that is closed with
// bytes unread resets, and the peer loses them.
func (c *conn) linger() {
	if c.t.CloseWrite() != nil {
		return
	}
	_ = c.t.SetReadDeadline(time.Now().Add(lingerTime)) // fails on a closed conn alone
	if c.in == nil {
		c.in = c.mem.in()
	}
	for left := 1 << 20; left > 0; {
		n, err := c.t.Read(c.in[:])
		if err != nil {
			break
		}
		left -= n
	}
	c.mem.ins.Put(c.in)
	c.in = nil
}

func (c *conn) readAll() error {
	for {
		if err := c.fill(); err != nil {
			return err
		}
		if err := c.digest(); err != nil {
			return err
		}
	}
}

// fill reads once. No buffer is held while nothing is there to be read.
func (c *conn) fill() error {
	if len(c.early) > 0 {
		if c.in == nil {
			c.in = c.mem.in()
		}
		n := copy(c.in[c.filled:], c.early)
		c.filled += n
		c.early = c.early[n:]
		return nil
	}
	c.early = nil
	if c.raw == nil {
		return c.fillSlowly()
	}
	c.got, c.errno = 0, nil
	if c.raw.Read(c.readStep) != nil {
		var one [1]byte
		_, err := c.t.Read(one[:]) // fails as the wait did, and tells why
		if err == nil {
			err = io.ErrNoProgress
		}
		return err
	}
	switch {
	case c.errno != nil:
		return fmt.Errorf("read: %w", c.errno)
	case c.got == 0:
		return c.t.Ended()
	}
	c.filled += c.got
	return nil
}

// read reads from the socket, and lets go of the buffer if nothing is there.
func (c *conn) read(fd uintptr) bool {
	if c.in == nil {
		c.in = c.mem.in()
	}
	for {
		n, err := unix.Read(int(fd), c.in[c.filled:])
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			if c.filled == 0 {
				c.mem.ins.Put(c.in)
				c.in = nil
			}
			return false
		}
		c.got, c.errno = max(n, 0), err
		return true
	}
}

func (c *conn) fillSlowly() error {
	if c.filled == 0 {
		if c.in != nil {
			c.mem.ins.Put(c.in)
			c.in = nil
		}
		if err := c.t.WaitReadable(); err != nil {
			return fmt.Errorf("wait: %w", err)
		}
		c.in = c.mem.in()
	}
	n, err := c.t.Read(c.in[c.filled:])
	c.filled += n
	if n > 0 {
		return nil
	}
	if err == nil {
		err = io.ErrNoProgress
	}
	return err
}

// digest takes what was read.
func (c *conn) digest() error {
	now := time.Now()
	c.lock()
	defer c.unlock()
	if d := now.Sub(c.spent); d >= time.Second {
		c.core.Tick(int(min(d/time.Second, time.Hour/time.Second)))
		c.spent = now
	}
	b, used := c.in[:c.filled], 0
	for {
		ev, n, err := c.core.Next(b[used:])
		used += n
		if err != nil {
			c.fail(err)
			return err
		}
		if ev.Kind == h2.None {
			break
		}
		c.on(&ev)
	}
	c.filled = copy(b, b[used:])
	switch {
	case c.filled == 0 && !c.core.Pending():
		c.part = 0
	case c.part == 0:
		c.part = c.clock + 1
		c.busy()
	}
	return c.dead
}

// on does what an event asks for.
func (c *conn) on(ev *h2.Event) {
	var s *Stream
	if ev.Stream != nil {
		s = ev.Stream.Owner.(*Stream) //nolint:forcetypeassert // newStream sets it
		s.active = c.clock
	}
	switch ev.Kind {
	case h2.Opened:
		s.begin(c)
		s.over = s.core.RemoteEnd
		s.bodyless = s.over
		c.work.Add(1)
		go s.serv()
	case h2.Head:
		s.over = s.core.RemoteEnd
		s.readable.Broadcast()
	case h2.Data:
		s.body.add(ev.Data, c.mem)
		s.over = s.core.RemoteEnd
		s.readable.Broadcast()
	case h2.Trailer:
		s.over = true
		s.readable.Broadcast()
	case h2.Failed:
		s.failed(ev)
	case h2.Credit:
		if s == nil {
			c.next()
		} else {
			s.writable.Broadcast()
		}
	case h2.Settings:
		c.core.Each(func(s *h2.Stream) { s.Owner.(*Stream).writable.Broadcast() }) //nolint:forcetypeassert // as above
		c.next()
		c.changed()
	case h2.Goaway:
		c.givenUp(ev.Last)
	case h2.Refused:
		if c.o.Refused != nil {
			c.o.Refused(ev.Err)
		}
	case h2.Echo:
		c.core.Settle()
		c.finish()
	case h2.None:
	}
}

// failed takes the end of a stream by the peer, or because the peer broke the
// protocol on it.
func (s *Stream) failed(ev *h2.Event) {
	switch {
	case ev.Err != nil:
		s.end(ev.Err, ev.Code)
	case ev.Code == h2.NoError && s.core.RemoteEnd:
		// What it sent is whole, and stays.
		s.stopped = ErrStopped
		s.writable.Broadcast()
	default:
		s.end(ResetError(ev.Code), ev.Code)
	}
}

// givenUp takes the word of the peer that it serves no stream above last.
func (c *conn) givenUp(last uint32) {
	c.core.Each(func(s *h2.Stream) {
		if s.ID > last {
			s.Owner.(*Stream).end(ErrRefused, h2.Cancel) //nolint:forcetypeassert // newStream sets it
		}
	})
	c.changed()
	c.finish()
}

func (c *conn) changed() {
	if c.o.Changed != nil {
		c.o.Changed()
	}
}

// accept is the object for a stream that the peer opens.
func (c *conn) accept() *h2.Stream { return &c.mem.stream().core }

// fail ends all streams because of err; it does nothing if the connection has
// ended before.
func (c *conn) fail(err error) {
	if c.dead != nil {
		return
	}
	c.dead = err
	var broken *h2.Error
	if !errors.As(err, &broken) {
		// Not what the peer did wrong: each stream tells where its end came from.
		err = fmt.Errorf("the connection ended: %w", err)
	}
	c.core.Each(func(s *h2.Stream) { s.Owner.(*Stream).end(err, h2.Cancel) }) //nolint:forcetypeassert // newStream sets it
	c.changed()
}

// stop ends the connection from our side because of err, which the peer's conduct is.
func (c *conn) stop(err error) {
	c.fail(err)
	c.core.Quit(h2.EnhanceYourCalm)
	c.wakeReader()
}

func (c *conn) wakeReader() {
	_ = c.t.SetReadDeadline(time.Unix(1, 0)) // fails on a closed conn alone
}

// kick sees to it that what is to be sent is sent.
func (c *conn) kick() {
	if len(c.core.Out) > 0 && !c.flushing {
		c.flushing = true
		c.work.Add(1)
		go c.flusher()
	}
}

// flush sends what there is until there is no more.
func (c *conn) flush() {
	defer c.work.Done()
	runtime.Gosched()
	c.mu.Lock()
	var err error
	for len(c.core.Out) > 0 && err == nil {
		b := c.core.Out
		c.core.Out = c.mem.out()
		c.pushing, c.pushed = true, c.clock
		c.mu.Unlock()
		_, err = c.t.Write(b)
		c.mem.putOut(b)
		c.mu.Lock()
		c.pushing = false
		c.next()
	}
	if err != nil {
		c.core.Quit(h2.NoError) // and nothing of it gets through
		c.core.Out = c.core.Out[:0]
		c.fail(err)
		_ = c.t.Close() // wakes the reader
	}
	c.flushing = false
	c.flushed.Broadcast()
	if c.closing {
		c.depart()
	}
	c.unlock()
}

// await queues s until there is room to send.
func (c *conn) await(s *Stream) {
	s.queued = true
	c.queue = append(c.queue, s)
	for s.queued && s.sendable() == nil {
		s.writable.Wait()
	}
	if s.queued {
		s.queued = false
		for i, q := range c.queue {
			if q == s {
				c.queue = append(c.queue[:i], c.queue[i+1:]...)
				break
			}
		}
	}
}

// next lets the stream go on that has waited longest, if there is room.
func (c *conn) next() {
	if len(c.queue) == 0 || len(c.core.Out) >= maxOut || c.core.Starved() {
		return
	}
	s := c.queue[0]
	n := copy(c.queue, c.queue[1:])
	c.queue[n] = nil
	c.queue = c.queue[:n]
	s.queued = false
	s.writable.Broadcast()
}

// drain begins to give the connection up.
func (c *conn) drain() {
	c.lock()
	defer c.unlock()
	if c.draining || c.dead != nil {
		return
	}
	c.draining = true
	c.warned = c.clock
	c.core.Drain()
	c.busy()
	c.changed()
	c.finish()
}

// released is told that a stream is done.
func (c *conn) released() {
	if c.core.Live() == 0 {
		c.idleFrom = time.Now()
		c.finish()
	}
	c.changed()
}

// finish ends a connection on which nothing is left to do.
func (c *conn) finish() {
	if c.closing || c.core.Live() > 0 || c.dead != nil {
		return
	}
	if c.core.Draining() || c.core.GivenUp() && c.handle == nil {
		c.closing = true
		if !c.flushing && len(c.core.Out) == 0 {
			c.depart()
		}
	}
}

// depart ends our direction, and lets the reader see the peer's end, or go.
func (c *conn) depart() {
	c.fail(errDone)
	c.wakeReader()
}

// busy lets the clock tick.
func (c *conn) busy() {
	if c.awake {
		return
	}
	c.awake, c.last = true, time.Now()
	c.timer.Reset(longTick)
}

var (
	errSlow   = fmt.Errorf("the preface, a frame or a header block was not complete within 10 seconds: %w", errTimeout)
	errUnsent = fmt.Errorf("the peer takes nothing: %w", errTimeout)
)

// errTimeout is net.Conn's for a deadline.
var errTimeout = fmt.Errorf("%w", syscall.ETIMEDOUT)

// tick looks at everything that has a time.
func (c *conn) tick() {
	c.lock()
	defer c.unlock()
	if c.dead != nil {
		return
	}
	now := time.Now()
	c.advance(now)
	switch {
	case c.part > 0 && c.clock-c.part >= int64(partTimeout):
		c.stop(errSlow)
		return
	case c.pushing && c.clock-c.pushed >= int64(c.o.WriteTimeout):
		c.fail(errUnsent)
		_ = c.t.Close()
		return
	case c.draining && c.clock-c.warned >= int64(settleTime):
		c.core.Settle()
		c.finish()
	}
	c.expire()
	c.rearm(now)
}

// advance sets the clock. A longer gap means that we did not run, so nobody was
// served.
func (c *conn) advance(now time.Time) {
	c.clock += int64(min(now.Sub(c.last), longTick))
	c.last = now
}

// expire ends the streams on which nothing has moved for too long.
func (c *conn) expire() {
	c.short = false
	c.core.Each(func(core *h2.Stream) {
		s := core.Owner.(*Stream) //nolint:forcetypeassert // newStream sets it
		step := longTick          // active may be as old when it is set
		if s.timeout < longTimeout {
			step = tick
		}
		switch {
		case s.timeout <= 0:
		case c.clock-s.active >= int64(s.timeout+step):
			s.end(errLate, h2.Cancel)
		case s.timeout < longTimeout:
			c.short = true
		}
	})
}

// rearm decides when tick is called next.
func (c *conn) rearm(now time.Time) {
	switch {
	case c.short:
		c.timer.Reset(tick)
	case c.core.Live() > 0 || c.flushing || c.part > 0 || c.draining:
		c.timer.Reset(longTick)
	case c.o.IdleTimeout > 0 && now.Sub(c.idleFrom) >= c.o.IdleTimeout:
		c.draining = true
		c.warned = c.clock
		c.core.Drain()
		c.finish()
		c.timer.Reset(longTick)
	default:
		c.awake = false
		if c.o.IdleTimeout > 0 {
			c.timer.Reset(max(c.o.IdleTimeout-now.Sub(c.idleFrom), longTick))
		}
	}
}
