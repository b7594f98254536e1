package netns

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"
	"testing"
)

// proxyNow is the proxy of a run as the run says; 0: there is none.
func (b *bed) proxyNow() int {
	b.Helper()
	r := b.fairlead("proxy-status", "-o", "json")
	var all []struct{ ProxyPID int }
	if err := json.Unmarshal([]byte(r.out), &all); err != nil || len(all) != 1 {
		b.Fatalf("proxy-status: %v\n%s", err, r)
	}
	return all[0].ProxyPID
}

// endProxy sends a signal to the proxy of the bed's one run and returns when the
// run has another.
func (b *bed) endProxy(sig syscall.Signal) (old int) {
	b.Helper()
	if old = b.proxyNow(); old == 0 {
		b.Fatal("there is no proxy")
	}
	if err := syscall.Kill(old, sig); err != nil {
		b.Fatal(err)
	}
	b.eventually("the next proxy", func() error {
		if now := b.proxyNow(); now == old || now == 0 {
			return fmt.Errorf("process %d", now)
		}
		return nil
	})
	return old
}

// A gate is a site that answers when it is told to.
type gate struct{ asked, answer chan struct{} }

func (b *bed) gate(on string) *gate {
	b.Helper()
	b.DNS.Set(on, 60, first)
	g := &gate{make(chan struct{}), make(chan struct{})}
	if _, err := b.TCP(at(first, 80), func(c *net.TCPConn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
			return
		}
		close(g.asked)
		<-g.answer
		_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nthe gate\n")
	}); err != nil {
		b.Fatal(err)
	}
	return g
}

func (p *process) over() bool {
	select {
	case <-p.done:
		return true
	default:
		return false
	}
}

// TestFault69And70TheNextProxyServesWhileTheLastDrains has a request in progress
// when its proxy is sent SIGTERM: the next request is answered before it is over.
func TestFault69And70TheNextProxyServesWhileTheLastDrains(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		g := b.gate("gate.example")
		b.background("client", "-f "+b.file("e.yaml", dnsEntry+"---\n"+entry("gate", "gate.example", "80 http HTTP", "resolution: DNS")))
		slow := b.start("exec", "client", "--", "curl", "-sS", "http://gate.example/")
		<-g.asked
		old := b.endProxy(syscall.SIGTERM)
		b.want("a request meanwhile", b.in("client", "curl -sS -m 20 http://www.baidu.com"), 0, "the page")
		if slow.over() || stateOf(old) == "" {
			b.Errorf("it was answered after the drain: the last proxy is %q, the request in progress %q %q", stateOf(old), &slow.out, &slow.errs)
		}
		close(g.answer)
		if code := slow.wait(); code != 0 || slow.out.String() != "the gate\n" {
			b.Errorf("the request in progress: code %d, %q %q", code, &slow.out, &slow.errs)
		}
		b.awaitLog("client", "the proxy that drained is gone", fmt.Sprintf(`"pid":%d`, old), "it ended by itself")
	})
}

// TestFault69ADrainWaitsForRequestsOfEachKind has requests in progress for longer
// than a drain waits for connections that are idle.
func TestFault69ADrainWaitsForRequestsOfEachKind(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		calls := b.site("the call\n", at(first, 80))
		b.DNS.Set("calls.example", 60, first)
		b.background("client", "-f "+b.file("e.yaml", dnsEntry+"---\n"+entry("calls", "calls.example", "80 grpc GRPC", "resolution: DNS")))
		asked := b.baidu.Requests()
		slow := map[string]*process{}
		for _, args := range []string{
			"http://www.baidu.com/slow/3s",
			"--http2-prior-knowledge http://www.baidu.com/slow/3s",
			"--http2-prior-knowledge -H content-type:application/grpc -H te:trailers http://calls.example/slow/3s",
		} {
			slow[args] = b.start(append([]string{"exec", "client", "--", "curl", "-sS"}, strings.Fields(args)...)...)
		}
		b.eventually("the requests", func() error {
			if n := b.baidu.Requests() - asked + calls.Requests(); n < 3 {
				return fmt.Errorf("%d were received", n)
			}
			return nil
		})
		old := b.endProxy(syscall.SIGTERM)
		for args, p := range slow {
			if code := p.wait(); code != 0 || !strings.HasPrefix(p.out.String(), "the ") {
				b.Errorf("%s: code %d, %q %q", args, code, &p.out, &p.errs)
			}
		}
		b.awaitLog("client", "the proxy that drained is gone", fmt.Sprintf(`"pid":%d`, old), "it ended by itself")
	})
}

