package l7

import (
	"context"
	"io"
	"net/http"
	"net/netip"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// hurried has its callers keep a pace that a test can wait for.
func hurried(r *rig) {
	r.server.paces.leeway, r.server.paces.rate, r.server.paces.tick = 100*time.Millisecond, 10_000, 10*time.Millisecond
}

// press looks for slow bodies, as if the proxy were short of something, until the
// test ends.
func press(t *testing.T, r *rig) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			r.server.paces.advance(time.Now())
			r.server.paces.cut()
			time.Sleep(time.Millisecond)
		}
	}()
	t.Cleanup(func() { stop(); <-done })
}

// faults.md 39, the body and the reader: without pressure a caller is as slow as it
// likes; under pressure one that is too slow is told so, and left. A limit for each
// source makes no sense here: all callers are one workload.
func TestFault39SlowBodiesEndUnderPressureAlone(t *testing.T) {
	for _, v := range []struct {
		name string
		slow func(r *rig, length int) (status func(rest string) string)
	}{
		{"HTTP/1", func(r *rig, length int) func(string) string {
			c := r.dial()
			c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n\r\nab")
			return func(rest string) string {
				c.say(rest)
				res, body := c.answer("POST")
				return res.Status[:3] + " " + body
			}
		}},
		{"HTTP/2", func(r *rig, length int) func(string) string {
			f := r.frames()
			f.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example", "content-length", "5")
			f.must(f.WriteData(1, false, []byte("ab")))
			return func(rest string) string {
				if rest != "" {
					f.must(f.WriteData(1, true, []byte(rest)))
				}
				head, body, _ := f.answer(1)
				return strings.TrimPrefix(head, ":status: ")[:3] + " " + body
			}
		}},
	} {
		t.Run(v.name, func(t *testing.T) {
			rigOf := func() *rig {
				up := httpEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
					_, _ = io.Copy(io.Discard, req.Body)
				})
				r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
				hurried(r)
				return r
			}
			t.Run("without", func(t *testing.T) {
				r := rigOf()
				status := v.slow(r, 5)
				time.Sleep(2 * r.server.paces.leeway) // what is not there cannot be waited for
				if got := status("cde"); got != "200 " {
					t.Error(got)
				}
			})
			t.Run("under it", func(t *testing.T) {
				r := rigOf()
				status := v.slow(r, 5)
				press(t, r)
				if got := status(""); !strings.HasPrefix(got, "408 the proxy is at a limit of its own: the caller moved its body at less than") {
					t.Error(got)
				}
				if rec := r.record(); rec.Status != 408 || rec.Flags != decision.OM || rec.Details != "request_body_too_slow" || rec.Reason != decision.Overload {
					t.Errorf("%d %s %s", rec.Status, rec.Flags, rec.Details)
				}
				if n := len(r.server.paces.all); n != 0 {
					t.Errorf("%d bodies are watched still", n)
				}
			})
		})
	}
}

// Who keeps the pace, or has one of its own, stays.
func TestUnderPressureWhoMovesStays(t *testing.T) {
	up := goEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/talk" {
			w.WriteHeader(200)
			_ = http.NewResponseController(w).Flush()
		}
		_, _ = io.Copy(io.Discard, req.Body)
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: config.HTTP2})
	hurried(r)
	leeway := time.Second // more than the machine ever pauses
	r.server.paces.leeway = leeway
	press(t, r)
	c := r.goClient(2)
	send := func(path, kind string, every time.Duration, n int) {
		body, say := io.Pipe()
		go func() {
			piece := strings.Repeat("x", 500)
			for range n {
				time.Sleep(every)
				if _, err := io.WriteString(say, piece); err != nil {
					return
				}
			}
			say.Close()
		}()
		req := must(http.NewRequest("POST", "http://x.example"+path, body))
		req.Header.Set("content-type", kind)
		res, err := c.Do(req)
		if err != nil {
			t.Error(path, kind, err)
			return
		}
		defer res.Body.Close()
		if _, err := io.Copy(io.Discard, res.Body); err != nil || res.StatusCode != 200 {
			t.Errorf("%s %s: %d, %v", path, kind, res.StatusCode, err)
		}
	}
	var all sync.WaitGroup
	all.Go(func() { send("/", "text/plain", leeway/50, 100) })              // 25,000 bytes a second
	all.Go(func() { send("/talk", "text/plain", 2*leeway, 1) })             // its answer has begun
	all.Go(func() { send("/", "application/grpc", 2*leeway, 1) })           // a call
	all.Go(func() { send("/talk", "application/grpc+proto", 2*leeway, 1) }) // likewise
	all.Wait()
	for range 4 {
		if rec := r.record(); rec.Flags != 0 {
			t.Errorf("%s: %s %s", rec.Path, rec.Flags, rec.Details)
		}
	}
}

