package netns

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/miekg/dns"
)

var (
	first  = netip.MustParseAddr("203.0.113.1")
	second = netip.MustParseAddr("203.0.113.2")
)

// anyAddress resolves a host for curl without DNS: a declared HTTP port is
// routed by Host, wherever the caller meant to go.
func anyAddress(host string) string {
	return "--resolve " + host + ":80:198.51.100.99 http://" + host + "/"
}

func TestEveryAddressOfANameIsAnEndpoint(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		one, two := b.site("one\n", at(first, 80)), b.site("two\n", at(second, 80))
		b.DNS.Set("many.example", 60, first, second)
		f := b.file("e.yaml", entry("many", "many.example", "80 http HTTP", "resolution: DNS"))
		b.want("get", b.run("--closed -f "+f, "client get 100 http://many.example/"), 0, "200 one", "200 two")
		if one.Requests() == 0 || two.Requests() == 0 || one.Requests()+two.Requests() != 100 {
			b.Errorf("%d and %d requests, want 100 over both", one.Requests(), two.Requests())
		}
	})
}

func TestANameIsFollowedAsItsTTLEnds(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.site("one\n", at(first, 80))
		b.site("two\n", at(second, 80))
		b.DNS.Set("moving.example", 1, first)
		f := b.file("e.yaml", entry("moving", "moving.example", "80 http HTTP", "resolution: DNS"))
		b.background("client", "--closed -f "+f)
		see := func(want string) {
			b.Helper()
			b.eventually(want, func() error {
				if r := b.in("client", "curl -s -w ' %{http_code}' "+anyAddress("moving.example")); !strings.Contains(r.out, want) {
					return fmt.Errorf("%s", r)
				}
				return nil
			})
		}
		see("one\n 200")
		b.DNS.Set("moving.example", 1, second)
		see("two\n 200")
		// A server in trouble is no news of the name: the last good answer stays.
		b.DNS.Fail("moving.example", dns.RcodeServerFailure)
		asked := b.DNS.Asked("moving.example")
		b.eventually("questions that fail", func() error {
			if n := b.DNS.Asked("moving.example") - asked; n < 2 {
				return fmt.Errorf("%d questions", n)
			}
			return nil
		})
		see("two\n 200")
	})
}

func TestANameWithoutAddressesHasNoEndpoint(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", entry("gone", "gone.example", "80 http HTTP", "resolution: DNS"))
		b.want("curl", b.run("--closed -f "+f, "curl -s -w ' %{http_code}' "+anyAddress("gone.example")), 0, "gone", "no address", " 503")
	})
}

func TestWeightsDivideTheRequests(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		heavy, light := b.site("heavy\n", at(first, 80)), b.site("light\n", at(second, 80))
		f := b.file("e.yaml", entry("weighted", "weighted.example", "80 http HTTP", "resolution: STATIC",
			"endpoints: [{address: 203.0.113.1, weight: 80}, {address: 203.0.113.2, weight: 20}]"))
		b.DNS.Set("weighted.example", 60, other4)
		b.want("get", b.run("--closed -f "+f, "client get 1000 http://weighted.example/"), 0, "heavy", "light")
		h, l := heavy.Requests(), light.Requests()
		if h+l != 1000 || h < 760 || h > 840 {
			b.Errorf("%d and %d of 1000 requests, want 800 and 200, each within 40", h, l)
		}
	})
}

func TestEndpointsNameTheirOwnPorts(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.site("by targetPort\n", at(first, 8080))
		b.site("by endpoint\n", at(second, 9090))
		target := entry("target", "target.example", "80 http HTTP 8080", "resolution: STATIC", "endpoints: [{address: 203.0.113.1}]")
		own := entry("own", "own.example", "80 http HTTP 8080", "resolution: STATIC", "endpoints: [{address: 203.0.113.2, ports: {http: 9090}}]")
		f := b.file("e.yaml", target+"---\n"+own)
		b.want("curl", b.run("--closed -f "+f, "curl -s "+anyAddress("target.example")+"; curl -s "+anyAddress("own.example")), 0,
			"by targetPort\nby endpoint\n")
	})
}

func TestNoneKeepsTheOriginalDestination(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		if _, err := b.TCP(at(other4, 7777), echo); err != nil {
			b.Fatal(err)
		}
		if _, err := b.TCP(at(first, 7777), echo); err != nil {
			b.Fatal(err)
		}
		web := entry("none", "none.example", "80 http HTTP", "resolution: NONE")
		raw := entry("raw", "raw.example", "7777 tcp TCP", "resolution: NONE", "addresses: [203.0.113.20]")
		f := b.file("e.yaml", web+"---\n"+raw)
		p := b.background("client", "--closed -f "+f)
		b.want("HTTP", b.in("client", "curl -s --resolve none.example:80:203.0.113.20 http://none.example"), 0, "the other page")
		b.want("TCP", b.in("client", "echo hello | client raw 203.0.113.20:7777"), 0, "hello\n\nbye\n")
		b.want("TCP to an address it does not list", b.in("client", "echo hello | client raw 203.0.113.1:7777"), 1, "failed:")
		for line, about := range map[string]bool{"default/none": true, "default/raw": false} {
			if got := warns(p.errs.String(), line); got != about {
				b.Errorf("a warning about %s: %v, want %v\n%s", line, got, about, &p.errs)
			}
		}
	})
}

// warns tells whether a line of the start says that an entry leaves the address
// to the caller.
func warns(start, entry string) bool {
	for line := range strings.Lines(start) {
		if hasAll(line, []string{"warning", entry, "any address"}) {
			return true
		}
	}
	return false
}

func TestIPv6OnlyNamesWork(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.DNS.Set("six.example", 60, baidu6)
		f := b.file("e.yaml", entry("six", "six.example", "80 http HTTP", "resolution: DNS"))
		b.want("curl", b.run("--closed -f "+f, "curl -s http://six.example"), 0, "the page")
	})
}

func TestTLSIsPassedThroughByServerName(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		evil := "curl -sk -m 20 --resolve evil.example:443:" + baidu4.String() + " https://evil.example"
		b.want("declared", b.run("--closed -f "+f, "curl -sk https://www.baidu.com"), 0, "the secure page")
		seen := b.secure.Connections()
		b.want("another name, closed", b.run("--closed -f "+f, evil+" || echo refused"), 0, "refused")
		if got := b.secure.Connections() - seen; got != 0 {
			b.Errorf("%d connections came through under another name", got)
		}
		b.want("another name, open", b.run("-f "+f, evil), 0, "the secure page")
	})
}

func TestATCPPortReachesItsEndpoint(t *testing.T) {
	asEachUser(t, func(b *bed) {
		b.DNS.Set("mail.example", 60, other4)
		if _, err := b.TCP(at(other4, 2525), greet); err != nil {
			b.Fatal(err)
		}
		f := b.file("e.yaml", entry("mail", "mail.example", "2525 smtp TCP", "resolution: DNS"))
		b.want("a server that speaks first, and half-close", b.run("--closed -f "+f, "echo quit | client raw mail.example:2525"), 0,
			"220 welcome\r\nquit\n\nbye\n")
	})
}
