package proxy

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// No two chains of a listener are shown as if they were for the same connections.
func TestChainsAreShownWithWhatTellsThemApart(t *testing.T) {
	bytes := func(name string, m config.Match) *config.FilterChain {
		return &config.FilterChain{Name: name, Match: m, TCP: &config.TCPProxy{Cluster: name}}
	}
	raw := config.Match{Transport: "raw_buffer"}
	for name, tt := range map[string]struct {
		l    *config.Listener
		want []string
	}{
		"bytes":                     {&config.Listener{Chains: []*config.FilterChain{bytes("db", config.Match{})}, Default: bytes("rest", config.Match{})}, []string{"ALL", "otherwise"}},
		"bytes, where TLS is found": {&config.Listener{InspectTLS: true, Chains: []*config.FilterChain{bytes("db", raw)}}, []string{"Trans: raw_buffer"}},
		"bytes, TLS among them":     {&config.Listener{InspectHTTP: true, Chains: []*config.FilterChain{bytes("db", raw)}}, []string{"ALL"}},
	} {
		var got []string
		for _, c := range chains(tt.l, nil) {
			got = append(got, c.Match)
		}
		if diff := cmp.Diff(tt.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
