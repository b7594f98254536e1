package streams

import (
	"bytes"
	"fmt"
	"net"
	"sync"
	"syscall"
	"time"
)

// errBroken is what a write meets whose peer has closed.
var errBroken = fmt.Errorf("write: %w", syscall.EPIPE)

// A closedEnd is a connection whose peer has closed it: nothing can be written,
// and what it said before is there to be read once that is known.
type closedEnd struct {
	net.Conn
	said    *bytes.Buffer
	written chan struct{} // closed once a write failed
	once    sync.Once
	mu      sync.Mutex
	closed  bool // guarded by mu
}

func (f *closedEnd) Write([]byte) (int, error) {
	// The reader runs later, by which a connection that ends at once is closed.
	defer time.AfterFunc(10*time.Millisecond, func() { f.once.Do(func() { close(f.written) }) })
	return 0, errBroken
}

func (f *closedEnd) Read(p []byte) (int, error) {
	<-f.written
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.closed {
		return 0, net.ErrClosed
	}
	return f.said.Read(p) // io.EOF at its end
}

func (f *closedEnd) Close() error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.closed = true
	return nil
}

func (*closedEnd) SetReadDeadline(time.Time) error  { return nil }
func (*closedEnd) SetWriteDeadline(time.Time) error { return nil }
func (*closedEnd) SetDeadline(time.Time) error      { return nil }
func (*closedEnd) LocalAddr() net.Addr              { return nil }
func (*closedEnd) RemoteAddr() net.Addr             { return nil }
