// Package mesh holds the nouns of the mesh as values: what a service is, where
// its endpoints are, who a workload is, and which object said so. Everything
// here is immutable by convention once it has been handed over: whoever needs
// another value makes one.
package mesh

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/hostname"
)

// A Ref names an object of the API and, where it came from a file, the place
// in that file. It is comparable; the zero Ref names nothing.
type Ref struct {
	Kind      string // ServiceEntry, VirtualService, …
	Namespace string
	Name      string
	File      string // empty if the object did not come from a file
	Line      int    // 1-based line of the object in File; 0 if unknown
}

// String is the form used in sentences: "ServiceEntry default/svc-entry".
func (r Ref) String() string {
	if r == (Ref{}) {
		return ""
	}
	return r.Kind + " " + r.Namespace + "/" + r.Name
}

// Where adds the file and line, if known: "ServiceEntry default/svc-entry
// (entries/svc-entry.yaml:1)".
func (r Ref) Where() string { return string(r.AppendWhere(nil)) }

// AppendWhere appends what Where returns. It does not allocate if dst has room.
func (r Ref) AppendWhere(dst []byte) []byte {
	if r == (Ref{}) {
		return dst
	}
	dst = append(dst, r.Kind...)
	dst = append(dst, ' ')
	dst = append(dst, r.Namespace...)
	dst = append(dst, '/')
	dst = append(dst, r.Name...)
	if r.File == "" {
		return dst
	}
	dst = append(dst, " ("...)
	dst = r.AppendPlace(dst)
	return append(dst, ')')
}

// AppendPlace appends the file and, if known, the line: "entries/svc-entry.yaml:1".
func (r Ref) AppendPlace(dst []byte) []byte {
	dst = append(dst, r.File...)
	if r.Line > 0 {
		dst = append(dst, ':')
		dst = strconv.AppendInt(dst, int64(r.Line), 10)
	}
	return dst
}

// A Resolution says how the endpoints of a service are found. The zero value
// is None, as in Istio.
type Resolution uint8

// The resolutions of a ServiceEntry.
const (
	None          Resolution = iota // the address the caller used
	Static                          // the endpoints listed
	DNS                             // every address of every name (Envoy's STRICT_DNS)
	DNSRoundRobin                   // one address of the name (Envoy's LOGICAL_DNS)
	DynamicDNS                      // resolved per concrete name of a wildcard
)

// String is the API's spelling.
func (r Resolution) String() string {
	return [...]string{"NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS"}[r]
}

// A Location says whether a service belongs to the mesh. The zero value is
// External, as in Istio.
type Location uint8

// The locations of a ServiceEntry.
const (
	External Location = iota
	Internal
)

// String is the API's spelling.
func (l Location) String() string { return [...]string{"MESH_EXTERNAL", "MESH_INTERNAL"}[l] }

// A Protocol is what is spoken on a port. The zero value, Unset, means the
// entry named none and the first bytes decide.
type Protocol uint8

// The protocols an entry may name.
const (
	Unset Protocol = iota
	HTTP
	HTTPS
	GRPC
	GRPCWeb
	HTTP2
	TLS
	TCP
	UDP
	Mongo
	MySQL
	Redis
	Postgres
	HTTPProxy
)

var protocolNames = [...]string{"", "HTTP", "HTTPS", "GRPC", "GRPC-Web", "HTTP2", "TLS", "TCP", "UDP", "Mongo", "MySQL", "Redis", "Postgres", "HTTP_PROXY"}

// ParseProtocol reads the API's spelling in any case, as Istio does; the empty
// string is Unset.
func ParseProtocol(s string) (Protocol, bool) {
	for i, name := range protocolNames {
		if strings.EqualFold(s, name) {
			return Protocol(i), true
		}
	}
	return Unset, false
}

// String is the API's spelling; Unset is the empty string.
func (p Protocol) String() string { return protocolNames[p] }

// IsHTTP reports whether requests on the port are routed by Host.
func (p Protocol) IsHTTP() bool {
	return p == HTTP || p == HTTP2 || p == GRPC || p == GRPCWeb || p == HTTPProxy
}

// IsTLS reports whether connections on the port are passed through by SNI.
func (p Protocol) IsTLS() bool { return p == HTTPS || p == TLS }

// A Port is one port of a service, as its callers see it.
type Port struct {
	Name       string
	Number     uint16
	Protocol   Protocol
	TargetPort uint16 // port at the endpoints; 0 means Number
}

// An Endpoint is one place where a service is served.
type Endpoint struct {
	Address        string            // IP, FQDN, unix:///path or unix://@name; canonical
	Ports          map[string]uint16 // port name -> port here; beats TargetPort
	Labels         map[string]string
	Network        string
	Locality       string // region/zone/subzone
	Weight         uint32 // 0 in the object reads as 1 here
	ServiceAccount string
	// Serves lists the numbers of the service's ports that this endpoint serves;
	// nil means all of them. Only a service merged from several entries needs it:
	// the endpoints of one entry do not serve the ports of another.
	Serves []uint16
}

// PortFor returns the port at which the endpoint serves port p of its service,
// and whether it serves p at all. The endpoint's own number beats the target
// port, which beats the number; a unix socket has none, so 0.
func (e Endpoint) PortFor(p Port) (port uint16, ok bool) {
	if e.Serves != nil && !slices.Contains(e.Serves, p.Number) {
		return 0, false
	}
	if strings.HasPrefix(e.Address, "unix:") {
		return 0, true
	}
	if own, ok := e.Ports[p.Name]; ok {
		return own, true
	}
	if p.TargetPort != 0 {
		return p.TargetPort, true
	}
	return p.Number, true
}

// A Service is one host as the mesh knows it. An entry with several hosts is
// several services; entries of one namespace that declare the same host alike
// are one, whose Source is the oldest of them.
type Service struct {
	Host            hostname.Name
	Namespace       string
	Addresses       []netip.Prefix // as the entry lists them; a plain IP is a /32 or /128
	VIPs            []netip.Addr   // virtual addresses given to the host; none if it lists its own
	NoVIP           bool           // the entry asks for none
	Ports           []Port
	Location        Location
	Resolution      Resolution
	Endpoints       []Endpoint        // for DNS never empty: an entry without any has its host here
	Selector        map[string]string // labels of workloads that are endpoints too; nil selects none
	ExportTo        []string          // as written; empty means the mesh's default
	SubjectAltNames []string
	Created         time.Time // zero for objects of files that a run started with
	Source          Ref
	// Withheld are further ports that the object declares and WithheldBy, a Sidecar,
	// keeps from the workload for which the service was narrowed.
	Withheld   []Port
	WithheldBy Ref
}

// A Workload is one running program with a proxy beside it.
type Workload struct {
	Name      string
	Namespace string
	Labels    map[string]string
	Locality  string
	Network   string
}

// An OutboundPolicy says what happens to traffic that no entry declares. The
// zero value is AllowAny, as in Istio.
type OutboundPolicy uint8

// The outbound policies.
const (
	AllowAny     OutboundPolicy = iota // to the original address
	RegistryOnly                       // refused
)

// String is the API's spelling.
func (p OutboundPolicy) String() string { return [...]string{"ALLOW_ANY", "REGISTRY_ONLY"}[p] }

// ParseOutboundPolicy is the inverse of String.
func ParseOutboundPolicy(s string) (OutboundPolicy, error) {
	switch s {
	case "ALLOW_ANY":
		return AllowAny, nil
	case "REGISTRY_ONLY":
		return RegistryOnly, nil
	}
	return 0, fmt.Errorf("outbound policy %q: use ALLOW_ANY or REGISTRY_ONLY", s)
}
