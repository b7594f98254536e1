package decode

import (
	"errors"
	"fmt"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

var (
	http1Fields = fieldSet{"header_key_format": "the case of headers is always kept"}
	http2Fields = fieldSet{"max_concurrent_streams": "a connection carries what its endpoint allows, and 100 at most"}
)

// spoken reads what the endpoints of a cluster speak out of the options of
// extensions, by their names.
func spoken(path string, options map[string]*anypb.Any) (config.HTTPVersion, error) {
	for name := range options {
		if name != xds.HTTPOptions {
			return 0, fmt.Errorf("%s[%s] is not supported by this proxy", path, name)
		}
	}
	a := options[xds.HTTPOptions]
	if a == nil {
		return config.HTTP1, nil
	}
	path = fmt.Sprintf("%s[%s]", path, xds.HTTPOptions)
	var m upstreamv3.HttpProtocolOptions
	if !a.MessageIs(&m) {
		return 0, fmt.Errorf("%s holds %q", path, a.GetTypeUrl())
	}
	if err := unmarshal(a.GetValue(), &m); err != nil {
		return 0, fmt.Errorf("%s: %w", path, err)
	}
	if err := (fieldSet{"explicit_http_config": acted, "use_downstream_protocol_config": acted}).check(path, &m); err != nil {
		return 0, err
	}
	switch x := m.GetUpstreamProtocolOptions().(type) {
	case *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_:
		return explicit(join(path, "explicit_http_config"), x.ExplicitHttpConfig)
	case *upstreamv3.HttpProtocolOptions_UseDownstreamProtocolConfig:
		c := x.UseDownstreamProtocolConfig
		path = join(path, "use_downstream_protocol_config")
		return config.AsCaller, errors.Join(
			(fieldSet{"http_protocol_options": acted, "http2_protocol_options": acted}).check(path, c),
			versions(path, c.GetHttpProtocolOptions(), c.GetHttp2ProtocolOptions()),
		)
	}
	return 0, fmt.Errorf("%s says of no version of HTTP that it is spoken", path)
}

func explicit(path string, m *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig) (config.HTTPVersion, error) {
	if err := (fieldSet{"http_protocol_options": acted, "http2_protocol_options": acted}).check(path, m); err != nil {
		return 0, err
	}
	version := config.HTTP1
	switch m.GetProtocolConfig().(type) {
	case *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_HttpProtocolOptions:
	case *upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions:
		version = config.HTTP2
	default:
		return 0, fmt.Errorf("%s says of no version of HTTP that it is spoken", path)
	}
	return version, versions(path, m.GetHttpProtocolOptions(), m.GetHttp2ProtocolOptions())
}

// versions checks the options of each version, which may be nil.
func versions(path string, one *corev3.Http1ProtocolOptions, two *corev3.Http2ProtocolOptions) error {
	return errors.Join(
		http1Fields.check(join(path, "http_protocol_options"), one),
		http2Fields.check(join(path, "http2_protocol_options"), two),
	)
}
