package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

func discard() *slog.Logger { return slog.New(slog.DiscardHandler) }

// closedPort is a loopback port that is taken and on which nobody listens.
func closedPort(t *testing.T) uint16 {
	t.Helper()
	_, port := bound(t)
	return port
}

// bound is a socket on a loopback port.
func bound(t *testing.T) (fd int, port uint16) {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return fd, uint16(name.(*syscall.SockaddrInet4).Port)
}

// fullPort is a loopback port whose accept queue is full: a connection to it
// gets no answer.
func fullPort(t *testing.T) uint16 {
	t.Helper()
	fd, port := bound(t)
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port)) // fills the queue
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return port
}

func TestDialTellsWhyItFailed(t *testing.T) {
	missing := filepath.Join(t.TempDir(), "missing.sock")
	tcp := func(port uint16) config.Endpoint { return config.Endpoint{Host: "127.0.0.1", Port: port, Weight: 1} }
	for _, tt := range []struct {
		name  string
		gone  bool // the caller
		to    config.Endpoint
		cause string
		is    error
	}{
		{"refused", false, tcp(closedPort(t)), "connection refused", syscall.ECONNREFUSED},
		{"no answer", false, tcp(fullPort(t)), "timed out after 50ms", context.DeadlineExceeded},
		{"no socket", false, config.Endpoint{Host: missing, Weight: 1}, "no such socket", syscall.ENOENT},
		{"no abstract socket", false, config.Endpoint{Host: "@fairlead-test-nobody", Weight: 1}, "connection refused", syscall.ECONNREFUSED},
		{"caller gone", true, tcp(closedPort(t)), "given up: the exchange was ended", context.Canceled},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			c := inlined(config.StaticSet, tt.to)
			c.ConnectTimeout = 50 * time.Millisecond
			w.apply(clusters(c))
			e, _ := w.pick()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			if tt.gone {
				cancel()
			}
			_, err := e.Dial(ctx)
			var failed *DialError
			if !errors.As(err, &failed) || failed.Cause != tt.cause || !errors.Is(err, tt.is) {
				t.Fatalf("error %v (%#v), want cause %q and %v", err, failed, tt.cause, tt.is)
			}
			if want := "connect to " + e.String() + ": " + tt.cause; err.Error() != want {
				t.Errorf("error %q, want %q", err, want)
			}
			if !errors.Is(tt.is, context.DeadlineExceeded) && errors.Is(err, context.DeadlineExceeded) {
				t.Error("no timeout, but it says so")
			}
		})
	}
}

func TestSystemErrorsInPlainWords(t *testing.T) {
	for errno, want := range map[syscall.Errno]string{
		syscall.EHOSTUNREACH:  "no route to host",
		syscall.ENETUNREACH:   "network is unreachable",
		syscall.ECONNRESET:    "connection reset by peer",
		syscall.EADDRNOTAVAIL: "no free local port or no usable local address",
		syscall.EMFILE:        "the proxy has too many files open (see ulimit -n)",
		syscall.ETIMEDOUT:     "timed out after 10s",
	} {
		if got := cause(t.Context(), &net.OpError{Op: "dial", Err: errno}, 10*time.Second); got != want {
			t.Errorf("%s: %q, want %q", errno, got, want)
		}
	}
}

func TestDialReachesEveryKindOfAddress(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	abstract := "@fairlead-test-" + strings.ReplaceAll(t.TempDir(), "/", "-")
	tcp := listen(t, "tcp", "127.0.0.1:0")
	listen(t, "unix", path)
	listen(t, "unix", abstract)
	for _, to := range []config.Endpoint{
		{Host: "127.0.0.1", Port: tcp.addr().Port(), Weight: 1},
		{Host: path, Weight: 1},
		{Host: abstract, Weight: 1},
	} {
		w := newWorld(t)
		w.apply(clusters(inlined(config.StaticSet, to)))
		e, _ := w.pick()
		c := dial(t, e)
		if !c.Alive() {
			t.Errorf("%s: the connection is not alive", e)
		}
		if e.Addr().IsValid() != (to.Port != 0) {
			t.Errorf("address of %s: %s", e, e.Addr())
		}
		if n := w.sweeper.Len(); n != 1 {
			t.Errorf("%d connections can time out, want 1", n)
		}
	}
}

