package translate

import (
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// contribute makes what a service adds by itself; asked says whether the
// workload's questions come to the proxy.
func (f *forms) contribute(s *mesh.Service, asked bool) *contribution {
	c := &contribution{}
	var claims []*claim
	claims, c.problems = claimsOf(s)
	if s.Resolution == mesh.DynamicDNS {
		return c
	}
	c.service = s
	c.resources = make([]*Resource, 0, 1+3*len(claims))
	put := func(r *Resource) { c.resources = append(c.resources, r) }
	put(encode(xds.NameType, string(s.Host), nameOf(s, asked)))
	for _, claim := range claims {
		p := claim.port
		if c.claim(p.Number) != nil {
			continue // the number twice: nothing valid has it
		}
		c.claims = append(c.claims, claim)
		if claim.isName() {
			put(serverNameOf(claim))
		}
		cluster, endpoints := f.clusterOf(s, p)
		if cluster != nil {
			put(cluster)
		}
		if endpoints != nil {
			put(endpoints)
		}
	}
	return c
}

// Fields of Cluster and of the messages in it.
const (
	clusterName       protowire.Number = 1
	clusterEDS        protowire.Number = 3
	clusterMetadata   protowire.Number = 25
	clusterAssignment protowire.Number = 33
	edsServiceName    protowire.Number = 2
)

// clusterOf makes the cluster of one port, and its endpoints where those are a
// resource of their own. Both are nil where there is nothing to resolve.
func (f *forms) clusterOf(s *mesh.Service, p mesh.Port) (cluster, endpoints *Resource) {
	name := xds.OutboundCluster(p.Number, "", string(s.Host))
	serving := serving(s, p)
	switch s.Resolution {
	case mesh.None:
	case mesh.Static:
		w := f.blank()
		w.assignment(name, serving, p)
		endpoints = f.resource(xds.EndpointType, name, w)
	case mesh.DNS, mesh.DNSRoundRobin:
		if len(serving) == 0 {
			return nil, nil // nothing to resolve, as in Istio: a route to it is a route to no cluster
		}
	case mesh.DynamicDNS:
		return nil, nil
	}
	w := f.blank()
	w.text(clusterName, name)
	if s.Resolution == mesh.Static {
		at := w.open(clusterEDS)
		w.raw(f.eds)
		w.text(edsServiceName, name)
		w.close(at)
	}
	at := w.open(clusterMetadata)
	var chosen []netip.Prefix
	if s.Resolution == mesh.None {
		chosen = s.Addresses
	}
	w.declared(s.Source, chosen)
	w.telemetry(s, p)
	w.close(at)
	if s.Resolution == mesh.DNS || s.Resolution == mesh.DNSRoundRobin {
		at := w.open(clusterAssignment)
		w.assignment(name, serving, p)
		w.close(at)
	}
	w.raw(f.cluster(clusterLike{s.Resolution, p.Protocol}))
	if s.Resolution == mesh.None && p.TargetPort != 0 && p.TargetPort != p.Number {
		w.raw(marshal(&clusterv3.Cluster{LbConfig: &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{
			UpstreamPortOverride: wrapperspb.UInt32(uint32(p.TargetPort)),
		}}}))
	}
	return f.resource(xds.ClusterType, name, w), endpoints
}

// clusterForm makes what clusters that are alike have in common.
func clusterForm(like clusterLike, m config.Mesh) *clusterv3.Cluster {
	c := &clusterv3.Cluster{
		ConnectTimeout: durationpb.New(m.ConnectTimeout),
		LbPolicy:       clusterv3.Cluster_LEAST_REQUEST,

		TypedExtensionProtocolOptions: spoken(like.protocol),
	}
	switch like.resolution {
	case mesh.None:
		originalDst(c)
	case mesh.Static:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
	case mesh.DNS, mesh.DNSRoundRobin:
		kind := clusterv3.Cluster_STRICT_DNS
		if like.resolution == mesh.DNSRoundRobin {
			kind = clusterv3.Cluster_LOGICAL_DNS
		}
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: kind}
		c.RespectDnsTtl = true
		c.DnsRefreshRate = durationpb.New(m.DNSRefreshRate)
		c.DnsLookupFamily = clusterv3.Cluster_ALL
	case mesh.DynamicDNS:
	}
	return c
}

