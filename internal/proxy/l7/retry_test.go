package l7

import (
	"bytes"
	"io"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// call sends a call of gRPC and returns the status in the head of its answer.
func call(t testing.TB, c *http.Client, body io.Reader) string {
	t.Helper()
	req, err := http.NewRequest("POST", "http://x.example/s/m", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("content-type", "application/grpc")
	res, err := c.Do(req)
	if err != nil {
		t.Error(err)
		return ""
	}
	defer res.Body.Close()
	_, _ = io.Copy(io.Discard, res.Body)
	return res.Header.Get("grpc-status")
}

// All calls fail at once, and as many are sent once more as one in five of them.
// While these are in flight nothing else is.
func TestFault46RetriesStayWithinTheBudget(t *testing.T) {
	const n = 50
	var came, retried atomic.Int64
	all, release := make(chan struct{}), make(chan struct{})
	up := goEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("grpc-status", "14")
		switch k := came.Add(1); {
		case k < n:
			<-all
		case k == n:
			close(all)
		default:
			retried.Add(1)
			<-release
		}
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: config.HTTP2, change: func(rt *config.Route) {
		rt.Retry.Unavailable = true
	}})
	var failed atomic.Int64
	var calls sync.WaitGroup
	for range n {
		c := r.goClient(2)
		calls.Go(func() {
			if status := call(t, c, nil); status != "14" {
				t.Errorf("status %q", status)
			}
			failed.Add(1)
		})
	}
	waitFor(t, func() bool { return failed.Load()+retried.Load() == n })
	if got := retried.Load(); got < 3 || got > n/5 {
		t.Errorf("%d of %d calls are retried at once", got, n)
	}
	if over := r.clusters.RetriesRefused(); over != uint64(failed.Load()) {
		t.Errorf("%d retries refused beside %d calls that failed", over, failed.Load())
	}
	for range failed.Load() {
		if rec := r.record(); rec.Tries != 1 || rec.Flags != decision.UO || rec.Status != 200 {
			t.Errorf("%d tries, %s, %d", rec.Tries, rec.Flags, rec.Status)
		}
	}
	first := retried.Load()
	close(release)
	calls.Wait()
	if got := retried.Load(); got > 2*first {
		t.Errorf("%d retries of %d calls", got, first)
	}
	waitFor(t, func() bool { return r.clusters.Get("outbound|80||x.example").Retrying() == 0 })
}

// The status of a call counts where the head tells it, as that of an answer
// which is nothing else does, and where the route says so.
func TestACallThatFailedInVainIsTriedAgain(t *testing.T) {
	for name, tt := range map[string]struct {
		retry   config.Retry
		status  string
		trailer bool
		plain   bool // no call of gRPC
		tries   int
		flags   decision.Flags
	}{
		"unavailable":           {config.Retry{Attempts: 2, Unavailable: true}, "14", false, false, 3, decision.URX},
		"cancelled":             {config.Retry{Attempts: 1, Cancelled: true}, "1", false, false, 2, decision.URX},
		"another status":        {config.Retry{Attempts: 2, Unavailable: true, Cancelled: true}, "13", false, false, 1, 0},
		"not unavailable":       {config.Retry{Attempts: 2, Unavailable: true}, "1", false, false, 1, 0},
		"not cancelled":         {config.Retry{Attempts: 2, Cancelled: true}, "14", false, false, 1, 0},
		"in the trailer":        {config.Retry{Attempts: 2, Unavailable: true}, "14", true, false, 1, 0},
		"no call":               {config.Retry{Attempts: 2, Unavailable: true}, "14", false, true, 1, 0},
		"no attempts":           {config.Retry{Unavailable: true}, "14", false, false, 1, 0},
		"a route without retry": {config.Retry{}, "14", false, false, 1, 0},
	} {
		t.Run(name, func(t *testing.T) {
			var bodies atomic.Int64
			up := goEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
				if b, _ := io.ReadAll(req.Body); string(b) == "hi" {
					bodies.Add(1)
				}
				w.Header().Set("content-type", "application/grpc")
				if tt.trailer {
					w.Header().Set("trailer", "grpc-status")
					w.WriteHeader(200)
				}
				w.Header().Set("grpc-status", tt.status)
			})
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: config.HTTP2, change: func(rt *config.Route) { rt.Retry = tt.retry }})
			kind := "application/grpc"
			if tt.plain {
				kind = "text/plain"
			}
			// The body comes with its head, in one piece: it is at hand then, whole.
			f := r.frames()
			var request bytes.Buffer
			to := http2.NewFramer(&request, nil)
			head := f.block(":method", "POST", ":scheme", "http", ":path", "/s/m", ":authority", "x.example", "content-type", kind, "te", "trailers")
			f.must(to.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: head, EndHeaders: true}))
			f.must(to.WriteData(1, true, []byte("hi")))
			f.c.say(request.String())
			if head, _, trailer := f.answer(1); !strings.Contains(head+trailer, "grpc-status: "+tt.status+"\n") {
				t.Errorf("answered %s%s", head, trailer)
			}
			if rec := r.record(); int(rec.Tries) != tt.tries || rec.Flags != tt.flags || rec.Status != 200 || rec.Reason != decision.OK {
				t.Errorf("%d tries, %s, %d, %s", rec.Tries, rec.Flags, rec.Status, rec.Sentence())
			}
			if got := bodies.Load(); int(got) != tt.tries {
				t.Errorf("%d whole bodies in %d tries", got, tt.tries)
			}
		})
	}
}

