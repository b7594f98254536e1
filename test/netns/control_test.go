package netns

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestABrokenFileIsReportedAndTheLastGoodStateStays(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.file("entries/svc-entry.yaml", dnsEntry)
		b.background("client", "--closed -f "+b.Dir+"/entries")
		page := func(when string) {
			b.Helper()
			b.want(when, b.in("client", "curl -s -m 20 http://www.baidu.com"), 0, "the page")
		}
		page("at first")
		b.file("entries/svc-entry.yaml", dnsEntry[:len(dnsEntry)/2]+"\n  - {number: 80, na")
		b.awaitLog("client", "svc-entry.yaml")
		page("with half a file")
		b.file("entries/svc-entry.yaml", strings.Replace(dnsEntry, "resolution: DNS", "resolution: DSN", 1))
		b.awaitLog("client", "svc-entry.yaml", `"line":12`, "resolution", "DSN")
		page("with an invalid value")
		b.file("entries/svc-entry.yaml", strings.Replace(dnsEntry, "number: 80", "number: 80000", 1))
		b.awaitLog("client", "svc-entry.yaml", `"line":9`, "number", "80000")
		page("with an invalid port")
		b.file("entries/svc-entry.yaml", staticEntry)
		b.eventually("the repaired file", func() error {
			if r := b.in("client", "curl -s -o /dev/null -w %{http_code} http://www.baidu.com"); r.out != "503" {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	})
}

func TestAFirstLoadWithErrorsRefusesToStart(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("bad.yaml", strings.Replace(dnsEntry, "resolution: DNS", "resolution: DSN", 1))
		r := b.run("-f "+f, "echo started")
		b.want("run", r, 125, "bad.yaml:12", "resolution")
		if strings.Contains(r.out, "started") {
			b.Error("the command was started")
		}
		b.want("a file that is not there", b.run("-f "+b.Dir+"/none.yaml", "echo started"), 125, "none.yaml")
	})
}

func TestAFileHoldsSeveralObjectsOfEveryVersion(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		var objects []string
		for _, v := range []string{"v1", "v1beta1", "v1alpha3"} {
			host := v + ".example"
			b.DNS.Set(host, 60, other4)
			e := entry("e-"+v, host, "80 http HTTP", "resolution: DNS")
			objects = append(objects, strings.Replace(e, "networking.istio.io/v1", "networking.istio.io/"+v, 1))
		}
		f := b.file("all.yaml", strings.Join(objects, "---\n"))
		r := b.run("--closed -f "+f, "for v in v1 v1beta1 v1alpha3; do curl -s http://$v.example; done")
		b.want("curl", r, 0, strings.Repeat("the other page\n", 3))
	})
}

func TestAKnownKindThatIsNotActedOnIsNamed(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("two.yaml", dnsEntry+`---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: later}
spec:
  hosts: [www.baidu.com]
  http: [{route: [{destination: {host: www.baidu.com}}]}]
`)
		b.want("the start", b.run("-f "+f, "curl -s http://www.baidu.com"), 0, "warning: ", "two.yaml:14", "VirtualService default/later", "the page")
	})
}

func TestObjectsComeFromStandardInputAndFromFolders(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.want("-f -", b.host(dnsEntry, "fairlead", "run", "--closed", "-f", "-", "--", "curl", "-s", "http://www.baidu.com"), 0, "the page")
		b.file("mixed/a.yml", dnsEntry)
		b.file("mixed/b.json", `{"apiVersion":"networking.istio.io/v1","kind":"ServiceEntry","metadata":{"name":"j"},
			"spec":{"hosts":["other.example"],"ports":[{"number":80,"name":"http","protocol":"HTTP"}],"resolution":"DNS"}}`)
		b.file("mixed/.hidden.yaml", "no: [yaml")
		b.file("mixed/notes.txt", "no: [yaml")
		b.file("mixed/below/c.yaml", "no: [yaml")
		b.want("a folder", b.run("--closed -f "+b.Dir+"/mixed", "curl -s http://www.baidu.com; curl -s http://other.example"), 0,
			"the page\nthe other page\n")
	})
}

