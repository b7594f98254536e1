package l7

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// patience bounds every wait of a test; it is reached only by a failure, however
// much else the machine has to do.
const patience = time.Minute

// A journal keeps copies of the records it is given.
type journal struct {
	mu      sync.Mutex
	records []decision.Record // guarded by mu
	added   chan struct{}
}

func (j *journal) Add(r *decision.Record) {
	c := *r
	c.Method, c.Authority, c.Path = clone(r.Method), clone(r.Authority), clone(r.Path)
	c.UserAgent, c.RequestID = clone(r.UserAgent), clone(r.RequestID)
	j.mu.Lock()
	j.records = append(j.records, c)
	j.mu.Unlock()
	j.added <- struct{}{}
}

func clone(b []byte) []byte { return append([]byte(nil), b...) }

// A rig is a Server with callers on one side and scripted endpoints on the other.
type rig struct {
	t        testing.TB
	server   *Server
	log      *journal
	clusters *cluster.Set
	ln       net.Listener
	manager  *config.HTTPManager
	base     decision.Record
	ctx      context.Context
	drain    context.CancelFunc
	hard     context.Context
	cut      context.CancelFunc
	sweeper  transport.Sweeper // of callers
	callers  *transport.Acceptor
	lot      *transport.Lot
	front    *Front
	conns    sync.WaitGroup
	served   sync.WaitGroup
	accepted func(*transport.Conn) // nil, or told of each before it is served
}

type entry struct {
	host      string
	endpoints []netip.AddrPort
	change    func(*config.Route)
	http      config.HTTPVersion
	inMesh    bool
	counted   bool         // its virtual host asks for the count of attempts
	name      *config.Name // a further one that is declared
}

var where = mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "svc", File: "e.yaml", Line: 1}

// newRig declares the entries; every other host is refused by policy.
func newRig(t testing.TB, entries ...entry) *rig {
	t.Helper()
	r := prepareRig(t, entries...)
	r.open(t)
	return r
}

// prepareRig is newRig before open.
func prepareRig(t testing.TB, entries ...entry) *rig {
	t.Helper()
	r := &rig{t: t, log: &journal{added: make(chan struct{}, 1<<16)}}
	r.ctx, r.drain = context.WithCancel(context.Background())
	r.hard, r.cut = context.WithCancel(context.Background())
	var d config.Delta
	var hosts []*config.VirtualHost
	for _, e := range entries {
		if e.name != nil {
			d.Names = append(d.Names, e.name)
		}
		name := xds.OutboundCluster(80, "", e.host)
		a := &config.Assignment{Name: name}
		for _, ep := range e.endpoints {
			a.Endpoints = append(a.Endpoints, config.Endpoint{Host: ep.Addr().String(), Port: ep.Port(), Weight: 1})
		}
		d.Clusters = append(d.Clusters, &config.Cluster{
			Name: name, Type: config.StaticSet, Inline: a, ConnectTimeout: 5 * time.Second, Entry: where, Policy: config.RoundRobin, HTTP: e.http, InMesh: e.inMesh,
		})
		route := &config.Route{Name: "default", Prefix: "/", Cluster: name, Retry: config.Retry{
			Attempts: 2, ConnectFailure: true, PreviousHosts: true, BaseInterval: time.Millisecond,
		}}
		if e.change != nil {
			e.change(route)
		}
		hosts = append(hosts, &config.VirtualHost{Name: e.host + ":80", Domains: []string{e.host}, Routes: []*config.Route{route}, Entry: where, AttemptCount: e.counted})
	}
	hosts = append(hosts, &config.VirtualHost{Name: xds.BlockAll, Domains: []string{"*"}, Routes: []*config.Route{
		{Name: xds.BlockAll, Prefix: "/", Direct: &config.DirectResponse{Status: 502}},
	}})
	r.manager = &config.HTTPManager{Inline: config.NewRouteTable("80", hosts, nil)}
	cfg := (*config.Config)(nil).Apply(d)
	r.clusters = cluster.New(nil, slog.New(slog.DiscardHandler))
	r.clusters.Update(cfg, d)
	r.server = New(Options{Config: func() *config.Config { return cfg }, Clusters: r.clusters, Log: r.log})
	r.base = decision.Record{Listener: "0.0.0.0_80", Original: netip.MustParseAddrPort("240.240.0.1:80")}
	return r
}

// open begins to serve with the base as it is.
func (r *rig) open(t testing.TB) {
	t.Helper()
	r.front = r.server.Front(r.hard, r.ctx)
	r.listen(t, func(down *transport.Conn) {
		if r.accepted != nil {
			r.accepted(down)
		}
		base := r.base
		base.Downstream = down.Peer()
		r.conns.Add(1)
		r.front.Serve(down, r.manager, &base, r.conns.Done)
	})
}

