package config

import (
	"fmt"
	"net/netip"
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

func TestANameRefusesPorts(t *testing.T) {
	n := &Name{Refused: []RefusedPort{
		{Port: 5432, Holder: "everywhere"},
		{Port: 7000, Holder: "in a range", Within: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8::/32")}},
		{Port: 7000, Holder: "at one address", Within: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}},
	}}
	for dst, want := range map[string]string{
		"203.0.113.1:5432": "everywhere", "[2001:db8::1]:5432": "everywhere", "203.0.113.1:5433": "",
		"10.1.2.3:7000": "in a range", "[::ffff:10.1.2.3]:7000": "in a range", "[2001:db8::1]:7000": "in a range",
		"192.0.2.1:7000": "at one address", "192.0.2.2:7000": "",
	} {
		got := ""
		if p := n.Refuses(netip.MustParseAddrPort(dst)); p != nil {
			got = p.Holder
		}
		if got != want {
			t.Errorf("%s: held by %q, want %q", dst, got, want)
		}
	}
	if (*Name)(nil).Refuses(netip.MustParseAddrPort("10.1.2.3:7000")) != nil {
		t.Error("no name refuses something")
	}
}
