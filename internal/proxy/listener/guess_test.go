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
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l4"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

// sniffed is a listener for a port without a protocol: requests are answered
// with 502, TLS for other.test goes to one cluster, everything else to another.
func sniffed(at, bytesTo, tlsTo string) *config.Listener {
	return &config.Listener{
		Name: at, Addresses: []netip.AddrPort{netip.MustParseAddrPort(at)}, InspectTLS: true, InspectHTTP: true,
		Chains: []*config.FilterChain{
			{Name: "http", Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.0", "http/1.1", "h2c"}}, HTTP: &config.HTTPManager{Inline: blockAll()}},
			{Name: "bytes", Match: config.Match{Transport: "raw_buffer"}, TCP: &config.TCPProxy{Cluster: bytesTo}},
			{Name: "named", Match: config.Match{Transport: "tls", ServerNames: []string{"other.test"}}, TCP: &config.TCPProxy{Cluster: tlsTo}},
			{Name: "tls", Match: config.Match{Transport: "tls"}, TCP: &config.TCPProxy{Cluster: bytesTo}},
		},
	}
}

const unset = "240.240.0.1:9000" // a port without a protocol

// A player is a server that a test plays: it notes the connections that come to it and leaves the talking.
type player struct{ conns chan net.Conn }

// guessing is a bed with such a port, behind which is a server that a test plays.
func guessing(t *testing.T, tune func(*config.Listener)) (*bed, player) {
	t.Helper()
	s := player{make(chan net.Conn, 100)}
	over := make(chan struct{})
	b := newBed(t, options{
		backend: func(c net.Conn) { s.conns <- c; <-over },
		delta: func(_ *bed, d *config.Delta) {
			l := sniffed(unset, "db", "dead")
			if tune != nil {
				tune(l)
			}
			d.Listeners = append(d.Listeners, l)
		},
	})
	t.Cleanup(func() { close(over) }) // before the bed's
	return b, s
}

// asked waits for a connection.
func (s player) asked(t *testing.T) net.Conn {
	t.Helper()
	select {
	case c := <-s.conns:
		c.SetDeadline(time.Now().Add(patience))
		t.Cleanup(func() { c.Close() })
		return c
	case <-time.After(patience):
		t.Fatal("the server was not asked")
		return nil
	}
}

// wantUnused wants a connection on which nothing was said to its end.
func wantUnused(t *testing.T, c net.Conn) {
	t.Helper()
	if said, err := io.ReadAll(c); err != nil || len(said) > 0 {
		t.Errorf("a server that should not be talked to heard %q, %v", said, err)
	}
}

// wantRequest wants requests on c to be served as such.
func (b *bed) wantRequest(c net.Conn) {
	b.t.Helper()
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusBadGateway {
		b.t.Errorf("answer %v, %v", resp, err)
	}
	if rec := b.records.next(b.t); rec.Chain != "http" || rec.Status != 502 || rec.Endpoint.IsValid() || rec.Tries != 0 {
		b.t.Errorf("record %+v", rec)
	}
}

func wantSaid(t *testing.T, c net.Conn, want string) {
	t.Helper()
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil || string(got) != want {
		t.Errorf("heard %q, %v; want %q", got[:n], err, want)
	}
}

// idleLoad wants no connection counted on an endpoint of db, once those that were
// recorded have been put away.
func (b *bed) idleLoad() {
	b.t.Helper()
	busy := func(e cluster.State) bool { return e.Active != 0 }
	for end := time.Now().Add(patience); slices.ContainsFunc(b.set.Get("db").Endpoints(), busy); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			b.t.Fatalf("still counted: %+v", b.set.Get("db").Endpoints())
		}
	}
}

func TestFault51AServerSpeaksFirstOnAPortWithoutProtocol(t *testing.T) {
	b, s := guessing(t, nil)
	c := b.dial(unset)
	up := s.asked(t)
	io.WriteString(up, "5.7.42 welcome\n")
	wantSaid(t, c, "5.7.42 welcome\n")
	io.WriteString(c, "login")
	wantSaid(t, up, "login")
	io.WriteString(up, "ok")
	up.Close()
	if rest, err := io.ReadAll(c); string(rest) != "ok" || err != nil {
		t.Errorf("then %q, %v", rest, err)
	}
	c.Close()
	rec := b.records.next(t)
	if rec.Reason != decision.OK || rec.Flags != 0 || rec.Chain != "bytes" || rec.Cluster != "db" || rec.Entry.Name != "db" || rec.Endpoint != b.backend ||
		rec.Tries != 1 || rec.Received != 5 || rec.Sent != 17 || !rec.Upstream.IsValid() || rec.Protocol != decision.TCP || rec.Listener != unset {
		t.Errorf("record %+v", rec)
	}
	b.idleLoad()
}

