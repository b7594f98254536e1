package listener

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l7"
)

func TestFault69ADrainLetsConnectionsEndAndThenCutsThem(t *testing.T) {
	b := newBed(t, options{tune: func(o *Options) { o.Drain = 2 * time.Second }})
	c := b.dial("93.184.216.34:7")
	ping := func() error {
		io.WriteString(c, "x")
		_, err := io.ReadFull(c, make([]byte, 1))
		return err
	}
	if err := ping(); err != nil {
		t.Fatal(err)
	}
	b.stop()
	if err := ping(); err != nil {
		t.Errorf("a connection in use was cut at the beginning of the drain: %v", err)
	}
	wantReset(t, c)
	if err := <-b.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
	b.done <- nil
	if rec := b.records.next(t); rec.Reason != decision.Drained || rec.Flags != decision.LR || !strings.Contains(rec.Sentence(), "waited 2s") {
		t.Errorf("record %+v: %s", rec, rec.Sentence())
	}
	if c, err := net.Dial("tcp", b.ln.Addr().String()); err == nil {
		c.Close()
		t.Error("connections are still accepted")
	}
}

func TestFault69ADrainEndsThoughAnEndpointIsSilent(t *testing.T) {
	heard := make(chan struct{})
	b := newBed(t, options{
		backend: func(c net.Conn) { c.Read(make([]byte, 1)); close(heard); io.Copy(io.Discard, c) },
		tune:    func(o *Options) { o.Drain = 50 * time.Millisecond },
		delta: func(_ *bed, d *config.Delta) {
			d.Listeners = append(d.Listeners, &config.Listener{
				Name: "240.240.0.1:80", Addresses: []netip.AddrPort{netip.MustParseAddrPort("240.240.0.1:80")},
				Default: &config.FilterChain{Name: "http", HTTP: &config.HTTPManager{Inline: config.NewRouteTable("80", []*config.VirtualHost{{
					Name: "db", Domains: []string{"*"}, Routes: []*config.Route{{Name: "db", Prefix: "/", Cluster: "db"}},
				}}, nil)}},
			})
		},
	})
	c := b.dial("240.240.0.1:80")
	io.WriteString(c, "GET / HTTP/1.1\r\nHost: db\r\n\r\n")
	<-heard
	b.stop()
	wantReset(t, c)
	if err := <-b.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
	b.done <- nil
	if rec := b.records.next(t); rec.Details != "closed_by_drain" || rec.Reason != decision.Drained || !strings.Contains(rec.Sentence(), "waited 50ms") {
		t.Errorf("record %+v: %s", rec, rec.Sentence())
	}
}

// TestFault69ADrainWaitsForStreams has one in progress when connections that wait
// are closed, and finds its connection to be of HTTP/2 by itself.
func TestFault69ADrainWaitsForStreams(t *testing.T) {
	heard, answer := make(chan struct{}), make(chan struct{})
	b := newBed(t, options{
		tune: func(o *Options) { o.Drain = time.Minute },
		delta: func(b *bed, d *config.Delta) {
			l := sniffed("240.240.0.1:80", "db", "db")
			l.Chains[0].HTTP = &config.HTTPManager{Inline: config.NewRouteTable("80", []*config.VirtualHost{{
				Name: "db", Domains: []string{"*"}, Routes: []*config.Route{{Name: "db", Prefix: "/", Cluster: "db"}},
			}}, nil)}
			d.Listeners = append(d.Listeners, l)
		},
		backend: func(c net.Conn) {
			if _, err := http.ReadRequest(bufio.NewReader(c)); err != nil {
				return
			}
			close(heard)
			<-answer
			io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
		},
	})
	var http2 http.Protocols
	http2.SetUnencryptedHTTP2(true)
	client := &http.Client{Transport: &http.Transport{Protocols: &http2, DialContext: func(context.Context, string, string) (net.Conn, error) {
		return b.dial("240.240.0.1:80"), nil
	}}}
	defer client.CloseIdleConnections()
	var asking sync.WaitGroup
	asking.Go(func() {
		res, err := client.Get("http://db/")
		if err != nil {
			t.Error(err)
			return
		}
		defer res.Body.Close()
		if body, err := io.ReadAll(res.Body); err != nil || string(body) != "ok" {
			t.Errorf("answer %q, %v", body, err)
		}
	})
	<-heard
	b.stop()
	// There is nothing to see when connections that wait are closed.
	time.Sleep(l7.DrainGrace + l7.DrainGrace/2)
	close(answer)
	asking.Wait()
	if rec := b.records.next(t); rec.Protocol != decision.HTTP2 || rec.Status != 200 || rec.Flags != 0 {
		t.Errorf("record %+v", rec)
	}
	if err := <-b.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
	b.done <- nil
}

