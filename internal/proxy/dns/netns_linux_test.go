package dns

import (
	"context"
	"net"
	"os"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/miekg/dns"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/mesh"
)

// insideEnv tells a copy of the test binary that it runs in a namespace of its
// own.
const insideEnv = "FAIRLEAD_TEST_DNS_INSIDE"

// TestAnyServerOfAWorkloadIsUs runs TestInside in network and user namespaces
// of its own, where every address is local, as in the sandbox.
func TestAnyServerOfAWorkloadIsUs(t *testing.T) {
	if os.Getenv(insideEnv) != "" {
		return
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestInside$", "-test.v")
	cmd.Env = append(os.Environ(), insideEnv+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

func TestInside(t *testing.T) {
	if os.Getenv(insideEnv) == "" {
		return // its test is TestAnyServerOfAWorkloadIsUs
	}
	everythingIsLocal(t)

	conn, err := net.ListenPacket("udp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "[::]:53")
	if err != nil {
		t.Fatal(err)
	}
	s := serverOf(&world{}, declared(), mesh.RegistryOnly)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, []*net.UDPConn{conn.(*net.UDPConn)}, []net.Listener{l}) }()
	defer func() { cancel(); <-done }()

	for _, server := range []string{"8.8.8.8", "127.0.0.53", "10.96.0.10", "2001:db8::53", "::1"} {
		for _, network := range []string{"udp", "tcp"} {
			q := new(dns.Msg)
			q.SetQuestion("vip.corp.", dns.TypeA)
			c := dns.Client{Net: network, Timeout: 5 * time.Second}
			reply, _, err := c.ExchangeContext(t.Context(), q, net.JoinHostPort(server, "53"))
			if err != nil || len(reply.Answer) != 1 {
				t.Errorf("%s %s: error %v, reply %v", network, server, err, reply)
			}
		}
	}
}

// everythingIsLocal brings lo up and routes every address to it, with a source
// address of its own.
func everythingIsLocal(t *testing.T) {
	t.Helper()
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	if err = netlink.LinkSetUp(lo); err != nil {
		t.Fatal(err)
	}
	for source, all := range map[string]string{"100.64.0.2/32": "0.0.0.0/0", "fd00:64::2/128": "::/0"} {
		addr, err := netlink.ParseAddr(source)
		if err != nil {
			t.Fatal(err)
		}
		addr.Flags = syscall.IFA_F_NODAD
		if err = netlink.AddrAdd(lo, addr); err != nil {
			t.Fatal(err)
		}
		_, dst, err := net.ParseCIDR(all)
		if err != nil {
			t.Fatal(err)
		}
		route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Src: addr.IP, Type: syscall.RTN_LOCAL, Table: 254, Scope: netlink.SCOPE_HOST}
		if err = netlink.RouteAdd(route); err != nil {
			t.Fatalf("route %s: %v", all, err)
		}
	}
	// The kernel brings an IPv6 address up in the background and may lose what is
	// sent to it meanwhile. The route to it is there at the end.
	for range 500 {
		routes, err := netlink.RouteListFiltered(netlink.FAMILY_V6, &netlink.Route{Table: unix.RT_TABLE_LOCAL}, netlink.RT_FILTER_TABLE)
		if err != nil {
			t.Fatal(err)
		}
		if slices.ContainsFunc(routes, func(r netlink.Route) bool { return r.Dst != nil && r.Dst.String() == "fd00:64::2/128" }) {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatal("the address fd00:64::2 does not come up")
}