// TestAnIdleRequestConnectionStaysOne speaks only after the server was asked.
func TestAnIdleRequestConnectionStaysOne(t *testing.T) {
	b, s := guessing(t, nil)
	c := b.dial(unset)
	up := s.asked(t)
	b.wantRequest(c)
	wantUnused(t, up)
	b.idleLoad()
}

func TestWhoSpeaksAtOnceAsksNobody(t *testing.T) {
	b, s := guessing(t, nil)
	b.wantRequest(b.dial(unset))
	if len(s.conns) != 0 {
		t.Error("a server was asked")
	}
}

func TestWordsThatAreNoRequestReachTheirServer(t *testing.T) {
	b, s := guessing(t, nil)
	for _, said := range []string{"hello world", "get a", "GET a", "hi", "PING\r\n"} {
		c := b.dial(unset)
		io.WriteString(c, said)
		up := s.asked(t)
		wantSaid(t, up, said)
		io.WriteString(up, "yes")
		wantSaid(t, c, "yes")
		c.Close()
		up.Close()
		if rec := b.records.next(t); rec.Reason != decision.OK || rec.Chain != "bytes" || rec.Protocol != decision.TCP {
			t.Errorf("%s: record %+v", said, rec)
		}
	}
}

func TestBytesAfterSilenceTakeTheConnectionAtHand(t *testing.T) {
	b, s := guessing(t, nil)
	c := b.dial(unset)
	up := s.asked(t)
	io.WriteString(c, "\x00hello")
	wantSaid(t, up, "\x00hello")
	io.WriteString(up, "hello you")
	wantSaid(t, c, "hello you")
	c.Close()
	up.Close()
	if rec := b.records.next(t); rec.Reason != decision.OK || rec.Chain != "bytes" || rec.Tries != 1 || rec.Received != 6 || len(s.conns) != 0 {
		t.Errorf("record %+v, %d more connections", rec, len(s.conns))
	}
	b.idleLoad()
}

func TestTLSAfterSilenceGoesByItsName(t *testing.T) {
	b, s := guessing(t, nil)
	t.Run("elsewhere", func(t *testing.T) {
		c := b.dial(unset)
		up := s.asked(t)
		c.Write(clientHello(t, "other.test"))
		wantReset(t, c) // nobody listens there
		wantUnused(t, up)
		if rec := b.records.next(t); rec.Chain != "named" || rec.Cluster != "dead" || rec.SNI != "other.test" {
			t.Errorf("record %+v", rec)
		}
	})
	t.Run("where the bytes go, too", func(t *testing.T) {
		c := b.dial(unset)
		up := s.asked(t)
		hello := clientHello(t, "any.test")
		c.Write(hello)
		wantSaid(t, up, string(hello))
		c.Close()
		up.Close()
		if rec := b.records.next(t); rec.Chain != "tls" || rec.SNI != "any.test" || len(s.conns) != 0 {
			t.Errorf("record %+v, %d more connections", rec, len(s.conns))
		}
	})
}

func TestWhatBecomesOfAGuessIsNoNewsToASilentCaller(t *testing.T) {
	for name, end := range map[string]func(net.Conn){
		"closed":        func(c net.Conn) { c.Close() },
		"reset":         func(c net.Conn) { c.(*net.TCPConn).SetLinger(0); c.Close() },
		"408":           func(c net.Conn) { io.WriteString(c, "HTTP/1.1 408 Request Timeout\r\n\r\n"); c.Close() },
		"HTTP/2 begins": func(c net.Conn) { c.Write([]byte("\x00\x00\x00\x04\x00\x00\x00\x00\x00")) },
	} {
		t.Run(name, func(t *testing.T) {
			b, s := guessing(t, nil)
			gone := func() net.Conn {
				c := b.dial(unset)
				end(s.asked(t))
				c.SetReadDeadline(time.Now().Add(100 * time.Millisecond))
				if _, err := c.Read(make([]byte, 1)); !isTimeout(err) {
					t.Errorf("the caller was told %v", err)
				}
				c.SetReadDeadline(time.Now().Add(patience))
				b.idleLoad() // it has been noticed
				return c
			}
			b.wantRequest(gone())
			c := gone()
			io.WriteString(c, "\x00hello")
			up := s.asked(t) // anew
			wantSaid(t, up, "\x00hello")
			c.Close()
			up.Close()
			if rec := b.records.next(t); rec.Reason != decision.OK || rec.Chain != "bytes" || rec.Tries != 1 {
				t.Errorf("record %+v", rec)
			}
			b.idleLoad()
		})
	}
}

