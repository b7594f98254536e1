package streams

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A PanicError is what a connection ends with that panicked on a goroutine of its
// own: while it was read or written, by its clock, or where a stream was served. It
// is lost, and nothing else.
type PanicError struct {
	Value any
	Stack []byte
}

// Error is what the panic said.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v", e.Value) }

// readContained is readAll, of which a panic is an error.
func (c *conn) readContained() (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = &PanicError{p, debug.Stack()}
		}
	}()
	return c.readAll()
}

// rescue is deferred by all that runs on another goroutine of c's, before mu is
// taken: a panic there costs the connection.
func (c *conn) rescue() {
	if p := recover(); p != nil {
		c.crash(&PanicError{p, debug.Stack()})
	}
}

// crash ends the connection because of p. Nobody knows its state: nothing more is
// sent, and a second panic tells nothing new.
func (c *conn) crash(p *PanicError) {
	defer func() {
		_ = recover()
		_ = c.t.Close() // wakes the reader
	}()
	c.lock()
	defer c.unlock()
	if c.panicked == nil {
		c.panicked = p
	}
	c.core.End()
	c.core.Out = c.core.Out[:0]
	c.fail(p)
}

// Err is why the connection has ended; nil while it has not, or if that was in order.
func (cl *Client) Err() error {
	c := cl.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if errors.Is(c.dead, errDone) {
		return nil
	}
	return c.dead
}
