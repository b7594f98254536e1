package translate

import (
	"testing"

	upstreamv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/upstreams/http/v3"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

func TestWhatEndpointsAreSpokenToIn(t *testing.T) {
	for p, want := range map[mesh.Protocol]string{
		mesh.HTTP: "1", mesh.GRPCWeb: "1", mesh.HTTPS: "1", mesh.TCP: "1", mesh.HTTPProxy: "1",
		mesh.HTTP2: "2", mesh.GRPC: "2", mesh.Unset: "as the caller",
	} {
		got := "1"
		if a := spoken(p)[xds.HTTPOptions]; a != nil {
			var m upstreamv3.HttpProtocolOptions
			if err := a.UnmarshalTo(&m); err != nil {
				t.Fatal(err)
			}
			switch {
			case m.GetExplicitHttpConfig().GetHttp2ProtocolOptions() != nil:
				got = "2"
			case m.GetUseDownstreamProtocolConfig().GetHttp2ProtocolOptions() != nil:
				got = "as the caller"
			}
		}
		if got != want {
			t.Errorf("%s: %s, want %s", p, got, want)
		}
	}
}