func TestDialledConnectionsTimeOut(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	w.apply(clusters(inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1})))
	e, _ := w.pick()
	c := dial(t, e)
	c.SetTimeout(time.Millisecond)
	if _, err := c.Read(make([]byte, 1)); err == nil || !c.TimedOut() {
		t.Errorf("read: %v, timed out %v", err, c.TimedOut())
	}
}

func TestOriginalDestinations(t *testing.T) {
	for _, tt := range []struct {
		original string
		override uint16
		want     string // empty: no endpoint
	}{
		{"10.0.0.1:80", 0, "10.0.0.1:80"},
		{"10.0.0.1:80", 8080, "10.0.0.1:8080"},
		{"[::ffff:10.0.0.1]:80", 0, "10.0.0.1:80"},
		{"[fd00::1]:443", 0, "[fd00::1]:443"},
		{"0.0.0.0:80", 0, ""},
		{"10.0.0.1:0", 0, ""},
	} {
		w := newWorld(t)
		w.apply(clusters(&config.Cluster{Name: "x", Type: config.OriginalDst, Policy: config.ClusterProvided, PortOverride: tt.override}))
		var rec decision.Record
		e, err := w.Get("x").Pick(netip.MustParseAddrPort(tt.original), nil, &rec)
		if tt.want == "" {
			if !errors.Is(err, ErrNoEndpoint) || rec.Endpoints != 0 {
				t.Errorf("%s: %v, %v, %d endpoints", tt.original, e, err, rec.Endpoints)
			}
			continue
		}
		if err != nil {
			t.Errorf("%s: %v", tt.original, err)
			continue
		}
		if e.String() != tt.want || rec.Endpoint != e.Addr() || rec.Endpoints != 1 || rec.DNS != decision.NotResolved {
			t.Errorf("%s with port %d: %s, record %+v", tt.original, tt.override, e, rec)
		}
	}
	w := newWorld(t)
	w.apply(clusters(&config.Cluster{Name: "x", Type: config.OriginalDst}))
	if e, rec := w.pick(); e != nil || rec.Endpoints != 0 {
		t.Errorf("no original destination, but picked %s", e)
	}
}

// Fault 62: who is let through by a name does not choose where that leads, as
// far as the entry says where, and never inward.
func TestOriginalDestinationsAreTheEntrys(t *testing.T) {
	prefixes := func(list string) (all []netip.Prefix) {
		for p := range strings.FieldsSeq(list) {
			all = append(all, netip.MustParsePrefix(p))
		}
		return all
	}
	const listed = "203.0.113.7/32 198.51.100.0/24 169.254.7.0/24 2001:db8::/64"
	for _, tt := range []struct{ cluster, addresses, original, why string }{
		{"x", listed, "203.0.113.7", ""},
		{"x", listed, "198.51.100.200", ""},
		{"x", listed, "::ffff:198.51.100.200", ""},
		{"x", listed, "2001:db8::5", ""},
		{"x", listed, "169.254.7.7", ""},
		{"x", listed, "203.0.113.8", "203.0.113.8, which the caller chose, is none of those that the entry lists"},
		{"x", listed, "169.254.169.254", "is none of those"},
		{"x", listed, "64:ff9b::203.0.113.7", "is none of those"},
		{"x", "", "203.0.113.7", ""},
		{"x", "", "10.0.0.1", ""},
		{"x", "", "fd00::1", ""},
		{"x", "", "127.0.0.1", "list it in the entry's addresses"},
		{"x", "", "::ffff:127.0.0.1", "list it in"},
		{"x", "", "::1", "list it in"},
		{"x", "", "169.254.169.254", "list it in"},
		{"x", "", "64:ff9b::169.254.169.254", "list it in"},
		{"x", "", "fe80::1", "list it in"},
		{"x", "", "fd00:ec2::254", "list it in"},
		{"x", "", "224.0.0.251", "list it in"},
		{xds.PassthroughCluster, "", "169.254.169.254", ""},
		{xds.PassthroughCluster, "", "127.0.0.1", "of this host itself"},
		{xds.PassthroughCluster, "", "64:ff9b::127.0.0.1", "of this host itself"},
	} {
		w := newWorld(t)
		w.apply(clusters(&config.Cluster{Name: tt.cluster, Type: config.OriginalDst, Addresses: prefixes(tt.addresses)}))
		var rec decision.Record
		e, err := w.Get(tt.cluster).Pick(netip.AddrPortFrom(netip.MustParseAddr(tt.original), 80), nil, &rec)
		if tt.why == "" {
			if err != nil || rec.Err != "" {
				t.Errorf("%s, %s: %v, record %q", tt.cluster, tt.original, err, rec.Err)
			}
			continue
		}
		if e != nil || !errors.Is(err, ErrNoEndpoint) || !strings.Contains(err.Error(), tt.why) || !strings.Contains(rec.Err, tt.why) || rec.Endpoint.IsValid() {
			t.Errorf("%s, %s: %v, %v, record %q; want a refusal with %q", tt.cluster, tt.original, e, err, rec.Err, tt.why)
		}
	}
}

