package netns

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/fairlead/fairlead/test/world"
)

var echo = world.Echo

func TestEveryFamilyAndPortIsCaptured(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		for _, c := range []struct{ what, script, want string }{
			{"IPv4", "curl -s -4 http://www.baidu.com", "the page"},
			{"IPv6", "curl -s -6 http://www.baidu.com", "the page"},
			{"an MPTCP client", "client mptcp http://www.baidu.com", "200 the page"},
			{"an undeclared v4 address", "curl -s -w %{http_code} http://" + other4.String(), "502"},
			{"an undeclared v6 address", "curl -s -w %{http_code} http://[2001:db8::99]:8080/", "502"},
			{"v4 mapped into v6", "curl -s -g -w %{http_code} http://[::ffff:203.0.113.20]/", "502"},
			{"an address without a route", "curl -s -w %{http_code} http://192.168.0.100/", "502"},
		} {
			b.want(c.what, b.run("--closed -f "+f, c.script), 0, c.want)
		}
		if got := b.other.Connections(); got != 0 {
			b.Errorf("the undeclared site saw %d connections", got)
		}
	})
}

func TestUDPIsRefusedAtOnceButForDNS(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		for _, to := range []string{"198.51.100.10:443", "[2001:db8::10]:443", "198.51.100.10:123", "198.51.100.10:5353"} {
			r := b.run("-f "+f, "client udp "+to)
			b.want("UDP to "+to, r, 1, "failed:")
			if strings.Contains(r.out, "vanished") {
				b.Errorf("UDP to %s: the caller was told nothing", to)
			}
		}
		// No such server exists: the answer can only be the proxy's.
		for _, server := range []string{"8.8.8.8", "127.0.0.53", "2001:4860:4860::8888"} {
			b.want("DNS to "+server, b.run("-f "+f, "busybox nslookup www.baidu.com "+server+"; busybox nslookup other.example "+server), 0,
				"240.240.", "2001:2::", other4.String()) // a declared host's own, and what is forwarded
		}
		b.want("DNS over TCP", b.run("-f "+f, "client lookup 8.8.4.4:53 other.example"), 0, other4.String())
	})
}

func TestRefusedDatagramsAreCounted(t *testing.T) {
	asEachUser(t, func(b *bed) {
		b.background("client", "-f "+b.file("e.yaml", dnsEntry))
		b.in("client", "client udp 198.51.100.10:443; client udp 198.51.100.10:123")
		b.want("proxy-status", b.fairlead("proxy-status", "-o", "json"), 0, `"udp": 2`)
	})
}

// The proxy dials from the host: a caller's own loopback must not become the
// host's on the way.
func TestLoopbackIsTheSandboxesOwn(t *testing.T) {
	asEachUser(t, func(b *bed) {
		served := b.hostSite("127.0.0.1:8080")
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "-f "+f)
		for what, script := range map[string]string{
			"the host's loopback":         "curl -s -m 20 http://127.0.0.1:8080",
			"the host's loopback, mapped": "curl -s -g -m 20 http://[::ffff:127.0.0.1]:8080",
			"the unspecified address":     "curl -s -m 20 http://0.0.0.0:8080",
		} {
			if r := b.in("client", script); r.code == 0 || strings.Contains(r.out, "the host's page") {
				b.Errorf("%s: %s", what, r)
			}
		}
		if n := served.Load(); n != 0 {
			b.Errorf("the host's own server saw %d connections", n)
		}
		b.want("its own server", b.in("client", "echo own > "+b.Dir+"/own.txt; busybox httpd -p 127.0.0.1:9000 -h "+b.Dir+" && curl -s http://127.0.0.1:9000/own.txt"), 0, "own\n")
	})
}

// Whoever answers for an external name must not choose an address that means
// the host itself, or its cloud's metadata.
func TestADeclaredNameCannotPointInwards(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		served := b.hostSite("127.0.0.1:8080")
		var entries []string
		for name, a := range map[string]string{"inward": "127.0.0.1", "mapped": "::ffff:127.0.0.1", "six": "::1", "metadata": "169.254.169.254"} {
			b.DNS.Set(name+".example", 60, netip.MustParseAddr(a))
			entries = append(entries, entry(name, name+".example", "8080 http HTTP", "resolution: DNS"))
		}
		b.background("client", "--closed -f "+b.file("e.yaml", strings.Join(entries, "---\n")))
		for _, name := range []string{"inward", "mapped", "six", "metadata"} {
			host := name + ".example"
			b.want(host, b.in("client", "curl -s -m 20 -w ' %{http_code}' --resolve "+host+":8080:198.51.100.99 http://"+host+":8080"), 0, " 503")
		}
		if n := served.Load(); n != 0 {
			b.Errorf("the host's own server saw %d connections", n)
		}
	})
}

