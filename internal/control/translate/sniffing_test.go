package translate

import (
	"net/netip"
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestWhatIsLookedIntoBeforeAChainIsChosen goes through every protocol and every
// way to name a destination. A port for bytes, databases above all, is never
// looked into: its server may have to speak first, and its bytes mean nothing here.
func TestWhatIsLookedIntoBeforeAChainIsChosen(t *testing.T) {
	looks := map[mesh.Protocol]string{
		mesh.Unset: "http", mesh.HTTP: "http", mesh.HTTP2: "http", mesh.GRPC: "http", mesh.GRPCWeb: "http", mesh.HTTPProxy: "http",
		mesh.HTTPS: "tls", mesh.TLS: "tls",
		mesh.TCP: "", mesh.Mongo: "", mesh.MySQL: "", mesh.Redis: "", mesh.Postgres: "",
	}
	if _, ok := mesh.ParseProtocol(""); !ok || len(looks) != int(mesh.HTTPProxy) { // all but UDP
		t.Fatalf("%d protocols are tested", len(looks))
	}
	forms := map[string]func(*mesh.Service){
		"no address":      func(*mesh.Service) {},
		"virtual address": func(s *mesh.Service) { s.VIPs = []netip.Addr{netip.MustParseAddr("240.240.0.1")} },
		"address":         func(s *mesh.Service) { s.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")} },
		"range":           func(s *mesh.Service) { s.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} },
	}
	for protocol, want := range looks {
		for form, shape := range forms {
			for _, policy := range []mesh.OutboundPolicy{mesh.AllowAny, mesh.RegistryOnly} {
				s := service("a.example.com", protocol, 3306)
				shape(s)
				tr, problems := New(View{Namespace: "default", Policy: policy}, services{s.Host: s})
				if len(problems) > 0 {
					t.Errorf("%v: %v", protocol, problems)
				}
				seen := 0
				for r := range tr.Set().WithPrefix(xds.ListenerType, "") {
					if r.Key.Name == xds.VirtualOutbound {
						continue
					}
					seen++
					var l listenerv3.Listener
					if err := r.Body.UnmarshalTo(&l); err != nil {
						t.Fatal(err)
					}
					if got, want := inspectors(&l), expected(want, form, policy); got != want {
						t.Errorf("%v, %s, %v: listener %s looks for %q, want %q", protocol, form, policy, l.GetName(), got, want)
					}
				}
				if seen == 0 {
					t.Errorf("%v, %s, %v: no listener", protocol, form, policy)
				}
			}
		}
	}
}

// expected adds to what a protocol needs what refusing needs: requests on a port
// of TLS are answered with the reason, where no other host's bytes may come. An
// address alone names the service of TLS, whatever its callers say.
func expected(looks, form string, policy mesh.OutboundPolicy) string {
	switch {
	case looks == "tls" && form == "address":
		return ""
	case looks == "tls" && policy == mesh.RegistryOnly:
		return "tls http"
	}
	return looks
}

func inspectors(l *listenerv3.Listener) string {
	var all []string
	for _, f := range l.GetListenerFilters() {
		name := strings.TrimPrefix(f.GetName(), "envoy.filters.listener.")
		all = append(all, strings.TrimSuffix(name, "_inspector"))
	}
	return strings.Join(all, " ")
}
