package config

import (
	"fmt"
	"testing"
)

// fiftyThousand is a state with so many names and wildcards of four lengths.
func fiftyThousand() *Config {
	names := []*Name{{Host: "*.wild.org"}, {Host: "*.deep.wild.org"}, {Host: "*-api.example.com"}, {Host: "*.io"}}
	for i := range 50_000 {
		names = append(names, &Name{Host: fmt.Sprintf("host-%05d.region.example.com", i)})
	}
	return (*Config)(nil).Apply(Delta{Names: names})
}

// BenchmarkANameAmongFiftyThousand must stay below a microsecond.
func BenchmarkANameAmongFiftyThousand(b *testing.B) {
	c := fiftyThousand()
	for _, tt := range []struct {
		what, name string
		declared   bool
	}{
		{"exact", "host-31415.region.example.com", true},
		{"wildcard", "a.b.wild.org", true},
		{"undeclared", "secret-data.evil.example.net", false},
	} {
		b.Run(tt.what, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if (c.Name(tt.name) != nil) != tt.declared {
					b.Fatal("wrong")
				}
			}
		})
	}
}

func TestLookingANameUpDoesNotAllocate(t *testing.T) {
	c := fiftyThousand()
	for _, name := range []string{"host-31415.region.example.com", "a.b.wild.org", "secret-data.evil.example.net"} {
		if n := testing.AllocsPerRun(100, func() { c.Name(name) }); n > 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
}
