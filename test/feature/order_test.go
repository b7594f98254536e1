package feature

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	meshconfig "github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestTheOrderOfArrivalIsWithoutEffect shuffles objects of every kind a thousand
// times, and lets them come one at a time and all at once: what namespaces see,
// what is told and what proxies get is the same. (Hosts that want one virtual
// address are left out: of those the first has it.)
func TestTheOrderOfArrivalIsWithoutEffect(t *testing.T) {
	for seed := range uint64(4) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := newObjects(t, rand.New(rand.NewPCG(seed, 35)), false)
			random.frames = true
			random.changes(70)
			want := arrived(random.all(), false)
			if seed == 0 {
				t.Logf("%d objects, %d lines to compare", len(random.have), len(want))
			}
			for i := range 250 {
				all := random.all()
				if diff := cmp.Diff(want, arrived(all, i%2 == 0)); diff != "" {
					t.Fatalf("order %v, one at a time: %v (-want +got):\n%s", keysOf(all), i%2 == 0, diff)
				}
			}
		})
	}
}

func keysOf(all []registry.Change) (keys []string) {
	for _, c := range all {
		keys = append(keys, c.Key.String())
	}
	return keys
}

// arrived lists what came of objects: services, problems and resources.
func arrived(all []registry.Change, oneByOne bool) (lines []string) {
	r := registry.New(meshconfig.Default())
	rounds := [][]registry.Change{all}
	if oneByOne {
		rounds = slices.Collect(slices.Chunk(all, 1))
	}
	told := map[api.Problem]bool{}
	var snapshot *registry.Snapshot
	for _, changes := range rounds {
		var d registry.Delta
		snapshot, d = r.Apply(someday, changes)
		for _, x := range d.Ended {
			delete(told, x)
		}
		for _, x := range d.Problems {
			told[x] = true
		}
	}
	for x := range told {
		lines = append(lines, "joined: "+x.String())
	}
	for _, namespace := range []string{"a", "b", "elsewhere"} {
		m := snapshot.Mesh()
		view := translate.View{Namespace: namespace, Sidecar: snapshot.Sidecar(namespace, nil), Capture: m.Capture(), Policy: m.OutboundTrafficPolicy}
		for s := range snapshot.Services(namespace) {
			lines = append(lines, fmt.Sprintf("%s sees %+v", namespace, *s))
		}
		tr, problems := translate.New(view, snapshot.Through(view.Sidecar, view.Capture))
		for _, x := range problems {
			lines = append(lines, "view of "+namespace+": "+x.String())
		}
		for _, kind := range xds.Types {
			for x := range tr.Set().WithPrefix(kind, "") {
				lines = append(lines, strings.Join([]string{namespace, xds.ShortType(kind), x.Name, x.Version}, " "))
			}
		}
	}
	slices.Sort(lines)
	return lines
}
