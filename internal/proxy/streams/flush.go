package streams

import (
	"runtime"

	"github.com/fairlead/fairlead/internal/proxy/h2"
)

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
		c.provoked = 0
		c.roomy.Broadcast()
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