// A caller that has sent nothing of its body may wait for the endpoint to speak first:
// to tell it to go on, or to answer. However long that takes, it is not the caller that
// is slow.
func TestUnderPressureWhoWaitsForAWordStays(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n"
	pause := func() { time.Sleep(500 * time.Millisecond) } // what is not to happen cannot be waited for
	for name, tt := range map[string]struct {
		near func(r *rig)
		far  string // what the endpoint says before it has the body
	}{
		"HTTP/1, to go on": {func(r *rig) {
			c := r.dial()
			c.say(post + "Expect: 100-continue\r\n\r\n")
			c.hear("HTTP/1.1 100 Continue\r\n\r\n")
			c.say("hello")
			if res, body := c.answer("POST"); res.StatusCode != 200 {
				r.t.Error(res.Status, body)
			}
		}, "HTTP/1.1 100 Continue\r\n\r\n"},
		"HTTP/1, an answer": {func(r *rig) {
			c := r.dial()
			c.say(post + "\r\n")
			if line := must(c.r.ReadString('\n')); !strings.Contains(line, " 200 ") {
				r.t.Error(line)
			}
			c.say("hello")
		}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"},
		"HTTP/2, to go on": {func(r *rig) {
			f := r.frames()
			f.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example", "content-length", "5", "expect", "100-continue")
			if fr, ok := f.next().(*http2.MetaHeadersFrame); !ok || fields(fr) != ":status: 100\n" {
				r.t.Error(fr)
			}
			f.must(f.WriteData(1, true, []byte("hello")))
			if head, body, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") {
				r.t.Error(head, body)
			}
		}, "HTTP/1.1 100 Continue\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := one(t, func(c *client) {
				for line := ""; line != "\r\n"; {
					line = must(c.r.ReadString('\n'))
				}
				pause()
				c.say(tt.far)
				c.hear("hello")
				if !strings.Contains(tt.far, " 200 ") {
					c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
				}
				c.say("0\r\n\r\n")
			})
			hurried(r)
			press(t, r)
			tt.near(r)
			if rec := r.record(); rec.Status != 200 || rec.Flags != 0 {
				t.Errorf("record %d %s %s", rec.Status, rec.Flags, rec.Details)
			}
		})
	}
}

// A process that stood still, as one does that was stopped and let go on, has cut off
// nobody for that.
func TestPacesDoNotCountAStop(t *testing.T) {
	s := New(Options{})
	var p pace
	p.begin(s, true, func() { t.Error("cut for a silence that was ours") })
	p.wait(0)
	now := s.paces.last
	for range 3 {
		now = now.Add(100 * leeway)
		s.paces.advance(now)
		s.paces.cut()
	}
	if !p.moved(1) || p.end() {
		t.Error("late")
	}
}

// What moves is in time or too late, and never both.
func TestACallerIsCutOrMovesInTime(t *testing.T) {
	s := New(Options{})
	s.paces.leeway, s.paces.tick = 1, 1
	for i := range 2000 {
		var p pace
		stopped := false
		p.begin(s, true, func() { stopped = true })
		p.wait(0)
		var cutter sync.WaitGroup
		cutter.Go(func() {
			s.paces.now.Add(100)
			s.paces.cut()
		})
		for range i % 8 {
			runtime.Gosched()
		}
		inTime := p.moved(1)
		cutter.Wait()
		if late := p.end(); late == inTime || late != stopped {
			t.Fatalf("in time %v, late %v, stopped %v", inTime, late, stopped)
		}
	}
}

// impatient has those cut who take an answer slowly.
func impatient(r *rig) {
	r.server.paces.leeway, r.server.paces.rate, r.server.paces.tick = 10*time.Millisecond, 1<<20, time.Millisecond
}

// A call of gRPC has its own pace on the way back too.
func TestUnderPressureACallIsReadAsSlowlyAsItLikes(t *testing.T) {
	const size = 8 << 20 // more than sockets and windows take in
	up := goEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("content-type", "application/grpc")
		for range size >> 16 {
			_, _ = w.Write(make([]byte, 1<<16))
		}
	})
	for version := 1; version <= 2; version++ {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
		impatient(r)
		press(t, r)
		req := must(http.NewRequest("POST", "http://x.example/", nil))
		req.Header.Set("content-type", "application/grpc")
		res, err := r.goClient(version).Do(req)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(500 * time.Millisecond) // in which nothing is to happen
		n, err := io.Copy(io.Discard, res.Body)
		_ = res.Body.Close()
		if rec := r.record(); n != size || err != nil || rec.Flags != 0 {
			t.Errorf("HTTP/%d: %d bytes, %v; %s %s", version, n, err, rec.Flags, rec.Details)
		}
	}
}

// A reader that takes nothing while an answer waits for it.
func TestFault39SlowReadersEndUnderPressure(t *testing.T) {
	big := strings.Repeat("x", 1<<20)
	for name, begin := range map[string]func(r *rig){
		"HTTP/1": func(r *rig) { r.dial().say(get) },
		"HTTP/2": func(r *rig) { r.frames().get(1, "/") },
	} {
		t.Run(name, func(t *testing.T) {
			var ended atomic.Bool
			up := httpEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
				for {
					if _, err := io.WriteString(w, big); err != nil {
						ended.Store(true)
						return
					}
				}
			})
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
			impatient(r)
			press(t, r)
			begin(r)
			if rec := r.record(); rec.Status != 200 || rec.Flags != decision.OM || rec.Details != "response_taken_too_slowly" {
				t.Errorf("%d %s %s", rec.Status, rec.Flags, rec.Details)
			}
			waitFor(t, ended.Load)
		})
	}
}

func TestPressureIsLookedForEachSecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := New(Options{})
		ctx, stop := context.WithCancel(t.Context())
		var pressed atomic.Bool
		done := make(chan struct{})
		go func() { defer close(done); s.Watch(ctx, pressed.Load) }()
		var p pace
		ended := 0
		p.begin(s, true, func() { ended++ })
		p.wait(0)
		time.Sleep(leeway + 5*paceTick)
		if p.late.Load() {
			t.Error("ended without pressure")
		}
		p.moved(leastRate) // a second's worth
		p.wait(0)
		pressed.Store(true)
		time.Sleep(paceTick / 2)
		if p.late.Load() {
			t.Error("ended though it moved")
		}
		p.moved(100 * leastRate) // no more than the leeway is saved
		p.wait(2 * leastRate)    // but what is to move has its time
		time.Sleep(leeway + paceTick)
		if p.late.Load() {
			t.Error("ended before its time")
		}
		time.Sleep(3 * paceTick)
		if !p.end() || ended != 1 {
			t.Errorf("ended %d times", ended)
		}
		stop()
		<-done
	})
}
