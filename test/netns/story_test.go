package netns

import (
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"
)

func TestADeclaredNameIsResolvedAndItsPageComes(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("svc-entry.yaml", dnsEntry)
		b.want("wget", b.fairlead("run", "-f", f, "--", "busybox", "wget", "-q", "-O", "-", "http://www.baidu.com"), 0, "the page\n")
		if got := b.baidu.RequestsFor("www.baidu.com"); got != 1 {
			b.Errorf("the site saw %d requests, want 1", got)
		}
	})
}

func TestWithNobodyAtTheEndpointTheProxySaysWhy(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("static.yaml", staticEntry)
		b.want("wget", b.fairlead("run", "-f", f, "--", "busybox", "wget", "-q", "-O", "-", "http://www.baidu.com"), 1,
			"server returned error: HTTP/1.1 503 Service Unavailable")
		r := b.fairlead("run", "-f", f, "--", "curl", "-s", "http://www.baidu.com")
		b.want("curl", r, 0, "svc-entry", "192.168.0.100", "unreachable")
		if n := strings.Count(strings.TrimSpace(r.out), "\n"); n != 0 {
			b.Errorf("the reason is %d lines, want one sentence: %q", n+1, r.out)
		}
		if got := b.baidu.Requests(); got != 0 {
			b.Errorf("the real site saw %d requests, want none", got)
		}
	})
}

func TestEntriesChangeWhileTheCommandRuns(t *testing.T) {
	asEachUser(t, func(b *bed) {
		b.file("entries/svc-entry.yaml", dnsEntry)
		b.background("client", "--closed -f "+b.Dir+"/entries")
		ask := func() string {
			return strings.TrimSpace(b.in("client", "curl -s -w ' %{http_code}' http://www.baidu.com/").out)
		}
		see := func(what, want string) {
			b.Helper()
			b.eventually(what, func() error {
				if got := ask(); !strings.Contains(got, want) {
					return fmt.Errorf("got %q, want %q", got, want)
				}
				return nil
			})
		}
		see("the page", "the page\n 200")
		b.file("entries/svc-entry.yaml", staticEntry)
		see("503 after the change", " 503")
		b.file("entries/svc-entry.yaml", dnsEntry)
		see("the page again", "the page\n 200")
		if err := os.Remove(b.Dir + "/entries/svc-entry.yaml"); err != nil {
			b.Fatal(err)
		}
		// The name is gone with the entry, so the caller needs its address.
		b.eventually("the host to be unknown again", func() error {
			r := b.in("client", "curl -s -w ' %{http_code}' --resolve www.baidu.com:80:"+baidu4.String()+" http://www.baidu.com/")
			if !strings.HasSuffix(r.out, " 502") {
				return fmt.Errorf("%s", r)
			}
			return nil
		})
	})
}

// The change must show within a second of the rename: that is the issue's
// promise, and requests stamped later are the only ones held to it.
func TestALiveChangeFailsNoRequestBeforeItAndOnlyAfterIt(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		if _, err := b.TCP(at(other4, 7777), echo); err != nil {
			b.Fatal(err)
		}
		b.DNS.Set("echo.example", 60, other4)
		b.file("entries/echo.yaml", entry("echo", "echo.example", "7777 tcp TCP", "resolution: DNS"))
		b.file("entries/svc-entry.yaml", dnsEntry)
		b.background("client", "--closed -f "+b.Dir+"/entries")
		hold := b.start("exec", "client", "--", "client", "hold", "echo.example:7777")
		hold.await("holding\n")
		load := b.start("exec", "client", "--", "client", "load", "http://www.baidu.com/")
		b.eventually("load", func() error {
			if n := strings.Count(load.out.String(), "200 the page"); n < 100 {
				return fmt.Errorf("%d requests so far\n%s", n, &load.out)
			}
			return nil
		})
		before := time.Now()
		b.file("entries/svc-entry.yaml", staticEntry)
		after := time.Now()
		b.eventually("the change", func() error {
			if n := strings.Count(load.out.String(), " 503 "); n < 50 {
				return fmt.Errorf("%d times 503 so far", n)
			}
			return nil
		})
		load.in.Close()
		hold.in.Close()
		load.wait()
		hold.wait()
		if got := hold.out.String(); !strings.HasSuffix(got, "held\n") {
			b.Errorf("the connection to another host: %q", got)
		}
		changed := false
		for line := range strings.Lines(load.out.String()) {
			var begin, end int64
			var status string
			if _, err := fmt.Sscan(line, &begin, &end, &status); err != nil {
				b.Fatalf("line %q: %v", line, err)
			}
			switch {
			case status != "200" && status != "503":
				b.Fatalf("neither page nor reason: %q", line)
			case status == "503" && end < before.UnixNano():
				b.Fatalf("failed before the change: %q", line)
			case status == "200" && changed:
				b.Fatalf("a page after the change had shown: %q", line)
			case status == "200" && begin > after.Add(time.Second).UnixNano():
				b.Fatalf("still the page more than a second after the change: %q", line)
			}
			changed = changed || status == "503"
		}
	})
}

// Three connect attempts of ten seconds each end in 503. The window is wide on
// both sides: less than 25 s would mean that an attempt is missing or cut
// short, and more than 45 s that there was another.
func TestAnEndpointThatDropsPacketsIs503AfterThreeTimeouts(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		if err := b.Swallow(netip.MustParseAddr("192.168.0.100")); err != nil {
			b.Fatal(err)
		}
		f := b.file("static.yaml", staticEntry)
		r := b.run("-f "+f, "curl -s -m 50 -w '\\n%{http_code} %{time_total}' http://www.baidu.com/")
		b.want("curl", r, 0, "192.168.0.100", "\n503 ")
		var code int
		var took float64
		last := r.out[strings.LastIndexByte(r.out, '\n')+1:]
		if _, err := fmt.Sscan(last, &code, &took); err != nil || code != http.StatusServiceUnavailable || took < 25 || took > 45 {
			b.Errorf("%q: want 503 after about 30 s (%v)", last, err)
		}
	})
}
