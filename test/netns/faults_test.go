package netns

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// TestFault49TheServerNameDecides has TLS whose server name and address do not
// belong together: the name has to be declared, and its own addresses are dialled.
func TestFault49TheServerNameDecides(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		elsewhere, err := b.TCP(at(other4, 443), echo)
		if err != nil {
			b.Fatal(err)
		}
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "--closed -f "+f)
		b.want("a declared name at another's address", b.in("client", "curl -sk -m 20 --resolve www.baidu.com:443:"+other4.String()+" https://www.baidu.com"), 0, "the secure page")
		b.want("another Host inside", b.in("client", "curl -sk -m 20 -H 'Host: other.example' https://www.baidu.com"), 0, "the secure page")
		seen := b.secure.Connections()
		for what, url := range map[string]string{
			"another name at a declared address": "--resolve other.example:443:" + baidu4.String() + " https://other.example",
			"no name at a declared address":      "https://" + baidu4.String(),
			"no name":                            "https://" + other4.String(),
		} {
			b.want(what, b.in("client", "curl -sk -m 20 "+url+" || echo refused"), 0, "refused")
		}
		if n := b.secure.Connections() - seen; n != 0 || elsewhere.Load() != 0 {
			b.Errorf("%d connections reached the site, %d another address", n, elsewhere.Load())
		}
	})
}

// TestFault64ARunWithoutDescriptorsRecovers leaves the proxy a few descriptors
// more than it has.
func TestFault64ARunWithoutDescriptorsRecovers(t *testing.T) {
	t.Parallel()
	b := newBed(t, root) // another user's limits need a further right
	if _, err := b.TCP(at(other4, 7777), echo); err != nil {
		b.Fatal(err)
	}
	f := b.file("e.yaml", dnsEntry+"---\n"+entry("echo", "other.example", "7777 tcp TCP", "resolution: DNS"))
	p := b.background("client", "-f "+f)
	hold := b.start("exec", "client", "--", "client", "hold", "other.example:7777")
	hold.await("holding\n")
	b.want("a request", b.in("client", "curl -s http://www.baidu.com"), 0, "the page")
	proxy := b.proxyOf(p)
	var old unix.Rlimit
	limit := unix.Rlimit{Cur: uint64(descriptors(b, proxy)) + 8}
	if err := unix.Prlimit(proxy, unix.RLIMIT_NOFILE, nil, &old); err != nil {
		b.Fatal(err)
	}
	limit.Max = old.Max
	if err := unix.Prlimit(proxy, unix.RLIMIT_NOFILE, &limit, nil); err != nil {
		b.Fatal(err)
	}
	stall := b.start("exec", "client", "--", "client", "stall", "50", "www.baidu.com:80", "www.baidu.com", "/slow/60s")
	stall.await("stalling\n")
	b.awaitLog("client", "cannot accept connections for now")
	before := ticks(b, proxy)
	began := time.Now()
	time.Sleep(time.Second) // of waiting without descriptors
	if used, took := ticks(b, proxy)-before, time.Since(began); used > took/2 {
		b.Errorf("the proxy spent %s of %s on connections it cannot accept", used, took)
	}
	if state := stateOf(proxy); state == "" {
		b.Fatal("the proxy is gone")
	}
	if err := unix.Prlimit(proxy, unix.RLIMIT_NOFILE, &old, nil); err != nil {
		b.Fatal(err)
	}
	b.want("afterwards", b.in("client", "client many 50 www.baidu.com:80 www.baidu.com"), 0, "50 of 50 answered")
	hold.in.Close()
	hold.wait()
	if got := hold.out.String(); !strings.HasSuffix(got, "held\n") {
		b.Errorf("the connection in use all the time: %q", got)
	}
	if now := b.proxyOf(p); now != proxy {
		b.Errorf("the proxy is process %d now, was %d", now, proxy)
	}
}

func descriptors(b *bed, pid int) int {
	b.Helper()
	fds, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		b.Fatal(err)
	}
	return len(fds)
}

// ticks is the processor time that a process has had.
func ticks(b *bed, pid int) time.Duration {
	b.Helper()
	fields := stat(pid) // from the third field of proc(5) on: utime and stime are the 14th and 15th
	if len(fields) < 13 {
		b.Fatalf("process %d is gone", pid)
	}
	user, err := strconv.Atoi(fields[11])
	system, serr := strconv.Atoi(fields[12])
	if err != nil || serr != nil {
		b.Fatal(err, serr)
	}
	return time.Duration(user+system) * 10 * time.Millisecond // USER_HZ is 100
}

