package listener

import (
	"bufio"
	"context"
	"crypto/tls"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l7"
	"github.com/fairlead/fairlead/internal/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// records collects what is logged. Strings of a record outlive it here: tests
// read only those.
type records struct {
	mu  sync.Mutex
	all []decision.Record
	new chan struct{}
}

func (r *records) Add(rec *decision.Record) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.all = append(r.all, *rec)
	r.new <- struct{}{}
}

// patience bounds every wait of a test; it is reached only by a failure.
const patience = time.Minute

// next waits for the next record.
func (r *records) next(t *testing.T) decision.Record {
	t.Helper()
	select {
	case <-r.new:
	case <-time.After(patience):
		t.Fatal("no record was written")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	rec := r.all[0]
	r.all = r.all[1:]
	return rec
}

// bed is a listener with a backend behind it.
type bed struct {
	t        *testing.T
	records  records
	original netip.AddrPort // where connections claim to go; set before dialling
	mu       sync.Mutex
	ln       net.Listener
	stop     context.CancelFunc
	done     chan error
	listener *Listener
	backend  netip.AddrPort
	cfg      *config.Config
	set      *cluster.Set
}

type options struct {
	closed  bool // REGISTRY_ONLY
	backend func(net.Conn)
	delta   func(b *bed, d *config.Delta)
	tune    func(*Options)
	wrap    func(net.Listener) net.Listener
}

func newBed(t *testing.T, o options) *bed {
	t.Helper()
	b := &bed{t: t, done: make(chan error, 1), original: netip.MustParseAddrPort("93.184.216.34:443")}
	b.records.new = make(chan struct{}, 1000)
	if o.backend == nil {
		o.backend = echo
	}
	b.backend = serve(t, o.backend)

	policy := xds.PassthroughCluster
	if o.closed {
		policy = xds.BlackHoleCluster
	}
	outbound := &config.Listener{
		Name: xds.VirtualOutbound, Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:15001")},
		Default: &config.FilterChain{Name: policy, TCP: &config.TCPProxy{Cluster: policy}},
	}
	if o.closed {
		outbound.InspectTLS, outbound.InspectHTTP = true, true
		outbound.Chains = []*config.FilterChain{{
			Name: xds.BlockAll, Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.0", "http/1.1", "h2c"}},
			HTTP: &config.HTTPManager{Inline: blockAll()},
		}}
	}
	ref := mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "db"}
	d := config.Delta{
		Listeners: []*config.Listener{outbound},
		Clusters: []*config.Cluster{
			{Name: xds.BlackHoleCluster, Type: config.StaticSet},
			// The test's outside world: whatever the address, it is the backend.
			{Name: xds.PassthroughCluster, Type: config.StaticSet, Inline: b.assignment(xds.PassthroughCluster)},
			{Name: "db", Type: config.StaticSet, Inline: b.assignment("db"), Entry: ref},
			{Name: "dead", Type: config.StaticSet, Inline: dead(t), Entry: ref},
		},
	}
	if o.delta != nil {
		o.delta(b, &d)
	}
	b.cfg = (*config.Config)(nil).Apply(d)
	set := cluster.New(nil, slog.New(slog.DiscardHandler))
	set.Update(b.cfg, d)
	b.set = set

	cfg := func() *config.Config { return b.cfg }
	lo := Options{
		Config: cfg, Clusters: set, Log: &b.records, Logger: slog.New(slog.DiscardHandler),
		HTTP: l7.New(l7.Options{Config: cfg, Clusters: set, Log: &b.records}),
		Original: func(net.Conn) (netip.AddrPort, error) {
			b.mu.Lock()
			defer b.mu.Unlock()
			return b.original, nil
		},
		NameOf: func(a netip.Addr) string {
			if a == netip.MustParseAddr("93.184.216.34") {
				return "db.test"
			}
			return ""
		},
	}
	if o.tune != nil {
		o.tune(&lo)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b.ln = ln
	if o.wrap != nil {
		ln = o.wrap(ln)
	}
	ctx, cancel := context.WithCancel(t.Context())
	b.stop = cancel
	b.listener = New(lo)
	go func() { b.done <- b.listener.Serve(ctx, ln) }()
	t.Cleanup(func() {
		cancel()
		<-b.done
		set.Close()
	})
	return b
}

func blockAll() *config.RouteTable {
	return config.NewRouteTable(xds.BlockAll, []*config.VirtualHost{{
		Name: xds.BlockAll, Domains: []string{"*"},
		Routes: []*config.Route{{Name: xds.BlockAll, Prefix: "/", Direct: &config.DirectResponse{Status: 502}}},
	}}, nil)
}

func (b *bed) assignment(name string) *config.Assignment {
	return &config.Assignment{Name: name, Endpoints: []config.Endpoint{{Host: b.backend.Addr().String(), Port: b.backend.Port(), Weight: 1}}}
}

// dead is an endpoint that is taken and on which nobody listens.
func dead(t *testing.T) *config.Assignment {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	port := uint16(name.(*unix.SockaddrInet4).Port)
	return &config.Assignment{Name: "dead", Endpoints: []config.Endpoint{{Host: "127.0.0.1", Port: port, Weight: 1}}}
}

// serve runs handle for each connection until the test ends.
func serve(t *testing.T, handle func(net.Conn)) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { defer c.Close(); handle(c) })
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

