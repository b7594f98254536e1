// Package decision is the record of what was decided for one connection or
// request, and the sentence that tells it. The access log, the metrics, the
// text of local replies and explain all read this one record, so that they can
// never disagree.
package decision

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/mesh"
)

// A Protocol is what the proxy found itself speaking with the caller.
type Protocol uint8

// The protocols of a connection or request. Unknown is the zero value: nothing
// was recognised (yet).
const (
	Unknown Protocol = iota
	TCP
	TLS
	HTTP10
	HTTP11
	HTTP2
)

// String is the access log's spelling.
func (p Protocol) String() string {
	return [...]string{"-", "TCP", "TLS", "HTTP/1.0", "HTTP/1.1", "HTTP/2"}[p]
}

// A DNSState says how fresh the addresses were that a cluster used.
type DNSState uint8

// The states of a resolved name. NotResolved is the zero value: the cluster
// needs no name.
const (
	NotResolved DNSState = iota
	Fresh                // within its TTL
	Stale                // past its TTL, last good answer kept
	Negative             // the name has no address
	Never                // never answered
)

// String is the spelling of the log.
func (s DNSState) String() string {
	return [...]string{"-", "fresh", "stale", "negative", "never"}[s]
}

// A Reason is why an exchange ended otherwise than the caller hoped; it chooses
// the sentence. Flags say the same in Envoy's letters.
type Reason uint8

// The reasons. OK is the zero value: nothing went wrong at the proxy.
const (
	OK             Reason = iota
	NotDeclared           // outbound policy REGISTRY_ONLY and no entry for it
	NoRoute               // host declared, no route matches
	NoCluster             // route names a cluster that is not there
	NoEndpoint            // cluster without a usable endpoint
	ConnectFailed         // connection to the endpoint failed
	UpstreamReset         // endpoint ended the connection before the answer was whole
	UpstreamBroken        // endpoint answered with something that is not the protocol
	BadRequest            // the caller's request breaks the protocol
	TooLarge              // the caller's head is over a limit
	Timeout               // no answer in time
	ClientGone            // the caller went away
	Overload              // the proxy is at a limit of its own
	Loop                  // the connection would come back to the proxy
	PortHeld              // another host holds connections to that port
	UpgradeRefused        // an upgrade that is not allowed
	NotReady              // the proxy has no configuration yet
	Internal              // the proxy failed, a fault of its own
	Drained               // the proxy was ended, and waited no longer for it
)

// A DrainOver is for how long a proxy that was ended waited for what it had. It is
// the cause with which the context of that ends.
type DrainOver time.Duration

// Error is the Err of a Record.
func (d DrainOver) Error() string {
	return "it had waited " + time.Duration(d).String() + " for it"
}

// Fields are the header fields of a message.
type Fields interface {
	// Field returns the value of the first field of a name, which is in lower case;
	// nil if there is none. It is valid as long as the Record.
	Field(name string) []byte
}

// A Declaration is what is known of a declared host, so that what is refused all
// the same can be told why. It is immutable.
type Declaration struct {
	Host    string
	Entry   mesh.Ref
	Ports   []DeclaredPort // none: they are not known
	Sidecar mesh.Ref       // that withholds some of them
}

// A DeclaredPort is one port of a Declaration.
type DeclaredPort struct {
	Number   uint16
	Protocol mesh.Protocol
	Withheld bool // by the Sidecar, from the workload
}

// port returns the port of a number; nil if there is none.
func (d *Declaration) port(number uint16) *DeclaredPort {
	for i := range d.Ports {
		if d.Ports[i].Number == number {
			return &d.Ports[i]
		}
	}
	return nil
}

// A Record is filled while one connection or request passes and read once it
// is over. It is of fixed size and holds no memory of its own: strings belong
// to the configuration, byte slices to the exchange's buffers, so a Record is
// valid only until its owner reuses them. Readers must not keep it.
// The zero Record is ready to be filled. It is not safe for concurrent use.
type Record struct {
	ID    uint64 // unique in the life of a proxy
	Start time.Time

	// What came in.
	Protocol   Protocol
	Downstream netip.AddrPort // the caller
	Original   netip.AddrPort // where the caller meant to go
	Name       string         // name that DNS answered with Original's address; empty if unknown
	SNI        string
	Method     []byte
	Authority  []byte
	Path       []byte
	UserAgent  []byte
	RequestID  []byte

	// What was decided.
	Policy       mesh.OutboundPolicy
	Listener     string
	Chain        string
	RouteTable   string
	VirtualHost  string
	Route        string
	Cluster      string
	Entry        mesh.Ref     // the object that declared the destination
	Declared     *Declaration // of the host that was meant, if Reason is NotDeclared or Behind is set; nil: nothing declares it
	Behind       *Declaration // of the host that the virtual address Original stands for, if that was to be reached itself and has no address
	Holder       string       // host that holds the port, and what declared it, if Reason is PortHeld
	HolderEntry  mesh.Ref
	Endpoint     netip.AddrPort
	EndpointName string         // FQDN behind Endpoint, or unix path; empty if neither
	Upstream     netip.AddrPort // local address of the connection to Endpoint
	Tries        uint8
	DNS          DNSState
	DNSError     string // last failure of the resolver, if any
	Endpoints    int    // endpoints the cluster had when it was asked

	// How it ended.
	Reason       Reason
	Flags        Flags
	Details      string     // Envoy's response code details
	Err          string     // the failure in the system's words: "connection refused"
	Status       int        // HTTP status sent; 0 for connections
	Call         CallStatus // of a call of gRPC that was answered
	Received     int64      // body or payload bytes from the caller
	Sent         int64      // body or payload bytes to the caller
	Duration     time.Duration
	UpstreamTime time.Duration // request sent until response head; 0 for local replies

	// The messages, for formats that ask for their fields; nil where there are none.
	Request, Response, Trailer Fields
}
