package translate

import (
	"fmt"
	"iter"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// services is a Source: what one namespace sees.
type services map[hostname.Name]*mesh.Service

func (s services) Mesh() config.Mesh                                  { return config.Default() }
func (s services) Service(_ string, host hostname.Name) *mesh.Service { return s[host] }
func (s services) Services(string) iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		for _, h := range slices.Sorted(maps.Keys(s)) {
			if !yield(s[h]) {
				return
			}
		}
	}
}

// versions is a Set as names and versions.
func versions(s *Set) map[Key]string {
	out := make(map[Key]string)
	for _, t := range xds.Types {
		for r := range s.WithPrefix(t, "") {
			out[r.Key] = r.Version
		}
	}
	return out
}

// drawService draws a service that meets others on few ports and addresses.
func drawService(t *rapid.T, host hostname.Name) *mesh.Service {
	s := &mesh.Service{
		Host:       host,
		Namespace:  "default",
		Resolution: rapid.SampledFrom([]mesh.Resolution{mesh.None, mesh.Static, mesh.DNS, mesh.DNSRoundRobin}).Draw(t, "resolution"),
		Created:    time.Unix(int64(rapid.IntRange(0, 2).Draw(t, "created")), 0),
		Source:     mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: rapid.SampledFrom([]string{"a", "b", "c"}).Draw(t, "entry")},
	}
	for _, a := range rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.1/32", "10.0.0.2/32", "10.0.0.0/8", "2001:db8::1/128"}), 0, 3, rapid.ID).Draw(t, "addresses") {
		s.Addresses = append(s.Addresses, netip.MustParsePrefix(a))
	}
	for i, n := range rapid.SliceOfNDistinct(rapid.Uint16Range(80, 83), 0, 3, rapid.ID).Draw(t, "ports") {
		s.Ports = append(s.Ports, mesh.Port{
			Name: fmt.Sprint("p", i), Number: n,
			Protocol: rapid.SampledFrom([]mesh.Protocol{mesh.HTTP, mesh.HTTP, mesh.HTTPS, mesh.TCP, mesh.TCP, mesh.MySQL, mesh.Unset, mesh.UDP}).Draw(t, "protocol"),
		})
	}
	for range rapid.IntRange(0, 2).Draw(t, "endpoints") {
		s.Endpoints = append(s.Endpoints, mesh.Endpoint{Address: rapid.SampledFrom([]string{"192.0.2.1", "192.0.2.2"}).Draw(t, "address"), Weight: 1})
	}
	return s
}

// TestAChangeLeadsWhereAFreshStartLeads changes services at random and compares
// the outcome with one made from scratch, and the keys reported with what
// really differs.
func TestAChangeLeadsWhereAFreshStartLeads(t *testing.T) {
	hosts := []hostname.Name{"a.example.com", "b.example.com", "*.example.com", "10.0.0.1", "c.example.com", "web", "web.default.svc.cluster.local"}
	rapid.Check(t, func(t *rapid.T) {
		view := View{Namespace: "default", Policy: rapid.SampledFrom([]mesh.OutboundPolicy{mesh.AllowAny, mesh.RegistryOnly}).Draw(t, "policy")}
		src := make(services)
		tr, _ := New(view, src)
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			touched := rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 1, 3, rapid.ID).Draw(t, "touched")
			for _, h := range touched {
				if rapid.IntRange(0, 3).Draw(t, "remove") == 0 {
					delete(src, h)
				} else {
					src[h] = drawService(t, h)
				}
			}
			before := versions(tr.Set())
			keys, _ := tr.Update(src, touched)
			after := versions(tr.Set())
			fresh, problems := New(view, src)
			if diff := cmp.Diff(problems, Problems(src.Services("default")), cmpopts.EquateEmpty()); diff != "" {
				t.Fatalf("problems (-of the view +judged without it):\n%s", diff)
			}
			if diff := cmp.Diff(versions(fresh.Set()), after); diff != "" {
				t.Fatalf("differs from a fresh start (-fresh +changed):\n%s", diff)
			}
			var differ []Key
			for k := range before {
				if before[k] != after[k] {
					differ = append(differ, k)
				}
			}
			for k := range after {
				if _, had := before[k]; !had {
					differ = append(differ, k)
				}
			}
			slices.SortFunc(differ, Key.compare)
			if diff := cmp.Diff(differ, keys); diff != "" {
				t.Fatalf("keys reported (-differ +reported):\n%s", diff)
			}
		}
	})
}

func service(host string, protocol mesh.Protocol, number uint16) *mesh.Service {
	return &mesh.Service{
		Host: hostname.Name(host), Namespace: "default", Resolution: mesh.DNS,
		Ports:     []mesh.Port{{Name: "p", Number: number, Protocol: protocol}},
		Endpoints: []mesh.Endpoint{{Address: host, Weight: 1}},
		Source:    mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: host},
	}
}

