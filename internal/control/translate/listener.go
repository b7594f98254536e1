package translate

import (
	"net/netip"
	"slices"
	"strconv"
	"time"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/structpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// virtualOutbound makes the listener that takes every captured connection and
// keeps those for which no other one is there.
func virtualOutbound(s *setting) *Resource {
	d := draft{name: xds.VirtualOutbound, setting: s}
	if s.policy == mesh.RegistryOnly {
		d.chains = append(d.chains, blockRequests(&d))
		d.tls = true
		d.timeout = refuseAfter
	}
	l := d.listener(wildcards(xds.OutboundPort))
	l.UseOriginalDst = wrapperspb.Bool(true)
	l.BindToPort = nil
	if s.silent {
		// That nothing says what a line looks like leaves it to the proxy.
		l.Metadata = own(xds.AccessLogKey, false)
	}
	return encode(xds.ListenerType, l.GetName(), l)
}

// A draft is a listener while its chains are put together.
type draft struct {
	name   string
	chains []*listenerv3.FilterChain
	http   bool // some chain matches on what the first line says
	tls    bool // some chain matches on the ClientHello
	names  bool // further chains are looked up by server name
	// timeout ends the wait for a caller's first bytes; 0, Istio's default: no
	// verdict by clock.
	timeout time.Duration
	setting *setting
}

// A setting is what listeners depend on beside claims.
type setting struct {
	policy  mesh.OutboundPolicy
	detect  time.Duration // how long a caller may be silent; 0: without limit
	logs    []*accesslogv3.AccessLog
	silent  bool // no log is wanted
	headers config.ProxyHeaders
}

func settingOf(v View, m config.Mesh) *setting {
	return &setting{policy: v.Policy, detect: m.ProtocolDetectionTimeout, logs: accessLogs(m.AccessLog), silent: m.AccessLog.Off, headers: m.Headers}
}

// refuseAfter is how long a caller who may be refused in one of several ways
// can stay silent: a client that waits for its server to speak first must not
// wait for ever.
const refuseAfter = time.Second

// listener finishes the draft; what no chain takes goes by policy.
func (d *draft) listener(at []netip.AddrPort) *listenerv3.Listener {
	d.tls = d.tls || d.names
	for _, c := range d.chains {
		m := c.GetFilterChainMatch()
		d.http = d.http || len(m.GetApplicationProtocols()) > 0
		d.tls = d.tls || m.GetTransportProtocol() == "tls"
	}
	d.besideRequests()
	l := &listenerv3.Listener{
		Name:               d.name,
		Address:            socketAddress(at[0].Addr().String(), at[0].Port()),
		BindToPort:         wrapperspb.Bool(false),
		TrafficDirection:   corev3.TrafficDirection_OUTBOUND,
		FilterChains:       d.chains,
		DefaultFilterChain: d.setting.unmatched(),
	}
	for _, a := range at[1:] {
		l.AdditionalAddresses = append(l.AdditionalAddresses, &listenerv3.AdditionalAddress{Address: socketAddress(a.Addr().String(), a.Port())})
	}
	if d.names {
		l.Metadata = own(xds.ServerNamesKey, true)
	}
	if d.tls {
		l.ListenerFilters = append(l.ListenerFilters, listenerFilter("envoy.filters.listener.tls_inspector", &tlsinspectorv3.TlsInspector{}))
	}
	if d.http {
		l.ListenerFilters = append(l.ListenerFilters, listenerFilter("envoy.filters.listener.http_inspector", &httpinspectorv3.HttpInspector{}))
	}
	if d.tls || d.http {
		l.ListenerFiltersTimeout = durationpb.New(d.timeout)
		l.ContinueOnListenerFiltersTimeout = true
	}
	return l
}

// besideRequests lets chains for bytes stand beside chains for requests. The
// choice of a chain has no way back: once a chain asks for raw_buffer, a
// connection without TLS is offered to chains that ask for it and to no other,
// so what is no request would end at the default chain.
func (d *draft) besideRequests() {
	var all []*listenerv3.FilterChain
	for _, c := range d.chains {
		m := c.GetFilterChainMatch()
		if len(m.GetApplicationProtocols()) > 0 || len(m.GetServerNames()) > 0 || !d.takesRequests(m.GetPrefixRanges()) {
			all = append(all, c)
			continue
		}
		plain := &listenerv3.FilterChain{
			Name:             c.GetName(),
			FilterChainMatch: &listenerv3.FilterChainMatch{PrefixRanges: m.GetPrefixRanges(), TransportProtocol: "raw_buffer"},
			Filters:          c.GetFilters(),
			Metadata:         c.GetMetadata(),
		}
		all = append(all, plain)
		if d.tls { // else nothing finds TLS out
			all = append(all, c)
		}
	}
	d.chains = all
}

// takesRequests reports whether a chain is for requests to those addresses.
func (d *draft) takesRequests(at []*corev3.CidrRange) bool {
	return slices.ContainsFunc(d.chains, func(c *listenerv3.FilterChain) bool {
		m := c.GetFilterChainMatch()
		return len(m.GetApplicationProtocols()) > 0 && slices.EqualFunc(m.GetPrefixRanges(), at, func(a, b *corev3.CidrRange) bool { return proto.Equal(a, b) })
	})
}

// wildcards are the addresses of a listener for any destination on a port.
func wildcards(port uint16) []netip.AddrPort {
	return []netip.AddrPort{netip.AddrPortFrom(netip.IPv4Unspecified(), port), netip.AddrPortFrom(netip.IPv6Unspecified(), port)}
}

func listenerName(at netip.AddrPort) string {
	return at.Addr().String() + "_" + strconv.Itoa(int(at.Port()))
}

// unmatched makes the chain for connections that no entry declares.
func (s *setting) unmatched() *listenerv3.FilterChain {
	cluster := xds.PassthroughCluster
	if s.policy == mesh.RegistryOnly {
		cluster = xds.BlackHoleCluster
	}
	return &listenerv3.FilterChain{Name: cluster, Filters: []*listenerv3.Filter{s.tcpProxy(cluster)}}
}

// requests makes the chain that routes requests by the table of a port.
func requests(d *draft, port uint16, at []netip.Prefix) *listenerv3.FilterChain {
	m := d.manager()
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{ConfigSource: ads(), RouteConfigName: tableName(port)}}
	return d.requestChain(m, at)
}

