package decode

import (
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestHeadersOfAChainAreDecoded(t *testing.T) {
	for _, tt := range []struct {
		name, manager, router, metadata string
		want                            *config.Headers
		fault                           string
	}{
		{"none", `"generate_request_id":false,"server_header_transformation":"PASS_THROUGH"`, `,"suppress_envoy_headers":true`, "", nil, ""},
		{"all of the manager", `"server_name":"shop","generate_request_id":true,"append_x_forwarded_port":true`, "", "", &config.Headers{Server: "shop", RequestID: true, ForwardedPort: true, Debug: true}, ""},
		{"lower case", ``, `,"suppress_envoy_headers":true`, `{"lower_case_headers":true}`, &config.Headers{LowerCase: true}, ""},
		{"no lower case", ``, `,"suppress_envoy_headers":true`, `{"lower_case_headers":false}`, nil, ""},
		{"a case that is none", ``, "", `{"lower_case_headers":"yes"}`, nil, "lower_case_headers is neither true nor false"},
		{"a server that is none", `"server_name":"a\r\nb: c"`, "", "", nil, "server_name: no value of a header"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			manager, metadata := tt.manager, tt.metadata
			if manager != "" {
				manager += ","
			}
			if metadata != "" {
				metadata = `"metadata":{"filter_metadata":{"fairlead.dev":` + metadata + `}},`
			}
			b := raw(t, &listenerv3.Listener{}, `{"name":"l","address":{"socket_address":{"address":"0.0.0.0","port_value":80}},"filter_chains":[{"name":"http",`+metadata+`"filters":[{"name":"hcm",
				"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",`+manager+`
				"stat_prefix":"l","route_config":{"name":"r"},"http_filters":[{"name":"router","typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"`+tt.router+`}}]}}]}]}`)
			l, err := Listener("l", b)
			if tt.fault != "" {
				if err == nil || !strings.Contains(err.Error(), tt.fault) {
					t.Errorf("error %v, want %q in it", err, tt.fault)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, l.Chains[0].HTTP.Headers); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestAClusterIsInTheMeshIfItsServiceIs(t *testing.T) {
	for metadata, want := range map[string]bool{
		`{}`:                                    false,
		`{"istio":{"services":[{"host":"a"}]}}`: true,
		`{"istio":{"services":[{"host":"a"}],"external":true}}`: false,
		`{"istio":{"default_original_port":80}}`:                false,
	} {
		c, err := Cluster("c", raw(t, &clusterv3.Cluster{}, `{"name":"c","type":"STATIC","metadata":{"filter_metadata":`+metadata+`}}`))
		if err != nil || c.InMesh != want {
			t.Errorf("%s: %+v, %v; want in the mesh %t", metadata, c, err, want)
		}
	}
}
