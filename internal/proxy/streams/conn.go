package streams

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/overload"
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
	rest     *chunk // what is there while in is nil

	mu      sync.Mutex
	core    h2.Conn   // guarded, as all below, by mu
	queue   []*Stream // that wait to send, though their own windows are open
	cuts    []*Stream // whose ties are to be cut once mu is free
	dead    error     // why the connection has ended
	flusher func()
	flushed sync.Cond
	settled sync.Cond // the peer's settings came, or will not

	roomy    sync.Cond // Out was taken to be sent, or the connection has ended
	provoked int       // bytes of Out that frames of the peer made us send
	flushing bool
	pushing  bool  // a write is in progress
	pushed   int64 // on clock: when it began
	part     int64 // on clock, plus one: since when a frame or block is not whole; 0: it is
	draining bool
	warned   int64 // on clock: when drain was begun
	closing  bool  // all is done: end our direction once all is sent
	lost     error // nothing can be sent any more; what has come is read
	panicked *PanicError

	// What is held, in bytes.
	all     []*Stream // that were begun and not closed
	held    int       // by them
	flight  int       // by the buffer that is written
	partial int       // by a frame that is not whole
	told    int64     // what the account knows of
	level   overload.Level

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
	c.flushed.L, c.settled.L, c.roomy.L = &c.mu, &c.mu, &c.mu
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
	c.measure()
	c.core.Init(c.mem.windows(cfg))
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
	c.kick()
	if len(c.core.Out) == 0 && !c.flushing && c.core.Live() == 0 {
		c.mem.putOut(c.core.Out)
		c.core.Out = nil
	}
	c.tell(slack)
	cuts := c.cuts
	c.cuts = nil
	c.mu.Unlock()
	for _, s := range cuts {
		s.cut()
	}
}

// run reads until the connection ends, and closes it.
func (c *conn) run() error {
	c.give(c.readContained())
	c.lock()
	err := c.dead
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
	c.partial = 0
	if c.handle != nil {
		c.held = 0 // also of streams whose handler panicked
	}
	c.tell(0)
	if c.panicked != nil {
		return c.panicked
	}
	if errors.Is(err, errDone) {
		return nil
	}
	return err
}

// give ends all streams because the reader met err.
func (c *conn) give(err error) {
	defer c.rescue()
	c.lock()
	defer c.unlock()
	if c.lost != nil {
		err = c.lost // which was the first
	}
	c.fail(err)
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
	if c.rest != nil {
		c.mem.putChunk(c.rest)
		c.rest = nil
	}
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

// digest takes what was read.
func (c *conn) digest() error {
	now := time.Now()
	c.lock()
	defer c.unlock()
	if d := now.Sub(c.spent); d >= time.Second {
		c.core.Tick(int(min(d/time.Second, time.Hour/time.Second)))
		c.spent = now
	}
	c.measure()
	b, used := c.in[:c.filled], 0
	before := len(c.core.Out)
	if !c.core.Settled() {
		defer c.settled.Broadcast()
	}
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
	if c.provoked += len(c.core.Out) - before; c.provoked > maxUnread {
		c.stop(h2.ErrUnread)
	}
	c.relieve()
	c.filled = copy(b, b[used:])
	c.partial = parked(c.filled)
	switch {
	case c.filled == 0 && !c.core.Pending():
		c.part = 0
	case c.part == 0, used > 0 && !c.core.Pending():
		c.part = c.clock + 1 // of this one
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
		c.charge(s)
		c.work.Add(1)
		c.mem.crew.serve(s)
	case h2.Head:
		c.charge(s)
		s.over = s.core.RemoteEnd
		s.readable.Broadcast()
	case h2.Data:
		s.over = s.core.RemoteEnd
		s.body.add(ev.Data, c.mem)
		if c.charge(s); c.level == overload.Brim && c.held > reserve && len(ev.Data) > 0 {
			s.giveUp()
		}
		s.readable.Broadcast()
	case h2.Trailer:
		c.charge(s)
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
	case ev.Code == h2.NoError:
		s.lose(ErrStopped, ev.Code)
	default:
		s.lose(ResetError(ev.Code), ev.Code)
	}
}

// lose ends the stream because of err, which the peer or the connection is the
// cause of. An answer that is whole stays to be read.
func (s *Stream) lose(err error, code h2.Code) {
	if s.conn.handle != nil || !s.core.RemoteEnd {
		if err == ErrStopped { //nolint:errorlint // a value of ours
			err = ResetError(code)
		}
		s.end(err, code)
		return
	}
	s.conn.core.Abort(&s.core, code)
	if s.stopped == nil {
		s.stopped = err
	}
	s.writable.Broadcast()
}

// givenUp takes the word of the peer that it serves no stream above last.
func (c *conn) givenUp(last uint32) {
	c.core.Each(func(s *h2.Stream) {
		if s.ID > last {
			s.Owner.(*Stream).lose(ErrRefused, h2.Cancel) //nolint:forcetypeassert // newStream sets it
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
	c.settled.Broadcast()
	var broken *h2.Error
	if !errors.As(err, &broken) {
		// Not what the peer did wrong: each stream tells where its end came from. It is
		// never io.EOF, which is the orderly end of a body.
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		err = fmt.Errorf("the connection ended: %w", err)
	}
	c.core.Each(func(s *h2.Stream) { s.Owner.(*Stream).lose(err, h2.Cancel) }) //nolint:forcetypeassert // newStream sets it
	c.core.End()                                                               // what was read already begins nothing any more
	c.roomy.Broadcast()
	c.changed()
}

// stop ends the connection from our side because of err, which the peer's conduct is.
func (c *conn) stop(err error) {
	c.core.Quit(h2.EnhanceYourCalm)
	c.fail(err)
	c.wakeReader()
}

func (c *conn) wakeReader() {
	_ = c.t.SetReadDeadline(time.Unix(1, 0)) // fails on a closed conn alone
}

// drain begins to give the connection up.
func (c *conn) drain() {
	defer c.rescue()
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
