package translate

import (
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// spoken is what requests to the endpoints of a port are made in, as in Istio:
// HTTP/2 where the entry says so, what the caller speaks where it says nothing,
// else HTTP/1.1, which need not be said.
func spoken(p mesh.Protocol) map[string]*anypb.Any {
	switch p {
	case mesh.GRPC, mesh.HTTP2:
		return httpOptions(&upstreamv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_{
				ExplicitHttpConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig{
					ProtocolConfig: &upstreamv3.HttpProtocolOptions_ExplicitHttpConfig_Http2ProtocolOptions{
						Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
					},
				},
			},
		})
	case mesh.Unset:
		return httpOptions(&upstreamv3.HttpProtocolOptions{
			UpstreamProtocolOptions: &upstreamv3.HttpProtocolOptions_UseDownstreamProtocolConfig{
				UseDownstreamProtocolConfig: &upstreamv3.HttpProtocolOptions_UseDownstreamHttpConfig{
					HttpProtocolOptions:  &corev3.Http1ProtocolOptions{},
					Http2ProtocolOptions: &corev3.Http2ProtocolOptions{},
				},
			},
		})
	case mesh.HTTP, mesh.HTTPS, mesh.GRPCWeb, mesh.TLS, mesh.TCP, mesh.UDP, mesh.Mongo, mesh.MySQL, mesh.Redis, mesh.Postgres, mesh.HTTPProxy:
	}
	return nil
}

func httpOptions(o *upstreamv3.HttpProtocolOptions) map[string]*anypb.Any {
	return map[string]*anypb.Any{xds.HTTPOptions: pack(o)}
}
