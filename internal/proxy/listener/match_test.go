package listener

import (
	"net/netip"
	"testing"

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

func BenchmarkMatch(b *testing.B) {
	l := &config.Listener{}
	for range 1000 {
		l.Chains = append(l.Chains, &config.FilterChain{Match: config.Match{ServerNames: []string{"some-host.example.com"}, Transport: "tls"}})
	}
	l.Chains = append(l.Chains, &config.FilterChain{Name: "x", Match: config.Match{ServerNames: []string{"www.example.com"}, Transport: "tls"}})
	f := Facts{Destination: netip.MustParseAddr("1.2.3.4"), ServerName: "www.example.com", Transport: transportTLS}
	b.ReportAllocs()
	for b.Loop() {
		if Match(nil, l, f) == nil {
			b.Fatal("no chain")
		}
	}
}