// toDB is a listener whose requests all go to cluster db.
func toDB(_ *bed, d *config.Delta) {
	d.Listeners = append(d.Listeners, &config.Listener{
		Name: "240.240.0.1:80", Addresses: []netip.AddrPort{netip.MustParseAddrPort("240.240.0.1:80")},
		Default: &config.FilterChain{Name: "http", HTTP: &config.HTTPManager{Inline: config.NewRouteTable("80", []*config.VirtualHost{{
			Name: "db", Domains: []string{"*"}, Routes: []*config.Route{{Name: "db", Prefix: "/", Cluster: "db"}},
		}}, nil)}},
	})
}

// TestFault69ADrainFailsNoRequest begins a drain while requests are with their
// endpoint, beside a connection that only waits and one of bytes.
func TestFault69ADrainFailsNoRequest(t *testing.T) {
	const n = 20
	heard, answer := make(chan struct{}, n+1), make(chan struct{})
	b := newBed(t, options{
		tune:  func(o *Options) { o.Drain = time.Minute },
		delta: toDB,
		backend: func(c net.Conn) {
			r := bufio.NewReader(c)
			for {
				req, err := http.ReadRequest(r)
				if err != nil {
					return
				}
				if req.URL.Path == "/slow" {
					heard <- struct{}{}
					<-answer
				}
				io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
			}
		},
	})
	ask := func(c net.Conn, path string) error {
		_, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: db\r\n\r\n", path)
		return err
	}
	hear := func(r *bufio.Reader, wantClose bool) error {
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			return err
		}
		body, err := io.ReadAll(resp.Body)
		if string(body) != "ok" || resp.Close != wantClose {
			return fmt.Errorf("answer %v with %q, %w", resp, body, err)
		}
		return err
	}
	idle := b.dial("240.240.0.1:80")
	idleReader := bufio.NewReader(idle)
	if err := errors.Join(ask(idle, "/"), hear(idleReader, false)); err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	for range n {
		c := b.dial("240.240.0.1:80")
		if err := ask(c, "/slow"); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			if err := hear(bufio.NewReader(c), true); err != nil {
				t.Errorf("a request in progress: %v", err)
			}
		})
		<-heard
	}
	b.stop()
	if _, err := idleReader.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the connection that waited: %v, want its end", err)
	}
	close(answer)
	wg.Wait()
	// Nothing is left to wait for: the deadline is a minute away.
	if err := <-b.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
	b.done <- nil
	for range n + 1 {
		if rec := b.records.next(t); rec.Status != 200 || rec.Flags != 0 {
			t.Errorf("record %+v", rec)
		}
	}
}

// TestFault69ADrainHearsWhatIsOnItsWay begins a drain while callers whose first
// bytes decide have sent none, or half of them.
func TestFault69ADrainHearsWhatIsOnItsWay(t *testing.T) {
	b := newBed(t, options{tune: func(o *Options) { o.Drain = time.Minute }, delta: func(_ *bed, d *config.Delta) {
		d.Listeners = append(d.Listeners, sniffed("0.0.0.0:80", "db", "db"))
	}})
	silent, half, mute := b.dial("203.0.113.1:80"), b.dial("203.0.113.1:80"), b.dial("203.0.113.1:80")
	io.WriteString(half, "\x16\x03\x01")
	for b.listener.Open() < 3 {
		time.Sleep(time.Millisecond)
	}
	b.stop()
	// Longer than it takes to close what waits: there is nothing to see.
	time.Sleep(50 * time.Millisecond)
	io.WriteString(silent, "\x00hello")
	wantSaid(t, silent, "\x00hello")
	silent.Close()
	io.WriteString(half, "\x00\x00no record")
	wantSaid(t, half, "\x16\x03\x01\x00\x00no record")
	half.Close()
	for range 2 {
		if rec := b.records.next(t); rec.Reason != decision.OK {
			t.Errorf("record %+v", rec)
		}
	}
	// Who says nothing is not waited for: the deadline is a minute away.
	if _, err := mute.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("read: %v", err)
	}
	if rec := b.records.next(t); rec.Details != "closed_by_drain" {
		t.Errorf("record %+v", rec)
	}
	if err := <-b.done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
	b.done <- nil
}