// listen has each caller served by serve, as a listener accepts it.
func (r *rig) listen(t testing.TB, serve func(*transport.Conn)) {
	t.Helper()
	var err error
	if r.ln, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	if r.lot, err = transport.NewLot(); err != nil {
		t.Fatal(err)
	}
	if r.callers, err = transport.NewAcceptor(r.ln, r.lot); err != nil {
		t.Fatal(err)
	}
	r.served.Go(r.lot.Run)
	r.served.Go(func() { r.sweeper.Run(r.hard) })
	r.conns.Go(func() {
		for {
			c, err := r.callers.Accept()
			if err != nil {
				return
			}
			down := transport.New(c, nil)
			r.sweeper.Adopt(down)
			r.conns.Go(func() { serve(down) })
		}
	})
	t.Cleanup(r.close)
}

func (r *rig) close() {
	r.callers.Close()
	r.drain()
	r.cut()
	r.conns.Wait()
	if r.front != nil {
		r.front.Close()
	}
	r.lot.Close()
	r.served.Wait()
	r.clusters.Close()
}

// record waits for the next record.
func (r *rig) record() decision.Record {
	r.t.Helper()
	select {
	case <-r.log.added:
	case <-time.After(patience):
		r.t.Fatal("no record")
	}
	r.log.mu.Lock()
	defer r.log.mu.Unlock()
	first := r.log.records[0]
	r.log.records = r.log.records[1:]
	return first
}

// A client is one connection to the proxy.
type client struct {
	*net.TCPConn
	t testing.TB
	r *bufio.Reader
}

func (r *rig) dial() *client {
	r.t.Helper()
	return dial(r.t, r.ln.Addr().String())
}

func dial(t testing.TB, addr string) *client {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	c.SetDeadline(time.Now().Add(patience))
	t.Cleanup(func() { c.Close() })
	return &client{TCPConn: c.(*net.TCPConn), t: t, r: bufio.NewReader(c)}
}

// say writes. That the proxy is gone is no failure of what is said: what is to be
// heard then tells whether it went too early.
func (c *client) say(s string) {
	c.t.Helper()
	if _, err := io.WriteString(c, s); err != nil && !gone(err) {
		c.t.Fatal(err)
	}
}

// gone tells that the other end was closed before a write came, or with something
// unread, as any connection may end when all is said.
func gone(err error) bool { return errors.Is(err, unix.EPIPE) || errors.Is(err, unix.ECONNRESET) }

// over is gone, or the end as reads are told it.
func over(err error) bool {
	return gone(err) || errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed)
}

// hear reads exactly what it is told to expect.
func (c *client) hear(want string) {
	c.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(c.r, got)
	if err != nil || string(got) != want {
		c.t.Fatalf("heard %q, %v; want %q", got[:n], err, want)
	}
}

// ended expects the end of the stream.
func (c *client) ended() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Fatalf("heard %q, %v; want the end", rest, err)
	}
}

// answer reads one response by a parser that is not ours.
func (c *client) answer(method string) (*http.Response, string) {
	c.t.Helper()
	res, err := http.ReadResponse(c.r, &http.Request{Method: method})
	if err != nil {
		c.t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil {
		c.t.Fatalf("body after %q: %v", body, err)
	}
	return res, string(body)
}

// An endpoint runs one script per connection, in order of arrival.
type endpoint struct {
	addr netip.AddrPort
}

func newEndpoint(t testing.TB, scripts ...func(c *client)) endpoint {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for _, script := range scripts {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.SetDeadline(time.Now().Add(patience))
			wg.Go(func() {
				defer c.Close()
				script(&client{TCPConn: c.(*net.TCPConn), t: failing{t}, r: bufio.NewReader(c)})
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return endpoint{ln.Addr().(*net.TCPAddr).AddrPort()}
}

// failing reports failures of scripts, which run on other goroutines and end there.
type failing struct{ testing.TB }

func (f failing) Fatalf(format string, args ...any) {
	f.TB.Errorf("endpoint: "+format, args...)
	runtime.Goexit()
}

func (f failing) Fatal(args ...any) {
	f.TB.Error(append([]any{"endpoint:"}, args...)...)
	runtime.Goexit()
}

// closedPort is an address that is taken and where nobody listens.
func closedPort(t testing.TB) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	local := netip.AddrFrom4([4]byte{127, 0, 0, 1})
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: local.As4()}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(local, uint16(name.(*unix.SockaddrInet4).Port))
}

// one is a rig with one host, x.example, on one scripted endpoint.
func one(t testing.TB, scripts ...func(c *client)) *rig {
	t.Helper()
	return newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, scripts...).addr}})
}
