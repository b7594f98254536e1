package registry

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// TestSelectorsAndWorkloadsFindEachOther whatever came and went, as looking at
// all of both would.
func TestSelectorsAndWorkloadsFindEachOther(t *testing.T) {
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test that can be repeated
	labels := func() map[string]string {
		all := map[string]string{}
		for range random.IntN(4) {
			all[fmt.Sprint("k", random.IntN(4))] = fmt.Sprint("v", random.IntN(3))
		}
		return all
	}
	ws, ss := newWorkloads(), newSelectors()
	there, claims := map[api.Key]*workload{}, map[string]claim{}
	for range 3000 {
		namespace, name := fmt.Sprint("n", random.IntN(2)), fmt.Sprint("x", random.IntN(30))
		key := api.Key{Kind: api.KindWorkloadEntry, Namespace: namespace, Name: name}
		host := hostname.Name(name)
		switch random.IntN(4) {
		case 0:
			ws.remove(key)
			delete(there, key)
		case 1:
			ws.remove(key)
			there[key] = &workload{endpoint: mesh.Endpoint{Labels: labels()}, object: &api.Object{Key: key}}
			ws.add(there[key])
		default:
			id := namespace + "/" + name
			if old, ok := claims[id]; ok {
				ss.remove(old)
				delete(claims, id)
			}
			if random.IntN(3) > 0 {
				claims[id] = claim{service: &mesh.Service{Namespace: namespace, Host: host, Selector: labels(), Resolution: mesh.Static}}
				ss.add(claims[id])
			}
		}
		for _, w := range there {
			got, want := map[hostname.Name]bool{}, map[hostname.Name]bool{}
			for s := range ss.of(w) {
				for h := range s.hosts {
					got[h] = true
				}
			}
			for _, c := range claims {
				if c.service.Namespace == w.object.Namespace && hasSelector(c.service) && covers(c.service.Selector, w.endpoint.Labels) {
					want[c.service.Host] = true
				}
			}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Fatalf("who selects %v (-want +got):\n%s", w.endpoint.Labels, diff)
			}
		}
	}
	for _, c := range claims {
		var got, want []api.Key
		for _, w := range ws.near(c.service.Namespace, c.service.Selector) {
			if covers(c.service.Selector, w.endpoint.Labels) {
				got = append(got, w.object.Key)
			}
		}
		for _, key := range slices.SortedFunc(maps.Keys(there), api.Key.Compare) {
			if hasSelector(c.service) && key.Namespace == c.service.Namespace && covers(c.service.Selector, there[key].endpoint.Labels) {
				want = append(want, key)
			}
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("what %v selects (-want +got):\n%s", c.service.Selector, diff)
		}
		ss.remove(c)
	}
	for key := range there {
		ws.remove(key)
	}
	if n := len(ss.all) + len(ss.under) + len(ws.all) + len(ws.labeled); n > 0 {
		t.Errorf("%d things are remembered of what is gone", n)
	}
}

// TestASelectorLooksAtFewWorkloads and a workload at few selectors, though all
// share a label.
func TestASelectorLooksAtFewWorkloads(t *testing.T) {
	r := New(config.Default())
	all, _ := choosing(50, 200)
	r.Apply(epoch, all)
	for _, list := range r.claims {
		if n := len(r.workloads.near("shop", list[0].service.Selector)); n != 4 {
			t.Errorf("host %s looks at %d workloads to find 4", list[0].service.Host, n)
		}
	}
	for l, under := range r.selectors.under {
		if len(under) > 2 { // the first of a label that all have may be there
			t.Errorf("%d selectors are found by %v", len(under), l)
		}
	}
}