func isTimeout(err error) bool {
	var timeout net.Error
	return errors.As(err, &timeout) && timeout.Timeout()
}

func TestAnEndpointThatRefusesAGuessFailsBytesAlone(t *testing.T) {
	b, s := guessing(t, func(l *config.Listener) {
		l.InspectTimeout = 20 * time.Millisecond
		l.Chains[1].TCP, l.Chains[3].TCP = &config.TCPProxy{Cluster: "dead"}, &config.TCPProxy{Cluster: "dead"}
	})
	silent := func() net.Conn {
		c := b.dial(unset)
		time.Sleep(100 * time.Millisecond) // refused meanwhile
		return c
	}
	b.wantRequest(silent())
	c := silent()
	io.WriteString(c, "\x00hello")
	wantReset(t, c)
	if rec := b.records.next(t); rec.Reason != decision.ConnectFailed || rec.Cluster != "dead" || rec.Tries != 1 || !strings.Contains(rec.Sentence(), "connection refused") {
		t.Errorf("record %+v: %s", rec, rec.Sentence())
	}
	if len(s.conns) != 0 {
		t.Error("another server was asked")
	}
}

func TestAGuessEndsWithItsCaller(t *testing.T) {
	b, s := guessing(t, nil)
	c := b.dial(unset)
	up := s.asked(t)
	c.Close()
	wantUnused(t, up)
	if rec := b.records.next(t); rec.Flags != decision.DC || rec.Cluster != "" || rec.Endpoint.IsValid() {
		t.Errorf("record %+v", rec)
	}
	b.idleLoad()
}

func TestAGuessEndsWithADrain(t *testing.T) {
	b, s := guessing(t, nil)
	b.dial(unset)
	up := s.asked(t)
	b.stop()
	wantUnused(t, up)
	if rec := b.records.next(t); rec.Details != "closed_by_drain" || rec.Flags != 0 {
		t.Errorf("record %+v", rec)
	}
}

// TestSilenceOnAnUndeclaredAddressAsksIt is a port on which requests are
// declared for hosts without addresses, under ALLOW_ANY.
func TestSilenceOnAnUndeclaredAddressAsksIt(t *testing.T) {
	requests := func(to string) func(*bed, *config.Delta) {
		return func(_ *bed, d *config.Delta) {
			l := sniffed("0.0.0.0:80", to, to)
			l.Chains = l.Chains[:1]
			l.Default = &config.FilterChain{Name: to, TCP: &config.TCPProxy{Cluster: to}}
			d.Listeners = append(d.Listeners, l)
		}
	}
	greets := func(c net.Conn) { io.WriteString(c, "hello\n"); io.Copy(io.Discard, c) }
	b := newBed(t, options{backend: greets, delta: requests(xds.PassthroughCluster)})
	c := b.dial("203.0.113.1:80")
	wantSaid(t, c, "hello\n")
	c.Close()
	if rec := b.records.next(t); rec.Cluster != xds.PassthroughCluster || rec.Reason != decision.OK {
		t.Errorf("record %+v", rec)
	}
}

