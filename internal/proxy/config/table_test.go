package config

import (
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"
)

func host(name string, domains ...string) *VirtualHost {
	return &VirtualHost{Name: name, Domains: domains}
}

func lookup(t *RouteTable, host string) string {
	if h := t.Lookup(host); h != nil {
		return h.Name
	}
	return "-"
}

func TestLookupTakesTheMostSpecificDomain(t *testing.T) {
	table := NewRouteTable("80", []*VirtualHost{
		host("exact", "a.example.com"), host("long", "*.b.example.com"), host("short", "*.example.com"),
		host("partial", "*-x.example.com"), host("all", "*"), host("late", "a.example.com"),
	}, nil)
	for in, want := range map[string]string{
		"a.example.com": "exact", "c.b.example.com": "long", "b.example.com": "short", "c-x.example.com": "partial",
		"-x.example.com": "short", "example.com": "all", ".example.com": "all", "": "all",
	} {
		if got := lookup(table, in); got != want {
			t.Errorf("%q goes to %s, want %s", in, got, want)
		}
	}
}

func hosted(h *VirtualHost, name string) Hosted {
	return Hosted{HostedName: HostedName{"80", name}, VirtualHost: h}
}

func TestADomainThatIsGivenUpGoesToWhoWaitsForIt(t *testing.T) {
	c := (*Config)(nil).Apply(Delta{VirtualHosts: []Hosted{hosted(host("a", "a", "10.0.0.1"), "a"), hosted(host("b", "b", "10.0.0.1"), "b")}})
	if got := lookup(c.RouteTable("80"), "10.0.0.1"); got != "a" {
		t.Fatalf("goes to %s, want a", got)
	}
	// a gives it up.
	next := c.Apply(Delta{VirtualHosts: []Hosted{hosted(host("a", "a"), "a")}})
	if got := lookup(next.RouteTable("80"), "10.0.0.1"); got != "b" {
		t.Errorf("goes to %s, want b", got)
	}
	next = next.Apply(Delta{RemovedVirtualHosts: []HostedName{{"80", "b"}}})
	if got := lookup(next.RouteTable("80"), "10.0.0.1"); got != "-" {
		t.Errorf("goes to %s, want nowhere", got)
	}
	if got := lookup(c.RouteTable("80"), "10.0.0.1"); got != "a" {
		t.Errorf("the state before changed: goes to %s, want a", got)
	}
}

// TestATableIsWhatItsVirtualHostsAre changes virtual hosts at random; domains
// must lead to one of those that want them, and nowhere if none does.
func TestATableIsWhatItsVirtualHostsAre(t *testing.T) {
	domains := []string{"a", "*.x", "*.y.x", "*"}
	rapid.Check(t, func(t *rapid.T) {
		var c *Config
		want := make(map[string][]string)
		for i := range rapid.IntRange(1, 30).Draw(t, "steps") {
			name := rapid.SampledFrom([]string{"p", "q", "r"}).Draw(t, "host")
			var d Delta
			if rapid.Bool().Draw(t, "remove") {
				delete(want, name)
				d.RemovedVirtualHosts = []HostedName{{"80", name}}
			} else {
				want[name] = rapid.SliceOfNDistinct(rapid.SampledFrom(domains), 1, 4, rapid.ID).Draw(t, "domains")
				d.VirtualHosts = []Hosted{hosted(host(name, want[name]...), name)}
			}
			if i%7 == 6 {
				d.Tables = []*RouteTable{NewRouteTable("80", nil, nil)}
			}
			c = c.Apply(d)
			for _, domain := range domains {
				some := slices.ContainsFunc([]string{"p", "q", "r"}, func(n string) bool { return slices.Contains(want[n], domain) })
				table := c.RouteTable("80")
				if table == nil {
					continue
				}
				h, ok := table.owner(domain)
				if ok != some || ok && !slices.Contains(want[h.Name], domain) {
					t.Fatalf("%s leads to %v, wanted by %v", domain, h, want)
				}
			}
			if table := c.RouteTable("80"); table != nil {
				lengths := 0
				for _, l := range table.lengths {
					lengths += l.count
				}
				wild := 0
				for _, d := range []string{"*.x", "*.y.x"} {
					if _, ok := table.owner(d); ok {
						wild++
					}
				}
				if lengths != wild {
					t.Fatalf("%d wildcard domains counted, want %d", lengths, wild)
				}
			}
		}
	})
}