// What a new host costs must not depend on how many there are.
func TestANewHostOnABusyPortAddsItsOwnResourcesOnly(t *testing.T) {
	src := make(services)
	for i := range 100 {
		s := service(fmt.Sprintf("h%d.example.com", i), mesh.HTTP, 80)
		src[s.Host] = s
	}
	tr, _ := New(View{Namespace: "default"}, src)
	src["new.example.com"] = service("new.example.com", mesh.HTTP, 80)
	keys, _ := tr.Update(src, []hostname.Name{"new.example.com"})
	want := []Key{
		{xds.ClusterType, "outbound|80||new.example.com"},
		{xds.VirtualHostType, "80/new.example.com"},
		{xds.NameType, "new.example.com"},
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
}

// Nor what a host with TLS costs: its name is all that a handshake says.
func TestANewHostWithTLSTouchesNoListener(t *testing.T) {
	src := make(services)
	for i := range 100 {
		s := service(fmt.Sprintf("h%d.example.com", i), mesh.HTTPS, 443)
		src[s.Host] = s
	}
	tr, _ := New(View{Namespace: "default"}, src)
	src["new.example.com"] = service("new.example.com", mesh.HTTPS, 443)
	keys, _ := tr.Update(src, []hostname.Name{"new.example.com"})
	want := []Key{
		{xds.ClusterType, "outbound|443||new.example.com"},
		{xds.ServerNameType, "443/new.example.com"},
		{xds.NameType, "new.example.com"},
	}
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
}

func TestAnEndpointCostsAnEndpoint(t *testing.T) {
	s := service("a.example.com", mesh.TCP, 5432)
	s.Resolution, s.Endpoints = mesh.Static, []mesh.Endpoint{{Address: "192.0.2.1", Weight: 1}}
	src := services{s.Host: s}
	tr, _ := New(View{Namespace: "default"}, src)
	changed := *s
	changed.Endpoints = []mesh.Endpoint{{Address: "192.0.2.2", Weight: 1}}
	src[s.Host] = &changed
	keys, _ := tr.Update(src, []hostname.Name{s.Host})
	if diff := cmp.Diff([]Key{{xds.EndpointType, "outbound|5432||a.example.com"}}, keys); diff != "" {
		t.Error(diff)
	}
}

func TestPortsOfTheCaptureCannotBeDeclared(t *testing.T) {
	for port, listener := range map[uint16]string{xds.OutboundPort: "0.0.0.0_15001", xds.DNSPort: "0.0.0.0_53"} {
		s := service("a.example.com", mesh.HTTP, port)
		tr, problems := New(View{Namespace: "default"}, services{s.Host: s})
		if len(problems) > 0 || tr.Set().Get(Key{xds.ListenerType, listener}) != nil {
			t.Errorf("problems %v, listener %v; want neither", problems, tr.Set().Get(Key{xds.ListenerType, listener}))
		}
	}
}

// impatient is a Source whose mesh ends the wait for a caller's first bytes.
type impatient struct{ services }

func (impatient) Mesh() config.Mesh {
	m := config.Default()
	m.ProtocolDetectionTimeout = 5 * time.Second
	return m
}

func TestTheMeshSaysHowLongACallerMayBeSilent(t *testing.T) {
	a, b := service("a.example.com", mesh.Unset, 80), service("b.example.com", mesh.Unset, 80)
	b.Addresses = []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}
	src := services{a.Host: a, b.Host: b}
	for source, want := range map[Source]time.Duration{&src: 0, &impatient{src}: 5 * time.Second} {
		tr, _ := New(View{Namespace: "default"}, source)
		for _, name := range []string{"0.0.0.0_80", "192.0.2.1_80"} {
			var l listenerv3.Listener
			if err := tr.Set().Get(Key{xds.ListenerType, name}).Body.UnmarshalTo(&l); err != nil {
				t.Fatal(err)
			}
			if got := l.GetListenerFiltersTimeout().AsDuration(); got != want {
				t.Errorf("listener %s waits %s, want %s", name, got, want)
			}
		}
	}
}

func TestAPartialWildcardCannotBeTLS(t *testing.T) {
	s := service("*a.example.com", mesh.TLS, 443)
	tr, problems := New(View{Namespace: "default"}, services{s.Host: s})
	listener := tr.Set().Get(Key{xds.ListenerType, "0.0.0.0_443"})
	if len(problems) > 0 || listener != nil {
		t.Errorf("problems %v, listener %v; want neither", problems, listener)
	}
}

// BenchmarkAChange compares one change among 100 hosts with one among 10,000: they
// are to cost the same.
func BenchmarkAChange(b *testing.B) {
	changes := map[string]func(*mesh.Service, int){
		"endpoint": func(s *mesh.Service, i int) {
			s.Endpoints = []mesh.Endpoint{{Address: fmt.Sprintf("e%d.example.com", i), Weight: 1}}
		},
		// As when something is written above it in its file.
		"source": func(s *mesh.Service, i int) { s.Source.Line = i },
	}
	for _, kind := range []struct {
		protocol mesh.Protocol
		port     uint16
	}{{mesh.HTTP, 80}, {mesh.HTTPS, 443}, {mesh.TCP, 5432}} {
		for _, what := range slices.Sorted(maps.Keys(changes)) {
			for _, n := range []int{100, 10_000} {
				b.Run(fmt.Sprintf("%s/%s/among %d", kind.protocol, what, n), func(b *testing.B) {
					src := make(services)
					for i := range n {
						s := service(fmt.Sprintf("h%d.example.com", i), kind.protocol, kind.port)
						if kind.protocol == mesh.TCP {
							s.VIPs = []netip.Addr{netip.AddrFrom4([4]byte{240, 240, byte(i >> 8), byte(i)})}
						}
						src[s.Host] = s
					}
					tr, _ := New(View{Namespace: "default"}, src)
					host := hostname.Name(fmt.Sprintf("h%d.example.com", n/2))
					b.ReportAllocs()
					for i := 0; b.Loop(); i++ {
						s := *src[host]
						changes[what](&s, i)
						src[host] = &s
						tr.Update(src, []hostname.Name{host})
					}
				})
			}
		}
	}
}
