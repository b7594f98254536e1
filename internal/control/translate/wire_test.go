package translate

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

func TestWhatIsWrittenByFieldsIsReadAsTheMessage(t *testing.T) {
	source := mesh.Ref{Kind: "ServiceEntry", Namespace: "shop", Name: "api", File: strings.Repeat("a/", 100) + "a.yaml", Line: 7} // lengths of two bytes
	ownFields := `
		fields { key: "file" value { string_value: "` + source.File + `" } } fields { key: "kind" value { string_value: "ServiceEntry" } }
		fields { key: "line" value { number_value: 7 } } fields { key: "name" value { string_value: "api" } }
		fields { key: "namespace" value { string_value: "shop" } }`
	metadata := func(own, istio string) string {
		return `metadata {` + own + ` filter_metadata { key: "istio" value { ` + istio + `
			fields { key: "services" value { list_value { values { struct_value {
				fields { key: "host" value { string_value: "api.example.com" } } fields { key: "name" value { string_value: "api.example.com" } }
				fields { key: "namespace" value { string_value: "shop" } } } } } } } } } }`
	}
	const name = "outbound|80||api.example.com"
	described := metadata(`filter_metadata { key: "fairlead.dev" value {`+ownFields+`} }`,
		`fields { key: "default_original_port" value { number_value: 80 } } fields { key: "external" value { bool_value: true } }`)
	endpoints := `cluster_name: "` + name + `"
		endpoints { lb_endpoints { endpoint { address { socket_address { address: "192.0.2.3" port_value: 80 } } } load_balancing_weight { value: 1 } } load_balancing_weight { value: 1 } }
		endpoints { locality { region: "r1" sub_zone: "s" }
			lb_endpoints { endpoint { address { pipe { path: "/run/a.sock" } } } load_balancing_weight { value: 1 } } load_balancing_weight { value: 1 } }
		endpoints { locality { region: "r2" zone: "z" }
			lb_endpoints { endpoint { address { socket_address { address: "192.0.2.1" port_value: 80 } } } load_balancing_weight { value: 300 } }
			lb_endpoints { endpoint { address { socket_address { address: "192.0.2.2" port_value: 8080 } } } load_balancing_weight { value: 1 } } load_balancing_weight { value: 301 } }`
	for _, c := range []struct {
		about       string
		change      func(*mesh.Service)
		cluster     string
		assignments string // empty for none
	}{
		{
			"STATIC", func(*mesh.Service) {},
			`name: "` + name + `" type: EDS connect_timeout { seconds: 10 } lb_policy: LEAST_REQUEST
			 eds_cluster_config { service_name: "` + name + `" eds_config { ads {} resource_api_version: V3 } } ` + described,
			endpoints,
		},
		{
			"DNS", func(s *mesh.Service) { s.Resolution = mesh.DNS },
			`name: "` + name + `" type: STRICT_DNS connect_timeout { seconds: 10 } lb_policy: LEAST_REQUEST
			 respect_dns_ttl: true dns_refresh_rate { seconds: 60 } dns_lookup_family: ALL load_assignment { ` + endpoints + ` } ` + described,
			"",
		},
		{
			"NONE, by nobody, with a target port and addresses",
			func(s *mesh.Service) {
				s.Resolution, s.Source, s.Location, s.Ports[0].TargetPort = mesh.None, mesh.Ref{}, mesh.Internal, 8080
				s.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("2001:db8::/32")}
			},
			`name: "` + name + `" type: ORIGINAL_DST connect_timeout { seconds: 10 } lb_policy: CLUSTER_PROVIDED
			 original_dst_lb_config { upstream_port_override { value: 8080 } } ` +
				metadata(`filter_metadata { key: "fairlead.dev" value { fields { key: "addresses" value { list_value {
					values { string_value: "192.0.2.0/24" } values { string_value: "2001:db8::/32" } } } } } }`,
					`fields { key: "default_original_port" value { number_value: 80 } }`),
			"",
		},
	} {
		s := service("api.example.com", mesh.HTTP, 80)
		s.Namespace, s.Source, s.Location, s.Resolution = "shop", source, mesh.External, mesh.Static
		s.Ports[0].Name = "http"
		s.Endpoints = []mesh.Endpoint{
			{Address: "192.0.2.1", Locality: "r2/z", Weight: 300},
			{Address: "unix:///run/a.sock", Locality: "r1//s"},
			{Address: "192.0.2.2", Locality: "r2/z", Ports: map[string]uint16{"http": 8080}},
			{Address: "192.0.2.3"},
		}
		c.change(s)
		tr, _ := New(View{Namespace: "default"}, services{s.Host: s})
		host := `name: "api.example.com:80" domains: "api.example.com" routes { name: "default" match { prefix: "/" } route {
			cluster: "` + name + `" timeout {} retry_policy {
				retry_on: "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes" num_retries { value: 2 }
				retry_host_predicate { name: "envoy.retry_host_predicates.previous_hosts" typed_config {
					[type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate] {} } }
				host_selection_retry_max_attempts: 5 } } }`
		if s.Source != (mesh.Ref{}) {
			host += `metadata { filter_metadata { key: "fairlead.dev" value {` + ownFields + `} } }`
		}
		for k, want := range map[Key]string{
			{xds.ClusterType, name}:                     c.cluster,
			{xds.EndpointType, name}:                    c.assignments,
			{xds.VirtualHostType, "80/api.example.com"}: host,
		} {
			r := tr.Set().Get(k)
			if r == nil || want == "" {
				if r != nil || want != "" {
					t.Errorf("%s: %v is %v, want %q", c.about, k, r, want)
				}
				continue
			}
			got, err := r.Body.UnmarshalNew()
			if err != nil {
				t.Fatalf("%s: %v: %v", c.about, k, err)
			}
			message := got.ProtoReflect().New().Interface()
			if err := prototext.Unmarshal([]byte(want), message); err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(message, got, protocmp.Transform()); diff != "" {
				t.Errorf("%s: %v (-want +got):\n%s", c.about, k, diff)
			}
			if n := proto.Size(message); n != len(r.Body.GetValue()) {
				t.Errorf("%s: %v has %d bytes, want %d", c.about, k, len(r.Body.GetValue()), n)
			}
		}
	}
}
