package l7

import (
	"context"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// narrow is a server of Go's that lets so many streams be open at once on each
// connection. It counts its connections.
func narrow(t *testing.T, most uint32, h http.HandlerFunc) (addr netip.AddrPort, conns *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	conns = new(atomic.Int32)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			defer context.AfterFunc(ctx, func() { c.Close() })()
			wg.Go(func() { (&http2.Server{MaxConcurrentStreams: most}).ServeConn(c, &http2.ServeConnOpts{Handler: h}) }) //nolint:staticcheck // SA1019: net/http has no way to bound the streams
		}
	})
	t.Cleanup(func() { ln.Close(); cancel(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort(), conns
}

// An endpoint says with its settings how many streams it takes. A burst on a new
// connection that does not wait for them is refused for the most part.
func TestABurstMeetsAnEndpointThatTakesOneStreamAtATime(t *testing.T) {
	const burst = 50
	addr, _ := narrow(t, 1, func(http.ResponseWriter, *http.Request) {})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2})
	f := r.frames()
	for i := range burst {
		f.head(uint32(1+2*i), true, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example")
	}
	for range burst {
		if rec := r.record(); rec.Status != 200 || rec.Flags != 0 {
			t.Errorf("record %d %s %s %s", rec.Status, rec.Flags, rec.Details, rec.Err)
		}
	}
}

// One that takes none is dialled so often as there are tries, and no more.
func TestAnEndpointThatTakesNoStreamsIsGivenUp(t *testing.T) {
	var conns atomic.Int32
	none := func(f *framer) {
		conns.Add(1)
		f.serve(func(id uint32) { f.must(f.WriteRSTStream(id, http2.ErrCodeRefusedStream)) })
	}
	var scripts []func(f *framer)
	for range 200 {
		scripts = append(scripts, none)
	}
	addr := newEndpoint2(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 0}}, scripts...)
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2})
	f := r.frames()
	const burst = 10
	for i := range burst {
		f.get(uint32(1+2*i), "/")
	}
	for range burst {
		if rec := r.record(); rec.Status != 503 || !strings.HasSuffix(rec.Details, "{remote_refused_stream_reset}") {
			t.Errorf("record %d %s %s", rec.Status, rec.Details, rec.Err)
		}
	}
	if n := conns.Load(); n > burst*6 {
		t.Errorf("%d connections for %d requests", n, burst)
	}
}

// One that gives each connection up at once and ends it refused what it was sent,
// whether its word or the end is met first.
func TestAnEndpointThatGivesEachConnectionUpRefuses(t *testing.T) {
	for name, read := range map[string]bool{"after the request came": true, "at once": false} {
		t.Run(name, func(t *testing.T) {
			leaving := func(f *framer) {
				if read {
					f.request()
				}
				f.must(f.WriteGoAway(0, http2.ErrCodeNo, nil))
				_ = f.c.CloseWrite() // the proxy may be gone first
				_, _ = io.Copy(io.Discard, f.c.r)
			}
			const tries = 20
			var scripts []func(f *framer)
			for range 5 * tries {
				scripts = append(scripts, leaving)
			}
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint2(t, nil, scripts...)}, http: config.HTTP2})
			c := r.dial()
			for range tries {
				c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 0\r\n\r\n")
				c.answer("POST")
				if rec := r.record(); rec.Status != 503 || !strings.HasSuffix(rec.Details, "{remote_refused_stream_reset}") {
					t.Errorf("record %d %s %s %s", rec.Status, rec.Flags, rec.Details, rec.Err)
				}
			}
		})
	}
}
