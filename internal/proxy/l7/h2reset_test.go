package l7

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// takenBack is so many requests with their resets, in one piece.
func takenBack(t *testing.T, f *framer, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	to := http2.NewFramer(&b, nil)
	block := append([]byte{0x82, 0x86, 0x84, 0x01, 9}, "x.example"...) // without the table
	for i := range n {
		f.must(to.WriteHeaders(http2.HeadersFrameParam{StreamID: uint32(1 + 2*i), BlockFragment: block, EndStream: true, EndHeaders: true}))
		f.must(to.WriteRSTStream(uint32(1+2*i), http2.ErrCodeCancel))
	}
	return b.Bytes()
}

// Requests that are taken back with the bytes they come in cost no endpoint
// anything: no connection is opened for them, and none that is kept is used up.
func TestFault42RapidResetReachesNoEndpoint(t *testing.T) {
	const kept, burst = 20, 100
	gate := make(chan struct{})
	var asked, conns atomic.Int32
	scripts := make([]func(c *client), kept+burst)
	for i := range scripts {
		scripts[i] = func(c *client) {
			conns.Add(1)
			for {
				if _, err := http.ReadRequest(c.r); err != nil {
					return
				}
				asked.Add(1)
				<-gate
				c.say(ok)
			}
		}
	}
	r := one(t, scripts...)
	f := r.frames()
	for i := range kept {
		f.get(uint32(1+2*i), "/")
	}
	waitFor(t, func() bool { return asked.Load() == kept })
	close(gate)
	for range kept {
		r.record()
	}
	idle := func() (n int) {
		for c := range r.clusters.Clusters() {
			for _, e := range c.Endpoints() {
				n += e.Idle
			}
		}
		return n
	}
	waitFor(t, func() bool { return idle() == kept })
	g := r.frames()
	g.c.say(string(takenBack(t, g, burst)))
	for range burst {
		if rec := r.record(); rec.Flags != decision.DR || rec.Status != 0 {
			t.Errorf("record %d %s %s", rec.Status, rec.Flags, rec.Details)
		}
	}
	waitFor(t, func() bool { return idle() == kept })
	if asked.Load() != kept || conns.Load() != kept {
		t.Errorf("%d requests on %d connections reached the endpoint, want %d", asked.Load(), conns.Load(), kept)
	}
}

// A caller that goes while its exchange waits for a connection ends the wait.
func TestAResetEndsTheWaitForAConnection(t *testing.T) {
	for name, version := range map[string]config.HTTPVersion{"h1": config.HTTP1, "h2": config.HTTP2} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{fullPort(t)}, http: version})
			f := r.frames()
			f.get(1, "/")
			waitFor(t, func() bool {
				for c := range r.clusters.Clusters() {
					for _, e := range c.Endpoints() {
						if e.Active > 0 {
							return true
						}
					}
				}
				return false
			})
			start := time.Now()
			f.must(f.WriteRSTStream(1, http2.ErrCodeCancel))
			if rec := r.record(); rec.Flags != decision.DR || rec.Reason != decision.ClientGone {
				t.Errorf("after %s: record %s %s %s", time.Since(start), rec.Flags, rec.Details, rec.Err)
			}
		})
	}
}

// An endpoint that has answered and lets nothing be sent is not waited for.
func TestAnEarlyAnswerIsSeenWhileTheFirstPieceWaits(t *testing.T) {
	done := make(chan struct{})
	defer close(done)
	addr := newEndpoint2(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 0}}, func(f *framer) {
		id, _ := f.request()
		f.ok(id)
		id, _ = f.request()
		f.head(id, true, ":status", "413")
		<-done
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2})
	f := r.frames()
	f.get(1, "/")
	f.answer(1)
	var b bytes.Buffer
	to := http2.NewFramer(&b, nil)
	f.must(to.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: f.block(":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example"), EndHeaders: true}))
	f.must(to.WriteData(3, false, make([]byte, 1000)))
	f.c.say(b.String())
	if head, _, _ := f.answer(3); !strings.HasPrefix(head, ":status: 413\n") {
		t.Error(head)
	}
}

// What does not fit the first window follows when it opens, and the end with it.
func TestAFirstPieceThatWaitsIsSentInTheEnd(t *testing.T) {
	got := make(chan string, 1)
	addr := newEndpoint2(t, []http2.Setting{{ID: http2.SettingInitialWindowSize, Val: 3}}, func(f *framer) {
		id, _ := f.request()
		f.ok(id)
		id, _ = f.request()
		body := ""
		for {
			fr, is := f.next().(*http2.DataFrame)
			if !is {
				f.c.t.Fatal("no data came")
			}
			body += string(fr.Data())
			if fr.StreamEnded() {
				break
			}
			f.must(f.WriteWindowUpdate(id, 2))
		}
		got <- body
		f.ok(id)
		f.serve(nil)
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2})
	c := r.dial()
	c.say(get)
	c.answer("GET")
	c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 10\r\n\r\n0123456789")
	if res, _ := c.answer("POST"); res.StatusCode != 200 || res.Close {
		t.Error(res.Status, res.Close)
	}
	if body := <-got; body != "0123456789" {
		t.Errorf("the endpoint got %q", body)
	}
}

// A refusal is tried again as often as the route says, and once by itself.
func TestARefusedStreamIsRetriedAsTheRouteSays(t *testing.T) {
	for _, tt := range []struct {
		refusals, attempts int
		status, tries      int
		flags              decision.Flags
	}{
		{1, 0, 200, 2, 0}, {2, 0, 503, 2, decision.UR}, {3, 2, 200, 4, 0}, {4, 2, 503, 4, decision.UR | decision.URX},
	} {
		addr := newEndpoint2(t, nil, func(f *framer) {
			n := 0
			f.serve(func(id uint32) {
				if n++; n <= tt.refusals {
					f.must(f.WriteRSTStream(id, http2.ErrCodeRefusedStream))
				} else {
					f.ok(id)
				}
			})
		})
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2, change: func(rt *config.Route) {
			rt.Retry.RefusedStream, rt.Retry.Attempts = true, tt.attempts
		}})
		c := r.dial()
		c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 2\r\n\r\nhi")
		res, _ := c.answer("POST")
		_, _ = io.Copy(io.Discard, res.Body)
		if rec := r.record(); res.StatusCode != tt.status || int(rec.Tries) != tt.tries || rec.Flags != tt.flags {
			t.Errorf("%d refusals, %d attempts: %d after %d tries, %s", tt.refusals, tt.attempts, res.StatusCode, rec.Tries, rec.Flags)
		}
	}
}
