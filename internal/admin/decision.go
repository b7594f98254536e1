package admin

import (
	"fmt"
	"strconv"
)

// A Question asks whose a host, an address or a port of one is.
type Question struct {
	Host      string // name, wildcard or IP address
	Port      uint16 // 0: all of them
	Kind      string // of Connections that are meant, if only one is; empty: each
	Namespace string // of the workloads that are meant; empty: the run's own workload
}

// A Decision says whose a host is for the workloads of a namespace, and why.
type Decision struct {
	Host      string     `json:"host"`
	Port      uint16     `json:"port,omitempty"` // if only that was asked for
	Namespace string     `json:"namespace"`
	Run       string     `json:"run,omitempty"`      // that was asked; empty: files were read
	Workload  string     `json:"workload,omitempty"` // whose labels count
	Sidecar   string     `json:"sidecar,omitempty"`
	Owner     *Standing  `json:"owner"` // null if nobody declares the host itself
	Others    []Standing `json:"others"`
	Wildcards []Standing `json:"wildcards"`
	// Covers are the entries whose addresses hold the address asked for, the
	// longest prefix first.
	Covers []Cover `json:"covers,omitempty"`
	// Connections say what becomes of a connection. They are there for an
	// address, and where a port was asked for.
	Connections []Connection `json:"connections,omitempty"`
	// Lost says why connections to ports that the host declares are refused,
	// because others hold them: sentences. It is there where no port was asked for.
	Lost       []string `json:"lost,omitempty"`
	Policy     string   `json:"outboundPolicy"`
	Undeclared string   `json:"undeclared"` // what happens, by the policy, to what nobody declares
	Remark     string   `json:"remark,omitempty"`
}

// A Standing is how one service stands in a Decision.
type Standing struct {
	Object     string   `json:"object"`
	File       string   `json:"file,omitempty"`
	Line       int      `json:"line,omitempty"`
	Host       string   `json:"host"`
	Reason     string   `json:"reason"` // why it has the host or not: the end of a sentence
	Merged     []string `json:"merged,omitempty"`
	Ports      []Port   `json:"ports"`
	Resolution string   `json:"resolution"`
	Addresses  []string `json:"addresses,omitempty"`
	Virtual    []string `json:"virtualAddresses,omitempty"`
}

// Where is the object with its place: "ServiceEntry default/a (a.yaml:1)".
func (s Standing) Where() string { return where(s.Object, s.File, s.Line) }

// A Port is one that a service declares.
type Port struct {
	Number   uint16 `json:"number"`
	Protocol string `json:"protocol,omitempty"`
}

// String is "80 HTTP".
func (p Port) String() string {
	if p.Protocol == "" {
		return strconv.Itoa(int(p.Number))
	}
	return strconv.Itoa(int(p.Number)) + " " + p.Protocol
}

// A Cover is a service one of whose addresses holds the address asked for.
type Cover struct {
	Address string `json:"address"` // "10.0.0.0/8", "192.0.2.1"
	Virtual bool   `json:"virtual,omitempty"`
	Host    string `json:"host"`
	Object  string `json:"object"`
	File    string `json:"file,omitempty"`
	Line    int    `json:"line,omitempty"`
	Ports   []Port `json:"ports"`
}

// Where is the object with its place.
func (c Cover) Where() string { return where(c.Object, c.File, c.Line) }

// Kinds of Connection: what tells where it goes.
const (
	Requests = "requests" // HTTP, by Host
	TLS      = "TLS"      // by server name
	Bytes    = "bytes"    // whatever else, by address and port
)

// A Connection says what becomes of connections of some kinds to a port. One
// without an Object is nobody's: the outbound policy decides. One that is Refused
// and has an Object would reach that, and does not.
type Connection struct {
	Port       uint16   `json:"port"`
	Kinds      []string `json:"kinds"`
	Cluster    string   `json:"cluster,omitempty"` // empty: it is closed
	Host       string   `json:"host,omitempty"`    // that is declared
	Object     string   `json:"object,omitempty"`
	File       string   `json:"file,omitempty"`
	Line       int      `json:"line,omitempty"`
	Protocol   string   `json:"protocol,omitempty"`
	Resolution string   `json:"resolution,omitempty"`
	Reason     string   `json:"reason,omitempty"`     // why it has the port and not the host's owner, who declares it too: the end of a sentence
	Refused    string   `json:"refused,omitempty"`    // why, as the caller and the access log are told; empty: it is not, or nothing declares the host
	Undeclared string   `json:"undeclared,omitempty"` // in what way what is declared of the host is not for it: a sentence without its end
	Endpoints  int      `json:"endpoints"`            // that are listed; with DNS each may be several addresses
	Missing    bool     `json:"missing,omitempty"`    // there is no such cluster: nothing to send to
}

// Where is the object with its place.
func (c Connection) Where() string { return where(c.Object, c.File, c.Line) }

func where(object, file string, line int) string {
	switch {
	case file == "":
		return object
	case line == 0:
		return fmt.Sprintf("%s (%s)", object, file)
	}
	return fmt.Sprintf("%s (%s:%d)", object, file, line)
}