// blockRequests makes the chain that answers every request with 502.
func blockRequests(d *draft) *listenerv3.FilterChain {
	m := d.manager()
	m.RouteSpecifier = &hcmv3.HttpConnectionManager_RouteConfig{RouteConfig: &routev3.RouteConfiguration{
		Name:             xds.BlockAll,
		VirtualHosts:     []*routev3.VirtualHost{undeclared(mesh.RegistryOnly)},
		ValidateClusters: wrapperspb.Bool(false),
	}}
	c := d.requestChain(m, nil)
	c.Name = xds.BlockAll
	return c
}

func (d *draft) requestChain(m *hcmv3.HttpConnectionManager, at []netip.Prefix) *listenerv3.FilterChain {
	c := &listenerv3.FilterChain{
		Name: "http",
		FilterChainMatch: &listenerv3.FilterChainMatch{
			PrefixRanges:         cidrs(at),
			TransportProtocol:    "raw_buffer",
			ApplicationProtocols: []string{"http/1.0", "http/1.1", "h2c"},
		},
		Filters: []*listenerv3.Filter{filter("envoy.filters.network.http_connection_manager", m)},
	}
	if d.setting.headers.LowerCase {
		c.Metadata = own(xds.LowerCaseKey, true)
	}
	return c
}

func (d *draft) manager() *hcmv3.HttpConnectionManager {
	h := d.setting.headers
	return &hcmv3.HttpConnectionManager{
		ServerName:           h.Server, // empty: the server's own stays
		AppendXForwardedPort: h.ForwardedPort,
		StatPrefix:           "outbound_" + d.name,
		AccessLog:            d.setting.logs,
		HttpProtocolOptions:  &corev3.Http1ProtocolOptions{AcceptHttp_10: true},
		StreamIdleTimeout:    durationpb.New(0),
		// Nothing of ours goes to external services; elsewhere, what somebody asked for.
		GenerateRequestId: wrapperspb.Bool(h.RequestID),
		SkipXffAppend:     true,
		UpgradeConfigs:    []*hcmv3.HttpConnectionManager_UpgradeConfig{{UpgradeType: "websocket"}},
		HttpFilters: []*hcmv3.HttpFilter{{
			Name: "envoy.filters.http.router",
			// Headers with x-envoy- in their names are added where somebody asked for them.
			ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: pack(&routerv3.Router{SuppressEnvoyHeaders: !h.Debug})},
		}},
	}
}