// TestFault65MemoryIsBoundedByConnections has many answers that nobody reads,
// and large bodies beside them.
func TestFault65MemoryIsBoundedByConnections(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		const n, bound = 100, 96 << 20
		f := b.file("e.yaml", dnsEntry)
		p := b.background("client", "-f "+f)
		proxy := b.proxyOf(p)
		stall := b.start("exec", "client", "--", "client", "stall", strconv.Itoa(n), "www.baidu.com:80", "www.baidu.com", "/bytes/1000000000")
		stall.await("stalling\n")
		b.eventually("all answers begun", func() error {
			if got := b.baidu.Requests(); got < n {
				return fmt.Errorf("%d requests so far", got)
			}
			return nil
		})
		b.want("10 MB both ways", b.in("client", "client echo http://www.baidu.com/echo 10000000 length"), 0, "every one the same")
		if peak := peakMemory(b, proxy); peak > bound {
			b.Errorf("with %d answers of 1 GB that nobody reads the proxy took %d MB, want at most %d", n, peak>>20, bound>>20)
		}
	})
}

// peakMemory is the most memory that a process has had resident, in bytes.
func peakMemory(b *bed, pid int) int64 {
	b.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		b.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	var kB int64
	if _, err := fmt.Sscan(rest, &kB); err != nil {
		b.Fatalf("VmHWM in %q: %v", status, err)
	}
	return kB << 10
}

// stopped is for how long a proxy is stopped: for longer than it takes to find a
// peer dead, by the peer or by it.
const stopped = 30 * time.Second

// TestFault66AStoppedProxyGoesOn stops the proxy under load, while callers go on
// coming. Nobody is taken for dead because of it, and it does not all begin anew.
func TestFault66AStoppedProxyGoesOn(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		const herd = 50
		if _, err := b.TCP(at(first, 7777), echo); err != nil {
			b.Fatal(err)
		}
		b.DNS.Set("echo.example", 60, first)
		f := b.file("e.yaml", dnsEntry+"---\n"+entry("echo", "echo.example", "7777 tcp TCP", "resolution: DNS"))
		p := b.background("client", "-f "+f)
		proxy := b.proxyOf(p)
		kept, streams := b.load("http://www.baidu.com/"), b.load("http://www.baidu.com/", "h2")
		fresh := b.load("http://"+baidu4.String()+"/", "fresh") // by address: questions are asked twice only
		bytes := b.start("exec", "client", "--", "client", "hold", "echo.example:7777")
		bytes.await("holding\n")
		for _, l := range []*load{kept, streams, fresh} {
			l.awaitMore(10)
		}
		connections, questions := b.baidu.Connections(), b.DNS.Asked("www.baidu.com")
		if err := syscall.Kill(proxy, syscall.SIGSTOP); err != nil {
			b.Fatal(err)
		}
		b.eventually("the proxy stopped", func() error {
			if s := stateOf(proxy); s != "T" {
				return errors.New(s)
			}
			return nil
		})
		many := b.start("exec", "client", "--", "client", "many", strconv.Itoa(herd), baidu4.String()+":80", "www.baidu.com")
		time.Sleep(stopped)
		if err := syscall.Kill(proxy, syscall.SIGCONT); err != nil {
			b.Fatal(err)
		}
		many.await(fmt.Sprintf("%d of %d answered", herd, herd))
		for _, l := range []*load{kept, streams, fresh} {
			l.awaitMore(10)
			l.wantPagesOnly()
		}
		bytes.in.Close()
		bytes.wait()
		if got := bytes.out.String(); !strings.HasSuffix(got, "held\n") {
			b.Errorf("the connection of bytes: %q", got)
		}
		b.awaitLog("client", "the proxy did not run for a while", `"for":"3`)
		// One connection for each caller there ever was at one time, at most; two
		// questions, as the answer became old meanwhile, and two for the next time.
		if n := b.baidu.Connections() - connections; n > herd+3 {
			b.Errorf("%d new connections for %d new callers", n, herd)
		}
		if n := b.DNS.Asked("www.baidu.com") - questions; n > 4 {
			b.Errorf("%d new questions for one name", n)
		}
		if log := b.logs("client"); strings.Contains(log, "no stream from the control plane") || strings.Contains(log, "proxy disconnected") {
			b.Errorf("the stream of configuration ended:\n%s", log)
		}
		if now := b.proxyOf(p); now != proxy {
			b.Errorf("the proxy is process %d now, was %d", now, proxy)
		}
	})
}

// A load is a client that sends one request after the other.
type load struct{ *process }

func (b *bed) load(args ...string) *load {
	b.Helper()
	return &load{b.start(append([]string{"exec", "client", "--", "client", "load"}, args...)...)}
}

// awaitMore waits until n requests more have been answered.
func (l *load) awaitMore(n int) {
	l.b.Helper()
	n += strings.Count(l.out.String(), "\n")
	l.b.eventually(fmt.Sprintf("%d answers", n), func() error {
		if got := strings.Count(l.out.String(), "\n"); got < n {
			return fmt.Errorf("%d so far\n%s", got, tail(l.out.String()))
		}
		return nil
	})
}

