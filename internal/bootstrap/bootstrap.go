// Package bootstrap is what a supervisor tells a proxy when it starts it: who
// the workload is, where the control plane is, and the sockets to serve. It is
// the only thing the two agree on beside xDS.
//
// A proxy is started with one descriptor beyond the standard ones: a stream
// socket to its supervisor. The supervisor sends one message, a Proxy with its
// sockets, when the sandbox stands; the proxy, which has had the time to start
// meanwhile, sends ReadyLine back when it serves. The end of the socket means
// that the supervisor is gone and the proxy has to end too.
package bootstrap

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/mesh"
)

// ControlFD is the descriptor of the socket to the supervisor.
const ControlFD = 3

// ReadyLine is what the proxy says when its first configuration is compiled and
// its DNS server answers.
const ReadyLine = "ready\n"

// A SocketKind says what a socket is for.
type SocketKind string

// The kinds of sockets, all of them listening or bound inside the sandbox.
const (
	Capture   SocketKind = "capture"    // TCP, transparent: a connection's local address is its destination
	DNSPacket SocketKind = "dns-packet" // UDP
	DNSStream SocketKind = "dns-stream" // TCP
)

// A Proxy is the start-up configuration of a proxy.
type Proxy struct {
	Workload  mesh.Workload `json:"workload"`
	XDS       string        `json:"xds"`        // abstract socket of the control plane
	Admin     string        `json:"admin"`      // abstract socket to serve introspection on
	AccessLog string        `json:"access_log"` // path, opened for appending
	Own       []netip.Addr  `json:"own"`        // the workload's own addresses: not to be reached through the proxy
	Sockets   []SocketKind  `json:"sockets"`    // one for each file that is sent along
}

// Bounds of a message.
const (
	maxMessage = 1 << 20
	maxFiles   = 16
)

// Send sends p with its sockets, which stay the caller's.
func Send(c *net.UnixConn, p Proxy, files []*os.File) error {
	body, err := json.Marshal(p)
	switch {
	case err != nil:
		return fmt.Errorf("send the bootstrap: %w", err)
	case len(body) > maxMessage:
		return errors.New("send the bootstrap: it is over 1 MiB; use fewer labels")
	case len(files) != len(p.Sockets) || len(files) > maxFiles:
		return fmt.Errorf("send the bootstrap: %d sockets for %d files, at most %d", len(p.Sockets), len(files), maxFiles)
	}
	fds := make([]int, len(files))
	for i, f := range files {
		fds[i] = int(f.Fd())
	}
	// The files travel with the length of what follows.
	if _, _, err := c.WriteMsgUnix(binary.BigEndian.AppendUint32(nil, uint32(len(body))), unix.UnixRights(fds...), nil); err != nil { //nolint:gosec // bounded above
		return fmt.Errorf("send the bootstrap: %w", err)
	}
	if _, err := c.Write(body); err != nil {
		return fmt.Errorf("send the bootstrap: %w", err)
	}
	return nil
}

// Receive receives what Send sent. The files are the caller's.
func Receive(c *net.UnixConn) (p Proxy, files []*os.File, err error) {
	defer func() {
		if err != nil {
			for _, f := range files {
				f.Close()
			}
			files, err = nil, fmt.Errorf("receive the bootstrap: %w", err)
		}
	}()
	var length [4]byte
	rights := make([]byte, unix.CmsgSpace(maxFiles*4))
	n, rightsLen, _, _, err := c.ReadMsgUnix(length[:], rights)
	if err != nil {
		return p, nil, err
	}
	if files, err = passed(rights[:rightsLen]); err != nil {
		return p, files, err
	}
	if _, err := io.ReadFull(c, length[n:]); err != nil {
		return p, files, err
	}
	size := binary.BigEndian.Uint32(length[:])
	if size > maxMessage {
		return p, files, fmt.Errorf("a message of %d bytes is too long", size)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(c, body); err != nil {
		return p, files, err
	}
	if err := json.Unmarshal(body, &p); err != nil {
		return p, files, err
	}
	if len(p.Sockets) != len(files) {
		return p, files, fmt.Errorf("%d sockets are named and %d came", len(p.Sockets), len(files))
	}
	return p, files, nil
}

// passed returns the files of a message.
func passed(rights []byte) (files []*os.File, err error) {
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, err
	}
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return files, err
		}
		for _, fd := range fds {
			unix.CloseOnExec(fd)
			files = append(files, os.NewFile(uintptr(fd), "socket")) //nolint:gosec // a descriptor is not negative
		}
	}
	return files, nil
}
