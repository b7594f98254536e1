package xds

import "testing"

func TestAVirtualHostsNameIsSplitAtItsLastSlash(t *testing.T) {
	for _, c := range []struct{ name, table, host string }{
		{"80/a.example.com", "80", "a.example.com"},
		{"unix/path/a", "unix/path", "a"},
		{"80/2001:db8::1", "80", "2001:db8::1"},
	} {
		table, host, ok := SplitVirtualHost(c.name)
		if !ok || table != c.table || host != c.host || VirtualHostResource(table, host) != c.name {
			t.Errorf("%s splits into %q and %q (%t), want %q and %q", c.name, table, host, ok, c.table, c.host)
		}
	}
	if _, _, ok := SplitVirtualHost("80"); ok {
		t.Error("a name without a slash was split")
	}
}

func TestAServerNamesNameIsItsPortAndItsHost(t *testing.T) {
	port, host, ok := SplitServerName("443/*.example.com")
	if !ok || port != 443 || host != "*.example.com" || ServerNameResource(port, host) != "443/*.example.com" {
		t.Errorf("got %d and %q (%t), want 443 and *.example.com", port, host, ok)
	}
	for _, other := range []string{"443", "x/a", "65536/a", "/a"} {
		if _, _, ok := SplitServerName(other); ok {
			t.Errorf("%s was split", other)
		}
	}
}

func TestEveryTypeHasItsPlace(t *testing.T) {
	for i, url := range Types {
		if TypeIndex(url) != i {
			t.Errorf("%s is at %d, want %d", url, TypeIndex(url), i)
		}
	}
	if TypeIndex("type.googleapis.com/what") != -1 {
		t.Error("an unknown type has a place")
	}
	if got := ShortType(NameType); got != "Name" {
		t.Errorf("short form %q, want Name", got)
	}
}

func TestClustersAreNamedAsIstioNamesThem(t *testing.T) {
	if got, want := OutboundCluster(3306, "v1", "db.corp"), "outbound|3306|v1|db.corp"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
