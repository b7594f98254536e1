package streams

import (
	"errors"
	"fmt"
	"runtime/debug"
)

// A PanicError is what a connection ends with whose reading panicked: it is lost,
// and nothing else.
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
