package cluster

import (
	"log/slog"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// Three retries at once are always allowed, and one in five requests.
func TestRetriesInFlightAreBoundedByWhatIsInProgress(t *testing.T) {
	at := netip.MustParseAddrPort("192.0.2.1:9")
	for _, cfg := range []*config.Cluster{
		{Name: "x", Type: config.StaticSet, Inline: &config.Assignment{Name: "x", Endpoints: []config.Endpoint{{Host: "127.0.0.1", Port: 9, Weight: 1}, {Host: "127.0.0.2", Port: 9, Weight: 1}}}},
		{Name: "x", Type: config.OriginalDst},
	} {
		d := config.Delta{Clusters: []*config.Cluster{cfg}}
		set := New(nil, slog.New(slog.DiscardHandler))
		set.Update((*config.Config)(nil).Apply(d), d)
		c := set.Get("x")
		var picked []*Endpoint
		refused := uint64(0)
		for _, tt := range []struct{ inProgress, want int }{{0, 3}, {1, 3}, {19, 3}, {20, 4}, {24, 4}, {25, 5}, {100, 20}} {
			for len(picked) < tt.inProgress {
				var rec decision.Record
				e, err := c.Pick(at, nil, &rec)
				if err != nil {
					t.Fatal(err)
				}
				picked = append(picked, e)
			}
			got := 0
			for c.Retry() {
				got++
			}
			refused++
			if got != tt.want || set.RetriesRefused() != refused {
				t.Errorf("%d retries beside %d requests, want %d; %d refused, want %d", got, tt.inProgress, tt.want, set.RetriesRefused(), refused)
			}
			for range got {
				c.Retried()
			}
		}
		for _, e := range picked {
			e.Done()
		}
		set.Close()
	}
}
