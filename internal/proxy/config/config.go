// Package config is what a proxy knows of its mesh, compiled: listeners,
// routes, clusters, endpoints and names as immutable values. Decode makes the
// parts from protobuf, Apply joins them, everything else only reads.
//
// A Config is published behind one atomic pointer. A connection or request
// loads it once and sees that state to its end, never half an update. Parts
// that did not change are shared between one Config and the next, so that a
// change costs what the change is.
package config

import (
	"cmp"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/accesslog"
)

// A Listener says what to do with connections to one original destination.
// Only virtualOutbound binds a socket; it hands each connection to the listener
// of the original address and port, else of 0.0.0.0 or [::] and the port, else keeps it.
type Listener struct {
	Name           string
	Addresses      []netip.AddrPort // the address and the additional ones; unspecified IP: any address
	InspectTLS     bool             // read a ClientHello, if there is one
	InspectHTTP    bool             // read the first line, if it is HTTP
	InspectTimeout time.Duration    // 0: wait without limit
	Chains         []*FilterChain
	ServerNames    bool         // the ServerNames of its port are further chains of it
	Default        *FilterChain // nil: close what no chain matches
	// AccessLog is, of virtualOutbound, what lines of the proxy's access log look
	// like; nil: as the proxy has it by itself.
	AccessLog *accesslog.Format
	Raw       []byte // the protobuf as received, for proxy-config
}

// Port is that of its first address, 0 if it has none.
func (l *Listener) Port() uint16 {
	if len(l.Addresses) == 0 {
		return 0
	}
	return l.Addresses[0].Port()
}

// A FilterChain is one way to treat a connection: as bytes or as HTTP.
// Exactly one of TCP and HTTP is set.
type FilterChain struct {
	Name  string
	Match Match
	TCP   *TCPProxy
	HTTP  *HTTPManager
}

// A ServerName is one more chain of every listener of a port that looks them up.
type ServerName struct {
	Port  uint16
	Host  string // exact, or "*.suffix" (as written, lower case)
	Chain *FilterChain
	Raw   []byte
}

// Key names it.
func (n *ServerName) Key() ServerNameKey { return ServerNameKey{n.Port, n.Host} }

// A ServerNameKey says which server name of which port.
type ServerNameKey struct {
	Port uint16
	Host string
}

// Compare orders keys by port, then host.
func (k ServerNameKey) Compare(o ServerNameKey) int {
	return cmp.Or(cmp.Compare(k.Port, o.Port), cmp.Compare(k.Host, o.Host))
}

// A Match selects a chain. Empty fields match everything; what is set must all
// match; the most specific chain wins in Envoy's order: prefix, server name,
// transport, application protocol.
type Match struct {
	Prefixes     []netip.Prefix // original destination
	ServerNames  []string       // SNI: exact, or "*.suffix" (as written, lower case)
	Transport    string         // "tls", "raw_buffer" or "" for any
	Applications []string       // what HTTP without TLS is ("http/1.0", "http/1.1", "h2c") and what TLS offers by ALPN
}

// A TCPProxy passes bytes to a cluster.
type TCPProxy struct {
	Cluster     string
	IdleTimeout time.Duration // 0: Envoy's default of one hour
	Entry       mesh.Ref
}

// An HTTPManager routes requests by a table, named or given in place.
type HTTPManager struct {
	RouteName string      // table to look up in the Config; empty if Inline is set
	Inline    *RouteTable // nil if RouteName is set
	// StreamIdleTimeout ends an exchange on which no byte moved; 0: none.
	StreamIdleTimeout time.Duration
	Headers           *Headers // nil: none
}

// A VirtualHost holds the routes of one or more domains.
type VirtualHost struct {
	Name    string
	Domains []string // lower case; exact, "*.suffix", "*suffix" or "*"
	Routes  []*Route
	// AttemptCount tells endpoints of the mesh how often the request was tried.
	AttemptCount bool
	Entry        mesh.Ref
	Raw          []byte // set if it came as a resource of its own (VHDS)
}