// Of two endpoints one fails. While a call is with it another one takes the turn of the
// one that does not, so that the turn is the former's again.
func TestARetryAvoidsTheEndpointThatFailed(t *testing.T) {
	var r *rig
	var bad, good atomic.Int64
	say := func(w http.ResponseWriter, status string) {
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("grpc-status", status)
	}
	endpoints := []netip.AddrPort{
		goEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
			if bad.Add(1) < 10 {
				call(t, r.goClient(2), nil)
			}
			say(w, "14")
		}),
		goEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
			good.Add(1)
			say(w, "0")
		}),
	}
	r = newRig(t, entry{host: "x.example", endpoints: endpoints, http: config.HTTP2, change: func(rt *config.Route) {
		rt.Retry = config.Retry{Attempts: 1, Unavailable: true, PreviousHosts: true, BaseInterval: time.Millisecond}
	}})
	for range 4 {
		if status := call(t, r.goClient(2), nil); status != "0" {
			t.Errorf("status %s; %d calls came to the endpoint that fails, and %d to the other one", status, bad.Load(), good.Load())
		}
	}
	if bad.Load() == 0 {
		t.Error("no call met the endpoint that fails")
	}
}

// A body that comes piece by piece behind its head is kept, up to a bound, with
// what belongs to it.
func TestABodyThatCameLaterIsSentOnceMore(t *testing.T) {
	for _, tt := range []struct{ size, tries int }{{0, 2}, {1, 2}, {5000, 2}, {16 << 10, 2}, {16<<10 + 1, 1}, {100_000, 1}} {
		var bodies []string
		up := newEndpoint2(t, nil, func(f *framer) {
			for n := 1; n <= tt.tries; n++ {
				id, _ := f.request()
				body, over := "", false
				for !over {
					switch fr := f.next().(type) {
					case *http2.DataFrame:
						body, over = body+string(fr.Data()), fr.StreamEnded()
						if n := uint32(len(fr.Data())); n > 0 {
							f.must(f.WriteWindowUpdate(0, n))
							if !over {
								f.must(f.WriteWindowUpdate(id, n))
							}
						}
					case *http2.MetaHeadersFrame:
						over = fr.StreamEnded()
						body += fields(fr)
					}
				}
				bodies = append(bodies, body)
				f.head(id, true, ":status", "200", "grpc-status", "14")
			}
			f.serve(nil)
		})
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: config.HTTP2, change: func(rt *config.Route) {
			rt.Retry = config.Retry{Attempts: 1, Unavailable: true}
			rt.Timeout = patience
		}})
		f := r.frames()
		f.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/s/m", ":authority", "x.example", "content-type", "application/grpc", "te", "trailers")
		waitFor(t, func() bool { return r.clusters.Get("outbound|80||x.example").Endpoints()[0].Active == 1 })
		body := strings.Repeat("b", tt.size)
		room, settled := [2]int{65_535, 65_535}, false // in the windows of the connection and the stream
		for rest := body; len(rest) > 0; {
			n := min(len(rest), 1000)
			if tt.size > 60_000 {
				n = min(len(rest), 16<<10)
			}
			for !settled || room[0] < n || room[1] < n {
				switch fr, err := f.ReadFrame(); fr := fr.(type) {
				case *http2.SettingsFrame:
					if v, ok := fr.Value(http2.SettingInitialWindowSize); ok {
						room[1] += int(v) - 65_535
					}
					if !fr.IsAck() {
						settled = true
						f.must(f.WriteSettingsAck())
					}
				case *http2.WindowUpdateFrame:
					room[fr.StreamID] += int(fr.Increment)
				default:
					t.Fatalf("%d bytes are left to send, and came %v, %v", len(rest), fr, err)
				}
			}
			f.must(f.WriteData(1, false, []byte(rest[:n])))
			room[0], room[1], rest = room[0]-n, room[1]-n, rest[n:]
		}
		f.head(1, true, "x-sum", "1")
		f.answer(1)
		if rec := r.record(); int(rec.Tries) != tt.tries || rec.Received != int64(tt.size) || rec.Status != 200 {
			t.Errorf("%d bytes: %d tries, %d received, %d", tt.size, rec.Tries, rec.Received, rec.Status)
		}
		for i, got := range bodies {
			if got != body+"x-sum: 1\n" {
				t.Errorf("%d bytes: the endpoint got %d in try %d", tt.size, len(got), i+1)
			}
		}
		if len(bodies) != tt.tries {
			t.Errorf("%d bytes: %d bodies", tt.size, len(bodies))
		}
	}
}

