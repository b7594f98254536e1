// Package bootstrap is what a supervisor tells a proxy when it starts it: who
// the workload is, where the control plane is, and which of the inherited
// descriptors is what. It is the only thing the two agree on beside xDS.
package bootstrap

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"

	"github.com/fairlead/fairlead/internal/mesh"
)

// Descriptors a proxy is started with.
const (
	// ControlFD is a stream socket to the supervisor. It carries one line of JSON
	// (a Proxy) to the proxy, then ReadyLine back once, then nothing: its end
	// means that the supervisor is gone and the proxy has to end too.
	ControlFD = 3
	// FirstSocketFD is the descriptor of Sockets[0]; the others follow.
	FirstSocketFD = 4
)

// ReadyLine is what the proxy says when its first configuration is compiled and
// its DNS server answers.
const ReadyLine = "ready\n"

// A SocketKind says what an inherited socket is for.
type SocketKind string

// The kinds of inherited sockets, all of them listening or bound inside the
// sandbox.
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
	Sockets   []SocketKind  `json:"sockets"`
	Own       []netip.Addr  `json:"own"` // the workload's own addresses: not to be reached through the proxy
}

// maxLine bounds the line of JSON.
const maxLine = 1 << 20

// Write sends p as one line.
func (p Proxy) Write(w io.Writer) error {
	b, err := json.Marshal(p)
	if err != nil {
		return fmt.Errorf("encode the proxy's bootstrap: %w", err)
	}
	if len(b) >= maxLine {
		return errors.New("the proxy's bootstrap is over 1 MiB; use fewer labels")
	}
	_, err = w.Write(append(b, '\n'))
	return err
}

// Read reads what Write wrote. Nothing may follow it on r.
func Read(r io.Reader) (p Proxy, err error) {
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadBytes('\n')
	if err != nil {
		return p, fmt.Errorf("read the bootstrap from the supervisor: %w", err)
	}
	if err := json.Unmarshal(line, &p); err != nil {
		return p, fmt.Errorf("read the bootstrap from the supervisor: %w", err)
	}
	return p, nil
}