func TestProxyConfigShowsWhatTheProxyHas(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "-f "+f)
		for kind, want := range map[string]string{
			"cluster": "outbound|80||www.baidu.com", "endpoint": baidu4.String(), "listener": "15001",
			"route": "www.baidu.com", "all": "outbound|80||www.baidu.com",
		} {
			if kind == "cluster" {
				b.want("short", b.fairlead("proxy-config", kind, "client"), 0, "www.baidu.com", "STRICT_DNS")
			} else {
				b.want(kind+" short", b.fairlead("pc", kind, "client", "-o", "short"), 0, "www.baidu.com")
			}
			r := b.fairlead("proxy-config", kind, "client", "-o", "json")
			b.want(kind+" json", r, 0, want)
			if !json.Valid([]byte(r.out)) {
				b.Errorf("proxy-config %s -o json is no JSON: %s", kind, r.out)
			}
			b.want(kind+" yaml", b.fairlead("proxy-config", kind, "client", "-o", "yaml"), 0, want)
		}
		b.want("proxy-status", b.fairlead("proxy-status"), 0, "client")
		b.want("of nobody", b.fairlead("proxy-config", "cluster", "nobody"), 1, "nobody")
	})
}

func TestTheAccessLogHasOneJSONLinePerRequest(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.DNS.Set("tcp.example", 60, other4)
		if _, err := b.TCP(at(other4, 7777), echo); err != nil {
			b.Fatal(err)
		}
		static := entry("nobody", "nobody.example", "80 http HTTP", "resolution: STATIC", "endpoints: [{address: 192.168.0.100}]")
		none := entry("empty", "empty.example", "80 http HTTP", "resolution: STATIC")
		tcp := entry("echo", "tcp.example", "7777 tcp TCP", "resolution: DNS")
		f := b.file("e.yaml", strings.Join([]string{dnsEntry, static, none, tcp}, "---\n"))
		log := b.Dir + "/access.jsonl"
		get := func(host string) string {
			return "curl -s -o /dev/null -A 'a\"b' --resolve " + host + ":80:" + other4.String() + " http://" + host + "/bytes/3; "
		}
		b.want("requests", b.run("--closed --access-log "+log+" -f "+f,
			get("www.baidu.com")+get("nobody.example")+get("empty.example")+get("unknown.example")+
				"curl -sk -o /dev/null https://www.baidu.com; echo hi | client raw tcp.example:7777"), 0, "hi")
		lines := b.accessLog(log)
		for _, want := range []map[string]any{
			{"authority": "www.baidu.com", "response_code": 200.0, "response_flags": "-", "method": "GET", "path": "/bytes/3", "bytes_sent": 3.0, "user_agent": `a"b`, "upstream_cluster": "outbound|80||www.baidu.com"},
			{"authority": "nobody.example", "response_code": 503.0, "response_flags": "UF,URX", "upstream_host": "192.168.0.100:80"},
			{"authority": "empty.example", "response_code": 503.0, "response_flags": "UH"},
			{"authority": "unknown.example", "response_code": 502.0, "response_flags": "-"},
			{"requested_server_name": "www.baidu.com", "upstream_cluster": "outbound|443||www.baidu.com", "protocol": "TLS"}, // curl ends such a connection as it likes
			{"upstream_cluster": "outbound|7777||tcp.example", "bytes_sent": 8.0, "bytes_received": 3.0},
		} {
			if !hasLine(lines, want) {
				b.Errorf("no line with %v in\n%v", want, lines)
			}
		}
		if len(lines) != 6 {
			b.Errorf("%d lines, want 6: %v", len(lines), lines)
		}
	})
}

func hasLine(lines []map[string]any, want map[string]any) bool {
	for _, l := range lines {
		found := true
		for k, v := range want {
			if l[k] != v {
				found = false
			}
		}
		if found {
			return true
		}
	}
	return false
}

// accessLog reads a log whose run is over.
func (b *bed) accessLog(path string) (lines []map[string]any) {
	b.Helper()
	r := b.host("", "cat", path)
	if r.code != 0 {
		b.Fatal(r)
	}
	for text := range strings.Lines(r.out) {
		var l map[string]any
		if err := json.Unmarshal([]byte(text), &l); err != nil {
			b.Fatal(errors.Join(errors.New(text), err))
		}
		lines = append(lines, l)
	}
	return lines
}
