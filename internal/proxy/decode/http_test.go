package decode

import (
	"fmt"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestWhatAnEndpointSpeaks(t *testing.T) {
	const path = `Cluster "a": typed_extension_protocol_options[envoy.extensions.upstreams.http.v3.HttpProtocolOptions]`
	for text, want := range map[string]struct {
		version config.HTTPVersion
		err     string
	}{
		`"explicit_http_config":{"http_protocol_options":{"header_key_format":{"stateful_formatter":{"name":"x"}}}}`:          {config.HTTP1, ""},
		`"explicit_http_config":{"http2_protocol_options":{"max_concurrent_streams":1073741824}}`:                             {config.HTTP2, ""},
		`"use_downstream_protocol_config":{"http_protocol_options":{},"http2_protocol_options":{"max_concurrent_streams":7}}`: {config.AsCaller, ""},
		``:                          {0, path + ` says of no version of HTTP that it is spoken`},
		`"explicit_http_config":{}`: {0, path + `.explicit_http_config says of no version of HTTP that it is spoken`},
		`"auto_config":{}`:          {0, path + `.auto_config is not supported by this proxy`},
		`"http_filters":[{"name":"x"}],"explicit_http_config":{"http2_protocol_options":{}}`:       {0, path + `.http_filters is not supported by this proxy`},
		`"explicit_http_config":{"http3_protocol_options":{}}`:                                     {0, path + `.explicit_http_config.http3_protocol_options is not supported by this proxy`},
		`"explicit_http_config":{"http2_protocol_options":{"allow_metadata":true}}`:                {0, path + `.explicit_http_config.http2_protocol_options.allow_metadata is not supported by this proxy`},
		`"use_downstream_protocol_config":{"http_protocol_options":{"accept_http_10":true}}`:       {0, path + `.use_downstream_protocol_config.http_protocol_options.accept_http_10 is not supported by this proxy`},
		`"common_http_protocol_options":{"idle_timeout":"1s"},"use_downstream_protocol_config":{}`: {0, path + `.common_http_protocol_options is not supported by this proxy`},
	} {
		if text != "" {
			text = "," + text
		}
		got, err := Cluster("a", raw(t, &clusterv3.Cluster{}, fmt.Sprintf(`{"name":"a","type":"ORIGINAL_DST","typed_extension_protocol_options":{
			"envoy.extensions.upstreams.http.v3.HttpProtocolOptions":{"@type":"type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions"%s}}}`, text)))
		switch {
		case err != nil:
			if err.Error() != want.err {
				t.Errorf("%s: %v, want %s", text, err, want.err)
			}
		case want.err != "" || got.HTTP != want.version:
			t.Errorf("%s: %d, want %d %s", text, got.HTTP, want.version, want.err)
		}
	}
	const other = `{"name":"a","type":"ORIGINAL_DST","typed_extension_protocol_options":{%q:{"@type":"type.googleapis.com/envoy.config.core.v3.Http1ProtocolOptions"}}}`
	for key, want := range map[string]string{
		"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": path + ` holds "type.googleapis.com/envoy.config.core.v3.Http1ProtocolOptions"`,
		"x": `Cluster "a": typed_extension_protocol_options[x] is not supported by this proxy`,
	} {
		if _, err := Cluster("a", raw(t, &clusterv3.Cluster{}, fmt.Sprintf(other, key))); err == nil || err.Error() != want {
			t.Errorf("%s: %v", key, err)
		}
	}
}
