package translate

import (
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestHeadersAreAskedForAsEnvoyHasIt reads what listeners and virtual hosts say.
func TestHeadersAreAskedForAsEnvoyHasIt(t *testing.T) {
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	inside, outside := service("in.example", mesh.HTTP, 80), service("out.example", mesh.HTTP, 80)
	inside.Location, outside.Location = mesh.Internal, mesh.External
	for _, want := range []config.ProxyHeaders{
		{},
		{Server: "shop"},
		{RequestID: true, AttemptCount: true, ForwardedPort: true, Debug: true, LowerCase: true},
	} {
		m := config.Default()
		m.Headers = want
		tr, _ := New(View{Namespace: "default"}, meshed{services{"in.example": inside, "out.example": outside}, m})
		for host, counted := range map[string]bool{"in.example": want.AttemptCount, "out.example": false} {
			var h routev3.VirtualHost
			must(proto.Unmarshal(tr.Set().Get(Key{xds.VirtualHostType, xds.VirtualHostResource("80", host)}).Body.GetValue(), &h))
			if h.GetIncludeRequestAttemptCount() != counted {
				t.Errorf("%+v: attempts of %s are counted: %t", want, host, h.GetIncludeRequestAttemptCount())
			}
		}
		var l listenerv3.Listener
		must(proto.Unmarshal(tr.Set().Get(Key{xds.ListenerType, "0.0.0.0_80"}).Body.GetValue(), &l))
		var hcm hcmv3.HttpConnectionManager
		var router routerv3.Router
		chain := l.GetFilterChains()[0]
		must(chain.GetFilters()[0].GetTypedConfig().UnmarshalTo(&hcm))
		must(hcm.GetHttpFilters()[0].GetTypedConfig().UnmarshalTo(&router))
		got := config.ProxyHeaders{
			Server: hcm.GetServerName(), RequestID: hcm.GetGenerateRequestId().GetValue(), ForwardedPort: hcm.GetAppendXForwardedPort(),
			Debug: !router.GetSuppressEnvoyHeaders(), AttemptCount: want.AttemptCount,
			LowerCase: chain.GetMetadata().GetFilterMetadata()[xds.MetadataKey].GetFields()[xds.LowerCaseKey].GetBoolValue(),
		}
		if got != want {
			t.Errorf("a chain says %+v, want %+v", got, want)
		}
	}
}