func TestFault64TheConnectionsOverTheLimitAreRefusedByName(t *testing.T) {
	var told strings.Builder
	var mu sync.Mutex // slog has one, but reading does not take it
	b := newBed(t, options{tune: func(o *Options) {
		o.Limit = 2
		o.Logger = slog.New(slog.NewTextHandler(writer(func(p []byte) (int, error) {
			mu.Lock()
			defer mu.Unlock()
			return told.Write(p)
		}), nil))
	}})
	ping := func(c net.Conn) {
		t.Helper()
		io.WriteString(c, "x")
		wantSaid(t, c, "x")
	}
	one, two := b.dial("93.184.216.34:7"), b.dial("93.184.216.34:7")
	ping(one)
	ping(two)
	for range 3 {
		b.wantRefused(t, "93.184.216.34:7")
		rec := b.records.next(t)
		if rec.Reason != decision.Overload || rec.Flags != decision.OM || rec.Details != "connection_limit" || rec.Original.Port() != 7 ||
			!strings.Contains(rec.Sentence(), "2 connections are served already") {
			t.Errorf("record %+v: %s", rec, rec.Sentence())
		}
	}
	ping(one) // those in progress are left alone
	two.Close()
	b.records.next(t)
	three := b.dial("93.184.216.34:7")
	ping(three)
	b.wantRefused(t, "93.184.216.34:7")
	b.records.next(t)
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(told.String(), "refusing connections"); n != 1 {
		t.Errorf("told %d times, want once while the limit is close:\n%s", n, told.String())
	}
	for _, c := range []net.Conn{one, three} {
		c.Close()
	}
}

// TestFault64RequestsOverTheLimitAreAnswered asks where requests are answered by
// the proxy itself: the one too many is told why.
func TestFault64RequestsOverTheLimitAreAnswered(t *testing.T) {
	b := newBed(t, options{closed: true, tune: func(o *Options) { o.Limit = 1 }})
	const ask = "GET / HTTP/1.1\r\nHost: undeclared.example\r\n\r\n"
	one := b.dial("93.184.216.34:80")
	io.WriteString(one, ask)
	from := bufio.NewReader(one)
	if res, err := http.ReadResponse(from, nil); err != nil || res.StatusCode != 502 {
		t.Fatal(res, err)
	} else if _, err := io.Copy(io.Discard, res.Body); err != nil {
		t.Fatal(err)
	}
	b.records.next(t)
	two := b.dial("93.184.216.34:80")
	defer two.Close()
	io.WriteString(two, ask)
	res, err := http.ReadResponse(bufio.NewReader(two), nil)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != 503 || !res.Close || !strings.Contains(string(body), "1 connections are served already") {
		t.Errorf("%d %t %q, %v", res.StatusCode, res.Close, body, err)
	}
	if rec := b.records.next(t); rec.Flags != decision.OM || rec.Details != "connection_limit" || rec.Status != 503 {
		t.Errorf("record %+v", rec)
	}
	one.Close()
}

func TestATenthAboveTheLimitNobodyIsHeard(t *testing.T) {
	l := New(Options{Limit: 20, Logger: slog.New(slog.DiscardHandler)})
	for n := 1; n <= 30; n++ {
		want := some
		switch {
		case n > 22:
			want = none
		case n > 20:
			want = word
		}
		if got := l.enter(); got != want || l.Open() != n {
			t.Errorf("connection %d of %d: room %d, want %d", n, l.Open(), got, want)
		}
	}
	if got := New(Options{}).enter(); got != some {
		t.Error("no limit is a limit")
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

// TestASocketThatCannotBeServedIsClosed, and who waits for that is told.
func TestASocketThatCannotBeServedIsClosed(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	told := 0
	l := New(Options{Closed: func() { told++ }})
	var was unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &was); err != nil {
		t.Fatal(err)
	}
	if err := unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Max: was.Max}); err != nil {
		t.Fatal(err)
	}
	err = l.Serve(t.Context(), ln)
	if again := unix.Setrlimit(unix.RLIMIT_NOFILE, &was); again != nil {
		t.Fatal(again)
	}
	if !errors.Is(err, syscall.EMFILE) || !strings.Contains(err.Error(), ln.Addr().String()) || told != 1 {
		t.Errorf("Serve = %v, told %d times", err, told)
	}
	if c, err := net.Dial("tcp", ln.Addr().String()); err == nil {
		c.Close()
		t.Error("it still listens")
	}
}