// TestFault69WhatADrainCutsOffIsToldSo has an endpoint that never answers, and a
// connection of bytes that goes on.
func TestFault69WhatADrainCutsOffIsToldSo(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		if _, err := b.TCP(at(other4, 7777), echo); err != nil {
			b.Fatal(err)
		}
		b.DNS.Set("echo.example", 60, other4)
		b.background("client", "-f "+b.file("e.yaml", dnsEntry+"---\n"+entry("echo", "echo.example", "7777 tcp TCP", "resolution: DNS")))
		asked := b.baidu.Requests()
		cut := []*process{
			b.start("exec", "client", "--", "curl", "-sS", "http://www.baidu.com/slow/60s?1"),
			b.start("exec", "client", "--", "curl", "-sS", "--http2-prior-knowledge", "http://www.baidu.com/slow/60s?2"),
			b.start("exec", "client", "--", "client", "hold", "echo.example:7777"),
		}
		cut[2].await("holding\n")
		b.eventually("the requests", func() error {
			if n := b.baidu.Requests() - asked; n < 2 {
				return fmt.Errorf("%d were received", n)
			}
			return nil
		})
		old := b.endProxy(syscall.SIGTERM)
		for _, p := range cut {
			if code := p.wait(); code == 0 {
				b.Errorf("it was not cut off: %q", &p.out)
			}
		}
		b.awaitLog("client", "the proxy that drained is gone", fmt.Sprintf(`"pid":%d`, old), "it ended by itself")
		b.eventually("records of what was cut off", func() error {
			r := b.fairlead("logs", "client", "--access")
			for _, of := range []string{"/slow/60s?1", "/slow/60s?2", "TCP"} {
				if !slices.ContainsFunc(strings.Split(r.out, "\n"), func(line string) bool {
					return hasAll(line, []string{of, " LR ", "the proxy was ended while this was in progress, and cut it off: it had waited 5s for it."})
				}) {
					return fmt.Errorf("none of %s\n%s", of, r)
				}
			}
			return nil
		})
	})
}

func TestFault69ASecondSIGTERMEndsADrain(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		g := b.gate("gate.example")
		defer close(g.answer)
		b.background("client", "-f "+b.file("e.yaml", dnsEntry+"---\n"+entry("gate", "gate.example", "80 http HTTP", "resolution: DNS")))
		slow := b.start("exec", "client", "--", "curl", "-sS", "http://gate.example/")
		<-g.asked
		old := b.endProxy(syscall.SIGTERM)
		if err := syscall.Kill(old, syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		b.awaitLog("client", "the proxy that drained is gone", fmt.Sprintf(`"pid":%d`, old), "signal: terminated")
		if code := slow.wait(); code == 0 {
			b.Errorf("the request in progress was answered: %q", &slow.out)
		}
		b.want("a request afterwards", b.in("client", "curl -sS -m 20 http://www.baidu.com"), 0, "the page")
	})
}

// TestFault69TheCommandHasANetworkUntilItEnds has a command that says goodbye to
// others when it is sent SIGTERM.
func TestFault69TheCommandHasANetworkUntilItEnds(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		p := b.start(runArgs("-f "+b.file("e.yaml", dnsEntry),
			"trap 'sleep 0.5; curl -sS -m 20 http://www.baidu.com; exit 7' TERM; echo ready; while :; do sleep 0.05; done")...)
		p.await("ready\n")
		if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
			b.Fatal(err)
		}
		if code := p.wait(); code != 7 || !strings.Contains(p.out.String(), "the page") {
			b.Errorf("code %d, %q %q", code, &p.out, &p.errs)
		}
	})
}

// handovers is how many proxies are replaced under load.
const handovers = 15

// TestFault69And70NoRequestFailsWhileProxiesAreReplaced ends one proxy after the
// other under load of all kinds: none of it notices.
func TestFault69And70NoRequestFailsWhileProxiesAreReplaced(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		p := b.background("client", "-f "+b.file("e.yaml", dnsEntry))
		loads := map[string]*load{}
		for _, args := range []string{"http://www.baidu.com/", "http://www.baidu.com/ fresh", "http://www.baidu.com/ post", "http://www.baidu.com/ h2", "https://www.baidu.com/ fresh"} {
			loads[args] = b.load(strings.Fields(args)...)
		}
		for range handovers {
			for _, l := range loads {
				l.awaitMore(5)
			}
			b.endProxy(syscall.SIGTERM)
		}
		for args, l := range loads {
			l.awaitMore(5)
			for _, line := range l.failures() {
				b.Errorf("%s: a request failed: %s", args, line)
			}
		}
		if p.over() {
			b.Error("the command ended")
		}
	})
}

// TestFault71AFatalErrorCostsWhatItHad ends proxies as the runtime of the language
// does: with SIGABRT. Each caller loses the one request that was with the proxy,
// nothing leaves meanwhile, and the next proxy is started at once.
func TestFault71AFatalErrorCostsWhatItHad(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		const times = 5
		b.background("client", "--closed -f "+b.file("e.yaml", dnsEntry))
		loads := []*load{b.load("http://www.baidu.com/"), b.load("http://www.baidu.com/", "fresh")}
		undeclared := b.load("http://"+other4.String()+"/", "fresh")
		for range times {
			for _, l := range append(loads, undeclared) {
				l.awaitMore(5)
			}
			b.endProxy(syscall.SIGABRT)
		}
		for _, l := range loads {
			l.awaitMore(5)
			failed := l.failures()
			for _, line := range failed {
				if !hasAny(line, []string{": EOF", "connection reset by peer"}) {
					b.Errorf("a request failed otherwise than by the end of its connection: %s", line)
				}
			}
			if len(failed) > times {
				b.Errorf("%d requests of one caller failed while %d proxies ended", len(failed), times)
			}
		}
		undeclared.awaitMore(5)
		undeclared.failures() // all of it
		if n := b.other.Connections(); n != 0 {
			b.Errorf("%d connections reached what nothing declares", n)
		}
		// 20 ms, however often: each of them had served.
		if got := strings.Count(b.logs("client"), `"restart_after":"20ms"`); got != times {
			b.Errorf("%d times it is said that the next proxy comes at once, want %d\n%s", got, times, b.logs("client"))
		}
	})
}

func hasAny(line string, parts []string) bool {
	for _, p := range parts {
		if strings.Contains(line, p) {
			return true
		}
	}
	return false
}
