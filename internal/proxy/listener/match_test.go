package listener

import (
	"fmt"
	"net/netip"
	"testing"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestMatch(t *testing.T) {
	chain := func(name string, m config.Match) *config.FilterChain {
		return &config.FilterChain{Name: name, Match: m}
	}
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, s := range all {
			out = append(out, netip.MustParsePrefix(s))
		}
		return out
	}
	byPort := []*config.FilterChain{
		chain("http", config.Match{Transport: "raw_buffer", Applications: []string{"http/1.0", "http/1.1"}}),
		chain("exact", config.Match{ServerNames: []string{"www.baidu.com", "baidu.com"}, Transport: "tls"}),
		chain("wild", config.Match{ServerNames: []string{"*.baidu.com"}, Transport: "tls"}),
		chain("deep", config.Match{ServerNames: []string{"*.a.baidu.com"}, Transport: "tls"}),
		chain("h2", config.Match{Transport: "tls", Applications: []string{"h2"}}),
		chain("exact h2", config.Match{ServerNames: []string{"grpc.test"}, Transport: "tls", Applications: []string{"h2"}}),
	}
	// What Istiod makes of a port of its mesh.
	byApplication := []*config.FilterChain{
		chain("mesh http", config.Match{Transport: "tls", Applications: []string{"istio-http/1.0", "istio-http/1.1", "istio-h2"}}),
		chain("mesh tcp", config.Match{Transport: "tls", Applications: []string{"istio-peer-exchange", "istio"}}),
		chain("tls", config.Match{Transport: "tls"}),
		chain("request", config.Match{Transport: "raw_buffer", Applications: []string{"http/1.1", "h2c"}}),
		chain("bytes", config.Match{}),
	}
	byAddress := []*config.FilterChain{
		chain("any address", config.Match{}),
		chain("ten", config.Match{Prefixes: prefixes("10.0.0.0/8", "fd00::/8")}),
		chain("ten tls", config.Match{Prefixes: prefixes("10.1.0.0/16"), Transport: "tls"}),
		chain("one", config.Match{Prefixes: prefixes("10.1.2.3/32"), ServerNames: []string{"one.test"}}),
		chain("again", config.Match{Prefixes: prefixes("10.0.0.0/8")}),
	}
	fallback := &config.FilterChain{Name: "default"}
	tests := []struct {
		name   string
		chains []*config.FilterChain
		dst    string
		sni    string
		tls    bool
		apps   []string
		want   string
	}{
		{"request", byPort, "1.2.3.4", "", false, []string{"http/1.1"}, "http"},
		{"old request", byPort, "1.2.3.4", "", false, []string{"http/1.0"}, "http"},
		{"bytes", byPort, "1.2.3.4", "", false, nil, "default"},
		{"exact name", byPort, "1.2.3.4", "www.baidu.com", true, nil, "exact"},
		{"second exact name", byPort, "1.2.3.4", "baidu.com", true, nil, "exact"},
		{"wildcard", byPort, "1.2.3.4", "x.baidu.com", true, nil, "wild"},
		{"wildcard spans labels", byPort, "1.2.3.4", "x.y.baidu.com", true, nil, "wild"},
		{"longest wildcard", byPort, "1.2.3.4", "x.a.baidu.com", true, nil, "deep"},
		{"wildcard has a label in front", byPort, "1.2.3.4", ".baidu.com", true, nil, "default"},
		{"unknown name", byPort, "1.2.3.4", "evil.test", true, nil, "default"},
		{"no name", byPort, "1.2.3.4", "", true, nil, "default"},
		{"unknown name, known application", byPort, "1.2.3.4", "evil.test", true, []string{"h2"}, "h2"},
		{"second offer counts too", byPort, "1.2.3.4", "evil.test", true, []string{"http/1.1", "h2"}, "h2"},
		{"no way back from a name", byPort, "1.2.3.4", "grpc.test", true, []string{"http/1.1"}, "default"},
		{"TLS that offers http/1.1 is no request", byPort, "1.2.3.4", "", true, []string{"http/1.1"}, "default"},

		{"an application of the mesh", byApplication, "1.2.3.4", "", true, []string{"istio-peer-exchange", "istio"}, "mesh tcp"},
		{"the first offer that a chain asks for", byApplication, "1.2.3.4", "", true, []string{"unheard-of", "istio-h2", "istio"}, "mesh http"},
		{"whose chain comes later", byApplication, "1.2.3.4", "", true, []string{"istio", "istio-h2"}, "mesh tcp"},
		{"the letters as they are", byApplication, "1.2.3.4", "", true, []string{"ISTIO"}, "tls"},
		{"an application of anybody", byApplication, "1.2.3.4", "", true, []string{"h2", "http/1.1"}, "tls"},
		{"no application", byApplication, "1.2.3.4", "", true, nil, "tls"},
		{"a request", byApplication, "1.2.3.4", "", false, []string{"h2c"}, "request"},
		{"no way back from a transport", byApplication, "1.2.3.4", "", false, []string{"http/1.0"}, "default"},

		{"outside all ranges", byAddress, "1.2.3.4", "", false, nil, "any address"},
		{"range", byAddress, "10.9.9.9", "", false, nil, "ten"},
		{"IPv6 range", byAddress, "fd00::1", "", false, nil, "ten"},
		{"longer range", byAddress, "10.1.9.9", "", true, nil, "ten tls"},
		{"no way back from a range", byAddress, "10.1.9.9", "", false, nil, "default"},
		{"address and name", byAddress, "10.1.2.3", "one.test", true, nil, "one"},
		{"no way back from an address", byAddress, "10.1.2.3", "two.test", true, nil, "default"},
		{"no chains", nil, "10.1.2.3", "", false, nil, "default"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := factsOf(netip.MustParseAddr(tt.dst), finding{tls: tt.tls, serverName: tt.sni, application: tt.apps})
			got := Match(nil, &config.Listener{Chains: tt.chains, Default: fallback}, f)
			if got == nil || got.Name != tt.want {
				t.Errorf("Match = %v, want %s", got, tt.want)
			}
			if tt.want == "default" {
				if got := Match(nil, &config.Listener{Chains: tt.chains}, f); got != nil {
					t.Errorf("without default: Match = %s, want none", got.Name)
				}
			}
		})
	}
}