func TestSilent(t *testing.T) {
	forAll := func(to string) *config.Listener {
		l := sniffed("0.0.0.0:80", to, to)
		l.Chains = l.Chains[:1]
		l.Default = &config.FilterChain{Name: to, TCP: &config.TCPProxy{Cluster: to}}
		return l
	}
	timed := func(l *config.Listener, d time.Duration) *config.Listener { l.InspectTimeout = d; return l }
	outbound := func(d time.Duration) *config.Listener {
		l := timed(forAll(xds.BlackHoleCluster), d)
		l.Name = xds.VirtualOutbound
		return l
	}
	byName := &config.Listener{InspectTLS: true, Chains: []*config.FilterChain{
		{Match: config.Match{Transport: "tls", ServerNames: []string{"a"}}, TCP: &config.TCPProxy{Cluster: "a"}},
	}}
	ranged := forAll(xds.PassthroughCluster)
	ranged.Chains = append(ranged.Chains, &config.FilterChain{
		Match: config.Match{Prefixes: []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}}, TCP: &config.TCPProxy{Cluster: "db"},
	})
	tests := []struct {
		name         string
		l            *config.Listener
		dst          string
		closed, held bool
		waits        bool
		patience     time.Duration
		ask          string
	}{
		{"a port for bytes", tcpListener("192.0.2.1:5432", "db"), "192.0.2.1", false, false, false, 0, ""},
		{"no protocol", sniffed(unset, "db", "x"), "240.240.0.1", false, false, true, hush, "db"},
		{"no protocol, closed", sniffed(unset, "db", "x"), "240.240.0.1", true, false, true, hush, "db"},
		{"as configured", timed(sniffed(unset, "db", "x"), time.Second), "240.240.0.1", false, false, true, time.Second, "db"},
		{"held by another", sniffed(unset, "db", "x"), "240.240.0.1", false, true, true, 0, ""},
		{"requests anywhere", forAll(xds.PassthroughCluster), "192.0.2.1", false, false, true, hush, xds.PassthroughCluster},
		{"requests anywhere, closed", forAll(xds.BlackHoleCluster), "192.0.2.1", true, false, true, 0, ""},
		{"requests anywhere, closed, as configured", timed(forAll(xds.BlackHoleCluster), time.Minute), "192.0.2.1", true, false, true, time.Minute, ""},
		{"undeclared, closed", outbound(0), "192.0.2.1", true, false, true, refusal, ""},
		{"undeclared, closed, as configured", outbound(time.Millisecond), "192.0.2.1", true, false, true, time.Millisecond, ""},
		{"names, nothing else", byName, "192.0.2.1", false, false, true, 0, ""},
		{"a range for bytes beside requests", ranged, "192.0.2.1", false, false, false, 0, ""},
		{"requests beside a range for bytes", ranged, "198.51.100.1", false, false, true, hush, xds.PassthroughCluster},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Silent(tt.l, netip.MustParseAddr(tt.dst), tt.closed, tt.held)
			ask := ""
			if got.Ask != nil {
				ask = got.Ask.TCP.Cluster
			}
			if got.Waits != tt.waits || got.Patience != tt.patience || ask != tt.ask {
				t.Errorf("waits %v for %v, then asks %q", got.Waits, got.Patience, ask)
			}
		})
	}
}

// TestAGuessInProgress ends guesses whose connection is not made yet.
func TestAGuessInProgress(t *testing.T) {
	b := newBed(t, options{})
	chain := &config.TCPProxy{Cluster: "db"}
	begin := func(t *testing.T) (g *guess, made chan bool) {
		t.Helper()
		ours, theirs := net.Pipe()
		t.Cleanup(func() { ours.Close(); theirs.Close() })
		ctx, cancel := context.WithCancel(t.Context())
		g = &guess{down: transport.New(ours, nil), chain: chain, cancel: cancel, done: make(chan struct{})}
		made = make(chan bool)
		connect := func() (l4.Upstream, bool) {
			switch well := <-made; {
			case !well:
				return l4.Upstream{}, false
			case ctx.Err() != nil:
				ctx = t.Context() // it was made a moment before the guess was dropped
			}
			return l4.Connect(ctx, chain, b.set, &g.rec)
		}
		go g.run(connect, slog.New(slog.DiscardHandler))
		return g, made
	}
	t.Run("dropped, then made", func(t *testing.T) {
		g, made := begin(t)
		g.drop()
		g.drop()
		made <- true
		<-g.done
		b.idleLoad()
	})
	t.Run("taken, then made", func(t *testing.T) {
		g, made := begin(t)
		go func() { made <- true }()
		up, ok := g.take(&config.TCPProxy{Cluster: "db"})
		if !ok {
			t.Fatal("not taken")
		}
		g.drop() // does nothing any more
		io.WriteString(up.Conn, "x")
		wantSaid(t, up.Conn, "x")
		up.Close()
		b.idleLoad()
	})
	t.Run("taken, then refused", func(t *testing.T) {
		g, made := begin(t)
		go func() { made <- false }()
		if _, ok := g.take(chain); ok {
			t.Error("taken")
		}
	})
	t.Run("another chain wants it", func(t *testing.T) {
		g, made := begin(t)
		if _, ok := g.take(&config.TCPProxy{Cluster: "db", Entry: mesh.Ref{Name: "x"}}); ok {
			t.Error("taken")
		}
		made <- true
		<-g.done
		b.idleLoad()
	})
	t.Run("none", func(t *testing.T) {
		var g *guess
		g.drop()
		if _, ok := g.take(chain); ok {
			t.Error("taken")
		}
	})
}