// Under resolution NONE the caller says the address, and so is held to those that
// the entry lists, or else to what leads outward.
func TestADeclaredNameIsNoWayToAnyAddress(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.background("client", "--closed -f "+b.file("e.yaml", strings.Join([]string{
			entry("open", "open.example", "8080 http HTTP", "resolution: NONE"),
			entry("listed", "listed.example", "8080 http HTTP", "resolution: NONE", "addresses: [203.0.113.0/24]"),
		}, "---\n")))
		for _, tt := range []struct{ host, to, why string }{
			{"open.example", "169.254.169.254", "list it in the entry's addresses. 503"},
			{"open.example", "[fd00:ec2::254]", "list it in the entry's addresses. 503"},
			{"listed.example", "169.254.169.254", "none of those that the entry lists in addresses. 503"},
			{"listed.example", "198.51.100.10", "none of those that the entry lists in addresses. 503"},
		} {
			r := b.in("client", "curl -s -m 20 -w ' %{http_code}' --resolve "+tt.host+":8080:"+tt.to+" http://"+tt.host+":8080")
			if r.code != 0 || !strings.Contains(strings.ReplaceAll(r.out, ".\n ", ". "), tt.why) {
				b.Errorf("%s at %s: %s; want %q", tt.host, tt.to, r, tt.why)
			}
		}
	})
}

// hostSite is a server on the host's own loopback.
func (b *bed) hostSite(at string) *atomic.Int64 {
	b.Helper()
	var l net.Listener
	if err := b.InHost(func() (err error) { l, err = net.Listen("tcp", at); return err }); err != nil {
		b.Fatal(err)
	}
	served := new(atomic.Int64)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Add(1)
			fmt.Fprint(c, "HTTP/1.0 200 OK\r\n\r\nthe host's page")
			c.Close()
		}
	}()
	b.Cleanup(func() { l.Close(); <-done })
	return served
}

func TestTheCaptureIsNoDestination(t *testing.T) {
	asEachUser(t, func(b *bed) {
		b.background("client", "-f "+b.file("e.yaml", dnsEntry))
		for _, to := range []string{"127.0.0.1:15001", "[::1]:15001", "127.0.0.1:15053"} {
			if r := b.in("client", "curl -sf -m 20 http://"+to); r.code == 0 || r.code == 28 {
				b.Errorf("a request to the capture itself at %s: %s", to, r)
			}
		}
		b.want("afterwards", b.in("client", "curl -s http://www.baidu.com"), 0, "the page")
	})
}

func TestICMPIsRefused(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		r := b.run("-f "+f, "busybox ping -c 1 -W 5 198.51.100.10")
		if r.code == 0 || strings.Contains(r.out, "1 packets received") {
			b.Errorf("somebody answered a ping: %s", r)
		}
	})
}

// Each attempt is made with all the rights the command has; what counts is
// that the undeclared site never hears of it.
func TestNoRightInsideLeadsOut(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		for _, attempt := range []string{
			"nsenter --net=/proc/1/ns/net",
			"nsenter -t 1 -a",
			"nsenter -t $PPID -n",
			"nft flush ruleset;",
			"nft delete table inet fairlead; ip route flush table all;",
			"ip route del local default dev lo; ip route add default dev lo;",
			"ip link add out0 type veth peer name out1; ip addr add 10.9.9.9/24 dev out0; ip link set out0 up; ip link set out1 up; ip route replace default dev out0;",
			"ip link add d0 type dummy; ip link set d0 up; ip route replace 203.0.113.0/24 dev d0;",
			"unshare -Urn",
			"unshare -m",
			"for p in /proc/[0-9]*/ns/net; do nsenter --net=$p curl -s -m 2 http://" + other4.String() + "; done;",
			"mount -t proc proc /mnt && nsenter --net=/mnt/1/ns/net",
			"umount -l /proc; nsenter --net=/proc/1/ns/net",
		} {
			r := b.run("--closed -f "+f, "{ "+attempt+" curl -s -m 2 http://"+other4.String()+" ; } 2>&1; curl -s -m 2 http://"+other4.String())
			if strings.Contains(r.out, "the other page") || b.other.Connections() != 0 {
				b.Fatalf("%s led out: %s", attempt, r)
			}
		}
	})
}

