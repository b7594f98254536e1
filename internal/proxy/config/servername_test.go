package config

import (
	"slices"
	"testing"

	"pgregory.net/rapid"
)

// TestServerNamesFollowEveryChange holds the tables to a search through all names.
func TestServerNamesFollowEveryChange(t *testing.T) {
	hosts := []string{"a.x", "b.x", "c.a.x", "*.x", "*.a.x", "*.y"}
	asked := []string{"a.x", "b.x", "c.a.x", "d.c.a.x", "z.x", "x", ".x", "z.y", ""}
	rapid.Check(t, func(t *rapid.T) {
		var c *Config
		there := make(map[ServerNameKey]*ServerName)
		key := rapid.Custom(func(t *rapid.T) ServerNameKey {
			return ServerNameKey{rapid.Uint16Range(443, 444).Draw(t, "port"), rapid.SampledFrom(hosts).Draw(t, "host")}
		})
		for range rapid.IntRange(1, 20).Draw(t, "rounds") {
			before, had := c, len(there)
			var d Delta
			for _, k := range rapid.SliceOfN(key, 0, 3).Draw(t, "removed") {
				d.RemovedServerNames = append(d.RemovedServerNames, k)
				delete(there, k)
			}
			for _, k := range rapid.SliceOfN(key, 0, 3).Draw(t, "added") {
				n := &ServerName{Port: k.Port, Host: k.Host}
				d.ServerNames = append(d.ServerNames, n)
				there[k] = n
			}
			c = c.Apply(d)
			if n := len(slices.Collect(before.ServerNames())); n != had {
				t.Fatalf("the state before has %d names, had %d", n, had)
			}
			if n := len(slices.Collect(c.ServerNames())); n != len(there) {
				t.Fatalf("%d names, want %d", n, len(there))
			}
			for _, port := range []uint16{443, 444} {
				for _, name := range asked {
					if got, want := c.ServerName(port, name), searched(there, port, name); got != want {
						t.Fatalf("%d %q: %+v, want %+v", port, name, got, want)
					}
				}
			}
		}
	})
}

func searched(there map[ServerNameKey]*ServerName, port uint16, name string) (best *ServerName) {
	for k, n := range there {
		suffix, wild := wildcard(k.Host)
		fits := k.Host == name || wild && len(name) > len(suffix) && name[len(name)-len(suffix):] == suffix
		if k.Port != port || !fits {
			continue
		}
		if best == nil || best.Host != name && (k.Host == name || len(k.Host) > len(best.Host)) {
			best = n
		}
	}
	return best
}

func TestAServerNameIsFoundWithoutAllocation(t *testing.T) {
	c := (*Config)(nil).Apply(Delta{ServerNames: []*ServerName{{Port: 443, Host: "a.example.com"}, {Port: 443, Host: "*.example.com"}}})
	for _, name := range []string{"a.example.com", "b.example.com", "example.org"} {
		if n := testing.AllocsPerRun(100, func() { c.ServerName(443, name) }); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
