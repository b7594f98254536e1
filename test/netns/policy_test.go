package netns

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/test/world"
)

var greet = world.Greet("220 welcome\r\n")

func TestAllowAnyPassesWhatNoEntryDeclares(t *testing.T) {
	asEachUser(t, func(b *bed) {
		if _, err := b.TCP(at(other4, 2525), greet); err != nil {
			b.Fatal(err)
		}
		f := b.file("e.yaml", dnsEntry)
		r := b.run("-f "+f, "curl -s http://other.example; echo quit | client raw 203.0.113.20:2525; curl -sk -o /dev/null https://"+baidu4.String()+" && echo tls")
		b.want("unknown hosts", r, 0, "the other page\n", "220 welcome\r\nquit", "tls")
		b.want("the start line", r, 0, "ALLOW_ANY")
	})
}

func TestRegistryOnlyRefusesWhatNoEntryDeclares(t *testing.T) {
	asEachUser(t, func(b *bed) {
		served, err := b.TCP(at(other4, 2525), greet)
		if err != nil {
			b.Fatal(err)
		}
		f := b.file("e.yaml", dnsEntry)
		for _, flag := range []string{"--closed", "--outbound-policy REGISTRY_ONLY"} {
			r := b.run(flag+" -f "+f, "curl -s -w ' %{http_code}' http://203.0.113.20")
			b.want("HTTP", r, 0, "203.0.113.20", "REGISTRY_ONLY", " 502")
		}
		b.want("TCP", b.run("--closed -f "+f, "echo hi | client raw 203.0.113.20:2525"), 1, "reset by peer")
		b.want("TLS", b.run("--closed -f "+f, "curl -sSk https://203.0.113.20"), 35, "reset")
		b.want("HTTP/2 without TLS", b.run("--closed -f "+f, "curl -s --http2-prior-knowledge -w ' %{http_version} %{http_code}' http://203.0.113.20"), 0, "203.0.113.20", "REGISTRY_ONLY", " 2 502")
		if got := b.other.Connections() + served.Load() + b.baidu.Connections(); got != 0 {
			b.Errorf("%d connections left", got)
		}
	})
}

func TestPriorKnowledgeHTTP2IsPassedOnByAllowAny(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.want("h2c", b.run("-f "+f, "curl -s --http2-prior-knowledge -w '%{http_version}' http://www.baidu.com"), 0, "the page\n2")
	})
}

func TestUndeclaredNamesCarryNothingOut(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.DNS.Set("secret.other.example", 60, other4)
		b.background("client", "--closed -f "+f)
		b.want("lookup", b.in("client", "busybox nslookup secret.other.example"), 1, "REFUSED")
		if n := b.DNS.Asked("secret.other.example"); n != 0 {
			b.Errorf("%d questions left the sandbox", n)
		}
		b.awaitLog("client", "secret.other.example")
		b.want("a declared name", b.in("client", "busybox nslookup www.baidu.com"), 0, "240.240.")
		if r := b.fairlead("proxy-status", "-o", "json"); r.code != 0 || !strings.Contains(r.out, "refused") {
			b.Errorf("proxy-status does not count refusals: %s", r)
		}
	})
}

func TestThePortInHostIsIgnored(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.want("curl", b.run("--closed -f "+f, "curl -s -H 'Host: www.baidu.com:8888' http://www.baidu.com; curl -s -H 'Host: WWW.Baidu.Com.' http://www.baidu.com"), 0,
			"the page\nthe page\n")
	})
}

func TestASidecarClosesARun(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry+`---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default}
spec: {egress: [{hosts: ["./*"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}}
`)
		p := b.background("client", "-f "+f)
		b.want("declared", b.in("client", "curl -s http://www.baidu.com"), 0, "the page")
		b.want("undeclared", b.in("client", "curl -s -w %{http_code} http://"+other4.String()), 0, "502")
		if !strings.Contains(p.errs.String(), "REGISTRY_ONLY") {
			b.Errorf("the start line says %q", p.errs.String())
		}
		b.want("proxy-status", b.fairlead("proxy-status"), 0, "REGISTRY_ONLY")
	})
}