func echo(c net.Conn) { io.Copy(c, c) }

func (b *bed) dial(original string) net.Conn {
	b.t.Helper()
	b.goTo(original)
	c, err := net.Dial("tcp", b.ln.Addr().String())
	if err != nil {
		b.t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	b.t.Cleanup(func() { c.Close() })
	return c
}

func (b *bed) goTo(original string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.original = netip.MustParseAddrPort(original)
}

// wantRefused wants a connection that is reset before anything is said on it,
// maybe so early that the dialler sees it.
func (b *bed) wantRefused(t *testing.T, original string) {
	t.Helper()
	b.goTo(original)
	c, err := net.Dial("tcp", b.ln.Addr().String())
	if err == nil {
		c.SetDeadline(time.Now().Add(patience))
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("connection to %s: %v, want a reset", original, err)
	}
}

func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	if n, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("read %d, %v; want a reset", n, err)
	}
}

// tcpListener is a listener for an address that leads to a cluster, unseen.
func tcpListener(at, to string) *config.Listener {
	return &config.Listener{
		Name: at, Addresses: []netip.AddrPort{netip.MustParseAddrPort(at)},
		Default: &config.FilterChain{Name: to, TCP: &config.TCPProxy{Cluster: to}},
	}
}

func TestAServerThatSpeaksFirstIsHeard(t *testing.T) {
	b := newBed(t, options{
		backend: func(c net.Conn) { io.WriteString(c, "hello\n"); io.Copy(io.Discard, c) },
		delta: func(_ *bed, d *config.Delta) {
			d.Listeners = append(d.Listeners, tcpListener("240.240.0.1:3306", "db"))
		},
	})
	c := b.dial("240.240.0.1:3306")
	if line, err := bufio.NewReader(c).ReadString('\n'); line != "hello\n" {
		t.Fatalf("read %q, %v", line, err)
	}
	c.Write([]byte("12345"))
	c.Close()
	rec := b.records.next(t)
	if rec.Reason != decision.OK || rec.Flags != 0 || rec.Cluster != "db" || rec.Listener != "240.240.0.1:3306" || rec.Endpoint != b.backend ||
		rec.Received != 5 || rec.Sent != 6 || rec.Entry.Name != "db" || rec.Tries != 1 || !rec.Upstream.IsValid() || rec.Protocol != decision.TCP {
		t.Errorf("record %+v", rec)
	}
}