func TestTheControlSocketsAreOutOfReach(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		r := b.run("--name client -f "+f, "grep -a fairlead /proc/net/unix; ls -l /proc/self/fd; fairlead exec client -- true || echo refused")
		b.want("sockets", r, 0, "refused")
		for line := range strings.Lines(r.out) {
			if strings.Contains(line, "@fairlead") || strings.Contains(line, "socket:[") {
				b.Errorf("the command sees %s", line)
			}
		}
	})
}

func TestRootInsideKeepsItsFiles(t *testing.T) {
	t.Parallel()
	b := newBed(t, root)
	f := b.file("e.yaml", dnsEntry)
	b.want("chown", b.run("-f "+f, "cd "+b.Dir+" && touch mine && chown 1000:1000 mine && stat -c %u:%g mine && id -u"), 0, "1000:1000\n0\n")
}

func TestAnOrdinaryUserStaysWhoTheyAre(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.want("id", b.run("-f "+f, "id -u; cd "+b.Dir+"; touch mine; stat -c %u mine"), 0, "65534\n65534\n")
	})
}

func TestKillingTheRunLeavesNothingBehind(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		p := b.start(runArgs("--name client -f "+f, "(setsid sleep 600 &) ; echo ready; exec sleep 600")...)
		p.await("ready\n")
		family := tree(p.cmd.Process.Pid)
		if len(family) < 4 {
			b.Fatalf("only %d processes under the run: %v", len(family), family)
		}
		if !strings.Contains(b.abstractSockets(), "@fairlead/") {
			b.Error("no abstract socket while it runs: the check below would show nothing")
		}
		if err := syscall.Kill(p.cmd.Process.Pid, syscall.SIGKILL); err != nil {
			b.Fatal(err)
		}
		p.wait()
		b.eventually("everything to end", func() error {
			alive := processes()
			for _, pid := range family {
				if parent, ok := alive[pid]; ok {
					name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
					return fmt.Errorf("process %d (parent %d) lives: %q", pid, parent, name)
				}
			}
			if left := b.abstractSockets(); strings.Contains(left, "@fairlead/") {
				return errors.New("sockets are left: " + left)
			}
			return nil
		})
		// The name is free again at once.
		b.want("the same name", b.run("--name client -f "+f, "echo again"), 0, "again")
	})
}

// abstractSockets is the host's table of unix sockets.
func (b *bed) abstractSockets() (table string) {
	b.Helper()
	if err := b.InHost(func() error {
		all, err := os.ReadFile("/proc/thread-self/net/unix")
		table = string(all)
		return err
	}); err != nil {
		b.Fatal(err)
	}
	return table
}

func TestTheCommandOutlivesItsProxy(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		p := b.background("client", "-f "+f)
		for range 2 {
			old := b.proxyOf(p)
			if err := syscall.Kill(old, syscall.SIGKILL); err != nil {
				b.Fatal(err)
			}
			// Connections opened meanwhile wait for the next proxy.
			b.want("a request after the proxy was killed", b.in("client", "curl -s -m 20 http://www.baidu.com"), 0, "the page")
			if now := b.proxyOf(p); now == old {
				b.Errorf("the proxy is still process %d", old)
			}
		}
		select {
		case <-p.done:
			b.Errorf("the command ended with its proxy: %s %s", &p.out, &p.errs)
		default:
		}
	})
}

// With its supervisor stopped nobody makes a new proxy: the time without one
// lasts as long as the test wants.
func TestNothingLeavesWithoutAProxy(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		p := b.start(runArgs("--name client -f "+f,
			"echo ready; read go; curl -s -m 3 http://"+other4.String()+" || echo nothing; echo tried; read go; curl -s -m 20 http://www.baidu.com; echo done")...)
		p.await("ready\n")
		proxy := b.proxyOf(p)
		run := p.cmd.Process.Pid
		if err := errors.Join(syscall.Kill(run, syscall.SIGSTOP), syscall.Kill(proxy, syscall.SIGKILL)); err != nil {
			b.Fatal(err)
		}
		fmt.Fprintln(p.in, "go")
		p.await("nothing\ntried\n")
		if got := b.other.Connections(); got != 0 {
			b.Errorf("%d connections left without a proxy", got)
		}
		if err := syscall.Kill(run, syscall.SIGCONT); err != nil {
			b.Fatal(err)
		}
		fmt.Fprintln(p.in, "go")
		p.await("the page\ndone\n")
	})
}

func TestWithoutUserNamespacesItSaysWhichSettingForbidsThem(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		r := b.host("", "unshare", "-Ur", "sh", "-c", "echo 0 > /proc/sys/user/max_user_namespaces && exec fairlead run -f "+f+" -- echo started")
		b.want("run", r, 125, "user.max_user_namespaces")
		if strings.Contains(r.out, "started") {
			b.Error("the command was started all the same")
		}
	})
}
