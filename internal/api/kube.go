package api

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// The kinds of Kubernetes itself that declare a host and where it is served.
const (
	KindService       = "Service"
	KindEndpointSlice = "EndpointSlice"
)

// clusterDomain is what hosts of Kubernetes Services end in.
const clusterDomain = "cluster.local"

// serviceNameLabel is how an EndpointSlice names its Service.
const serviceNameLabel = "kubernetes.io/service-name"

// exportToAnnotation is how a Service says what exportTo says in an entry.
const exportToAnnotation = "networking.istio.io/exportTo"

// A KubeService is what a v1 Service says, as far as it matters here. It is the
// Spec of an Object of KindService.
type KubeService struct {
	Type                     string // ClusterIP if empty; NodePort, LoadBalancer, ExternalName
	ClusterIP                string // empty: none given yet; "None": headless
	ClusterIPs               []string
	ExternalName             string
	PublishNotReadyAddresses bool
	Selector                 map[string]string
	Ports                    []KubePort

	// What is known and not acted on, to be named.
	SessionAffinity       string
	InternalTrafficPolicy string
	TrafficDistribution   string
}

// A KubePort is one port of a KubeService.
type KubePort struct {
	Name        string
	Number      int32
	Protocol    string // TCP if empty; UDP, SCTP
	AppProtocol string
	Target      int32  // port at the endpoints; 0: Number, or by TargetName
	TargetName  string // name of the port at the endpoints
}

// A KubeSlice is what a discovery.k8s.io/v1 EndpointSlice says. It is the Spec
// of an Object of KindEndpointSlice.
type KubeSlice struct {
	AddressType string // IPv4, IPv6, FQDN
	Endpoints   []KubeEndpoint
	Ports       []KubeSlicePort
}

// A KubeEndpoint is one endpoint of a KubeSlice.
type KubeEndpoint struct {
	Addresses   []string
	NotReady    bool // conditions.ready is false
	Terminating bool
	Zone        string
	NodeName    string
}

// A KubeSlicePort is a port at every endpoint of a KubeSlice.
type KubeSlicePort struct {
	Name     string // of the port of the Service
	Number   int32  // 0: the Service's
	Protocol string // TCP if empty
}

// Headless reports whether the Service has no address of its own and its name
// leads to its endpoints.
func (s *KubeService) Headless() bool {
	return s.Type != "ExternalName" && (s.ClusterIP == "None" || slices.Contains(s.ClusterIPs, "None"))
}

// kubeHost is the host of a Kubernetes Service.
func kubeHost(namespace, name string) hostname.Name {
	return hostname.Name(name + "." + namespace + ".svc." + clusterDomain)
}

// ShortNames returns the shorter names by which callers of a namespace know a
// host, if it is that of a Kubernetes Service: web.shop.svc, web.shop and, for
// callers of namespace shop, web.
func ShortNames(host hostname.Name, callers string) []string {
	full, ok := strings.CutSuffix(string(host), ".svc."+clusterDomain)
	name, namespace, two := strings.Cut(full, ".")
	if !ok || !two || host.IsWildcard() || name == "" || namespace == "" || strings.Contains(namespace, ".") {
		return nil
	}
	names := []string{full + ".svc", full}
	if namespace == callers {
		names = append(names, name)
	}
	return names
}

// kubeService is what a valid Kubernetes Service declares. Endpoints come from
// EndpointSlices and workloads, unless it stands for an external name.
func kubeService(o *Object, spec *KubeService) *mesh.Service {
	s := &mesh.Service{
		Host:       kubeHost(o.Namespace, o.Name),
		Namespace:  o.Namespace,
		Addresses:  spec.addresses(),
		Location:   mesh.Internal,
		Resolution: mesh.Static,
		Selector:   spec.Selector,
		ExportTo:   exportToOf(o.Annotations),
		Created:    o.Created,
		Source:     o.Source,
	}
	for _, p := range spec.Ports {
		if p.Protocol != "" && p.Protocol != "TCP" {
			continue // not acted on
		}
		protocol := p.protocol()
		if protocol == mesh.UDP {
			continue
		}
		s.Ports = append(s.Ports, mesh.Port{
			Name:       p.Name,
			Number:     uint16(p.Number), //nolint:gosec // validated
			Protocol:   protocol,
			TargetPort: uint16(p.Target), //nolint:gosec // validated
		})
	}
	if spec.Type == "ExternalName" {
		s.Resolution, s.Selector, s.Addresses = mesh.DNS, nil, nil
		s.Endpoints = []mesh.Endpoint{{Address: canonicalAddress(spec.ExternalName), Weight: 1}}
	}
	s.NoVIP = spec.Headless() || len(s.Ports) == 0 || o.Labels[noVIP] == "false"
	return s
}