func TestUndeclaredTrafficPassesByPolicy(t *testing.T) {
	open := newBed(t, options{})
	c := open.dial("93.184.216.34:7")
	io.WriteString(c, "ping")
	buf := make([]byte, 4)
	if _, err := io.ReadFull(c, buf); err != nil || string(buf) != "ping" {
		t.Errorf("ALLOW_ANY: %q, %v", buf, err)
	}
	c.Close()
	rec := open.records.next(t)
	if rec.Policy != mesh.AllowAny || rec.Cluster != xds.PassthroughCluster || rec.Name != "db.test" || rec.Reason != decision.OK {
		t.Errorf("ALLOW_ANY: record %+v", rec)
	}

	closed := newBed(t, options{closed: true})
	t.Run("bytes are reset", func(t *testing.T) {
		c := closed.dial("93.184.216.34:7")
		io.WriteString(c, "\x00ping")
		wantReset(t, c)
		rec := closed.records.next(t)
		if rec.Policy != mesh.RegistryOnly || rec.Reason != decision.NotDeclared || rec.Flags != decision.UH || !strings.Contains(rec.Sentence(), "db.test (93.184.216.34:7) is not declared") {
			t.Errorf("record %+v: %s", rec, rec.Sentence())
		}
	})
	t.Run("TLS is reset and its name told", func(t *testing.T) {
		c := closed.dial("93.184.216.34:443")
		err := tls.Client(c, &tls.Config{ServerName: "evil.test"}).Handshake()
		if !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("handshake: %v, want a reset", err)
		}
		rec := closed.records.next(t)
		if rec.Protocol != decision.TLS || rec.SNI != "evil.test" || rec.Reason != decision.NotDeclared {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("requests are answered with 502", func(t *testing.T) {
		c := closed.dial("93.184.216.34:80")
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: evil.test\r\nConnection: close\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil || resp.StatusCode != http.StatusBadGateway {
			t.Errorf("answer %v, %v", resp, err)
		}
		rec := closed.records.next(t)
		if rec.Status != 502 || rec.Listener != xds.VirtualOutbound || rec.Chain != xds.BlockAll || rec.Policy != mesh.RegistryOnly {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("who waits for the server is reset too", func(t *testing.T) {
		closed.wantRefused(t, "93.184.216.34:5432")
		if rec := closed.records.next(t); rec.Reason != decision.NotDeclared {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("HTTP/2 without TLS is HTTP", func(t *testing.T) {
		c := closed.dial("93.184.216.34:80")
		io.WriteString(c, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
		if _, err := c.Read(make([]byte, 1)); errors.Is(err, syscall.ECONNRESET) {
			t.Error("reset as bytes are")
		}
		c.Close()
	})
}

func TestTLSIsRoutedByServerNameAndPassedUnchanged(t *testing.T) {
	b := newBed(t, options{delta: func(_ *bed, d *config.Delta) {
		d.Listeners = append(d.Listeners, &config.Listener{
			Name: "0.0.0.0_443", Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443")}, InspectTLS: true,
			Chains:  []*config.FilterChain{{Name: "db", Match: config.Match{ServerNames: []string{"www.baidu.com"}, Transport: "tls"}, TCP: &config.TCPProxy{Cluster: "db"}}},
			Default: &config.FilterChain{Name: xds.BlackHoleCluster, TCP: &config.TCPProxy{Cluster: xds.BlackHoleCluster}},
		})
	}})
	hello := clientHello(t, "www.baidu.com")
	c := b.dial("1.2.3.4:443")
	for _, x := range hello[:len(hello)-1] { // as slow and as fragmented as can be
		c.Write([]byte{x})
	}
	c.Write(hello[len(hello)-1:])
	got := make([]byte, len(hello))
	if _, err := io.ReadFull(c, got); err != nil || !slices.Equal(got, hello) {
		t.Errorf("the hello that came back is not the one sent: %v", err)
	}
	c.Close()
	rec := b.records.next(t)
	if rec.SNI != "www.baidu.com" || rec.Chain != "db" || rec.Protocol != decision.TLS {
		t.Errorf("record %+v", rec)
	}
}

func clientHello(t *testing.T, name string) []byte {
	t.Helper()
	return helloOf(t, &tls.Config{ServerName: name})
}

// helloOf returns the first flight of a TLS client.
func helloOf(t *testing.T, c *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() { defer close(done); tls.Client(theirs, c).Handshake() }()
	buf := make([]byte, 16<<10)
	n, err := ours.Read(buf)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-done
	return buf[:n]
}

func TestFailuresReachCallerAndRecord(t *testing.T) {
	b := newBed(t, options{delta: func(_ *bed, d *config.Delta) {
		d.Listeners = append(d.Listeners, tcpListener("240.240.0.2:1", "dead"), tcpListener("240.240.0.3:1", "missing"),
			&config.Listener{Name: "no chain", Addresses: []netip.AddrPort{netip.MustParseAddrPort("240.240.0.4:1")}})
	}})
	tests := []struct {
		name, to string
		flags    decision.Flags
		reason   decision.Reason
		says     string
	}{
		{"nobody listens", "240.240.0.2:1", decision.UF | decision.URX, decision.ConnectFailed, "ServiceEntry default/db: connection to endpoint 127.0.0.1:"},
		{"no such cluster", "240.240.0.3:1", decision.NC, decision.NoCluster, "leads to cluster missing, which does not exist"},
		{"no chain", "240.240.0.4:1", decision.NR, decision.NoRoute, "240.240.0.4:1"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b.wantRefused(t, tt.to)
			rec := b.records.next(t)
			if rec.Flags != tt.flags || rec.Reason != tt.reason || !strings.Contains(rec.Sentence(), tt.says) {
				t.Errorf("flags %v, reason %v: %s", rec.Flags, rec.Reason, rec.Sentence())
			}
		})
	}
}

// TestFault57And62 refuses what would mean this host when dialled from here.
func TestFault57And62WhatMeansThisHostIsRefused(t *testing.T) {
	own := []netip.Addr{netip.MustParseAddr("100.64.0.2"), netip.MustParseAddr("fe80::2")}
	b := newBed(t, options{tune: func(o *Options) { o.Self = func(a netip.AddrPort) bool { return slices.Contains(own, a.Addr()) } }})
	for _, to := range []string{"127.0.0.1:22", "127.9.9.9:15001", "[::1]:22", "0.0.0.0:22", "[::]:22", "[::ffff:127.0.0.1]:22", "100.64.0.2:8080", "[fe80::2%2]:22", "[::%2]:22", b.ln.Addr().String()} {
		b.wantRefused(t, to)
		if rec := b.records.next(t); rec.Reason != decision.Loop || rec.Cluster != "" {
			t.Errorf("%s: record %+v", to, rec)
		}
	}
}

// TestFault57TheListenerIsItselfByAnyNameOfItsZone has the name of an interface on one
// side and its number on the other, as the system and package net have it.
func TestFault57TheListenerIsItselfByAnyNameOfItsZone(t *testing.T) {
	s := &server{Listener: New(Options{}), bound: &net.TCPAddr{IP: net.ParseIP("fe80::1"), Port: 15001, Zone: "eth0"}}
	for to, want := range map[string]bool{"[fe80::1%2]:15001": true, "[fe80::1]:15001": true, "[fe80::1%2]:80": false, "[fe80::3%2]:15001": false} {
		if got := s.isLoop(netip.MustParseAddrPort(to)); got != want {
			t.Errorf("%s is a loop: %v", to, got)
		}
	}
}

func TestFault62LinkLocalHasToBeListed(t *testing.T) {
	original := func(d *config.Delta, l *config.Listener) {
		d.Clusters = append(d.Clusters, &config.Cluster{Name: "any", Type: config.OriginalDst, PortOverride: 1})
		d.Listeners = append(d.Listeners, l)
	}
	any80 := &config.Listener{
		Name: "0.0.0.0_80", Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")},
		Default: &config.FilterChain{Name: "any", TCP: &config.TCPProxy{Cluster: "any"}},
	}
	b := newBed(t, options{closed: true, delta: func(_ *bed, d *config.Delta) { original(d, any80) }})
	b.wantRefused(t, "169.254.169.254:80")
	if rec := b.records.next(t); rec.Flags != decision.UH || rec.Endpoint.IsValid() || !strings.Contains(rec.Sentence(), "169.254.169.254, which the caller chose, is loopback, link-local") {
		t.Errorf("record %+v: %s", rec, rec.Sentence())
	}
}

func TestWithoutConfigurationNothingLeaves(t *testing.T) {
	b := newBed(t, options{})
	b.cfg = nil
	b.wantRefused(t, "93.184.216.34:80")
	if rec := b.records.next(t); rec.Reason != decision.NotReady || rec.Policy != mesh.RegistryOnly {
		t.Errorf("record %+v", rec)
	}
}

func TestACallerThatLeavesWithoutAWordIsRecordedOnce(t *testing.T) {
	b := newBed(t, options{closed: true})
	b.dial("93.184.216.34:80").Close()
	if rec := b.records.next(t); rec.Flags != decision.DC || rec.Cluster != "" {
		t.Errorf("record %+v", rec)
	}
}

func TestAnIdleConnectionIsNotClassifiedByTheClock(t *testing.T) {
	b := newBed(t, options{delta: func(_ *bed, d *config.Delta) {
		d.Listeners = append(d.Listeners, &config.Listener{
			Name: "0.0.0.0_80", Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")}, InspectHTTP: true,
			Chains: []*config.FilterChain{{
				Name: "http", Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.1"}},
				HTTP: &config.HTTPManager{Inline: blockAll()},
			}},
			Default: &config.FilterChain{Name: xds.BlackHoleCluster, TCP: &config.TCPProxy{Cluster: xds.BlackHoleCluster}},
		})
	}})
	c := b.dial("1.2.3.4:80")
	time.Sleep(refusal + 200*time.Millisecond) // longer than where everything is refused
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusBadGateway {
		t.Errorf("answer %v, %v", resp, err)
	}
	b.records.next(t)
}

func TestABrokenSocketEndsServe(t *testing.T) {
	b := newBed(t, options{})
	b.ln.Close()
	err := <-b.done
	if !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve = %v", err)
	}
	b.done <- err
}

func TestPolicy(t *testing.T) {
	outbound := func(chain *config.FilterChain) *config.Config {
		return (*config.Config)(nil).Apply(config.Delta{Listeners: []*config.Listener{{Name: xds.VirtualOutbound, Default: chain}}})
	}
	tests := []struct {
		name string
		cfg  *config.Config
		want bool
	}{
		{"no configuration", nil, true},
		{"no listener", (*config.Config)(nil).Apply(config.Delta{}), true},
		{"no chain", outbound(nil), true},
		{"black hole", outbound(&config.FilterChain{TCP: &config.TCPProxy{Cluster: xds.BlackHoleCluster}}), true},
		{"passthrough", outbound(&config.FilterChain{TCP: &config.TCPProxy{Cluster: xds.PassthroughCluster}}), false},
	}
	for _, tt := range tests {
		if got := Policy(tt.cfg); got != tt.want {
			t.Errorf("%s: closed = %v, want %v", tt.name, got, tt.want)
		}
	}
}
