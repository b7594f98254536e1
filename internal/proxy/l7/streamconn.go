package l7

import (
	"net"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// A streamConn is a stream as a connection: what an exchange turns into that
// becomes a WebSocket.
type streamConn struct{ *streams.Stream }

// Write sends p as data.
func (c *streamConn) Write(p []byte) (int, error) { return c.Send(nil, p, false) }

// CloseWrite ends our direction.
func (c *streamConn) CloseWrite() error {
	_, err := c.Send(nil, nil, true)
	return err
}

// Close ends what is left of the stream. Whoever serves the stream closes it.
func (c *streamConn) Close() error {
	c.Reset(h2.Cancel)
	return nil
}

// SetDeadline bounds both directions; there is no way to bound one.
func (c *streamConn) SetDeadline(t time.Time) error {
	c.Stream.SetDeadline(t)
	return nil
}

// SetReadDeadline is SetDeadline.
func (c *streamConn) SetReadDeadline(t time.Time) error { return c.SetDeadline(t) }

// SetWriteDeadline is SetDeadline.
func (c *streamConn) SetWriteDeadline(t time.Time) error { return c.SetDeadline(t) }

// LocalAddr is unknown.
func (c *streamConn) LocalAddr() net.Addr { return nil }

// RemoteAddr is unknown.
func (c *streamConn) RemoteAddr() net.Addr { return nil }
