package route

import (
	"fmt"
	"testing"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

func table() *config.RouteTable {
	return config.NewRouteTable("80", []*config.VirtualHost{
		{Name: "baidu", Domains: []string{"www.baidu.com"}, Routes: []*config.Route{
			{Name: "api", Prefix: "/api/"},
			{Name: "default", Prefix: "/"},
		}},
		{Name: "only-v1", Domains: []string{"v1.example.com"}, Routes: []*config.Route{{Name: "v1", Prefix: "/v1"}}},
		{Name: "example", Domains: []string{"*.example.com"}, Routes: []*config.Route{{Name: "any", Prefix: ""}}},
		{Name: "deep", Domains: []string{"*.deep.example.com"}, Routes: []*config.Route{{Name: "deep", Prefix: "/"}}},
		{Name: "dashed", Domains: []string{"*-cdn.example.com"}, Routes: []*config.Route{{Name: "cdn", Prefix: "/"}}},
		{Name: "second", Domains: []string{"www.baidu.com", "*.example.com"}, Routes: []*config.Route{{Name: "never", Prefix: "/"}}},
	}, nil)
}

func TestMatch(t *testing.T) {
	tests := []struct {
		name, host, path  string
		wantHost, wantRun string // names of virtual host and route; empty: nil
	}{
		{"exact host, first route that matches", "www.baidu.com", "/api/x", "baidu", "api"},
		{"next route", "www.baidu.com", "/apix", "baidu", "default"},
		{"the query is no part of the path", "www.baidu.com", "/a?/api/", "baidu", "default"},
		{"a fragment neither", "www.baidu.com", "/api#/", "baidu", "default"},
		{"query behind a prefix", "www.baidu.com", "/api/?q=1", "baidu", "api"},
		{"asterisk form", "www.baidu.com", "*", "baidu", "default"},
		{"no route", "v1.example.com", "/v2", "only-v1", ""},
		{"query cannot complete a prefix", "v1.example.com", "/?/v1", "only-v1", ""},
		{"exact beats wildcard", "v1.example.com", "/v1", "only-v1", "v1"},
		{"wildcard", "a.example.com", "/", "example", "any"},
		{"wildcard spans labels", "a.b.example.com", "/", "example", "any"},
		{"longest wildcard wins", "x.deep.example.com", "/", "deep", "deep"},
		{"wildcard in a label", "eu-cdn.example.com", "/", "dashed", "cdn"},
		{"wildcard is never empty", ".example.com", "/", "", ""},
		{"apex is not below the wildcard", "example.com", "/", "", ""},
		{"unknown host", "nobody.test", "/", "", ""},
		{"empty host", "", "/", "", ""},
	}
	routes := table()
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			h, r := Match(routes, Request{Host: []byte(tt.host), Path: []byte(tt.path)})
			gotHost, gotRun := "", ""
			if h != nil {
				gotHost = h.Name
			}
			if r != nil {
				gotRun = r.Name
			}
			if gotHost != tt.wantHost || gotRun != tt.wantRun {
				t.Errorf("Match(%q, %q) = %q, %q, want %q, %q", tt.host, tt.path, gotHost, gotRun, tt.wantHost, tt.wantRun)
			}
		})
	}
}

func TestNoTableMatchesNothing(t *testing.T) {
	if h, r := Match(nil, Request{Host: []byte("a"), Path: []byte("/")}); h != nil || r != nil {
		t.Errorf("Match(nil) = %v, %v", h, r)
	}
}

func TestMatchDoesNotAllocate(t *testing.T) {
	routes := table()
	for _, host := range []string{"www.baidu.com", "a.b.example.com", "nobody.test"} {
		r := Request{Host: []byte(host), Path: []byte("/api/thing?q=1")}
		if n := testing.AllocsPerRun(100, func() { Match(routes, r) }); n != 0 {
			t.Errorf("Match(%s) allocates %v times", host, n)
		}
	}
}

func BenchmarkMatch(b *testing.B) {
	var hosts []*config.VirtualHost
	for i := range 10000 {
		hosts = append(hosts, &config.VirtualHost{Domains: []string{fmt.Sprintf("host-%d.example.com", i)}, Routes: []*config.Route{{Prefix: "/"}}})
	}
	hosts = append(hosts, &config.VirtualHost{Domains: []string{"*.example.org"}, Routes: []*config.Route{{Prefix: "/"}}})
	t := config.NewRouteTable("80", hosts, nil)
	for _, host := range []string{"host-4711.example.com", "a.b.example.org"} {
		b.Run(host, func(b *testing.B) {
			r := Request{Host: []byte(host), Path: []byte("/index.html?q=1")}
			b.ReportAllocs()
			for b.Loop() {
				if _, route := Match(t, r); route == nil {
					b.Fatal("no route")
				}
			}
		})
	}
}
