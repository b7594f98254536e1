package listener

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

func TestJudge(t *testing.T) {
	hello := string(clientHello(t, "www.baidu.com"))
	tests := []struct {
		name, in string
		tls      bool // look for TLS, beside HTTP
		want     finding
		patience time.Duration
	}{
		{"nothing yet", "", true, finding{}, slowHello},
		{"hello", hello, true, finding{tls: true, serverName: "www.baidu.com"}, 0},
		{"half a hello", hello[:100], true, finding{}, slowHello},
		{"hello where none is looked for", hello, false, finding{}, 0},
		{"request", "GET / HTTP/1.1\r\n", true, finding{application: []string{"http/1.1"}}, 0},
		{"old request", "GET / HTTP/1.0\r\n", true, finding{application: []string{"http/1.0"}}, 0},
		{"half a method", "GE", true, finding{}, slowHello},
		{"half a first line: a request so far", "GET /index", true, finding{application: []string{"http/1.1"}}, slowHello},
		{"HTTP/2 without TLS", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", true, finding{application: []string{"h2c"}}, 0},
		{"half a preface: HTTP/2 so far", "PRI * HT", true, finding{application: []string{"h2c"}}, slowHello},
		{"another protocol", "\x00\x00\x00\x08\x04\xd2\x16\x2f", true, finding{}, 0},
		{"a line that is no request", "EHLO there\r\n", true, finding{}, 0},
		{"two words", "hello world", true, finding{}, 0},
		{"two words of Redis", "GET a", true, finding{}, 0},
		{"one word", "hi", true, finding{}, hush},
		{"a method few use", "PROPFIND /", true, finding{}, hush},
		{"a request that breaks HTTP", "GET  / HTTP/1.1\r\n", true, finding{}, 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			l := sniffed(unset, "db", "db")
			l.InspectTLS = tt.tls
			got, patience := judge([]byte(tt.in), l, l.Addresses[0].Addr())
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(finding{})); diff != "" || patience != tt.patience {
				t.Errorf("judge: for %v, want %v (-want +got):\n%s", patience, tt.patience, diff)
			}
		})
	}
}

// TestWhatMeansToBeARequestIsOneWhereTheyAreDeclared has ports whose bytes go where
// nothing is declared, and others.
func TestWhatMeansToBeARequestIsOneWhereTheyAreDeclared(t *testing.T) {
	port := func(name, to string) *config.Listener {
		l := sniffed("0.0.0.0:80", to, to)
		l.Chains, l.Default = l.Chains[:1], &config.FilterChain{Name: to, TCP: &config.TCPProxy{Cluster: to}}
		l.Name = name
		return l
	}
	request := []string{"http/1.1"}
	for _, l := range []*config.Listener{port("0.0.0.0_80", xds.BlackHoleCluster), port("0.0.0.0_80", xds.PassthroughCluster), port("0.0.0.0_80", "db"), port(xds.VirtualOutbound, xds.BlackHoleCluster)} {
		requests := l.Name != xds.VirtualOutbound && l.Default.Name != "db"
		for in, patience := range map[string]time.Duration{
			"GET /a b HTTP/1.1\r\n": 0, "GET  / HTTP/1.1\r\n": 0, "GET / HTTP/1.2\r\n": 0, "GET / HTTP/2.0\r\n": 0, "G@T / HTTP/1.1\r\n": 0,
			"hello world": slowHello, "hello world\r\n": 0, "\x16\x03\x09": 0, "\x00": 0, "hi": slowHello,
		} {
			want := finding{}
			if requests && strings.Contains(in, "HTTP/") {
				want.application = request
			}
			if !requests && patience != 0 {
				if patience = 0; in == "hi" {
					patience = hush
				}
			}
			got, d := judge([]byte(in), l, netip.MustParseAddr("192.0.2.1"))
			if diff := cmp.Diff(want, got, cmp.AllowUnexported(finding{})); diff != "" || d != patience {
				t.Errorf("%s to %s: %q: for %v, want %v (-want +got):\n%s", l.Name, l.Default.Name, in, d, patience, diff)
			}
		}
	}
}