func TestFault71APanicWhileGuessingCostsTheGuess(t *testing.T) {
	var told strings.Builder
	g := &guess{cancel: func() {}, done: make(chan struct{}), chain: &config.TCPProxy{}}
	g.run(func() (l4.Upstream, bool) { panic("fault on purpose") }, slog.New(slog.NewTextHandler(&told, nil)))
	if _, ok := g.take(g.chain); ok || !strings.Contains(told.String(), "fault on purpose") {
		t.Errorf("taken %v, told %q", ok, told.String())
	}
}

// TestFault51TheDeclaredProtocolDecides sends what a port does not expect.
func TestFault51TheDeclaredProtocolDecides(t *testing.T) {
	ports := func(rest string) func(*bed, *config.Delta) {
		return func(_ *bed, d *config.Delta) {
			requests := sniffed("0.0.0.0:80", rest, rest)
			requests.Chains = requests.Chains[:1]
			requests.InspectTLS = false
			secure := &config.Listener{
				Name: "0.0.0.0:443", Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:443")}, InspectTLS: true,
				Chains: []*config.FilterChain{
					{Name: "h2", Match: config.Match{ServerNames: []string{"db.test"}, Transport: "tls", Applications: []string{"h2"}}, TCP: &config.TCPProxy{Cluster: "db"}},
					{Name: "name", Match: config.Match{ServerNames: []string{"www.test"}, Transport: "tls"}, TCP: &config.TCPProxy{Cluster: "db"}},
				},
			}
			for _, l := range []*config.Listener{requests, secure} {
				l.Default = &config.FilterChain{Name: rest, TCP: &config.TCPProxy{Cluster: rest}}
				d.Listeners = append(d.Listeners, l)
			}
		}
	}
	h2 := &tls.Config{ServerName: "db.test", NextProtos: []string{"http/1.1", "h2"}}
	h1 := &tls.Config{ServerName: "db.test", NextProtos: []string{"http/1.1"}}
	tests := []struct {
		name, to  string
		says      []byte
		chain     string // where it goes if what is undeclared may pass
		protocol  decision.Protocol
		ifRefused string // and if not
	}{
		{"TLS on 80", "192.0.2.1:80", clientHello(t, "www.test"), xds.PassthroughCluster, decision.TCP, xds.BlackHoleCluster},
		{"bytes on 80", "192.0.2.1:80", []byte("\x00\x01"), xds.PassthroughCluster, decision.TCP, xds.BlackHoleCluster},
		{"a request on 443", "192.0.2.1:443", []byte("GET / HTTP/1.1\r\n\r\n"), xds.PassthroughCluster, decision.TCP, xds.BlackHoleCluster},
		{"bytes on 443", "192.0.2.1:443", []byte("\x00\x01"), xds.PassthroughCluster, decision.TCP, xds.BlackHoleCluster},
		{"a broken hello", "192.0.2.1:443", []byte("\x16\x03\x01\x00\x05\x02\x00\x00\x01\x00"), xds.PassthroughCluster, decision.TCP, xds.BlackHoleCluster},
		{"a name", "192.0.2.1:443", clientHello(t, "www.test"), "name", decision.TLS, "name"},
		{"another name", "192.0.2.1:443", clientHello(t, "evil.test"), xds.PassthroughCluster, decision.TLS, xds.BlackHoleCluster},
		{"a name that wants h2", "192.0.2.1:443", helloOf(t, h2), "h2", decision.TLS, "h2"},
		{"a name whose chain wants h2", "192.0.2.1:443", helloOf(t, h1), xds.PassthroughCluster, decision.TLS, xds.BlackHoleCluster},
	}
	for _, closed := range []bool{false, true} {
		rest := xds.PassthroughCluster
		if closed {
			rest = xds.BlackHoleCluster
		}
		b := newBed(t, options{closed: closed, delta: ports(rest)})
		for _, tt := range tests {
			c := b.dial(tt.to)
			c.Write(tt.says)
			want := tt.chain
			if closed {
				want = tt.ifRefused
			}
			if want == xds.BlackHoleCluster {
				if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("%s: %v, want a reset", tt.name, err)
				}
			} else {
				wantSaid(t, c, string(tt.says))
			}
			c.Close()
			rec := b.records.next(t)
			if rec.Chain != want || rec.Protocol != tt.protocol || (rec.Reason == decision.NotDeclared) != (want == xds.BlackHoleCluster) {
				t.Errorf("%s: record %+v; want chain %s", tt.name, rec, want)
			}
		}
	}
}