func (s *KubeService) addresses() []netip.Prefix {
	texts := s.ClusterIPs
	if len(texts) == 0 {
		texts = []string{s.ClusterIP}
	}
	return serviceAddresses(texts) // neither "" nor "None" is an address
}

func exportToOf(annotations map[string]string) []string {
	var all []string
	for text := range strings.SplitSeq(annotations[exportToAnnotation], ",") {
		if text = strings.TrimSpace(text); text != "" {
			all = append(all, text)
		}
	}
	return all
}

// protocol is what is spoken on the port: appProtocol says it, else what the
// name begins with, else the number where the server speaks first by custom;
// else the first bytes decide.
func (p KubePort) protocol() mesh.Protocol {
	name := p.Name
	if p.AppProtocol != "" {
		name = p.AppProtocol
		switch name { // those that Kubernetes itself defines
		case "kubernetes.io/h2c":
			return mesh.HTTP2
		case "kubernetes.io/ws":
			return mesh.HTTP
		case "kubernetes.io/wss":
			return mesh.HTTPS
		}
	}
	const web = "grpc-web"
	if len(name) >= len(web) && strings.EqualFold(name[:len(web)], web) {
		return mesh.GRPCWeb
	}
	name, _, _ = strings.Cut(name, "-")
	protocol, known := mesh.ParseProtocol(name)
	if known && protocol != mesh.Unset {
		return protocol
	}
	switch p.Number {
	case 25, 53, 3306, 27017: // SMTP, DNS, MySQL, Mongo
		return mesh.TCP
	}
	return mesh.Unset
}

// SliceHost returns the host of the Service to which an EndpointSlice says it
// belongs. It is false for other kinds and for a slice that says nothing.
func SliceHost(o *Object) (hostname.Name, bool) {
	name := o.Labels[serviceNameLabel]
	if _, ok := o.Spec.(*KubeSlice); !ok || name == "" {
		return "", false
	}
	return kubeHost(o.Namespace, name), true
}

// SliceEndpoints returns the endpoints that a valid EndpointSlice has for a
// Service with those ports: those that are ready, or all if the Service
// publishes them all. What serves none of the ports is left out.
func SliceEndpoints(o *Object, service *KubeService, ports []mesh.Port) []mesh.Endpoint {
	slice, ok := o.Spec.(*KubeSlice)
	if !ok || slice.AddressType == "FQDN" {
		return nil
	}
	at, serves := map[string]uint16{}, []uint16{}
	for _, p := range ports {
		i := slices.IndexFunc(slice.Ports, func(q KubeSlicePort) bool {
			return q.Name == p.Name && (q.Protocol == "" || q.Protocol == "TCP")
		})
		if i < 0 {
			continue
		}
		serves = append(serves, p.Number)
		at[p.Name] = p.Number
		if n := slice.Ports[i].Number; n != 0 {
			at[p.Name] = uint16(n) //nolint:gosec // validated
		}
	}
	if len(serves) == 0 && len(ports) > 0 {
		return nil
	}
	if len(serves) == len(ports) {
		serves = nil
	}
	var endpoints []mesh.Endpoint
	for _, e := range slice.Endpoints {
		if e.NotReady && !service.PublishNotReadyAddresses {
			continue
		}
		for _, address := range e.Addresses {
			endpoints = append(endpoints, mesh.Endpoint{Address: canonicalAddress(address), Ports: at, Weight: 1, Serves: serves})
		}
	}
	return endpoints
}

// TargetName returns the name that a Kubernetes Service gives the port of that
// number at its endpoints, or "".
func (s *KubeService) TargetName(number uint16) string {
	for _, p := range s.Ports {
		if p.Number == int32(number) && (p.Protocol == "" || p.Protocol == "TCP") {
			return p.TargetName
		}
	}
	return ""
}