// A Route is one rule of a virtual host: the first that matches decides.
type Route struct {
	Name   string
	Prefix string // path prefix; the only match until VirtualService is acted on
	// Exactly one of Cluster and Direct is set.
	Cluster string
	Direct  *DirectResponse
	Timeout time.Duration // 0: none
	Retry   Retry
}

// A DirectResponse answers at the proxy.
type DirectResponse struct {
	Status int
	Body   string
}

// A Retry says how often and when a request is tried again. The zero value
// never retries.
type Retry struct {
	Attempts       int           // beside the first
	ConnectFailure bool          // when the connection to the endpoint failed
	RefusedStream  bool          // when the endpoint refused the stream, without a look at the request
	Unavailable    bool          // when the head of the answer says so with the status of gRPC (14)
	Cancelled      bool          // likewise (1)
	PreviousHosts  bool          // prefer endpoints not tried yet
	BaseInterval   time.Duration // 0: 25 ms
}

// A ClusterType says where the endpoints of a cluster come from.
type ClusterType uint8

// The kinds of cluster.
const (
	EDS         ClusterType = iota // an Assignment of the control plane
	StrictDNS                      // every address of every name
	LogicalDNS                     // the first address of one name
	OriginalDst                    // the address the caller meant
	StaticSet                      // the Assignment inside the cluster (BlackHoleCluster: none)
)

// A Cluster is a destination with its endpoints' source and its limits.
type Cluster struct {
	Name           string
	Type           ClusterType
	ServiceName    string // name of its Assignment if Type is EDS; never empty then
	Inline         *Assignment
	PortOverride   uint16         // OriginalDst: port to dial instead; 0: the original
	Addresses      []netip.Prefix // OriginalDst: those that the entry lists; none: it lists none
	Policy         Balance
	HTTP           HTTPVersion   // of requests to its endpoints
	ConnectTimeout time.Duration // 0: Envoy's 5 s
	InMesh         bool          // its endpoints belong to the mesh: headers of ours may go there
	Entry          mesh.Ref      // object that declared the host
	Raw            []byte
}

// A Balance is a load balancing policy.
type Balance uint8

// The policies. LeastRequest is Istio's default and ours.
const (
	LeastRequest Balance = iota
	RoundRobin
	Random
	ClusterProvided // OriginalDst
)

// An Assignment lists the endpoints of a cluster.
type Assignment struct {
	Name      string
	Endpoints []Endpoint
	Raw       []byte
}

// An Endpoint is one address with its weight.
type Endpoint struct {
	Host     string // IP, FQDN (DNS clusters) or unix path (leading "@": abstract)
	Port     uint16 // 0 for unix
	Weight   uint32 // at least 1
	Priority uint32
}

// A Name is a declared host as the DNS server sees it.
type Name struct {
	Host      string       // lower case, may start with "*"
	Addresses []netip.Addr // to answer with; empty: forward the question
	Virtual   bool         // the addresses exist nowhere, they stand for the host
	Refused   []RefusedPort
	Entry     mesh.Ref
	Declared  decision.Declaration // what it is declared with
	Short     []string             // by which the workload knows it too, unless another Name is called so
	Raw       []byte
}

// A RefusedPort is a port on which connections that mean a host are refused:
// they would reach another one that holds them.
type RefusedPort struct {
	Port   uint16
	Within []netip.Prefix // at these destinations only; empty: at any
	// RequestsPass: requests find their host by what they say; the rest is refused.
	RequestsPass bool
	Holder       string   // the host that has the connections
	Entry        mesh.Ref // the object that declared the holder
}

// Refuses returns why a connection to dst that means n is refused; nil: it is
// not. A nil n refuses nothing.
func (n *Name) Refuses(dst netip.AddrPort) *RefusedPort {
	if n == nil {
		return nil
	}
	for i := range n.Refused {
		p := &n.Refused[i]
		if p.Port == dst.Port() && (len(p.Within) == 0 || slices.ContainsFunc(p.Within, func(x netip.Prefix) bool { return x.Contains(dst.Addr().Unmap()) })) {
			return p
		}
	}
	return nil
}