// serving returns the endpoints that serve the port and of which a cluster has
// use, those of one locality together.
func serving(s *mesh.Service, p mesh.Port) []mesh.Endpoint {
	if s.Resolution == mesh.None {
		return nil // the caller says where
	}
	all := slices.DeleteFunc(slices.Clone(s.Endpoints), func(e mesh.Endpoint) bool {
		_, ok := e.PortFor(p)
		return !ok || e.Address == ""
	})
	if s.Resolution == mesh.DNSRoundRobin {
		all = all[:min(len(all), 1)]
	}
	slices.SortStableFunc(all, func(a, b mesh.Endpoint) int { return strings.Compare(a.Locality, b.Locality) })
	return all
}

// Fields of ClusterLoadAssignment and of the messages in it.
const (
	assignmentCluster   protowire.Number = 1
	assignmentEndpoints protowire.Number = 2
	localityName        protowire.Number = 1
	localityEndpoints   protowire.Number = 2
	localityWeight      protowire.Number = 3
	lbEndpoint          protowire.Number = 1
	lbEndpointWeight    protowire.Number = 4
	endpointAddress     protowire.Number = 1
	addressSocket       protowire.Number = 1
	addressPipe         protowire.Number = 2
	socketHost          protowire.Number = 2
	socketPort          protowire.Number = 3
	pipePath            protowire.Number = 1
	wrappedValue        protowire.Number = 1
)

// assignment appends the fields of a ClusterLoadAssignment with the endpoints for
// one port; those of one locality lie together.
func (w *wire) assignment(name string, endpoints []mesh.Endpoint, p mesh.Port) {
	w.text(assignmentCluster, name)
	for len(endpoints) > 0 {
		at := w.open(assignmentEndpoints)
		here := endpoints[0].Locality
		w.locality(here)
		var total uint32
		for len(endpoints) > 0 && endpoints[0].Locality == here {
			weight := max(endpoints[0].Weight, 1)
			w.endpoint(endpoints[0], p, weight)
			total += weight
			endpoints = endpoints[1:]
		}
		w.wrapped(localityWeight, total)
		w.close(at)
	}
}

func (w *wire) endpoint(e mesh.Endpoint, p mesh.Port, weight uint32) {
	all := w.open(localityEndpoints)
	endpoint := w.open(lbEndpoint)
	address := w.open(endpointAddress)
	if path, ok := strings.CutPrefix(e.Address, "unix://"); ok {
		pipe := w.open(addressPipe)
		w.text(pipePath, path)
		w.close(pipe)
	} else {
		socket := w.open(addressSocket)
		port, _ := e.PortFor(p)
		w.text(socketHost, e.Address)
		w.number(socketPort, uint64(port))
		w.close(socket)
	}
	w.close(address)
	w.close(endpoint)
	w.wrapped(lbEndpointWeight, weight)
	w.close(all)
}

// wrapped appends a field that is a UInt32Value.
func (w *wire) wrapped(field protowire.Number, n uint32) {
	at := w.open(field)
	w.number(wrappedValue, uint64(n))
	w.close(at)
}

// locality appends region, zone and sub-zone, which are its fields 1 to 3.
func (w *wire) locality(s string) {
	if s == "" {
		return
	}
	at := w.open(localityName)
	for i, part := range strings.SplitN(s, "/", 3) {
		if part != "" {
			w.text(protowire.Number(i+1), part)
		}
	}
	w.close(at)
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func originalDst(c *clusterv3.Cluster) {
	c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_ORIGINAL_DST}
	c.LbPolicy = clusterv3.Cluster_CLUSTER_PROVIDED
}

// ads says that a resource comes over the stream that named it.
func ads() *corev3.ConfigSource {
	return &corev3.ConfigSource{
		ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}},
		ResourceApiVersion:    corev3.ApiVersion_V3,
	}
}

// base makes what every view has, whatever is declared.
func base(s *setting, m config.Mesh) []*Resource {
	pass := &clusterv3.Cluster{
		Name: xds.PassthroughCluster, ConnectTimeout: durationpb.New(m.ConnectTimeout),
		TypedExtensionProtocolOptions: spoken(mesh.Unset),
	}
	originalDst(pass)
	hole := &clusterv3.Cluster{
		Name:                 xds.BlackHoleCluster,
		ConnectTimeout:       durationpb.New(m.ConnectTimeout),
		ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC},
	}
	return []*Resource{
		encode(xds.ClusterType, pass.GetName(), pass),
		encode(xds.ClusterType, hole.GetName(), hole),
		virtualOutbound(s),
	}
}

// answers are the addresses that DNS answers with; none: what its own DNS says.
func answers(s *mesh.Service) []netip.Addr {
	return append((&claim{service: s}).plain(), s.VIPs...)
}