// inspected runs inspect on a pipe in a bubble of fake time. speak is what the
// caller does.
func inspected(t *testing.T, l *config.Listener, speak func(net.Conn)) (f finding, took time.Duration, rest string, err error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var sweeper transport.Sweeper
		ctx, cancel := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		defer wg.Wait()
		defer cancel()
		wg.Go(func() { sweeper.Run(ctx) })
		c := transport.New(ours, nil)
		sweeper.Adopt(c)
		wg.Go(func() { speak(theirs) })
		began := time.Now()
		f, _, err = inspect(ctx, c, l, netip.Addr{}, func() outlook { return outlook{patience: l.InspectTimeout} })
		took = time.Since(began)
		if err == nil {
			buf := make([]byte, inspectSize)
			n, _ := c.Read(buf)
			rest = string(buf[:n])
		}
		c.Close()
		theirs.Close()
	})
	return f, took, rest, err
}

func TestFault51SlowAndHugeHellosAreBounded(t *testing.T) {
	hello := string(clientHello(t, "www.baidu.com"))
	both := &config.Listener{InspectTLS: true, InspectHTTP: true}
	drip := func(s string, every time.Duration) func(net.Conn) {
		return func(c net.Conn) {
			for i := range len(s) {
				if _, err := io.WriteString(c, s[i:i+1]); err != nil {
					return
				}
				time.Sleep(every)
			}
		}
	}
	t.Run("slow but in time", func(t *testing.T) {
		f, took, rest, err := inspected(t, both, drip(hello, time.Millisecond))
		if !f.tls || f.serverName != "www.baidu.com" || rest != hello || err != nil || took > slowHello {
			t.Errorf("%+v after %v, %v", f, took, err)
		}
	})
	t.Run("too slow", func(t *testing.T) {
		f, took, rest, err := inspected(t, both, drip(hello, time.Second))
		if f.tls || err != nil || took < slowHello || took > slowHello+time.Second || !strings.HasPrefix(hello, rest) || len(rest) < 4 {
			t.Errorf("%+v after %v with %d bytes, %v", f, took, len(rest), err)
		}
	})
	t.Run("a slow request is one", func(t *testing.T) {
		f, _, rest, err := inspected(t, both, drip("GET /a-long-path HTTP/1.1\r\n", 500*time.Millisecond))
		if len(f.application) != 1 || f.application[0] != "http/1.1" || !strings.HasPrefix(rest, "GET /") || err != nil {
			t.Errorf("%+v with %q, %v", f, rest, err)
		}
	})
	t.Run("a request that is continued late is one", func(t *testing.T) {
		f, took, _, err := inspected(t, both, func(c net.Conn) { io.WriteString(c, "GET /"); time.Sleep(6 * time.Second) })
		if len(f.application) != 1 || f.application[0] != "http/1.1" || took != slowHello || err != nil {
			t.Errorf("%+v after %v, %v", f, took, err)
		}
	})
	t.Run("a word is passed on", func(t *testing.T) {
		f, took, rest, err := inspected(t, sniffed(unset, "db", "db"), func(c net.Conn) { io.WriteString(c, "hi"); time.Sleep(time.Second) })
		if f.application != nil || rest != "hi" || took != hush || err != nil {
			t.Errorf("%+v after %v with %q, %v", f, took, rest, err)
		}
	})
	t.Run("a rare method may come in pieces", func(t *testing.T) {
		f, took, _, err := inspected(t, sniffed(unset, "db", "db"), drip("M-SEARCH * HTTP/1.1\r\n", time.Millisecond))
		if len(f.application) != 1 || f.application[0] != "http/1.1" || took > hush || err != nil {
			t.Errorf("%+v after %v, %v", f, took, err)
		}
	})
	t.Run("endless", func(t *testing.T) {
		f, _, rest, err := inspected(t, both, func(c net.Conn) { io.WriteString(c, "GET /"+strings.Repeat("a", 1<<20)) })
		if len(f.application) != 1 || len(rest) != inspectSize || err != nil {
			t.Errorf("%+v with %d bytes, %v", f, len(rest), err)
		}
	})
	t.Run("ended in the middle", func(t *testing.T) {
		f, _, rest, err := inspected(t, both, func(c net.Conn) { io.WriteString(c, hello[:50]); c.Close() })
		if f.tls || rest != hello[:50] || err != nil {
			t.Errorf("%+v with %d bytes, %v", f, len(rest), err)
		}
	})
}