// own is a cluster whose entry means loopback addresses.
func own() *config.Cluster {
	return &config.Cluster{Name: "x", Type: config.OriginalDst, Addresses: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}}
}

func TestUnusedOriginalDestinationsAreDropped(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(own()))
	up := listen(t, "tcp", "127.0.0.1:0")
	x := w.Get("x")
	var rec decision.Record
	e, err := x.Pick(up.addr(), nil, &rec)
	if err != nil {
		t.Fatal(err)
	}
	for range 3 {
		x.sweep(time.Now(), nil)
	}
	if again, _ := x.Pick(up.addr(), nil, &rec); again != e {
		t.Fatal("an endpoint in use was dropped")
	}
	e.Done()
	c := dial(t, e)
	e.Keep(c)
	e.Done()
	x.sweep(time.Now(), nil)
	x.sweep(time.Now(), nil)
	if n := len(x.Endpoints()); n != 0 || !isClosed(c) {
		t.Errorf("%d endpoints, connection closed %v, after two sweeps without use", n, isClosed(c))
	}
}

func TestOriginalDestinationsAreBounded(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(&config.Cluster{Name: "x", Type: config.OriginalDst}))
	x := w.Get("x")
	var rec decision.Record
	last := netip.MustParseAddr("10.0.0.0")
	for range maxOriginals + 10 {
		last = last.Next()
		if _, err := x.Pick(netip.AddrPortFrom(last, 80), nil, &rec); err != nil {
			t.Fatal(err)
		}
	}
	if n := len(x.Endpoints()); n != maxOriginals {
		t.Errorf("%d endpoints remembered, want %d", n, maxOriginals)
	}
}

func TestSweepNoticesThatThePeerEnded(t *testing.T) {
	w := newWorld(t)
	up := listen(t, "tcp", "127.0.0.1:0")
	w.apply(clusters(inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: up.addr().Port(), Weight: 1})))
	e, _ := w.pick()
	c := dial(t, e)
	e.Keep(c)
	eventually(t, "accept", func() bool { up.mu.Lock(); defer up.mu.Unlock(); return len(up.conns) == 1 })
	up.hangUp()
	eventually(t, "the end arrives", func() bool { return !c.Alive() })
	now := time.Now()
	w.Get("x").sweep(now, nil)
	w.Get("x").sweep(now.Add(sweepInterval), nil)
	if n := w.Get("x").Endpoints()[0].Idle; n != 0 {
		t.Errorf("%d connections kept to a peer that ended them", n)
	}
}
