package streams

import (
	"fmt"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h2"
)

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
	defer c.rescue()
	c.lock()
	defer c.unlock()
	if c.dead != nil {
		return
	}
	now := time.Now()
	c.advance(now)
	c.mem.crew.trim(now)
	c.measure()
	switch {
	case c.part > 0 && c.clock-c.part >= int64(partTimeout):
		c.stop(errSlow)
		return
	case c.pushing && c.clock-c.pushed >= int64(c.o.WriteTimeout):
		c.fail(errUnsent)
		_ = c.t.Close()
		return
	case c.pushing && c.clock-c.pushed >= int64(stuckTime) && c.mem.Account.Above(c.holds()):
		c.fail(fmt.Errorf("the peer takes nothing: %w", c.mem.short()))
		_ = c.t.Close()
		return
	case c.draining && c.clock-c.warned >= int64(settleTime):
		c.core.Settle()
		c.finish()
	}
	c.expire()
	c.relieve()
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
		d := s.limit()
		step := longTick // active may be as old when it is set
		if d < longTimeout {
			step = tick
		}
		switch {
		case d <= 0:
		case c.clock-s.active >= int64(d+step):
			s.end(errLate, h2.Cancel)
		case d < longTimeout:
			c.short = true
		}
	})
}

// limit is for how long nothing may move on s now; 0: without end.
func (s *Stream) limit() time.Duration {
	if s.waiting && s.patience > 0 && (s.timeout <= 0 || s.patience < s.timeout) {
		return s.patience
	}
	return s.timeout
}

// expect begins a time of d in which something has to move on s.
func (c *conn) expect(s *Stream, d time.Duration) {
	if d > 0 && d < longTimeout {
		c.advance(time.Now())
		if !c.short {
			c.short = true
			c.timer.Reset(tick)
		}
	}
	s.active = c.clock
}

// rearm decides when tick is called next.
func (c *conn) rearm(now time.Time) {
	switch {
	case c.short:
		c.timer.Reset(tick)
	case c.core.Live() > 0 || c.flushing || c.draining:
		c.timer.Reset(longTick)
	case c.o.IdleTimeout > 0 && now.Sub(c.idleFrom) >= c.o.IdleTimeout:
		c.draining = true
		c.warned = c.clock
		c.core.Drain()
		c.finish()
		c.timer.Reset(longTick)
	case c.part > 0:
		c.timer.Reset(longTick)
	default:
		c.awake = false
		if c.o.IdleTimeout > 0 {
			c.timer.Reset(max(c.o.IdleTimeout-now.Sub(c.idleFrom), longTick))
		}
	}
}