func TestSilenceIsWaitedForAsConfigured(t *testing.T) {
	silent := func(net.Conn) {}
	t.Run("without limit, but not for ever", func(t *testing.T) {
		_, took, _, err := inspected(t, &config.Listener{InspectHTTP: true}, silent)
		if err == nil || took < silence || took > silence+2*time.Second {
			t.Errorf("after %v: %v", took, err)
		}
	})
	t.Run("with a limit it goes on as bytes", func(t *testing.T) {
		spoke := func(c net.Conn) { time.Sleep(3 * time.Second); io.WriteString(c, "late") }
		f, took, rest, err := inspected(t, &config.Listener{InspectHTTP: true, InspectTimeout: 2 * time.Second}, spoke)
		if err != nil || f.application != nil || took != 2*time.Second || !strings.HasPrefix("late", rest) || rest == "" {
			t.Errorf("%+v after %v, then %q: %v", f, took, rest, err)
		}
	})
	t.Run("gone without a word", func(t *testing.T) {
		_, _, _, err := inspected(t, &config.Listener{InspectTLS: true}, func(c net.Conn) { c.Close() })
		if !errors.Is(err, errSilent) {
			t.Errorf("%v", err)
		}
	})
}

// requestsAnywhere is a bed with a port declared for requests to hosts without
// addresses; its other bytes are refused.
func requestsAnywhere(t *testing.T) *bed {
	t.Helper()
	return newBed(t, options{delta: func(_ *bed, d *config.Delta) {
		d.Listeners = append(d.Listeners, &config.Listener{
			Name: "0.0.0.0_80", Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")}, InspectHTTP: true,
			Chains: []*config.FilterChain{{
				Name: "http", Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.1"}},
				HTTP: &config.HTTPManager{Inline: blockAll()},
			}},
			Default: &config.FilterChain{Name: xds.BlackHoleCluster, TCP: &config.TCPProxy{Cluster: xds.BlackHoleCluster}},
		})
	}})
}

func TestARequestThatBreaksHTTPIsToldSo(t *testing.T) {
	b := requestsAnywhere(t)
	for _, said := range []string{"GET /a b HTTP/1.1", "GET  / HTTP/1.1", "GET / HTTP/1.2", "GET / HTTP/2.0", "G@T / HTTP/1.1", "GET /"} {
		c := b.dial("1.2.3.4:80")
		io.WriteString(c, said+"\r\nHost: a\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if rec := b.records.next(t); err != nil || resp.StatusCode != 400 || rec.Flags != decision.DPE {
			t.Errorf("%s: answer %v, %v; flags %v", said, resp, err, rec.Flags)
		}
	}
	c := b.dial("1.2.3.4:80")
	io.WriteString(c, "hello world\r\n")
	wantReset(t, c)
	b.records.next(t)
}

func TestAFirstLineOverTheBoundIsAnsweredAsHTTP(t *testing.T) {
	b := requestsAnywhere(t)
	c := b.dial("1.2.3.4:80")
	go io.WriteString(c, "GET /"+strings.Repeat("a", 100<<10)+" HTTP/1.1\r\nHost: a\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil || resp.StatusCode != http.StatusRequestURITooLong && resp.StatusCode != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("answer %v, %v", resp, err)
	}
	b.records.next(t)
}

// TestWhoSpeaksAtOnceCostsALook wants one allocation for a caller who has spoken:
// its bytes, kept for whoever reads next.
func TestWhoSpeaksAtOnceCostsALook(t *testing.T) {
	l := &config.Listener{InspectTLS: true, InspectHTTP: true}
	c, peer := tcpPair(t)
	request := []byte("GET / HTTP/1.1\r\n")
	ctx := t.Context()
	asked := false
	lookout := func() outlook { asked = true; return outlook{} }
	n := testing.AllocsPerRun(100, func() {
		peer.Write(request)
		for c.Alive() {
			runtime.Gosched()
		}
		f, g, err := inspect(ctx, c, l, netip.Addr{}, lookout)
		if len(f.application) != 1 || g != nil || err != nil || len(c.TakeBuffered()) != len(request) {
			t.Fatalf("%+v, %v", f, err)
		}
	})
	if n > 1 && !raceEnabled || asked {
		t.Errorf("%v allocations, looked out %v", n, asked)
	}
}

func tcpPair(t *testing.T) (*transport.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	peer, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close(); peer.Close() })
	return transport.New(c, nil), peer
}
