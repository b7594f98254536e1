package decode

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	httpinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/http_inspector/v3"
	originaldstv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/original_dst/v3"
	tlsinspectorv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/listener/tls_inspector/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/anypb"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

var listenerFields = fieldSet{
	"name": acted, "address": acted, "additional_addresses": acted,
	"listener_filters": acted, "listener_filters_timeout": acted, "filter_chains": acted, "default_filter_chain": acted,
	"continue_on_listener_filters_timeout": acted,
	"traffic_direction":                    "every listener here is outbound",
	"bind_to_port":                         "which sockets there are is the proxy's own affair",
	"use_original_dst":                     "a connection always goes to the listener of where it meant to go",
	"transparent":                          "how connections are captured is the proxy's own affair",
	"stat_prefix":                          "metrics carry the listener's name",
	"metadata":                             acted,
}

// Listener decodes a listener that came under the name given.
func Listener(name string, raw []byte) (*config.Listener, error) {
	l, err := listener(name, raw)
	if err != nil {
		return nil, resource(xds.ListenerType, name, err)
	}
	return l, nil
}

func listener(name string, raw []byte) (*config.Listener, error) {
	var m listenerv3.Listener
	if err := unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if err := listenerFields.check("", &m); err != nil {
		return nil, err
	}
	if err := named(m.GetName(), name); err != nil {
		return nil, err
	}
	l := &config.Listener{Name: name, Raw: raw}
	if err := addresses(l, &m); err != nil {
		return nil, err
	}
	if err := inspection(l, &m); err != nil {
		return nil, err
	}
	if err := lookup(l, m.GetMetadata()); err != nil {
		return nil, err
	}
	if len(m.GetFilterChains()) > maxChains {
		return nil, fmt.Errorf("filter_chains: more than %d", maxChains)
	}
	for i, c := range m.GetFilterChains() {
		x, err := chain(index("filter_chains", i), c)
		if err != nil {
			return nil, err
		}
		l.Chains = append(l.Chains, x)
	}
	if m.GetDefaultFilterChain() == nil {
		return l, nil
	}
	var err error
	if l.Default, err = chain("default_filter_chain", m.GetDefaultFilterChain()); err != nil {
		return nil, err
	}
	return l, logFormat(l, &m)
}

func addresses(l *config.Listener, m *listenerv3.Listener) error {
	a, err := socket("address", m.GetAddress())
	if err != nil {
		return err
	}
	l.Addresses = []netip.AddrPort{a}
	if len(m.GetAdditionalAddresses()) > maxAddresses {
		return fmt.Errorf("additional_addresses: more than %d", maxAddresses)
	}
	for i, x := range m.GetAdditionalAddresses() {
		p := index("additional_addresses", i)
		if err := (fieldSet{"address": acted}).check(p, x); err != nil {
			return err
		}
		if a, err = socket(join(p, "address"), x.GetAddress()); err != nil {
			return err
		}
		l.Addresses = append(l.Addresses, a)
	}
	return nil
}

// inspection reads what is to be found out about a connection before a chain is
// chosen.
func inspection(l *config.Listener, m *listenerv3.Listener) error {
	for i, f := range m.GetListenerFilters() {
		p := index("listener_filters", i)
		if err := (fieldSet{"name": acted, "typed_config": acted}).check(p, f); err != nil {
			return err
		}
		switch a := f.GetTypedConfig(); {
		case a.MessageIs(&tlsinspectorv3.TlsInspector{}):
			l.InspectTLS = true
		case a.MessageIs(&httpinspectorv3.HttpInspector{}):
			l.InspectHTTP = true
		case a.MessageIs(&originaldstv3.OriginalDst{}): // always known
		default:
			return fmt.Errorf("%s: %q (%s) is not supported by this proxy", p, f.GetName(), a.GetTypeUrl())
		}
	}
	var err error
	if l.InspectTimeout, err = duration("listener_filters_timeout", m.GetListenerFiltersTimeout()); err != nil {
		return err
	}
	if l.InspectTimeout > 0 && !m.GetContinueOnListenerFiltersTimeout() {
		return fmt.Errorf("continue_on_listener_filters_timeout: false is not supported by this proxy: a caller who is silent is taken as bytes")
	}
	return nil
}

// lookup reads whether server names of the listener's port are further chains of
// it. Other metadata is for people.
func lookup(l *config.Listener, m *corev3.Metadata) error {
	v := m.GetFilterMetadata()[xds.MetadataKey].GetFields()[xds.ServerNamesKey]
	if v == nil {
		return nil
	}
	x, ok := v.GetKind().(*structpb.Value_BoolValue)
	if !ok {
		return fmt.Errorf("metadata.filter_metadata[%s].%s is neither true nor false", xds.MetadataKey, xds.ServerNamesKey)
	}
	if l.ServerNames = x.BoolValue; l.ServerNames && !l.InspectTLS {
		return fmt.Errorf("metadata.filter_metadata[%s].%s: server names are to be looked up, but no listener filter reads them", xds.MetadataKey, xds.ServerNamesKey)
	}
	return nil
}

