package cluster

import (
	"log/slog"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// What a Set holds is what the last configuration and the last answers say,
// whatever came before and in whatever pieces it came.
func TestHistoryDoesNotMatter(t *testing.T) {
	hosts := []string{"10.0.0.1", "10.0.0.2", "fd00::1", "@socket", "a.test", "b.test"}
	endpoints := rapid.SliceOfN(rapid.Custom(func(t *rapid.T) config.Endpoint {
		return config.Endpoint{
			Host:     rapid.SampledFrom(hosts).Draw(t, "host"),
			Port:     rapid.SampledFrom([]uint16{80, 81}).Draw(t, "port"),
			Weight:   rapid.Uint32Range(0, 3).Draw(t, "weight"),
			Priority: rapid.Uint32Range(0, 1).Draw(t, "priority"),
		}
	}), 0, 4)
	services := rapid.SampledFrom([]string{"s", "t"})
	clusterNames := rapid.SampledFrom([]string{"x", "y"})
	answers := rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.3", "fd00::3"}), 1, 3, rapid.ID)

	delta := rapid.Custom(func(t *rapid.T) config.Delta {
		var d config.Delta
		if rapid.Bool().Draw(t, "cluster") {
			d.Clusters = append(d.Clusters, &config.Cluster{
				Name:        clusterNames.Draw(t, "name"),
				Type:        config.ClusterType(rapid.IntRange(0, 4).Draw(t, "type")),
				ServiceName: services.Draw(t, "service"),
				Inline:      &config.Assignment{Endpoints: endpoints.Draw(t, "inline")},
			})
		}
		if rapid.Bool().Draw(t, "assignment") {
			d.Assignments = append(d.Assignments, &config.Assignment{Name: services.Draw(t, "for"), Endpoints: endpoints.Draw(t, "listed")})
		}
		if rapid.IntRange(0, 4).Draw(t, "removes") == 0 {
			d.RemovedClusters = append(d.RemovedClusters, clusterNames.Draw(t, "removed"))
		}
		if rapid.IntRange(0, 4).Draw(t, "forgets") == 0 {
			d.RemovedAssignments = append(d.RemovedAssignments, services.Draw(t, "forgotten"))
		}
		return d
	})

	rapid.Check(t, func(t *rapid.T) {
		resolver := &names{}
		grown := New(resolver, slog.New(slog.DiscardHandler))
		defer grown.Close()
		grown.routed = func(netip.Addr) bool { return true }
		last := map[string][]string{"a.test": {"10.0.0.1"}, "b.test": {"10.0.0.3"}}
		var cfg *config.Config
		for range rapid.IntRange(1, 8).Draw(t, "steps") {
			d := delta.Draw(t, "delta")
			cfg = cfg.Apply(d)
			grown.Update(cfg, d)
			host := rapid.SampledFrom([]string{"a.test", "b.test"}).Draw(t, "answered")
			last[host] = answers.Draw(t, "answer")
			resolver.answer(host, fresh(last[host]...))
		}

		made := New(resolver, slog.New(slog.DiscardHandler))
		defer made.Close()
		made.routed = grown.routed
		made.Update(cfg, config.Delta{
			Clusters:    slices.Collect(cfg.Clusters()),
			Assignments: slices.Collect(cfg.Assignments()),
		})
		for host, addrs := range last {
			resolver.answer(host, fresh(addrs...))
		}
		if d := cmp.Diff(states(made), states(grown), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Fatalf("made at once (-), grown (+):\n%s", d)
		}
	})
}

func states(s *Set) map[string][]State {
	all := map[string][]State{}
	for c := range s.Clusters() {
		all[c.Config().Name] = c.Endpoints()
	}
	return all
}