// scarce fails to accept a few times.
type scarce struct {
	net.Listener
	errs []error
}

func (s *scarce) Accept() (net.Conn, error) {
	if len(s.errs) > 0 {
		err := s.errs[0]
		s.errs = s.errs[1:]
		return nil, err
	}
	return s.Listener.Accept()
}

func TestFault64AcceptPausesWithoutDescriptorsAndGoesOn(t *testing.T) {
	var told strings.Builder
	b := newBed(t, options{
		wrap: func(ln net.Listener) net.Listener {
			return &scarce{ln, []error{&net.OpError{Op: "accept", Err: syscall.EMFILE}, &net.OpError{Op: "accept", Err: syscall.ENFILE}}}
		},
		tune: func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(&told, nil)) },
	})
	c := b.dial("93.184.216.34:7")
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Error(err)
	}
	c.Close()
	b.records.next(t)
	if n := strings.Count(told.String(), "cannot accept"); n != 1 {
		t.Errorf("told %d times, want once per episode:\n%s", n, told.String())
	}
}

// starved has no descriptor for the next connection until it is fed. As in a
// real backlog the connection waits.
type starved struct {
	net.Listener
	fed   atomic.Bool
	tries atomic.Int64
	waits net.Conn
}

func (s *starved) Accept() (c net.Conn, err error) {
	if s.waits == nil {
		if s.waits, err = s.Listener.Accept(); err != nil {
			return nil, err
		}
	}
	if !s.fed.Load() {
		s.tries.Add(1)
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	c, s.waits = s.waits, nil
	return c, nil
}

func TestFault64WhatIsServedGoesOnWhileNothingIsAccepted(t *testing.T) {
	var s *starved
	b := newBed(t, options{wrap: func(ln net.Listener) net.Listener {
		s = &starved{Listener: ln}
		s.fed.Store(true)
		return s
	}})
	ping := func(c net.Conn) {
		t.Helper()
		io.WriteString(c, "x")
		wantSaid(t, c, "x")
	}
	c := b.dial("93.184.216.34:7")
	ping(c)
	s.fed.Store(false)
	late := b.dial("93.184.216.34:7")
	for s.tries.Load() < 4 {
		ping(c)
	}
	s.fed.Store(true)
	ping(late) // it has waited
	c.Close()
	late.Close()
	for range 2 {
		b.records.next(t)
	}
}

func TestFault64PausesGrowToASecondAndBeginAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var p pause
		var took []time.Duration
		for range 10 {
			began := time.Now()
			if p.begins() != (len(took) == 0) || !p.sleep(t.Context()) {
				t.Error("the beginning of an episode was told wrongly, or the pause was cut short")
			}
			took = append(took, time.Since(began))
		}
		ms := time.Millisecond
		if diff := cmp.Diff([]time.Duration{5 * ms, 10 * ms, 20 * ms, 40 * ms, 80 * ms, 160 * ms, 320 * ms, 640 * ms, maxPause, maxPause}, took); diff != "" {
			t.Error(diff)
		}
		if n := p.over(); n != 10 || !p.begins() {
			t.Errorf("%d pauses", n)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if p.sleep(ctx) {
			t.Error("a pause outlived its context")
		}
	})
}

func TestFault71APanicCostsOneConnection(t *testing.T) {
	panics := true
	b := newBed(t, options{tune: func(o *Options) {
		o.NameOf = func(netip.Addr) string {
			if panics {
				panics = false
				panic("fault on purpose")
			}
			return ""
		}
	}})
	b.wantRefused(t, "93.184.216.34:7")
	if rec := b.records.next(t); rec.Reason != decision.Internal {
		t.Errorf("record %+v", rec)
	}
	c := b.dial("93.184.216.34:7")
	io.WriteString(c, "x")
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Errorf("the next connection: %v", err)
	}
	c.Close()
	b.records.next(t)
}
