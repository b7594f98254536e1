package translate

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// contribute makes what a service adds by itself; asked says whether the
// workload's questions come to the proxy.
func contribute(s *mesh.Service, m config.Mesh, asked bool) *contribution {
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
		cluster, assignment := clusterOf(s, p, m)
		if cluster != nil {
			put(encode(xds.ClusterType, cluster.GetName(), cluster))
		}
		if assignment != nil {
			put(encode(xds.EndpointType, assignment.GetClusterName(), assignment))
		}
	}
	return c
}

// clusterOf makes the cluster of one port, and its endpoints where those are a
// resource of their own. Both are nil where there is nothing to resolve.
func clusterOf(s *mesh.Service, p mesh.Port, m config.Mesh) (*clusterv3.Cluster, *endpointv3.ClusterLoadAssignment) {
	name := xds.OutboundCluster(p.Number, "", string(s.Host))
	c := &clusterv3.Cluster{
		Name:           name,
		ConnectTimeout: durationpb.New(m.ConnectTimeout),
		LbPolicy:       clusterv3.Cluster_LEAST_REQUEST,
		Metadata:       serviceMetadata(s, p),

		TypedExtensionProtocolOptions: spoken(p.Protocol),
	}
	switch s.Resolution {
	case mesh.None:
		originalDst(c)
		if p.TargetPort != 0 && p.TargetPort != p.Number {
			c.LbConfig = &clusterv3.Cluster_OriginalDstLbConfig_{OriginalDstLbConfig: &clusterv3.Cluster_OriginalDstLbConfig{
				UpstreamPortOverride: wrapperspb.UInt32(uint32(p.TargetPort)),
			}}
		}
		return c, nil
	case mesh.Static:
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
		c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: ads(), ServiceName: name}
		return c, assignment(name, serving(s.Endpoints, p), p)
	case mesh.DNS, mesh.DNSRoundRobin:
		endpoints := serving(s.Endpoints, p)
		if len(endpoints) == 0 {
			return nil, nil // nothing to resolve, as in Istio: a route to it is a route to no cluster
		}
		kind := clusterv3.Cluster_STRICT_DNS
		if s.Resolution == mesh.DNSRoundRobin {
			kind = clusterv3.Cluster_LOGICAL_DNS
			endpoints = endpoints[:1]
		}
		c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: kind}
		c.LoadAssignment = assignment(name, endpoints, p)
		c.RespectDnsTtl = true
		c.DnsRefreshRate = durationpb.New(m.DNSRefreshRate)
		c.DnsLookupFamily = clusterv3.Cluster_ALL
		return c, nil
	case mesh.DynamicDNS:
	}
	return nil, nil
}

// serving returns the endpoints that serve the port.
func serving(all []mesh.Endpoint, p mesh.Port) []mesh.Endpoint {
	return slices.DeleteFunc(slices.Clone(all), func(e mesh.Endpoint) bool {
		_, ok := e.PortFor(p)
		return !ok || e.Address == ""
	})
}

// assignment lists the endpoints for one port, those of one locality together.
func assignment(name string, endpoints []mesh.Endpoint, p mesh.Port) *endpointv3.ClusterLoadAssignment {
	groups := make(map[string]*endpointv3.LocalityLbEndpoints)
	for _, e := range endpoints {
		g := groups[e.Locality]
		if g == nil {
			g = &endpointv3.LocalityLbEndpoints{Locality: locality(e.Locality), LoadBalancingWeight: wrapperspb.UInt32(0)}
			groups[e.Locality] = g
		}
		weight := max(e.Weight, 1)
		g.LoadBalancingWeight.Value += weight
		g.LbEndpoints = append(g.LbEndpoints, &endpointv3.LbEndpoint{
			HostIdentifier:      &endpointv3.LbEndpoint_Endpoint{Endpoint: &endpointv3.Endpoint{Address: endpointAddress(e, p)}},
			LoadBalancingWeight: wrapperspb.UInt32(weight),
		})
	}
	a := &endpointv3.ClusterLoadAssignment{ClusterName: name}
	for _, l := range slices.Sorted(maps.Keys(groups)) {
		a.Endpoints = append(a.Endpoints, groups[l])
	}
	return a
}

func endpointAddress(e mesh.Endpoint, p mesh.Port) *corev3.Address {
	if path, ok := strings.CutPrefix(e.Address, "unix://"); ok {
		return &corev3.Address{Address: &corev3.Address_Pipe{Pipe: &corev3.Pipe{Path: path}}}
	}
	at, _ := e.PortFor(p)
	return socketAddress(e.Address, at)
}

func socketAddress(host string, port uint16) *corev3.Address {
	return &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: host, PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: uint32(port)},
	}}}
}

func locality(s string) *corev3.Locality {
	if s == "" {
		return nil
	}
	part := append(strings.SplitN(s, "/", 3), "", "")
	return &corev3.Locality{Region: part[0], Zone: part[1], SubZone: part[2]}
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