// ServerName decodes a server name that came under the name given.
func ServerName(name string, raw []byte) (*config.ServerName, error) {
	n, err := serverName(name, raw)
	if err != nil {
		return nil, resource(xds.ServerNameType, name, err)
	}
	return n, nil
}

func serverName(name string, raw []byte) (*config.ServerName, error) {
	var m fairleadpb.ServerName
	if err := unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if err := (fieldSet{"port": acted, "host": acted, "cluster": acted, "source": acted}).check("", &m); err != nil {
		return nil, err
	}
	if m.GetPort() == 0 || m.GetPort() > math.MaxUint16 {
		return nil, fmt.Errorf("port: %d is no port", m.GetPort())
	}
	n := &config.ServerName{Port: uint16(m.GetPort()), Host: m.GetHost(), Raw: raw}
	if err := named(xds.ServerNameResource(n.Port, n.Host), name); err != nil {
		return nil, err
	}
	if err := asked(n.Host); err != nil {
		return nil, fmt.Errorf("host: %w", err)
	}
	if m.GetCluster() == "" || len(m.GetCluster()) > maxName {
		return nil, errors.New("cluster: no name of a cluster")
	}
	n.Chain = &config.FilterChain{
		Name:  m.GetCluster(),
		Match: config.Match{ServerNames: []string{n.Host}, Transport: "tls"},
		TCP:   &config.TCPProxy{Cluster: m.GetCluster(), Entry: entryOf(m.GetSource())},
	}
	return n, nil
}

// asked checks a server name that a chain asks for.
func asked(s string) error {
	if err := canonical(s); err != nil {
		return err
	}
	if s[0] == '*' && !strings.HasPrefix(s, "*.") {
		return fmt.Errorf("%q: a star stands for whole labels, as in *.example.com", s)
	}
	return nil
}

func chain(path string, m *listenerv3.FilterChain) (*config.FilterChain, error) {
	if err := (fieldSet{
		"name": acted, "filter_chain_match": acted, "filters": acted, "metadata": acted,
		"transport_socket_connect_timeout": "no TLS is ended here",
	}).check(path, m); err != nil {
		return nil, err
	}
	c := &config.FilterChain{Name: m.GetName()}
	var err error
	if c.Match, err = match(join(path, "filter_chain_match"), m.GetFilterChainMatch()); err != nil {
		return nil, err
	}
	if len(m.GetFilters()) != 1 {
		return nil, fmt.Errorf("%s.filters: %d filters, and this proxy supports one", path, len(m.GetFilters()))
	}
	f := m.GetFilters()[0]
	p := index(join(path, "filters"), 0)
	switch a := f.GetTypedConfig(); {
	case a.MessageIs(&tcpproxyv3.TcpProxy{}):
		if c.TCP, err = tcpProxy(p, a); err != nil {
			return nil, err
		}
		c.TCP.Entry, err = entry(join(path, "metadata"), m.GetMetadata())
		return c, err
	case a.MessageIs(&hcmv3.HttpConnectionManager{}):
		if c.HTTP, err = manager(p, a); err != nil {
			return nil, err
		}
		return c, headerCase(path, c, m.GetMetadata())
	}
	return nil, fmt.Errorf("%s: %q (%s) is not supported by this proxy", p, f.GetName(), f.GetTypedConfig().GetTypeUrl())
}

func match(path string, m *listenerv3.FilterChainMatch) (config.Match, error) {
	var x config.Match
	if m == nil {
		return x, nil
	}
	if err := (fieldSet{"prefix_ranges": acted, "server_names": acted, "transport_protocol": acted, "application_protocols": acted}).check(path, m); err != nil {
		return x, err
	}
	if len(m.GetPrefixRanges()) > maxAddresses || len(m.GetServerNames()) > maxDomains || len(m.GetApplicationProtocols()) > 16 {
		return x, fmt.Errorf("%s: too many values in one field", path)
	}
	for i, r := range m.GetPrefixRanges() {
		p, err := prefix(r)
		if err != nil {
			return x, fmt.Errorf("%s: %w", index(join(path, "prefix_ranges"), i), err)
		}
		x.Prefixes = append(x.Prefixes, p)
	}
	for i, s := range m.GetServerNames() {
		s = strings.ToLower(s)
		if err := asked(s); err != nil {
			return x, fmt.Errorf("%s: %w", index(join(path, "server_names"), i), err)
		}
		x.ServerNames = append(x.ServerNames, s)
	}
	switch x.Transport = m.GetTransportProtocol(); x.Transport {
	case "", "tls", "raw_buffer":
	default:
		return x, fmt.Errorf("%s.transport_protocol: %q is not supported by this proxy", path, x.Transport)
	}
	for i, a := range m.GetApplicationProtocols() {
		// Any name may be agreed on by ALPN: what nobody offers matches nothing.
		if a == "" || len(a) > maxApplication {
			return x, fmt.Errorf("%s: a protocol's name has 1 to %d bytes", index(join(path, "application_protocols"), i), maxApplication)
		}
		x.Applications = append(x.Applications, a)
	}
	return x, nil
}