func TestAListenerIsFoundByAddressThenByPort(t *testing.T) {
	at := func(s string) netip.AddrPort { return netip.MustParseAddrPort(s) }
	c := (*Config)(nil).Apply(Delta{Listeners: []*Listener{
		{Name: "any", Addresses: []netip.AddrPort{at("0.0.0.0:80"), at("[::]:80")}},
		{Name: "one", Addresses: []netip.AddrPort{at("10.0.0.1:80")}},
	}})
	find := func(s string) string {
		if l := c.ListenerFor(at(s)); l != nil {
			return l.Name
		}
		return "-"
	}
	got := []string{find("10.0.0.1:80"), find("10.0.0.2:80"), find("[2001:db8::1]:80"), find("[::ffff:10.0.0.1]:80"), find("10.0.0.1:81")}
	if diff := cmp.Diff([]string{"one", "any", "any", "one", "-"}, got); diff != "" {
		t.Error(diff)
	}
	c = c.Apply(Delta{RemovedListeners: []string{"one"}})
	if got := find("10.0.0.1:80"); got != "any" {
		t.Errorf("after its listener went, 10.0.0.1:80 is for %s, want any", got)
	}
}

func TestANameFallsUnderTheLongestWildcard(t *testing.T) {
	check := func(c *Config, tests map[string]string) {
		t.Helper()
		for in, want := range tests {
			got := ""
			if n := c.Name(in); n != nil {
				got = n.Host
			}
			if got != want {
				t.Errorf("%s falls under %q, want %q", in, got, want)
			}
		}
	}
	c := (*Config)(nil).Apply(Delta{Names: []*Name{{Host: "*.x"}, {Host: "*.y.x"}, {Host: "a.x"}, {Host: "*foo.x"}, {Host: "*-api.foo.x"}}})
	check(c, map[string]string{
		"a.x": "a.x", "b.x": "*.x", "c.y.x": "*.y.x", "y.x": "*.x", "d.c.y.x": "*.y.x", "x": "", "z": "",
		"barfoo.x": "*foo.x", "bar.foo.x": "*foo.x", "a.barfoo.x": "*foo.x", "foo.x": "*.x", "fo.x": "*.x",
		"eu-api.foo.x": "*-api.foo.x", "-api.foo.x": "*foo.x",
	})
	// Told again, then removed, one of them twice.
	c = c.Apply(Delta{Names: []*Name{{Host: "*foo.x"}, {Host: "*.y.x"}, {Host: "*.y.x"}}})
	c = c.Apply(Delta{RemovedNames: []string{"*.x", "*foo.x", "*foo.x", "*never.x"}})
	check(c, map[string]string{"b.x": "", "barfoo.x": "", "eu-api.foo.x": "*-api.foo.x", "c.y.x": "*.y.x"})
	c = c.Apply(Delta{RemovedNames: []string{"*.y.x", "*-api.foo.x"}})
	check(c, map[string]string{"eu-api.foo.x": "", "c.y.x": "", "a.x": "a.x"})
	if len(c.wildNames) != 0 {
		t.Errorf("lengths of no wildcard are looked for: %v", c.wildNames)
	}
}

func TestNothingKnownIsNoFault(t *testing.T) {
	var c *Config
	if c.Cluster("a") != nil || c.Assignment("a") != nil || c.Listener("a") != nil || c.RouteTable("a") != nil || c.Name("a.b") != nil || c.Version() != 0 {
		t.Error("a nil Config knows something")
	}
	for range c.Clusters() {
		t.Error("a nil Config has a cluster")
	}
}

func BenchmarkAHostAmongTenThousand(b *testing.B) {
	var d Delta
	for i := range 10_000 {
		n := fmt.Sprintf("h%d.example.com", i)
		d.VirtualHosts = append(d.VirtualHosts, hosted(host(n, n), n))
	}
	c := (*Config)(nil).Apply(d)
	one := Delta{VirtualHosts: []Hosted{hosted(host("h7", "h7.example.com"), "h7.example.com")}}
	b.ReportAllocs()
	for b.Loop() {
		c.Apply(one)
	}
}
