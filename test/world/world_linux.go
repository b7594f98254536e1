// Package world makes a little outside world on a machine that has none: a
// host in a namespace of its own, joined by one wire to an internet in
// another. The internet has a name server and whatever web and TCP servers a
// test puts there; the host has a resolv.conf that names that server, and no
// way to anywhere else, so that no packet can leave the machine.
//
// Servers run in the calling process and only their sockets live in the
// namespaces: a test changes a record, or reads how many requests a server
// saw, by a method call.
package world

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// The two ends of the wire. The name server answers at the internet's end.
const (
	hostV4     = "10.1.0.2/30"
	internetV4 = "10.1.0.1/30"
	hostV6     = "fd01::2/126"
	internetV6 = "fd01::1/126"
)

// NameServer is where the world's DNS server answers.
const NameServer = "10.1.0.1"

// A World is one host and its internet. It is safe for concurrent use; Close
// ends its servers and gives its namespaces back once no process is left in
// them.
type World struct {
	// Dir is a scratch folder that every user may read and write. It is
	// removed by Close.
	Dir string
	// DNS is the name server in the host's resolv.conf.
	DNS *DNS

	host, internet *room

	mu     sync.Mutex
	closer []func() error // guarded by mu
	known  map[netip.Addr]bool
}

// New makes a world. It needs the right to make namespaces: root's, or that of
// a user namespace of one's own.
func New() (*World, error) {
	dir, err := os.MkdirTemp("", "world-")
	if err != nil {
		return nil, fmt.Errorf("make a scratch folder: %w", err)
	}
	w := &World{Dir: dir, known: map[netip.Addr]bool{}}
	w.closer = append(w.closer, func() error { return os.RemoveAll(dir) })
	if err := w.build(); err != nil {
		return nil, errors.Join(err, w.Close())
	}
	return w, nil
}

func (w *World) build() error {
	// All users of the machine share this folder: it holds nothing but what
	// tests write, and mkdirtemp made its name.
	if err := os.Chmod(w.Dir, 0o777); err != nil { //nolint:gosec // other users' commands write here
		return fmt.Errorf("open the scratch folder to all users: %w", err)
	}
	var err error
	if w.internet, err = newRoom(false); err != nil {
		return err
	}
	if w.host, err = newRoom(true); err != nil {
		return err
	}
	if err := w.InInternet(w.layWire); err != nil {
		return err
	}
	if err := w.InHost(w.furnishHost); err != nil {
		return err
	}
	w.DNS, err = newDNS(w)
	return err
}

// layWire runs in the internet: it makes the pair and pushes one end over.
func (w *World) layWire() error {
	wire := &netlink.Veth{
		LinkAttrs:     netlink.LinkAttrs{Name: "world0"},
		PeerName:      "eth0",
		PeerNamespace: netlink.NsFd(int(w.host.ns.Fd())),
	}
	if err := netlink.LinkAdd(wire); err != nil {
		return fmt.Errorf("add a veth pair: %w", err)
	}
	return errors.Join(up("lo"), up("world0"), address("world0", internetV4), address("world0", internetV6))
}

func (w *World) furnishHost() error {
	if err := errors.Join(up("lo"), up("eth0"), address("eth0", hostV4), address("eth0", hostV6)); err != nil {
		return err
	}
	return errors.Join(
		w.cover("/etc/resolv.conf", "nameserver "+NameServer+"\noptions timeout:2 attempts:2\n"),
		w.cover("/etc/hosts", "127.0.0.1 localhost\n::1 localhost\n"),
		w.cover("/etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
	)
}

// cover binds a file with this content over path, in the host only.
func (w *World) cover(path, content string) error {
	name := filepath.Join(w.Dir, "etc-"+filepath.Base(path))
	if err := os.WriteFile(name, []byte(content), 0o644); err != nil { //nolint:gosec // /etc files are read by all
		return fmt.Errorf("write %s: %w", name, err)
	}
	target, err := filepath.EvalSymlinks(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil // nobody reads a file that is not there
	}
	if err != nil {
		return fmt.Errorf("follow %s: %w", path, err)
	}
	if err := unix.Mount(name, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("bind over %s: %w", target, err)
	}
	return nil
}

func up(name string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func address(name, cidr string) error {
	link, err := netlink.LinkByName(name)
	if err != nil {
		return fmt.Errorf("find %s: %w", name, err)
	}
	addr, err := netlink.ParseAddr(cidr)
	if err != nil {
		return fmt.Errorf("parse %s: %w", cidr, err)
	}
	if addr.IP.To4() == nil {
		addr.Flags = unix.IFA_F_NODAD // usable at once
	}
	if err := netlink.AddrAdd(link, addr); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add %s to %s: %w", cidr, name, err)
	}
	return nil
}

// Add gives the internet an address and the host a way to it.
func (w *World) Add(a netip.Addr) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.known[a] {
		return nil
	}
	if err := w.InInternet(func() error { return address("lo", netip.PrefixFrom(a, a.BitLen()).String()) }); err != nil {
		return err
	}
	if err := w.route(a); err != nil {
		return err
	}
	w.known[a] = true
	return nil
}

// Swallow gives the host a way to an address that nobody has: packets to it
// vanish without an answer.
func (w *World) Swallow(a netip.Addr) error { return w.route(a) }

func (w *World) route(a netip.Addr) error {
	via := net.ParseIP(NameServer)
	if a.Is6() {
		via = net.ParseIP("fd01::1")
	}
	return w.InHost(func() error {
		link, err := netlink.LinkByName("eth0")
		if err != nil {
			return fmt.Errorf("find eth0: %w", err)
		}
		dst := &net.IPNet{IP: a.AsSlice(), Mask: net.CIDRMask(a.BitLen(), a.BitLen())}
		if err := netlink.RouteReplace(&netlink.Route{LinkIndex: link.Attrs().Index, Dst: dst, Gw: via}); err != nil {
			return fmt.Errorf("route %s: %w", a, err)
		}
		return nil
	})
}

// InHost runs f on a thread inside the host: sockets it opens and files under
// /proc/thread-self it reads are the host's. f must not wait for another call
// to InHost or Start.
func (w *World) InHost(f func() error) error { return w.host.do(f) }

// InInternet is InHost for the internet.
func (w *World) InInternet(f func() error) error { return w.internet.do(f) }

// Start starts cmd inside the host. The caller waits for it as always.
func (w *World) Start(cmd *exec.Cmd) error { return w.InHost(cmd.Start) }

// listen opens a stream socket in the internet, at an address it adds.
func (w *World) listen(at netip.AddrPort) (net.Listener, error) {
	if err := w.Add(at.Addr()); err != nil {
		return nil, err
	}
	var l net.Listener
	err := w.InInternet(func() error {
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return fmt.Errorf("listen: %w", err)
		}
		l = tcp
		return nil
	})
	return l, err
}

func (w *World) atClose(f func() error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closer = append(w.closer, f)
}

// Close ends every server, then the namespaces.
func (w *World) Close() error {
	w.mu.Lock()
	closer := w.closer
	w.closer = nil
	w.mu.Unlock()
	var errs []error
	for i := len(closer) - 1; i >= 0; i-- {
		errs = append(errs, closer[i]())
	}
	if w.host != nil {
		w.host.close()
	}
	if w.internet != nil {
		w.internet.close()
	}
	return errors.Join(errs...)
}