// A call that streams has not all of its body at hand: it is never sent twice.
func TestACallThatStreamsIsNotTriedAgain(t *testing.T) {
	var came atomic.Int64
	up := goEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		came.Add(1)
		_, _ = io.ReadFull(req.Body, make([]byte, 5))
		w.Header().Set("content-type", "application/grpc")
		w.Header().Set("grpc-status", "14")
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: config.HTTP2, change: func(rt *config.Route) { rt.Retry.Unavailable = true }})
	body, more := io.Pipe()
	go io.WriteString(more, "first")
	call(t, r.goClient(2), body)
	more.Close()
	if rec := r.record(); rec.Tries != 1 || came.Load() != 1 {
		t.Errorf("%d tries, %d came", rec.Tries, came.Load())
	}
}

// A pause before a retry is as long as its route says, unless nobody waits for
// what follows it.
func TestAPauseEndsWithItsCaller(t *testing.T) {
	dead := func() *rig {
		return newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{closedPort(t)}, change: func(rt *config.Route) { rt.Retry.BaseInterval = 1000 * time.Hour }})
	}
	paused := func(r *rig) {
		waitFor(t, func() bool { return r.clusters.Get("outbound|80||x.example").Retrying() == 1 })
	}
	for name, tt := range map[string]struct {
		begin func(r *rig) (end func())
		flags decision.Flags
	}{
		"HTTP/1, a reset": {func(r *rig) func() {
			c := r.dial()
			c.say(get)
			return func() { c.SetLinger(0); c.Close() }
		}, decision.DC},
		"HTTP/2, a reset": {func(r *rig) func() {
			f := r.frames()
			f.get(1, "/")
			return func() { f.must(f.WriteRSTStream(1, http2.ErrCodeCancel)) }
		}, decision.DR},
		"HTTP/1, the end of the drain": {func(r *rig) func() { r.dial().say(get); return r.cut }, decision.LR},
		"HTTP/2, the end of the drain": {func(r *rig) func() { r.frames().get(1, "/"); return r.cut }, decision.LR},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := dead()
			end := tt.begin(r)
			paused(r)
			end()
			if rec := r.record(); rec.Tries != 1 || rec.Status != 0 || rec.Flags&^decision.UF != tt.flags {
				t.Errorf("%d tries, %d, %s, %s", rec.Tries, rec.Status, rec.Flags, rec.Details)
			}
			waitFor(t, func() bool { return r.clusters.Get("outbound|80||x.example").Retrying() == 0 })
		})
	}
}
