package streams

import (
	"errors"
	"runtime"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// kick sees to it that what is to be sent is sent.
func (c *conn) kick() {
	if c.lost != nil {
		c.core.Out = c.core.Out[:0] // to nobody
		return
	}
	if len(c.core.Out) > 0 && !c.flushing {
		c.flushing = true
		c.work.Add(1)
		go c.flusher()
	}
}

// flush sends what there is until there is no more.
func (c *conn) flush() {
	defer c.work.Done()
	defer c.rescue()
	runtime.Gosched()
	c.mu.Lock()
	defer c.unlock()
	defer c.flushedAll()
	for len(c.core.Out) > 0 {
		b := c.core.Out
		c.core.Out = c.mem.out()
		c.provoked = 0
		c.roomy.Broadcast()
		err := c.push(b)
		c.mem.putOut(b)
		c.next()
		if err != nil {
			c.unsendable(err)
			break
		}
	}
}

// push writes b. mu is free meanwhile, and held afterwards, come what may.
func (c *conn) push(b []byte) error {
	c.pushing, c.pushed, c.flight = true, c.clock, cap(b)
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		c.pushing, c.flight = false, 0
	}()
	_, err := c.t.Write(b)
	return err
}

func (c *conn) flushedAll() {
	c.flushing = false
	c.flushed.Broadcast()
	if c.closing {
		c.depart()
	}
}

// unsendable is told that nothing can be sent any more because of err. A server's
// connection ends then. Where an endpoint has closed its end, what it sent before is
// read first, for no longer than it takes: answers, and a GOAWAY, which tells what
// can be sent again.
func (c *conn) unsendable(err error) {
	c.core.Out = c.core.Out[:0]
	if closed := errors.Is(err, syscall.EPIPE) || errors.Is(err, syscall.ECONNRESET); closed && c.handle == nil && c.dead == nil {
		c.lost = err
		_ = c.t.SetReadDeadline(time.Now().Add(lingerTime)) // fails on a closed conn alone
		c.changed()
		return
	}
	c.core.Quit(h2.NoError) // and nothing of it gets through
	c.core.Out = c.core.Out[:0]
	c.fail(err)
	_ = c.t.Close() // wakes the reader
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
	if len(c.queue) == 0 || len(c.core.Out) >= c.most() || c.core.Starved() {
		return
	}
	s := c.queue[0]
	n := copy(c.queue, c.queue[1:])
	c.queue[n] = nil
	c.queue = c.queue[:n]
	s.queued = false
	s.writable.Broadcast()
}
