package netns

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/test/world"
)

func TestTwoDatabasesShareAPort(t *testing.T) {
	asEachUser(t, func(b *bed) {
		for addr, name := range map[netip.Addr]string{first: "orders", second: "users"} {
			if _, err := b.TCP(at(addr, 5432), world.Greet(name+"\r\n")); err != nil {
				b.Fatal(err)
			}
		}
		b.DNS.Set("orders.example", 60, first)
		b.DNS.Set("users.example", 60, second)
		f := b.file("e.yaml", entry("orders", "orders.example", "5432 pg TCP", "resolution: DNS")+"---\n"+
			entry("users", "users.example", "5432 pg TCP", "resolution: STATIC", "endpoints: [{address: "+second.String()+"}]"))
		b.want("both", b.run("--closed -f "+f, "echo | client raw orders.example:5432; echo | client raw users.example:5432"), 0, "orders", "users")
	})
}

func TestAHostThatIsNowhereInDNSCanBeDeclared(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", entry("made-up", "made-up.internal", "80 http HTTP", "resolution: STATIC", "endpoints: [{address: "+baidu4.String()+"}]"))
		b.want("curl", b.run("--closed -f "+f, "curl -s http://made-up.internal"), 0, "the page")
		if n := b.DNS.Asked("made-up.internal"); n != 0 {
			b.Errorf("%d questions for it left", n)
		}
	})
}

func TestAnUndeclaredPortOfAVirtualAddressIsTheHostsOwn(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.DNS.Set("mail.example", 60, other4)
		if _, err := b.TCP(at(other4, 2525), greet); err != nil {
			b.Fatal(err)
		}
		f := b.file("e.yaml", entry("mail", "mail.example", "80 http HTTP", "resolution: DNS"))
		const talk = "echo quit | client raw mail.example:2525"
		b.want("open", b.run("-f "+f, talk), 0, "220 welcome")
		log := b.Dir + "/access.jsonl"
		b.want("closed", b.run("--closed --access-log "+log+" -f "+f, talk), 1, "failed:")
		lines := b.accessLog(log)
		if len(lines) == 0 {
			b.Error("the refusal is not in the access log")
		}
		for _, line := range lines {
			if why, _ := line["why"].(string); !strings.Contains(why, "mail.example") {
				b.Errorf("the refusal does not name the host: %v", line)
			}
		}
	})
}

func TestARealAddressStaysWhereTheLabelSaysSo(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", strings.Replace(dnsEntry, "  name: svc-entry\n",
			"  name: svc-entry\n  labels: {networking.istio.io/enable-autoallocate-ip: \"false\"}\n", 1))
		b.want("lookup", b.run("-f "+f, "busybox nslookup www.baidu.com; curl -s http://www.baidu.com"), 0, baidu4.String(), "the page")
	})
}