// TestServerNamesLookedUpAreChainsLikeOthers holds a listener that looks names up
// to one that has them among its chains.
func TestServerNamesLookedUpAreChainsLikeOthers(t *testing.T) {
	hosts := []string{"a.x", "b.x", "c.a.x", "d.c.a.x", "x", "b.y", "*.x", "*.a.x", "*.c.a.x", "*.y"}
	names := []string{"", "a.x", "b.x", "c.a.x", "d.c.a.x", "e.d.c.a.x", "x", "z.x", "b.y", "z.y", "y", ".x", ".a.x", "nn.x", "z"}
	ranges := []string{"10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "fd00::/8"}
	destinations := []string{"10.1.2.3", "10.1.9.9", "10.9.9.9", "192.0.2.1", "fd00::1"}
	rapid.Check(t, func(t *rapid.T) {
		looksUp := &config.Listener{
			Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443")}, ServerNames: true,
			Default: &config.FilterChain{Name: "default"},
		}
		for i := range rapid.IntRange(0, 6).Draw(t, "other chains") {
			m := config.Match{
				Transport: rapid.SampledFrom([]string{"", "tls", "raw_buffer"}).Draw(t, "transport"),
			}
			for _, r := range rapid.SliceOfNDistinct(rapid.SampledFrom(ranges), 0, 2, rapid.ID).Draw(t, "ranges") {
				m.Prefixes = append(m.Prefixes, netip.MustParsePrefix(r))
			}
			if len(m.Prefixes) > 0 { // a name without a range is looked up
				m.ServerNames = rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 0, 2, rapid.ID).Draw(t, "names")
			}
			m.Applications = rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"http/1.1", "h2c"}), 0, 1, rapid.ID).Draw(t, "applications")
			looksUp.Chains = append(looksUp.Chains, &config.FilterChain{Name: fmt.Sprint("chain ", i), Match: m})
		}
		holds := *looksUp
		holds.ServerNames = false
		holds.Chains = append([]*config.FilterChain(nil), looksUp.Chains...)
		var d config.Delta
		for _, h := range rapid.SliceOfNDistinct(rapid.SampledFrom(hosts), 0, len(hosts), rapid.ID).Draw(t, "server names") {
			c := &config.FilterChain{Name: h, Match: config.Match{ServerNames: []string{h}, Transport: "tls"}}
			holds.Chains = append(holds.Chains, c)
			d.ServerNames = append(d.ServerNames, &config.ServerName{Port: 443, Host: h, Chain: c},
				&config.ServerName{Port: 444, Host: h, Chain: &config.FilterChain{Name: "of another port"}})
		}
		c := (*config.Config)(nil).Apply(d)
		for _, dst := range destinations {
			for _, name := range names {
				for _, f := range []Facts{
					{ServerName: name, Transport: transportTLS},
					{ServerName: name, Transport: transportTLS, Applications: []string{"h2", "http/1.1"}},
					{ServerName: name, Transport: transportRaw},
				} {
					f.Destination = netip.MustParseAddr(dst)
					want, got := Match(nil, &holds, f), Match(c, looksUp, f)
					if want.Name != got.Name {
						t.Fatalf("%+v: %q, want %q", f, got.Name, want.Name)
					}
				}
			}
		}
	})
}

func TestAListenerThatLooksNamesUpWaitsForThem(t *testing.T) {
	l := &config.Listener{InspectTLS: true, ServerNames: true, Chains: []*config.FilterChain{
		{Match: config.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")}}},
	}}
	for dst, want := range map[string]bool{"192.0.2.1": true, "10.1.1.1": false} { // the range alone decides
		if got := asks(l, netip.MustParseAddr(dst)); got != want {
			t.Errorf("%s: asks is %t, want %t", dst, got, want)
		}
	}
}

func BenchmarkMatchAmongTenThousandServerNames(b *testing.B) {
	l := &config.Listener{
		Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443")}, ServerNames: true,
		Chains: []*config.FilterChain{{Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.1"}}}},
	}
	var d config.Delta
	for i := range 10_000 {
		host := fmt.Sprintf("host-%d.example.com", i)
		d.ServerNames = append(d.ServerNames, &config.ServerName{Port: 443, Host: host, Chain: &config.FilterChain{
			Name: host, Match: config.Match{ServerNames: []string{host}, Transport: "tls"},
		}})
	}
	c := (*config.Config)(nil).Apply(d)
	f := Facts{Destination: netip.MustParseAddr("1.2.3.4"), Transport: transportTLS}
	b.ReportAllocs()
	for i := 0; b.Loop(); i += 7919 {
		f.ServerName = d.ServerNames[i%len(d.ServerNames)].Host
		if Match(c, l, f) == nil {
			b.Fatal("no chain")
		}
	}
}
