package cluster

import (
	"testing"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// Requests that were routed before a cluster was removed still reach it, and
// one that comes back in time is the one that it was.
func TestARemovedClusterServesWhatWasRoutedBefore(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	x := inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1})
	w.apply(clusters(x))
	ep, _ := w.pick()
	kept := dial(t, ep)
	ep.Keep(kept)

	removal := config.Delta{RemovedClusters: []string{"x"}}
	for range 3 {
		w.apply(removal)
		w.apply(removal)
		for c := range w.Clusters() {
			t.Errorf("%s is listed", c.Config().Name)
		}
		w.drop()
		if got, _ := w.pick(); got != ep || isClosed(kept) {
			t.Fatalf("picked %v, connection closed %v", got, isClosed(kept))
		}
		w.apply(clusters(x))
	}
	w.bury()
	if got, _ := w.pick(); got != ep {
		t.Fatalf("a cluster that came back was drained: picked %v", got)
	}
	w.apply(removal)
	w.bury()
	if w.Get("x") != nil || !isClosed(kept) {
		t.Errorf("it was never drained: %v, connection closed %v", w.Get("x"), isClosed(kept))
	}
}