// bytesTo makes a chain that passes bytes to the cluster of a claim.
func (d *draft) bytesTo(c *claim, m *listenerv3.FilterChainMatch) *listenerv3.FilterChain {
	cluster := xds.OutboundCluster(c.port.Number, "", string(c.host()))
	return &listenerv3.FilterChain{
		Name:             cluster,
		FilterChainMatch: m,
		Filters:          []*listenerv3.Filter{d.setting.tcpProxy(cluster)},
		Metadata:         entryMetadata(c.service.Source),
	}
}

// serverName makes the match of a claim by SNI.
func serverName(c *claim, at []netip.Prefix) *listenerv3.FilterChainMatch {
	return &listenerv3.FilterChainMatch{
		PrefixRanges:      cidrs(at),
		ServerNames:       []string{string(c.host())},
		TransportProtocol: "tls",
	}
}

// serverNameOf makes the chain of a claim that goes by a name alone: a resource, so
// that the listener stays as it is.
func serverNameOf(c *claim) *Resource {
	host := string(c.host())
	return encode(xds.ServerNameType, xds.ServerNameResource(c.port.Number, host), &fairleadpb.ServerName{
		Port:    uint32(c.port.Number),
		Host:    host,
		Cluster: xds.OutboundCluster(c.port.Number, "", host),
		Source:  sourceOf(c.service.Source),
	})
}

func cidrs(all []netip.Prefix) []*corev3.CidrRange {
	var out []*corev3.CidrRange
	for _, p := range all {
		out = append(out, &corev3.CidrRange{AddressPrefix: p.Addr().String(), PrefixLen: wrapperspb.UInt32(uint32(p.Bits()))}) //nolint:gosec // 0 to 128
	}
	return out
}

func (s *setting) tcpProxy(cluster string) *listenerv3.Filter {
	return filter("envoy.filters.network.tcp_proxy", &tcpproxyv3.TcpProxy{
		StatPrefix:       cluster,
		ClusterSpecifier: &tcpproxyv3.TcpProxy_Cluster{Cluster: cluster},
		AccessLog:        s.logs,
	})
}

func filter(name string, m proto.Message) *listenerv3.Filter {
	return &listenerv3.Filter{Name: name, ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: pack(m)}}
}

func listenerFilter(name string, m proto.Message) *listenerv3.ListenerFilter {
	return &listenerv3.ListenerFilter{Name: name, ConfigType: &listenerv3.ListenerFilter_TypedConfig{TypedConfig: pack(m)}}
}

// pack puts a message of ours, which always encodes, into an Any.
func pack(m proto.Message) *anypb.Any {
	a := &anypb.Any{}
	if err := anypb.MarshalFrom(a, m, proto.MarshalOptions{Deterministic: true}); err != nil {
		panic("translate: " + err.Error())
	}
	return a
}

// own is metadata of ours with one truth value in it.
func own(key string, value bool) *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{xds.MetadataKey: {Fields: map[string]*structpb.Value{
		key: structpb.NewBoolValue(value),
	}}}}
}