func prefix(r *corev3.CidrRange) (netip.Prefix, error) {
	ip, err := netip.ParseAddr(r.GetAddressPrefix())
	if err != nil || ip.Zone() != "" {
		return netip.Prefix{}, fmt.Errorf("%q is no IP address", r.GetAddressPrefix())
	}
	if r.GetPrefixLen().GetValue() > 128 {
		return netip.Prefix{}, fmt.Errorf("a prefix of %d bits", r.GetPrefixLen().GetValue())
	}
	return ip.Prefix(int(r.GetPrefixLen().GetValue()))
}

func tcpProxy(path string, a *anypb.Any) (*config.TCPProxy, error) {
	var m tcpproxyv3.TcpProxy
	if err := unmarshal(a.GetValue(), &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := (fieldSet{
		"cluster": acted, "idle_timeout": acted,
		"stat_prefix":        "metrics carry the cluster's name",
		"access_log":         logReason,
		"access_log_options": "a line is written at the end",
	}).check(path, &m); err != nil {
		return nil, err
	}
	t := &config.TCPProxy{Cluster: m.GetCluster()}
	if t.Cluster == "" || len(t.Cluster) > maxName {
		return nil, fmt.Errorf("%s.cluster: no name of a cluster", path)
	}
	var err error
	t.IdleTimeout, err = duration(join(path, "idle_timeout"), m.GetIdleTimeout())
	return t, err
}

var managerFields = fieldSet{
	"route_config": acted, "rds": acted, "http_filters": acted, "stream_idle_timeout": acted,
	"upgrade_configs":              acted,
	"codec_type":                   acted,
	"stat_prefix":                  "metrics carry the listener's name",
	"access_log":                   logReason,
	"http_protocol_options":        "HTTP/1.0 is always taken and the case of headers always kept",
	"use_remote_address":           "x-forwarded-for is neither read nor written",
	"skip_xff_append":              "x-forwarded-for is neither read nor written",
	"generate_request_id":          acted,
	"server_name":                  acted,
	"append_x_forwarded_port":      acted,
	"server_header_transformation": "a server_name overwrites, none passes through",
	"normalize_path":               "paths pass as the application wrote them",
}

func manager(path string, a *anypb.Any) (*config.HTTPManager, error) {
	var m hcmv3.HttpConnectionManager
	if err := unmarshal(a.GetValue(), &m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	if err := managerFields.check(path, &m); err != nil {
		return nil, err
	}
	if t := m.GetCodecType(); t != hcmv3.HttpConnectionManager_AUTO && t != hcmv3.HttpConnectionManager_HTTP1 {
		return nil, fmt.Errorf("%s.codec_type: %s is not supported by this proxy", path, t)
	}
	if err := httpFilters(path, &m); err != nil {
		return nil, err
	}
	h := &config.HTTPManager{}
	var err error
	if h.Headers, err = headers(path, &m); err != nil {
		return nil, err
	}
	if h.StreamIdleTimeout, err = duration(join(path, "stream_idle_timeout"), m.GetStreamIdleTimeout()); err != nil {
		return nil, err
	}
	switch r := m.GetRouteSpecifier().(type) {
	case *hcmv3.HttpConnectionManager_Rds:
		if err := overADS(join(path, "rds.config_source"), r.Rds.GetConfigSource()); err != nil {
			return nil, err
		}
		if h.RouteName = r.Rds.GetRouteConfigName(); h.RouteName == "" || len(h.RouteName) > maxName {
			return nil, fmt.Errorf("%s.rds.route_config_name: no name of a table", path)
		}
		return h, nil
	case *hcmv3.HttpConnectionManager_RouteConfig:
		t, err := table(join(path, "route_config"), r.RouteConfig, nil)
		if err != nil {
			return nil, err
		}
		if t.VHDS {
			return nil, fmt.Errorf("%s.route_config.vhds is not supported by this proxy in a table given in place", path)
		}
		h.Inline = t.RouteTable
		return h, nil
	}
	return nil, fmt.Errorf("%s: neither rds nor route_config", path)
}

func httpFilters(path string, m *hcmv3.HttpConnectionManager) error {
	for i, u := range m.GetUpgradeConfigs() {
		if !strings.EqualFold(u.GetUpgradeType(), "websocket") {
			return fmt.Errorf("%s: %q is not supported by this proxy", index(join(path, "upgrade_configs"), i), u.GetUpgradeType())
		}
	}
	n := len(m.GetHttpFilters())
	if n == 0 || !m.GetHttpFilters()[n-1].GetTypedConfig().MessageIs(&routerv3.Router{}) {
		return fmt.Errorf("%s.http_filters: the last one is not the router", path)
	}
	for i, f := range m.GetHttpFilters()[:n-1] {
		if !f.GetIsOptional() {
			return fmt.Errorf("%s: %q is not supported by this proxy", index(join(path, "http_filters"), i), f.GetName())
		}
	}
	return nil
}
