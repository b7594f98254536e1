package cluster_test

import (
	"fmt"
	"log/slog"
	"net/netip"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// One cluster with one endpoint, as a test of another package would want it.
func Example() {
	d := config.Delta{
		Clusters: []*config.Cluster{{Name: "outbound|80||web.test", Type: config.EDS, ServiceName: "web"}},
		Assignments: []*config.Assignment{{Name: "web", Endpoints: []config.Endpoint{
			{Host: "192.0.2.1", Port: 8080, Weight: 1},
		}}},
	}
	set := cluster.New(nil, slog.New(slog.DiscardHandler)) // no names, so no resolver
	defer set.Close()
	var cfg *config.Config
	cfg = cfg.Apply(d)
	set.Update(cfg, d)

	var rec decision.Record
	e, err := set.Get("outbound|80||web.test").Pick(netip.AddrPort{}, nil, &rec)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer e.Done()
	fmt.Println(rec.Endpoint, "of", rec.Endpoints)
	// Output: 192.0.2.1:8080 of 1
}