// wantPagesOnly ends the load; no request of it may have failed.
func (l *load) wantPagesOnly() {
	l.b.Helper()
	for _, line := range l.failures() {
		l.b.Errorf("a request failed: %s", line)
	}
}

// failures ends the load and returns what came in place of pages.
func (l *load) failures() (failed []string) {
	l.b.Helper()
	l.in.Close()
	l.wait()
	for line := range strings.Lines(l.out.String()) {
		if !hasAll(line, []string{" 200 the ", "page\n"}) {
			failed = append(failed, strings.TrimSpace(line))
		}
	}
	return failed
}

func tail(s string) string { return s[max(0, len(s)-500):] }

// TestFault67AHalfOpenPeerIsNoticed lets the wire swallow what goes to an
// endpoint with which connections stand.
func TestFault67AHalfOpenPeerIsNoticed(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		if _, err := b.TCP(at(first, 7777), echo); err != nil {
			b.Fatal(err)
		}
		b.DNS.Set("echo.example", 60, first)
		f := b.file("e.yaml", dnsEntry+"---\n"+entry("echo", "echo.example", "7777 tcp TCP", "resolution: DNS"))
		b.background("client", "-f "+f)
		talking := b.start("exec", "client", "--", "client", "hold", "echo.example:7777")
		talking.await("holding\n")
		silent := b.start("exec", "client", "--", "bash", "-c", "exec 3<>/dev/tcp/echo.example/7777; echo hello >&3; cat <&3; echo ended")
		silent.await("hello")
		beside := b.load("http://www.baidu.com/")
		beside.awaitMore(10)
		b.nft("add table ip blackhole; add chain ip blackhole in { type filter hook prerouting priority 0; }; add chain ip blackhole out { type filter hook output priority 0; };" +
			"add rule ip blackhole in ip daddr " + first.String() + " drop; add rule ip blackhole out ip saddr " + first.String() + " drop")
		talking.await("failed: after ")
		silent.await("ended\n")
		b.nft("delete table ip blackhole")
		beside.awaitMore(10)
		beside.wantPagesOnly()
		b.want("once the wire is whole again", b.in("client", "echo again | client raw echo.example:7777"), 0, "again")

		// What is reset is noticed at once, and a connection that was only kept costs
		// no request.
		talking = b.start("exec", "client", "--", "client", "hold", "echo.example:7777")
		talking.await("holding\n")
		b.reset(at(first, 7777))
		talking.await("failed: after ")
		for range 3 {
			b.want("a request", b.in("client", "curl -sS -X POST http://www.baidu.com"), 0, "the page")
			b.reset(at(baidu4, 80))
		}
	})
}

// reset ends the host's connections to an endpoint, with a reset to it, as if one
// had come.
func (b *bed) reset(to netip.AddrPort) {
	b.Helper()
	if err := b.InHost(func() error {
		if out, err := exec.Command("ss", "-K", "dst", to.Addr().String(), "dport", "=", strconv.Itoa(int(to.Port()))).CombinedOutput(); err != nil {
			return fmt.Errorf("ss -K: %w: %s", err, out)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}

// nft changes the packet filter of the internet.
func (b *bed) nft(commands string) {
	b.Helper()
	if err := b.InInternet(func() error {
		if out, err := exec.Command("nft", commands).CombinedOutput(); err != nil {
			return fmt.Errorf("nft %s: %w: %s", commands, err, out)
		}
		return nil
	}); err != nil {
		b.Fatal(err)
	}
}

// TestFault68WithoutPortsTheReasonIsTold leaves the host four ports for
// connections to any one endpoint.
func TestFault68WithoutPortsTheReasonIsTold(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.localPorts("40000 40003")
		b.DNS.Set("www.baidu.com", 60, baidu4)
		b.background("client", "-f "+b.file("e.yaml", dnsEntry))
		stall := b.start("exec", "client", "--", "client", "stall", "4", "www.baidu.com:80", "www.baidu.com", "/slow/60s")
		stall.await("stalling\n")
		b.eventually("four requests at the site", func() error {
			if n := b.baidu.Requests(); n < 4 {
				return fmt.Errorf("%d", n)
			}
			return nil
		})
		b.want("a fifth", b.in("client", "curl -s -m 5 -w %{http_code} http://www.baidu.com"), 0, "503", "no free local port")
		b.want("another endpoint", b.in("client", "curl -sk -m 5 https://www.baidu.com"), 0, "the secure page")
		b.localPorts("40000 40010")
		b.want("with more ports", b.in("client", "curl -s -m 5 http://www.baidu.com"), 0, "the page")
	})
}

// localPorts sets the range of ports for connections that the host makes.
func (b *bed) localPorts(from string) {
	b.Helper()
	if err := b.InHost(func() error {
		return os.WriteFile("/proc/sys/net/ipv4/ip_local_port_range", []byte(from), 0)
	}); err != nil {
		b.Fatal(err)
	}
}
