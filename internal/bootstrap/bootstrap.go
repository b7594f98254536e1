// Package bootstrap is what a supervisor tells a proxy when it starts it: who
// the workload is, where the control plane is, and the sockets to serve. It is
// the only thing the two agree on beside xDS.
//
// A proxy is started with one descriptor beyond the standard ones: a stream
// socket to its supervisor. The supervisor sends one message, a Proxy with its
// sockets, when the sandbox stands; the proxy, which has had the time to start
// meanwhile, sends ReadyLine back when it serves, and DrainingLine when it accepts
// no more and only finishes what it has: then the next one can serve the sockets.
// The end of the socket means that the supervisor is gone and the proxy has to end
// too.
package bootstrap

import (
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/peer"
)

// ControlFD is the descriptor of the socket to the supervisor.
const ControlFD = 3

// ReadyLine is what the proxy says when its first configuration is compiled and
// its DNS server answers.
const ReadyLine = "ready\n"

// DrainingLine is what the proxy says when it has closed its capture sockets and
// is about to end.
const DrainingLine = "draining\n"

// A SocketKind says what a socket is for.
type SocketKind string

// The kinds of sockets. Admin is outside of the sandbox, the others inside.
const (
	Admin     SocketKind = "admin"      // of package peer: for introspection
	Capture   SocketKind = "capture"    // TCP, transparent: a connection's local address is its destination
	DNSPacket SocketKind = "dns-packet" // UDP
	DNSStream SocketKind = "dns-stream" // TCP
)

// A Proxy is the start-up configuration of a proxy.
type Proxy struct {
	Workload  mesh.Workload `json:"workload"`
	XDS       string        `json:"xds"`        // abstract socket of the control plane
	AccessLog string        `json:"access_log"` // path, opened for appending
	LogForm   string        `json:"log_form"`   // of its lines; empty: as the mesh says
	Limits    Limits        `json:"limits"`
	Own       []netip.Addr  `json:"own"`     // the workload's own addresses: not to be reached through the proxy
	Sockets   []SocketKind  `json:"sockets"` // one for each file that is sent along
}

// Limits are what a proxy may use. A zero leaves that to the proxy, a negative
// number is no limit.
type Limits struct {
	Connections int   `json:"connections"` // served at once
	Memory      int64 `json:"memory"`      // bytes in use
}

// maxMessage bounds a bootstrap.
const maxMessage = 1 << 20

// Send sends p with its sockets, which stay the caller's.
func Send(c *net.UnixConn, p Proxy, files []*os.File) error {
	if len(files) != len(p.Sockets) {
		return fmt.Errorf("send the bootstrap: %d sockets are named for %d files", len(p.Sockets), len(files))
	}
	if err := peer.NewChannel(c).Send(p, files...); err != nil {
		return fmt.Errorf("send the bootstrap: %w", err)
	}
	return nil
}

// Receive receives what Send sent. The files are the caller's.
func Receive(c *net.UnixConn) (p Proxy, files []*os.File, err error) {
	if files, err = peer.NewChannel(c).Receive(maxMessage, &p); err != nil {
		return p, nil, fmt.Errorf("receive the bootstrap: %w", err)
	}
	if len(p.Sockets) != len(files) {
		peer.CloseAll(files)
		return p, nil, fmt.Errorf("receive the bootstrap: %d sockets are named and %d came", len(p.Sockets), len(files))
	}
	return p, files, nil
}
