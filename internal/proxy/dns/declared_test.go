package dns

import (
	"fmt"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// TestEveryFormOfADeclaredHost asks, in closed mode, for hosts declared as
// wildcards, partial wildcards and international names, in the spellings that
// come over the wire.
func TestEveryFormOfADeclaredHost(t *testing.T) {
	const blocked = "REFUSED; EDE 15"
	two := []netip.Addr{vip4, vip6}
	c := (*config.Config)(nil).Apply(config.Delta{Names: []*config.Name{
		{Host: "*.forwarded.org"},
		{Host: "*.vip.org", Addresses: two, Virtual: true},
		{Host: "own.vip.org"},
		{Host: "*-api.example.com", Addresses: two, Virtual: true},
		{Host: "*cdn.net"},
		{Host: "xn--bcher-kva.example", Addresses: two, Virtual: true},
		{Host: "*.xn--p1ai", Addresses: two, Virtual: true},
	}})
	tests := []struct{ name, qtype, want string }{
		// A declared wildcard's hosts are forwarded, though the mesh is closed.
		{"a.forwarded.org.", "A", "NOERROR; a.forwarded.org. 60 IN A 1.1.1.1"},
		{"b.a.forwarded.org.", "A", "NOERROR; b.a.forwarded.org. 60 IN A 1.1.1.1"},
		{"A.Forwarded.ORG.", "A", "NOERROR; A.Forwarded.ORG. 60 IN A 1.1.1.1"},
		{"forwarded.org.", "A", blocked},
		{"aforwarded.org.", "A", blocked},
		// A wildcard with addresses answers for its hosts, not for itself.
		{"a.vip.org.", "A", "NOERROR; a.vip.org. 30 IN A 240.240.0.1"},
		{"a.b.VIP.org.", "AAAA", "NOERROR; a.b.VIP.org. 30 IN AAAA 2001:2::1"},
		{"a.vip.org.", "HTTPS", "NOERROR"},
		{"a.vip.org.", "SVCB", "NOERROR"},
		{"a.vip.org.", "ANY", "NOERROR"},
		{"vip.org.", "A", blocked},
		{"own.vip.org.", "A", "NOERROR; own.vip.org. 60 IN A 1.1.1.1"},
		// A partial wildcard: the star stands for something, dots among it.
		{"eu-api.example.com.", "A", "NOERROR; eu-api.example.com. 30 IN A 240.240.0.1"},
		{"EU-API.example.com.", "A", "NOERROR; EU-API.example.com. 30 IN A 240.240.0.1"},
		{"a.eu-api.example.com.", "A", "NOERROR; a.eu-api.example.com. 30 IN A 240.240.0.1"},
		{"-api.example.com.", "A", blocked},
		{"api.example.com.", "A", blocked},
		{"x.cdn.net.", "A", "NOERROR; x.cdn.net. 60 IN A 1.1.1.1"},
		{"mycdn.net.", "A", "NOERROR; mycdn.net. 60 IN A 1.1.1.1"},
		{"cdn.net.", "A", blocked},
		// International names travel as punycode, or as raw UTF-8.
		{"xn--bcher-kva.example.", "A", "NOERROR; xn--bcher-kva.example. 30 IN A 240.240.0.1"},
		{"XN--BCHER-KVA.Example.", "AAAA", "NOERROR; XN--BCHER-KVA.Example. 30 IN AAAA 2001:2::1"},
		{"xn--e1afmkfd.xn--p1ai.", "A", "NOERROR; xn--e1afmkfd.xn--p1ai. 30 IN A 240.240.0.1"},
		{`b\195\188cher.example.`, "A", `NOERROR; b\195\188cher.example. 30 IN A 240.240.0.1`},
		{`B\195\156CHER.Example.`, "AAAA", `NOERROR; B\195\156CHER.Example. 30 IN AAAA 2001:2::1`},
		{`b\195\188cher.example.`, "HTTPS", "NOERROR"},
		{`\208\191.\209\128\209\132.`, "A", `NOERROR; \208\191.\209\128\209\132. 30 IN A 240.240.0.1`},
		{`b\195\188cher.forwarded.org.`, "A", `NOERROR; b\195\188cher.forwarded.org. 60 IN A 1.1.1.1`},
		{`other\195\188.example.`, "A", blocked},
		{`b\195\188ch\195.example.`, "A", blocked},          // no UTF-8
		{`b\195\188cher\227\128\130example.`, "A", blocked}, // a dot that is none on the wire
		{`b\195\188cher\.example.`, "A", blocked},
		{`b\195\188\000cher.example.`, "A", blocked},
		// Records for other ports of a host stand below it.
		{"_8443._https.a.b.vip.org.", "HTTPS", "NOERROR"},
		{"_8443._https.xn--bcher-kva.example.", "HTTPS", "NOERROR"},
		{"_dns.xn--bcher-kva.example.", "SVCB", "NOERROR"},
		{"_8443._https.xn--bcher-kva.example.", "TXT", blocked},
		{"_8443._https.other.example.", "HTTPS", blocked},
		{"_.", "SVCB", blocked},
		// A domain of the search list behind a host with addresses.
		{"a.vip.org.svc.local.", "A", "NOERROR; a.vip.org.svc.local. 30 IN CNAME a.vip.org.; a.vip.org. 30 IN A 240.240.0.1"},
		{"A.vip.org.SVC.local.", "AAAA", "NOERROR; A.vip.org.SVC.local. 30 IN CNAME a.vip.org.; a.vip.org. 30 IN AAAA 2001:2::1"},
		{"a.vip.org.svc.local.", "HTTPS", "NOERROR; a.vip.org.svc.local. 30 IN CNAME a.vip.org."},
		{"a.vip.org.svc.local.", "TXT", "NXDOMAIN; EDE 15"},
		{"a.forwarded.org.svc.local.", "A", "NXDOMAIN; EDE 15"},
		// Search domains behind a declared name: go on to the bare name.
		{"a.vip.org.default.svc.cluster.local.", "A", "NXDOMAIN; EDE 15"},
		{"eu-api.example.com.corp.", "AAAA", "NXDOMAIN; EDE 15"},
		{"anything.svc.local.", "A", "NXDOMAIN; EDE 15"},
	}
	for _, tt := range tests {
		t.Run(tt.name+"/"+tt.qtype, func(t *testing.T) {
			w := &world{zone: map[string][]string{}}
			w.zone[strings.ToLower(tt.name)+" A"] = []string{strings.ToLower(tt.name) + " 60 A 1.1.1.1"}
			w.zone["xn--bcher-kva.forwarded.org. A"] = []string{"xn--bcher-kva.forwarded.org. 60 A 1.1.1.1"}
			s := serverOf(w, c, mesh.RegistryOnly)
			if got := ask(t, s, tt.name, tt.qtype, nil); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
			if forwarded := strings.Contains(tt.want, "1.1.1.1"); (len(w.asked) > 0) != forwarded {
				t.Errorf("forwarded %q, want it: %t", w.asked, forwarded)
			}
		})
	}
}

// TestAServiceIsAnsweredUnderItsShortNames whatever the search list, as the Service
// it is short for; an entry with that very host keeps the name, a wildcard does not.
func TestAServiceIsAnsweredUnderItsShortNames(t *testing.T) {
	two := []netip.Addr{vip4, vip6}
	c := (*config.Config)(nil).Apply(config.Delta{Names: []*config.Name{
		{Host: "cart.shop.svc.cluster.local", Addresses: two, Virtual: true, Short: []string{"cart", "cart.shop", "cart.shop.svc"}},
		{Host: "far.shop.svc.cluster.local", Short: []string{"far", "far.shop"}},
		{Host: "web.shop.svc.cluster.local", Addresses: two, Virtual: true, Short: []string{"web", "web.shop"}},
		{Host: "web"},
		{Host: "*.shop"},
	}})
	for _, tt := range []struct{ name, qtype, want, means string }{
		{"cart.", "A", "NOERROR; cart. 30 IN A 240.240.0.1", "cart.shop.svc.cluster.local"},
		{"Cart.Shop.", "AAAA", "NOERROR; Cart.Shop. 30 IN AAAA 2001:2::1", "cart.shop.svc.cluster.local"},
		{"cart.shop.svc.", "A", "NOERROR; cart.shop.svc. 30 IN A 240.240.0.1", "cart.shop.svc.cluster.local"},
		{"cart.shop.svc.cluster.local.", "A", "NOERROR; cart.shop.svc.cluster.local. 30 IN A 240.240.0.1", "cart.shop.svc.cluster.local"},
		{"cart.svc.local.", "A", "NOERROR; cart.svc.local. 30 IN CNAME cart.shop.svc.cluster.local.; cart.shop.svc.cluster.local. 30 IN A 240.240.0.1", "cart.shop.svc.cluster.local"},
		{"cart.evil.net.", "A", "REFUSED; EDE 15", ""},
		{"cart.other.", "A", "REFUSED; EDE 15", ""},
		{"far.", "A", "NOERROR; far. 60 IN A 240.240.0.1", "far.shop.svc.cluster.local"},
		{"web.", "A", "NOERROR; web. 60 IN A 240.240.0.1", "web"},
		{"web.shop.", "AAAA", "NOERROR; web.shop. 30 IN AAAA 2001:2::1", "web.shop.svc.cluster.local"},
	} {
		w := &world{zone: map[string][]string{
			"web. A":                        {"web. 60 A 240.240.0.1"},
			"far.shop.svc.cluster.local. A": {"far.shop.svc.cluster.local. 60 A 240.240.0.1"},
		}}
		s := serverOf(w, c, mesh.RegistryOnly)
		if got := ask(t, s, tt.name, tt.qtype, nil); got != tt.want {
			t.Errorf("%s: got  %q\nwant %q", tt.name, got, tt.want)
		}
		asked := vip4
		if tt.qtype == "AAAA" {
			asked = vip6
		}
		if told := s.NameOf(asked); told != tt.means {
			t.Errorf("%s: the address means %q, want %q", tt.name, told, tt.means)
		}
	}
	gone := c.Apply(config.Delta{RemovedNames: []string{"cart.shop.svc.cluster.local"}})
	if n := gone.Name("cart"); n != nil {
		t.Errorf("without its Service cart is %s", n.Host)
	}
}

// What the zone is asked is what zones hold, and one answer serves both spellings.
func TestAnInternationalNameIsForwardedAsPunycode(t *testing.T) {
	w := &world{zone: map[string][]string{"xn--bcher-kva.wild.org. A": {"xn--bcher-kva.wild.org. 60 CNAME cdn.net.", "cdn.net. 60 A 1.1.1.1"}}}
	s := serverOf(w, declared(), mesh.RegistryOnly)
	for _, name := range []string{`b\195\188cher.wild.org.`, "XN--bcher-kva.wild.org."} {
		if got, want := ask(t, s, name, "A", nil), "NOERROR; "+name+" 60 IN CNAME cdn.net.; cdn.net. 60 IN A 1.1.1.1"; got != want {
			t.Errorf("got  %q\nwant %q", got, want)
		}
	}
	if len(w.asked) != 1 || w.asked[0] != "xn--bcher-kva.wild.org. A" {
		t.Errorf("forwarded %q", w.asked)
	}
	if got := s.NameOf(netip.MustParseAddr("1.1.1.1")); got != "xn--bcher-kva.wild.org" {
		t.Errorf("NameOf = %q", got)
	}
}

// manyNames are n declared hosts with a virtual address of each family, and a
// few wildcards.
func manyNames(n int) *config.Config {
	names := []*config.Name{{Host: "*.wild.org"}, {Host: "*.deep.wild.org"}, {Host: "*-api.example.com"}}
	four, six := netip.MustParseAddr("240.240.0.0"), netip.MustParseAddr("2001:2::")
	for i := range n {
		four, six = four.Next(), six.Next()
		names = append(names, &config.Name{Host: fmt.Sprintf("host-%05d.region.example.com", i), Addresses: []netip.Addr{four, six}, Virtual: true})
	}
	return (*config.Config)(nil).Apply(config.Delta{Names: names})
}

// BenchmarkADeclaredNameAmongFiftyThousand is the whole way of a question, from
// its bytes to the reply's.
func BenchmarkADeclaredNameAmongFiftyThousand(b *testing.B) {
	c := manyNames(50_000)
	s := serverOf(&world{}, c, mesh.RegistryOnly)
	wire := wireOf(b, func(q *dns.Msg) { q.Question[0].Name = "host-31415.region.example.com."; q.SetEdns0(1232, false) })
	b.ReportAllocs()
	for b.Loop() {
		if len(s.respond(b.Context(), wire, false)) < 60 {
			b.Fatal("no answer")
		}
	}
}

// BenchmarkACachedName is the way of a question that was forwarded before.
func BenchmarkACachedName(b *testing.B) {
	w := &world{zone: map[string][]string{"a.wild.org. A": {"a.wild.org. 3600 CNAME b.net.", "b.net. 3600 A 1.1.1.1", "b.net. 3600 A 1.1.1.2"}}}
	s := serverOf(w, manyNames(1), mesh.RegistryOnly)
	wire := wireOf(b, func(q *dns.Msg) { q.Question[0].Name = "a.wild.org."; q.SetEdns0(1232, false) })
	b.ReportAllocs()
	for b.Loop() {
		if len(s.respond(b.Context(), wire, false)) < 60 {
			b.Fatal("no answer")
		}
	}
}

// TestFiftyThousandNamesFitTheirMemory bounds what a declared name costs a
// proxy: the name, its addresses and the indexes over both.
func TestFiftyThousandNamesFitTheirMemory(t *testing.T) {
	const n, most = 50_000, 1024 // bytes for a name
	heap := func() uint64 {
		var m runtime.MemStats
		runtime.GC()
		runtime.ReadMemStats(&m)
		return m.HeapAlloc
	}
	before := heap()
	c := manyNames(n)
	took := (heap() - before) / n
	t.Logf("%d bytes for a name", took)
	if took > most {
		t.Errorf("%d bytes for a name, want %d at most", took, most)
	}
	if got := ask(t, serverOf(&world{}, c, mesh.RegistryOnly), "host-00000.region.example.com.", "A", nil); !strings.Contains(got, vip4.String()) {
		t.Errorf("got %q", got)
	}
}
