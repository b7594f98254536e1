package translate

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"testing"
)

// TestAGroupIsAMapThatStaysAsItWas has two names of one hash among few, so that
// branches, and leaves of one hash, come and go.
func TestAGroupIsAMapThatStaysAsItWas(t *testing.T) {
	var names []string
	first := make(map[uint32]string)
	for i := 0; names == nil; i++ {
		name := fmt.Sprint("host-", i)
		if other, ok := first[stringHasher{}.Hash(name)]; ok {
			names = append(names, name, other)
		}
		first[stringHasher{}.Hash(name)] = name
	}
	for i := range 60 {
		names = append(names, fmt.Sprint("name-", i))
	}
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // to be repeated
	var g *group
	want := make(map[string]*Resource)
	check := func(g *group, want map[string]*Resource) {
		t.Helper()
		got := make(map[string]*Resource)
		g.each(func(r *Resource) bool { got[r.Name] = r; return true })
		if !maps.Equal(got, want) || g != nil && g.len != len(want) {
			t.Fatalf("%d resources by name, %v; want %d", len(got), g, len(want))
		}
		for _, name := range names {
			if g.get(name) != want[name] {
				t.Fatalf("%s is %v, want %v", name, g.get(name), want[name])
			}
		}
	}
	for range 4000 {
		before, had := g, maps.Clone(want)
		name := names[random.IntN(1+random.IntN(len(names)))]
		if random.IntN(2) == 0 {
			g = g.drop(name)
			delete(want, name)
		} else {
			want[name] = &Resource{Key: Key{"t", name}}
			g = g.put(want[name])
		}
		check(before, had)
		check(g, want)
	}
}
