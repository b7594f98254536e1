// Package admin shows what a running proxy knows and does, and what the control
// plane of a run has decided: a read-only server on a socket for each, and the
// client that the command line asks with. The types are what they speak, as
// JSON; what is in them is the proxy's to fill, and the run's.
package admin

import (
	"encoding/json"
	"time"
)

// A Ref names the object that declared something.
type Ref struct {
	Kind      string `json:"kind"`
	Namespace string `json:"namespace"`
	Name      string `json:"name"`
	Place     string `json:"place,omitempty"` // file and line, if it came from a file
}

// String is "ServiceEntry default/svc-entry"; a nil Ref is the empty string.
func (r *Ref) String() string {
	if r == nil {
		return ""
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// A Config is everything that the control plane has told the proxy, each list
// sorted by name. Raw resources are there only if they were asked for.
type Config struct {
	Version   uint64       `json:"version"` // counts the changes since the proxy started
	Listeners []Listener   `json:"listeners"`
	Routes    []RouteTable `json:"routes"`
	Clusters  []Cluster    `json:"clusters"`
	Endpoints []Assignment `json:"endpoints"`
	Names     []Name       `json:"names"`
}

// A Listener is one place where connections arrive.
type Listener struct {
	Name      string          `json:"name"`
	Addresses []string        `json:"addresses"`
	Chains    []Chain         `json:"chains"` // the default chain last
	Raw       json.RawMessage `json:"raw,omitempty"`
}

// A Chain is one way to treat a connection.
type Chain struct {
	Name        string `json:"name"`
	Match       string `json:"match"`       // "SNI: www.baidu.com; Trans: tls", "ALL", or "otherwise": what no other matches
	Destination string `json:"destination"` // "Cluster: outbound|443||www.baidu.com", "Route: 80"
	Entry       *Ref   `json:"entry,omitempty"`
	// Raw is set if it came as a resource of its own.
	Raw json.RawMessage `json:"raw,omitempty"`
}

// A RouteTable routes the requests of a port.
type RouteTable struct {
	Name         string          `json:"name"`
	VirtualHosts []VirtualHost   `json:"virtualHosts"`
	Raw          json.RawMessage `json:"raw,omitempty"`
}

// A VirtualHost holds the routes of its domains.
type VirtualHost struct {
	Name    string          `json:"name"`
	Domains []string        `json:"domains"`
	Routes  []Route         `json:"routes"`
	Entry   *Ref            `json:"entry,omitempty"`
	Raw     json.RawMessage `json:"raw,omitempty"` // only if it came as a resource of its own
}

// A Route is one rule of a virtual host.
type Route struct {
	Name        string `json:"name"`
	Match       string `json:"match"`       // "/*"
	Destination string `json:"destination"` // a cluster, or "502 direct response"
}

// A Cluster is a destination.
type Cluster struct {
	Name           string          `json:"name"`
	Type           string          `json:"type"` // EDS, STRICT_DNS, LOGICAL_DNS, ORIGINAL_DST, STATIC
	ConnectTimeout string          `json:"connectTimeout"`
	Entry          *Ref            `json:"entry,omitempty"`
	Raw            json.RawMessage `json:"raw,omitempty"`
}

// An Assignment lists the endpoints of a cluster as the control plane told them.
type Assignment struct {
	Name      string          `json:"name"`
	Endpoints []string        `json:"endpoints"` // "192.168.0.100:80", "unix:///run/x.sock"
	Raw       json.RawMessage `json:"raw,omitempty"`
}

// A Name is a declared host as the DNS server sees it.
type Name struct {
	Host      string          `json:"host"`
	Addresses []string        `json:"addresses,omitempty"` // answered with; none: forwarded
	Entry     *Ref            `json:"entry,omitempty"`
	Raw       json.RawMessage `json:"raw,omitempty"`
}

// A ClusterState is a cluster as it is now.
type ClusterState struct {
	Name      string          `json:"name"`
	DNS       string          `json:"dns,omitempty"`      // fresh, stale, negative, never; empty if no name is needed
	DNSError  string          `json:"dnsError,omitempty"` // the last failure
	Entry     *Ref            `json:"entry,omitempty"`
	Endpoints []EndpointState `json:"endpoints"`
}

// An EndpointState is an endpoint as it is now.
type EndpointState struct {
	Address string `json:"address"`        // address and port, or the path of a unix socket
	Name    string `json:"name,omitempty"` // FQDN behind Address
	Weight  uint32 `json:"weight"`
	Active  int64  `json:"active"` // requests and connections in progress
	Idle    int    `json:"idle"`   // connections kept
}

// Traffic counts what has ended since the proxy started.
type Traffic struct {
	Connections uint64            `json:"connections"` // that were not HTTP
	Requests    uint64            `json:"requests"`
	Refused     uint64            `json:"refused"` // by REGISTRY_ONLY
	Received    int64             `json:"receivedBytes"`
	Sent        int64             `json:"sentBytes"`
	Flags       map[string]uint64 `json:"flags,omitempty"` // by Envoy's letters
	LogLines    uint64            `json:"logLines"`
	LogDropped  uint64            `json:"logDropped"`
}

// Stats are the counters of a proxy.
type Stats struct {
	Traffic
	DNSRefused uint64 `json:"dnsRefused"` // names that no entry declares, under REGISTRY_ONLY
	DNSShed    uint64 `json:"dnsShed"`    // questions dropped at the proxy's own limit
	DNSIgnored uint64 `json:"dnsIgnored"` // datagrams from a name server's address that answered nothing asked
	Panics     uint64 `json:"panics"`     // faults of the proxy's own that ended one request, question or answer

	// What the proxy uses of its limits; a limit of 0 is none.
	ConnectionsOpen int    `json:"connectionsOpen"`
	ConnectionLimit int    `json:"connectionLimit"`
	MemoryInUse     uint64 `json:"memoryInUseBytes"` // at the last look; 0 without a limit
	MemoryLimit     uint64 `json:"memoryLimitBytes"`
	MemoryRefused   uint64 `json:"memoryRefused"`    // requests answered with 503 because memory was short
	StreamsHeld     int64  `json:"streamsHeldBytes"` // of HTTP/2: received and not taken, or to be sent
	StreamsLimit    int64  `json:"streamsLimitBytes"`

	// How often the proxy did not run for more than a second, as a stopped process
	// does not, and for how long in all.
	Stalls    uint64 `json:"stalls"`
	StalledMs uint64 `json:"stalledMs"`

	RetriesRefused uint64 `json:"retriesRefused"` // not made, as enough of the requests in progress were retries
}

// A Status says who the proxy is and whether it serves.
type Status struct {
	Ready         bool      `json:"ready"`
	Workload      string    `json:"workload"`
	Namespace     string    `json:"namespace"`
	Policy        string    `json:"policy"` // ALLOW_ANY or REGISTRY_ONLY
	Started       time.Time `json:"started"`
	ConfigVersion uint64    `json:"configVersion"`
	ConfigTime    time.Time `json:"configTime"`        // of the last change
	Connected     bool      `json:"connected"`         // to the control plane
	Awaited       []string  `json:"awaited,omitempty"` // asked for and not answered yet
	Error         string    `json:"error,omitempty"`   // why there is no connection, or why the last change was refused
}

// A Source is where a server has its answers from. Its functions are called
// for each request and are safe for concurrent use.
type Source struct {
	Config   func(raw bool) (Config, error) // raw: with raw resources
	Clusters func() []ClusterState
	Stats    func() Stats
	Status   func() Status
}

// A Control is where the server of a control plane has its answers from. Its
// functions are called for each request and are safe for concurrent use.
type Control struct {
	// WhoOwns fails if the question makes no sense.
	WhoOwns func(Question) (Decision, error)
}
