// Package transport is the byte stream under every connection of the proxy.
package transport

import (
	"net"
	"net/netip"
	"time"
)

// STUB: owned by the upstream helper; signatures are the contract.

// A Conn is one established stream. Reads and writes may run at the same time;
// two reads, or two writes, may not.
type Conn struct {
	net.Conn
}

// New wraps c, which the Conn owns from now on. Bytes in head were read already
// and are delivered first; head belongs to the Conn.
func New(c net.Conn, head []byte) *Conn { panic("stub") }

// Read delivers what Unread and New gave back first, then reads.
func (c *Conn) Read(p []byte) (int, error) { panic("stub") }

// Buffered returns the bytes that a Read would deliver without a system call,
// and forgets them.
func (c *Conn) TakeBuffered() []byte { panic("stub") }

// WaitReadable parks until there is something to read, the peer ended, or the
// Conn is closed or timed out. It needs no buffer, so that an idle connection
// holds none.
func (c *Conn) WaitReadable() error { panic("stub") }

// Alive reports, without waiting, that the peer has neither ended nor sent
// anything: an idle upstream connection may be used.
func (c *Conn) Alive() bool { panic("stub") }

// SetTimeout makes the sweeper close the Conn if it is not renewed for d,
// checked coarsely (about every 100 ms below 10 s, 1 s above); 0 means never.
// It costs one atomic store.
func (c *Conn) SetTimeout(d time.Duration) { panic("stub") }

// TimedOut reports whether the sweeper closed the Conn.
func (c *Conn) TimedOut() bool { panic("stub") }

// CloseWrite ends our direction of the stream.
func (c *Conn) CloseWrite() error { panic("stub") }

// Reset closes so that the peer sees a reset (RST), not an orderly end.
func (c *Conn) Reset() error { panic("stub") }

// Peer and Local are the addresses of the two ends, IPv4 unmapped.
func (c *Conn) Peer() netip.AddrPort { panic("stub") }

// Local is this end's address: for a captured connection the original destination.
func (c *Conn) Local() netip.AddrPort { panic("stub") }
