package decode

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// raw encodes a resource written as JSON.
func raw(t testing.TB, m proto.Message, text string) []byte {
	t.Helper()
	if err := protojson.Unmarshal([]byte(text), m); err != nil {
		t.Fatalf("%v in %s", err, text)
	}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAClusterIsDecoded(t *testing.T) {
	b := raw(t, &clusterv3.Cluster{}, `{"name":"outbound|80||a","type":"STRICT_DNS","connect_timeout":"10s","lb_policy":"LEAST_REQUEST",
		"dns_refresh_rate":"60s","respect_dns_ttl":true,"dns_lookup_family":"ALL",
		"load_assignment":{"cluster_name":"outbound|80||a","endpoints":[{"locality":{"region":"eu","zone":"a"},"lb_endpoints":[
			{"endpoint":{"address":{"socket_address":{"address":"A.example.com","port_value":8080}}},"load_balancing_weight":3}]}]},
		"metadata":{"filter_metadata":{"fairlead.dev":{"kind":"ServiceEntry","namespace":"default","name":"a","file":"a.yaml","line":7},"istio":{"x":1}}}}`)
	got, err := Cluster("outbound|80||a", b)
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Cluster{
		Name: "outbound|80||a", Type: config.StrictDNS, Policy: config.LeastRequest,
		ConnectTimeout: 10 * time.Second,
		Inline:         &config.Assignment{Name: "outbound|80||a", Endpoints: []config.Endpoint{{Host: "a.example.com", Port: 8080, Weight: 3}}},
		Entry:          mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "a", File: "a.yaml", Line: 7},
		Raw:            b,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestTheAddressesOfAnEntryAreDecoded(t *testing.T) {
	const text = `{"name":"a","type":"ORIGINAL_DST","metadata":{"filter_metadata":{"fairlead.dev":{"addresses":%s}}}}`
	for list, want := range map[string][]netip.Prefix{
		`["203.0.113.7/32","2001:db8::/32"]`: {netip.MustParsePrefix("203.0.113.7/32"), netip.MustParsePrefix("2001:db8::/32")},
		`["203.0.113.7"]`:                    nil,
		`["203.0.113.7/33"]`:                 nil,
		`["::ffff:203.0.113.7/128"]`:         nil,
		`[7]`:                                nil,
		`[]`:                                 nil, // would allow everything
		`"203.0.113.7/32"`:                   nil,
	} {
		got, err := Cluster("a", raw(t, &clusterv3.Cluster{}, fmt.Sprintf(text, list)))
		if want == nil {
			if err == nil || !strings.Contains(err.Error(), "metadata.filter_metadata[fairlead.dev].addresses") {
				t.Errorf("%s: error %v", list, err)
			}
			continue
		}
		if err != nil || !slices.Equal(got.Addresses, want) {
			t.Errorf("%s: %v, %v", list, got, err)
		}
	}
}

func TestAListenerIsDecoded(t *testing.T) {
	b := raw(t, &listenerv3.Listener{}, `{"name":"0.0.0.0_443","address":{"socket_address":{"address":"0.0.0.0","port_value":443}},
		"additional_addresses":[{"address":{"socket_address":{"address":"::","port_value":443}}}],"bind_to_port":false,
		"listener_filters":[{"name":"t","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.listener.tls_inspector.v3.TlsInspector"}}],
		"listener_filters_timeout":"0s","continue_on_listener_filters_timeout":true,
		"filter_chains":[{"name":"c","filter_chain_match":{"server_names":["*.Example.com"],"transport_protocol":"tls","prefix_ranges":[{"address_prefix":"10.1.2.3","prefix_len":8}],
				"application_protocols":["istio","istio-peer-exchange","istio-http/1.1","istio-h2","h2","http/1.1"]},
			"filters":[{"name":"tcp","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"c","stat_prefix":"c"}}]}]}`)
	got, err := Listener("0.0.0.0_443", b)
	if err != nil {
		t.Fatal(err)
	}
	want := &config.Listener{
		Name:       "0.0.0.0_443",
		Addresses:  []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443"), netip.MustParseAddrPort("[::]:443")},
		InspectTLS: true,
		Chains: []*config.FilterChain{{Name: "c", TCP: &config.TCPProxy{Cluster: "c"}, Match: config.Match{
			ServerNames: []string{"*.example.com"}, Transport: "tls", Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")},
			Applications: []string{"istio", "istio-peer-exchange", "istio-http/1.1", "istio-h2", "h2", "http/1.1"},
		}}},
		Raw: b,
	}
	if diff := cmp.Diff(want, got, cmpopts.EquateComparable(netip.AddrPort{}, netip.Prefix{})); diff != "" {
		t.Error(diff)
	}
}

// TestWhatIsNotUnderstoodIsRefusedByName has one fault in each resource; the
// error must name the resource and the place.
func TestWhatIsNotUnderstoodIsRefusedByName(t *testing.T) {
	for _, c := range []struct{ typ, name, text, want string }{
		{xds.ClusterType, "a", `{"name":"b"}`, `Cluster "a": the message in it is named "b"`},
		{xds.ClusterType, "a", `{"name":"a","outlier_detection":{}}`, `Cluster "a": outlier_detection is not supported by this proxy`},
		{xds.ClusterType, "a", `{"name":"a","lb_policy":"RING_HASH"}`, `Cluster "a": lb_policy: RING_HASH is not supported by this proxy`},
		{xds.ClusterType, "a", `{"name":"a","connect_timeout":"-1s"}`, `Cluster "a": connect_timeout: no valid duration`},
		{xds.ClusterType, "a", `{"name":"a","type":"EDS"}`, `Cluster "a": eds_cluster_config.eds_config is missing`},
		{xds.ClusterType, "a", `{"name":"a","type":"LOGICAL_DNS"}`, `Cluster "a": load_assignment: LOGICAL_DNS needs exactly one endpoint, not 0`},
		{xds.ClusterType, "a", `{"name":"a","transport_socket":{"name":"tls"}}`, `Cluster "a": transport_socket is not supported by this proxy`},
		{xds.ClusterType, "a", `{"name":"a","metadata":{"filter_metadata":{"fairlead.dev":{"line":-1}}}}`, `Cluster "a": metadata.filter_metadata[fairlead.dev].line is no line number`},
		{
			xds.EndpointType, "a", `{"cluster_name":"a","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"a.example.com","port_value":1}}}}]}]}`,
			`ClusterLoadAssignment "a": "a.example.com" is a name, and endpoints of a cluster of type EDS are addresses`,
		},
		{
			xds.EndpointType, "a", `{"cluster_name":"a","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"10.0.0.1","port_value":70000}}}}]}]}`,
			`ClusterLoadAssignment "a": endpoints[0].lb_endpoints[0].endpoint.address.socket_address.port_value: 70000 is no port`,
		},
		{
			xds.EndpointType, "a", `{"cluster_name":"a","endpoints":[{"lb_endpoints":[{"health_status":"DRAINING"}]}]}`,
			`ClusterLoadAssignment "a": endpoints[0].lb_endpoints[0].health_status: DRAINING is not supported by this proxy`,
		},
		{
			xds.EndpointType, "a", `{"cluster_name":"a","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"pipe":{"path":"relative"}}}}]}]}`,
			`ClusterLoadAssignment "a": endpoints[0].lb_endpoints[0].endpoint.address.pipe.path: "relative" is neither an absolute path nor @ and a name, of at most 107 bytes`,
		},
		{xds.ListenerType, "a", `{"name":"a"}`, `Listener "a": address: no address`},
		{
			xds.ListenerType, "a", `{"name":"a","address":{"socket_address":{"address":"0.0.0.0","port_value":1}},"listener_filters":[{"name":"pp","typed_config":{"@type":"type.googleapis.com/fairlead.v1.Source"}}]}`,
			`Listener "a": listener_filters[0]: "pp" (type.googleapis.com/fairlead.v1.Source) is not supported by this proxy`,
		},
		{
			xds.ListenerType, "a", `{"name":"a","address":{"socket_address":{"address":"0.0.0.0","port_value":1}},"filter_chains":[{}]}`,
			`Listener "a": filter_chains[0].filters: 0 filters, and this proxy supports one`,
		},
		{
			xds.ListenerType, "a", `{"name":"a","address":{"socket_address":{"address":"0.0.0.0","port_value":1}},"filter_chains":[{"filter_chain_match":{"source_ports":[1]}}]}`,
			`Listener "a": filter_chains[0].filter_chain_match.source_ports is not supported by this proxy`,
		},
		{
			xds.ListenerType, "a", `{"name":"a","address":{"socket_address":{"address":"0.0.0.0","port_value":1}},"filter_chains":[{"filter_chain_match":{"application_protocols":["h2",""]}}]}`,
			`Listener "a": filter_chains[0].filter_chain_match.application_protocols[1]: a protocol's name has 1 to 255 bytes`,
		},
		{
			xds.RouteType, "80", `{"name":"80","virtual_hosts":[{"name":"v","domains":["a"]},{"name":"w","domains":["A"]}]}`,
			`RouteConfiguration "80": virtual_hosts[1].domains: "a" is already a domain of virtual host "v"`,
		},
		{xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"routes":[{"match":{"path":"/x"}}]}`, `VirtualHost "80/a": routes[0].match.path is not supported by this proxy`},
		{xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"routes":[{"match":{"prefix":"/"},"redirect":{}}]}`, `VirtualHost "80/a": routes[0].redirect is not supported by this proxy`},
		{
			xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c","retry_policy":{"retry_on":"5xx"}}}]}`,
			`VirtualHost "80/a": routes[0].route.retry_policy.retry_on: "5xx" is not supported by this proxy`,
		},
		{xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":100}}]}`, `VirtualHost "80/a": routes[0].direct_response.status: 100 is no final status`},
		{xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":204,"body":{"inline_string":"x"}}}]}`, `VirtualHost "80/a": routes[0].direct_response.body: an answer 204 has none`},
		{xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":304,"body":{"inline_bytes":"eA=="}}}]}`, `VirtualHost "80/a": routes[0].direct_response.body: an answer 304 has none`},
		{xds.VirtualHostType, "80/a", `{"name":"v","domains":["a"],"metadata":{"filter_metadata":{"fairlead.dev":{"addresses":["10.0.0.1/32"]}}}}`, `VirtualHost "80/a": metadata.filter_metadata[fairlead.dev].addresses is not supported by this proxy`},
		{xds.VirtualHostType, "nothing", `{"name":"v","domains":["a"]}`, `VirtualHost "nothing": the name is not of the form table/host`},
		{xds.VirtualHostType, "80/a", `{"name":"v"}`, `VirtualHost "80/a": domains: at least one is needed`},
		{xds.NameType, "A.x", `{"host":"A.x"}`, `Name "A.x": host: "A.x" is not in canonical form (a.x)`},
		{xds.NameType, "a.x", `{"host":"a.x","addresses":["10.0.0"]}`, `Name "a.x": addresses[0]: "10.0.0" is no IP address`},
		{xds.NameType, "a.x", `{"host":"a.x","refused":[{"port":70000}]}`, `Name "a.x": refused[0].port: 70000 is no port`},
		{xds.NameType, "a.x", `{"host":"a.x","ports":[{"number":80},{"number":70000}]}`, `Name "a.x": ports[1].number: 70000 is no port`},
		{xds.NameType, "a.x", `{"host":"a.x","ports":[{"number":80,"protocol":"SMTP"}]}`, `Name "a.x": ports[0].protocol: "SMTP" is none`},
		{xds.NameType, "a.x", `{"host":"a.x","ports":[` + strings.Repeat(`{"number":1},`, 64) + `{"number":1}]}`, `Name "a.x": ports: more than 64`},
		{xds.NameType, "a.x", `{"host":"a.x","shortNames":["b","C"]}`, `Name "a.x": short_names[1]: "C" is not in canonical form (c)`},
		{xds.NameType, "a.x", `{"host":"a.x","shortNames":["a","a","a","a","a","a","a","a","a"]}`, `Name "a.x": short_names: more than 8`},
		{xds.NameType, "a.x", `{"host":"a.x","refused":[{"port":5432,"within":["10.0.0.1"]}]}`, `Name "a.x": refused[0].within[0]: "10.0.0.1" is no range of addresses`},
	} {
		if err := decode(c.typ, c.name, raw(t, message(c.typ), c.text)); err == nil || err.Error() != c.want {
			t.Errorf("%s\n got: %v\nwant: %s", c.text, err, c.want)
		}
	}
}

func message(typeURL string) proto.Message {
	return map[string]proto.Message{
		xds.ClusterType: &clusterv3.Cluster{}, xds.EndpointType: &endpointv3.ClusterLoadAssignment{}, xds.ListenerType: &listenerv3.Listener{},
		xds.RouteType: &routev3.RouteConfiguration{}, xds.VirtualHostType: &routev3.VirtualHost{}, xds.NameType: &fairleadpb.Name{}, xds.ServerNameType: &fairleadpb.ServerName{},
	}[typeURL]
}

func decode(typeURL, name string, b []byte) error {
	var err error
	switch typeURL {
	case xds.ClusterType:
		_, err = Cluster(name, b)
	case xds.EndpointType:
		_, err = Assignment(name, b)
	case xds.ListenerType:
		_, err = Listener(name, b)
	case xds.RouteType:
		_, err = RouteTable(name, b)
	case xds.VirtualHostType:
		_, err = VirtualHost(name, b)
	case xds.NameType:
		_, err = Name(name, b)
	case xds.ServerNameType:
		_, err = ServerName(name, b)
	}
	return err
}

func TestAFieldOfANewerVersionIsRefused(t *testing.T) {
	b := raw(t, &fairleadpb.Name{}, `{"host":"a.x"}`)
	b = append(b, 0xfa, 0x3e, 0x00) // field 1007, empty
	if _, err := Name("a.x", b); err == nil || !strings.Contains(err.Error(), "does not know") {
		t.Errorf("error %v, want one about an unknown field", err)
	}
}

func TestARefusedPortKeepsWhoHoldsIt(t *testing.T) {
	b := raw(t, &fairleadpb.Name{}, `{"host":"a.x","refused":[{"port":5432,"within":["10.0.0.0/8"],"requests_pass":true,"holder":"b.x","source":{"kind":"ServiceEntry","name":"b","line":3}}]}`)
	n, err := Name("a.x", b)
	if err != nil {
		t.Fatal(err)
	}
	want := []config.RefusedPort{{
		Port: 5432, Within: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}, RequestsPass: true,
		Holder: "b.x", Entry: mesh.Ref{Kind: "ServiceEntry", Name: "b", Line: 3},
	}}
	if diff := cmp.Diff(want, n.Refused, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Error(diff)
	}
}

func TestJSONShowsWhatWasReceived(t *testing.T) {
	b := raw(t, &fairleadpb.Name{}, `{"host":"a.x","addresses":["10.0.0.1"],"source":{"kind":"ServiceEntry","line":3}}`)
	got, err := JSON(xds.NameType, b)
	if err != nil {
		t.Fatal(err)
	}
	if want := `{"host":"a.x","addresses":["10.0.0.1"],"source":{"kind":"ServiceEntry","line":3}}`; string(got) != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if _, err := JSON("type.googleapis.com/what", b); err == nil {
		t.Error("no error for an unknown type")
	}
}

// FuzzDecode feeds arbitrary bytes as every type: nothing may panic, and what
// is accepted keeps its name and can be shown.
func FuzzDecode(f *testing.F) {
	for typ, text := range map[string]string{
		xds.ClusterType:     `{"name":"n","type":"STRICT_DNS","load_assignment":{"endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"socket_address":{"address":"a.b","port_value":1}}}}]}]}}`,
		xds.EndpointType:    `{"cluster_name":"n","endpoints":[{"lb_endpoints":[{"endpoint":{"address":{"pipe":{"path":"/a"}}}}]}]}`,
		xds.ListenerType:    `{"name":"n","address":{"socket_address":{"address":"::","port_value":1}},"default_filter_chain":{"filters":[{"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"c"}}]}}`,
		xds.RouteType:       `{"name":"n","virtual_hosts":[{"name":"v","domains":["*.a"],"routes":[{"match":{"prefix":"/"},"direct_response":{"status":502}}]}]}`,
		xds.VirtualHostType: `{"name":"v","domains":["*"],"routes":[{"match":{"prefix":"/"},"route":{"cluster":"c","retry_policy":{"retry_on":"connect-failure"}}}]}`,
		xds.ServerNameType:  `{"port":443,"host":"n","cluster":"c"}`,
		xds.NameType:        `{"host":"n","addresses":["::1"],"refused":[{"port":1,"within":["::/0"],"holder":"m"}],"ports":[{"number":80,"protocol":"HTTP","withheld":true}],"narrowed_by":{"name":"s"},"short_names":["m"]}`,
	} {
		f.Add(byte(xds.TypeIndex(typ)), raw(f, message(typ), text)) //nolint:gosec // a small index
	}
	f.Fuzz(func(t *testing.T, typ byte, b []byte) {
		url := xds.Types[int(typ)%len(xds.Types)]
		name := "n"
		if url == xds.VirtualHostType {
			name = "80/n"
		}
		if url == xds.ServerNameType {
			name = "443/n"
		}
		if decode(url, name, b) == nil {
			if _, err := JSON(url, b); err != nil && !strings.Contains(err.Error(), "google.protobuf.Any") {
				t.Errorf("accepted, and cannot be shown: %v", err)
			}
		}
	})
}
