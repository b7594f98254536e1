package config

import "testing"

func host(name string, domains ...string) *VirtualHost {
	return &VirtualHost{Name: name, Domains: domains}
}

// TestVirtualHostsComeAndGoOneByOne checks that a lookup after a delta sees what
// is there then, wildcards included, and that older states stay as they were.
func TestVirtualHostsComeAndGoOneByOne(t *testing.T) {
	hosted := func(h *VirtualHost) Hosted {
		return Hosted{HostedName: HostedName{Table: "80", Host: h.Name}, VirtualHost: h}
	}
	var states []*Config
	var c *Config
	step := func(d Delta) { c = c.Apply(d); states = append(states, c) }
	step(Delta{Tables: []*RouteTable{NewRouteTable("80", []*VirtualHost{host("own", "own.test")}, nil)}})
	step(Delta{VirtualHosts: []Hosted{hosted(host("a", "a.test", "*.a.test")), hosted(host("b", "b.test"))}})
	step(Delta{VirtualHosts: []Hosted{hosted(host("a", "*.deep.a.test", "*.a.test"))}})
	step(Delta{RemovedVirtualHosts: []HostedName{{Table: "80", Host: "a"}}})
	step(Delta{Tables: []*RouteTable{NewRouteTable("80", []*VirtualHost{host("newer", "own.test")}, nil)}})

	want := []map[string]string{
		{"own.test": "own", "a.test": "", "x.a.test": "", "b.test": ""},
		{"own.test": "own", "a.test": "a", "x.a.test": "a", "b.test": "b"},
		{"own.test": "own", "a.test": "", "x.a.test": "a", "x.deep.a.test": "a", "b.test": "b"},
		{"own.test": "own", "a.test": "", "x.a.test": "", "x.deep.a.test": "", "b.test": "b"},
		{"own.test": "newer", "b.test": "b"},
	}
	for i, state := range states {
		for name, vhost := range want[i] {
			got := ""
			if h := state.RouteTable("80").Lookup(name); h != nil {
				got = h.Name
			}
			if got != vhost {
				t.Errorf("state %d: %s is served by %q, want %q", i+1, name, got, vhost)
			}
		}
	}
}

func TestRemovingAVirtualHostKeepsOnesThatShareAWildcardLength(t *testing.T) {
	table := NewRouteTable("80", nil, nil).
		with("a", host("a", "*.a.test")).
		with("b", host("b", "*.b.test")).
		without("a")
	if h := table.Lookup("x.b.test"); h == nil || h.Name != "b" {
		t.Errorf("x.b.test is served by %v, want b", h)
	}
	if h := table.Lookup("x.a.test"); h != nil {
		t.Errorf("x.a.test is still served by %s", h.Name)
	}
}
