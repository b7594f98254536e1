package l7

import (
	"io"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

const (
	connect   = "CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n"
	connected = "HTTP/1.1 200 Connection established\r\n\r\n"
)

var connectFields = []string{":method", "CONNECT", ":authority", "x.example:443"}

// A tunnel passes bytes both ways, and each end of a direction by itself, whatever
// the versions. What looks like HTTP is bytes like others.
func TestTunnelsAcrossTheVersions(t *testing.T) {
	const (
		there = get + "ping"
		back  = "HTTP/1.1 404 Not Found\r\nContent-Length: 9\r\n\r\npong"
	)
	far1 := func(c *client) {
		c.hear(connect)
		c.say(connected + back[:10]) // the first bytes come with the answer
		c.say(back[10:])
		c.hear(there)
		c.ended() // of the caller's direction; ours goes on
		c.say("bye")
	}
	far2 := func(f *framer) {
		id, head := f.request()
		if want := ":method: CONNECT\n:authority: x.example:443\n"; head != want {
			f.c.t.Fatalf("asked %q", head)
		}
		f.head(id, false, ":status", "200")
		f.must(f.WriteData(id, false, []byte(back)))
		for got, over := "", false; !over; {
			fr, ok := f.next().(*http2.DataFrame)
			if !ok {
				f.c.t.Fatalf("after %q: %v", got, fr)
			}
			got, over = got+string(fr.Data()), fr.StreamEnded()
			if over && got != there {
				f.c.t.Fatalf("told %q", got)
			}
		}
		f.must(f.WriteData(id, true, []byte("bye")))
		f.serve(nil)
	}
	near1 := func(r *rig, answer string) {
		c := r.dial()
		c.say(connect)
		c.hear(answer)
		c.hear(back)
		c.say(there)
		c.CloseWrite()
		c.hear("bye")
		c.ended()
	}
	near2 := func(r *rig, _ string) {
		f := r.frames()
		f.head(1, false, connectFields...)
		if fr, ok := f.next().(*http2.MetaHeadersFrame); !ok || fields(fr) != ":status: 200\n" || fr.StreamEnded() {
			r.t.Fatalf("answered %v", fr)
		}
		for got, said, over := "", false, false; !over; {
			fr, ok := f.next().(*http2.DataFrame)
			if !ok {
				r.t.Fatalf("after %q: %v", got, fr)
			}
			got, over = got+string(fr.Data()), fr.StreamEnded()
			if !said && got == back {
				said = true
				f.must(f.WriteData(1, true, []byte(there)))
			}
			if over && got != back+"bye" {
				r.t.Fatalf("told %q", got)
			}
		}
	}
	for name, tt := range map[string]struct {
		rig    func() *rig
		near   func(*rig, string)
		answer string
	}{
		"h1 to h1": {func() *rig { return one(t, far1) }, near1, connected},
		"h2 to h1": {func() *rig { return one(t, far1) }, near2, ""},
		"h1 to h2": {func() *rig { return two(t, far2) }, near1, "HTTP/1.1 200 \r\n\r\n"},
		"h2 to h2": {func() *rig { return two(t, far2) }, near2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.rig()
			tt.near(r, tt.answer)
			rec := r.record()
			if rec.Status != 200 || rec.Sent != int64(len(back)+3) || rec.Received != int64(len(there)) || rec.Err != "" || rec.Flags != 0 || rec.Details != "via_upstream" || string(rec.Path) != "x.example:443" {
				t.Errorf("record %d, %d sent, %d received, %s %s %s", rec.Status, rec.Sent, rec.Received, rec.Err, rec.Flags, rec.Details)
			}
		})
	}
}

// What a caller says before its tunnel is open waits for that, and is never a
// request: not if the endpoint refuses, nor if the proxy does.
func TestNothingIsSentBeforeATunnelIsOpen(t *testing.T) {
	const early = get + "and more"
	for name, tt := range map[string]struct {
		answer string
		body   string
		status int
		open   bool
	}{
		"opened":                      {connected, "", 200, true},
		"with a body that is none":    {"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", "", 200, true},
		"with chunks that are none":   {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", "", 200, true},
		"with a status without body":  {"HTTP/1.1 204 No Content\r\n\r\n", "", 204, true},
		"by HTTP/1.0":                 {"HTTP/1.0 200 OK\r\n\r\n", "", 200, true},
		"refused":                     {"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", "no", 403, false},
		"refused for want of a login": {"HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", "", 407, false},
		"switched":                    {"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", "", 502, false},
		"broken":                      {"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", "", 502, false},
		"refused for want of memory":  {"", "", 503, false}, // nobody is asked
	} {
		t.Run(name, func(t *testing.T) {
			tries := uint8(1)
			r := one(t, func(c *client) {
				c.hear(connect)
				c.SetReadDeadline(time.Now().Add(50 * time.Millisecond))
				if b, err := c.r.ReadByte(); err == nil {
					c.t.Fatalf("%q came before the answer", b)
				}
				c.SetReadDeadline(time.Now().Add(patience))
				c.say(tt.answer)
				if tt.open {
					c.hear(early)
					c.say("bye")
					return
				}
				if rest, _ := io.ReadAll(c.r); len(rest) > 0 {
					c.t.Fatalf("%q came though there is no tunnel", rest)
				}
			})
			if tt.answer == "" {
				g, set := guard(t, 64<<20)
				set(70 << 20)
				r.server.guard, tries = g, 0
			}
			c := r.dial()
			c.say(connect + early)
			c.CloseWrite()
			if tt.open {
				b, err := io.ReadAll(c.r)
				got := strings.ToLower(string(b))
				if err != nil || !strings.HasPrefix(got, "http/1.1 ") || !strings.HasSuffix(got, "\r\n\r\nbye") || strings.Contains(got, "content-length") || strings.Contains(got, "transfer-encoding") || strings.Contains(got, "connection:") {
					t.Errorf("%q, %v", b, err)
				}
			} else {
				res, body := c.answer("CONNECT")
				if res.StatusCode != tt.status || !res.Close || tt.body != "" && body != tt.body {
					t.Errorf("%d %q, close %v", res.StatusCode, body, res.Close)
				}
				c.ended()
			}
			if rec := r.record(); rec.Status != tt.status || rec.Tries != tries {
				t.Errorf("record %d, %d tries: %s", rec.Status, rec.Tries, rec.Sentence())
			}
			select {
			case <-r.log.added:
				t.Error("a second request was recorded")
			default:
			}
		})
	}
}

// A CONNECT that nobody will serve is told so, though it says that it is a call of
// gRPC, whose failures are told with 200, and though its route answers with 200.
func TestNoRefusalOpensATunnel(t *testing.T) {
	closed := closedPort(t)
	for name, tt := range map[string]struct {
		entry  entry
		host   string
		status int
	}{
		"not declared": {entry{host: "y.example"}, "x.example:443", 502},
		"unreachable":  {entry{host: "x.example", endpoints: []netip.AddrPort{closed}}, "x.example:443", 503},
		"malformed":    {entry{host: "x.example"}, "x.example", 400},
		"answered at the proxy": {entry{host: "x.example", change: func(rt *config.Route) {
			rt.Direct = &config.DirectResponse{Status: 200, Body: "hello"}
		}}, "x.example:443", 403},
		"answered at the proxy without a body": {entry{host: "x.example", change: func(rt *config.Route) {
			rt.Direct = &config.DirectResponse{Status: 204}
		}}, "x.example:443", 403},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, tt.entry)
			c := r.dial()
			c.say("CONNECT " + tt.host + " HTTP/1.1\r\nHost: " + tt.host + "\r\nContent-Type: application/grpc\r\n\r\n")
			if res, body := c.answer("CONNECT"); res.StatusCode != tt.status || !res.Close {
				t.Errorf("%d %q, close %v", res.StatusCode, body, res.Close)
			}
			if rec := r.record(); rec.Status != tt.status {
				t.Errorf("record %d %s", rec.Status, rec.Sentence())
			}
			if tt.status == 400 {
				return // which HTTP/2 tells with a reset
			}
			for id, head := range map[uint32][]string{
				1: {":method", "CONNECT", ":authority", tt.host},
				3: {":method", "CONNECT", ":authority", "x.example", ":protocol", "websocket", ":scheme", "http", ":path", "/"},
			} {
				f := r.frames()
				f.head(id, false, append(head, "content-type", "application/grpc")...)
				if fr, ok := f.next().(*http2.MetaHeadersFrame); !ok || !strings.HasPrefix(fields(fr), ":status: "+strconv.Itoa(tt.status)+"\n") {
					t.Errorf("stream %d: %v, want %d", id, fr, tt.status)
				}
				r.record()
			}
		})
	}
}

// A tunnel on HTTP/2 is as strict.
func TestATunnelOnAStreamIsNoBody(t *testing.T) {
	for name, tt := range map[string]struct {
		answer []string
		end    bool
		want   string
	}{
		"a length that means nothing": {[]string{":status", "200", "content-length", "2"}, false, ":status: 200\n"},
		"a status without body":       {[]string{":status", "204"}, false, ":status: 204\n"},
		"refused":                     {[]string{":status", "403", "content-length", "0"}, true, ":status: 403\ncontent-length: 0\n"},
	} {
		t.Run(name, func(t *testing.T) {
			heard := make(chan struct{})
			r := two(t, func(f *framer) {
				id, _ := f.request()
				f.head(id, tt.end, tt.answer...)
				if tt.end {
					close(heard)
					f.serve(nil)
					return
				}
				defer close(heard)
				f.must(f.WriteData(id, true, []byte("tunnel")))
				if fr, ok := f.next().(*http2.DataFrame); !ok || string(fr.Data()) != "early" {
					f.c.t.Fatalf("told %v", fr)
				}
			})
			f := r.frames()
			f.head(1, false, connectFields...)
			f.must(f.WriteData(1, true, []byte("early")))
			head, body, _ := f.answer(1)
			if head != tt.want || !tt.end && body != "tunnel" {
				t.Errorf("%q %q", head, body)
			}
			<-heard
			r.record()
		})
	}
}

// faults.md 37, two-sided: a CONNECT that is malformed, or that nothing declares,
// reaches no endpoint, and what comes behind it is no request.
func TestFault37NothingOfARefusedCONNECTReachesTheEndpoint(t *testing.T) {
	w := newWitness(t)
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{w.addr}})
	behind := "CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\n\r\n" + get
	for target, status := range map[string]int{
		"other.example:443":           502,
		"x.example":                   400,
		"x.example:":                  400,
		"x.example:0":                 400,
		"x.example:65536":             400,
		"x.example:99999":             400,
		"x.example:0443":              400,
		"x.example:443/":              400,
		"x.example:443?q":             400,
		"http://x.example:443/":       400,
		"user@x.example:443":          400,
		"user:secret@x.example:443":   400,
		":443":                        400,
		"[::1:443":                    400,
		"[x]:443":                     400,
		"::1:443":                     400,
		"x.example:443 x.example:80":  400,
		"/":                           400,
		"*":                           400,
		"x..example:443":              400,
		"x.example:443\r\nHost: a":    400,
		"x.example:-1":                400,
		"x.example:4a":                400,
		"x.example:443#":              400,
		"x.example:443\r\nA: b\r\n c": 400,
	} {
		c := r.dial()
		c.say("CONNECT " + target + " HTTP/1.1\r\nHost: " + strings.TrimPrefix(target, "user@") + "\r\n\r\n" + behind)
		c.CloseWrite()
		res, body := c.answer("GET")
		if res.StatusCode != status || !res.Close || status == 502 && !strings.Contains(body, target) {
			t.Errorf("%q: %d %q", target, res.StatusCode, body)
		}
		c.ended()
		if rec := r.record(); rec.Status != status || rec.Endpoint.IsValid() {
			t.Errorf("%q: record %d, endpoint %s", target, rec.Status, rec.Endpoint)
		}
	}
	for _, head := range []string{
		"Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: x.example:80\r\n", "Host: y.example\r\n", "Connection: upgrade\r\nUpgrade: websocket\r\n",
	} {
		c := r.dial()
		host := "Host: x.example:443\r\n"
		if strings.HasPrefix(head, "Host") {
			host = ""
		}
		c.say("CONNECT x.example:443 HTTP/1.1\r\n" + host + head + "\r\n" + behind)
		c.CloseWrite()
		if res, body := c.answer("GET"); res.StatusCode != 400 && res.StatusCode != 403 || !res.Close {
			t.Errorf("%q: %d %q", head, res.StatusCode, body)
		}
		c.ended()
		r.record()
	}
	for _, fields := range [][]string{
		{":method", "CONNECT", ":authority", "other.example:443"},
		{":method", "CONNECT", ":authority", "x.example:0"},
		{":method", "CONNECT", ":authority", "x.example"},
		{":method", "CONNECT", ":authority", "u@x.example:443"},
		{":method", "CONNECT", ":authority", "x.example:443", "content-length", "4"},
	} {
		f := r.frames()
		f.head(1, false, fields...)
		f.must(f.WriteData(1, true, []byte("GET ")))
		if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: 400") && !strings.HasPrefix(head, ":status: 502") {
			t.Errorf("%v: %s", fields, head)
		}
		r.record()
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) > 0 {
		t.Errorf("the endpoint saw %q", w.seen)
	}
}

// The ends of a tunnel are seen on both sides, also where they are no orderly ones.
func TestATunnelEndsWithEitherSide(t *testing.T) {
	opened := func(c *client) { c.hear(connect); c.say(connected) }
	t.Run("the endpoint", func(t *testing.T) {
		r := one(t, func(c *client) { opened(c); c.hear("x"); c.SetLinger(0) })
		f := r.frames()
		f.head(1, false, connectFields...)
		f.next()
		f.must(f.WriteData(1, false, []byte("x")))
		f.reset(1)
		if rec := r.record(); rec.Status != 200 || rec.Err == "" {
			t.Errorf("record %d %q", rec.Status, rec.Err)
		}
	})
	t.Run("the caller", func(t *testing.T) {
		heard := make(chan struct{})
		r := two(t, func(f *framer) {
			defer close(heard)
			id, _ := f.request()
			f.head(id, false, ":status", "200")
			f.reset(id)
		})
		c := r.dial()
		c.say(connect)
		c.hear("HTTP/1.1 200 \r\n\r\n")
		c.SetLinger(0)
		c.Close()
		<-heard
		if rec := r.record(); rec.Status != 200 || rec.Err == "" {
			t.Errorf("record %d %q", rec.Status, rec.Err)
		}
	})
	t.Run("the drain is no end, and what follows it is", func(t *testing.T) {
		r := one(t, func(c *client) { opened(c); c.hear("x"); c.say("y"); io.Copy(io.Discard, c.r) })
		c := r.dial()
		c.say(connect)
		c.hear(connected)
		r.drain()
		c.say("x")
		c.hear("y")
		r.cut()
		if rec := r.record(); rec.Status != 200 || rec.Flags != decision.LR || rec.Reason != decision.Drained {
			t.Error(rec.Status, rec.Flags, rec.Sentence())
		}
	})
}

// A caller that speaks with a proxy of its own, which no entry declares, is passed
// through: the proxy hears what it would without us, and so does the caller.
func TestACallerWithAProxyOfItsOwn(t *testing.T) {
	const (
		ask   = "CONNECT api.example:443 HTTP/1.1\r\nHost: api.example:443\r\nUser-Agent: curl\r\n"
		login = "Proxy-Authorization: Basic eDp5\r\n"
		no    = "HTTP/1.1 407 Proxy Authentication Required\r\nProxy-Authenticate: Basic realm=x\r\nContent-Length: 2\r\n"
	)
	again := func(c *client) {
		c.hear(ask + login + "\r\n")
		c.say(connected)
		c.hear("hello")
		c.say("hi")
	}
	r := newRig(t, entry{host: "*", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear(ask + "\r\n")
		c.say(no + "\r\nno")
		again(c) // on a connection that is kept, as nothing but a request was on it
	}).addr}})
	c := r.dial()
	c.say(ask + "Proxy-Connection: Keep-Alive\r\n\r\n")
	c.hear(no + "Connection: close\r\n\r\nno")
	c.ended()
	r.record()
	c = r.dial()
	c.say(ask + login + "\r\n")
	c.hear(connected)
	c.say("hello")
	c.hear("hi")
	c.ended()
	c.Close()
	if rec := r.record(); rec.Status != 200 || string(rec.Authority) != "api.example:443" || rec.Received != 5 || rec.Sent != 2 {
		t.Errorf("record %d for %s, %d received, %d sent", rec.Status, rec.Authority, rec.Received, rec.Sent)
	}
}

// What a rewritten head says of an answer keeps its tunnel.
func TestATunnelWithHeadersOfTheMesh(t *testing.T) {
	r := newRig(t, entry{host: "x.example", inMesh: true, counted: true, endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear("CONNECT x.example:443 HTTP/1.1\r\nHost: x.example:443\r\nx-envoy-attempt-count: 1\r\n\r\n")
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\nhi")
	}).addr}})
	r.manager.Headers = &config.Headers{Server: "mesh"}
	c := r.dial()
	c.say(connect)
	c.hear("HTTP/1.1 200 OK\r\nserver: mesh\r\n\r\nhi")
}

// A CONNECT, or a WebSocket on a stream, that says it has no body has none: what follows
// is its tunnel's.
func TestATunnelOnAStreamMayHaveNoLength(t *testing.T) {
	for name, tt := range map[string]struct {
		head   []string
		asked  string
		answer string
	}{
		"a tunnel": {connectFields, connect, connected},
		"a WebSocket": {
			[]string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "x.example"},
			"GET / HTTP/1.1\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t, func(c *client) {
				c.hear(tt.asked)
				for line := ""; line != "\r\n" && name != "a tunnel"; {
					line = must(c.r.ReadString('\n'))
				}
				c.say(tt.answer)
				c.hear("ping")
				c.say("pong")
				c.ended()
			})
			f := r.frames()
			f.head(1, false, append(tt.head[:len(tt.head):len(tt.head)], "content-length", "0")...)
			if fr, ok := f.next().(*http2.MetaHeadersFrame); !ok || !strings.HasPrefix(fields(fr), ":status: 200\n") {
				t.Fatalf("answered %v", fr)
			}
			f.must(f.WriteData(1, true, []byte("ping")))
			if fr, ok := f.next().(*http2.DataFrame); !ok || string(fr.Data()) != "pong" {
				t.Fatalf("told %v", fr)
			}
			if rec := r.record(); rec.Flags != 0 || rec.Received != 4 {
				t.Errorf("record %s %s, %d received", rec.Flags, rec.Details, rec.Received)
			}
		})
	}
}

// A tunnel may be silent, and its caller take nothing, for longer than a stream of
// requests, whatever the versions: all have the hour of a relay.
func TestASilentTunnelStays(t *testing.T) {
	const idle = 50 * time.Millisecond
	pause := func() { time.Sleep(10 * idle) } // what stays cannot be waited for
	far1 := func(c *client) {
		c.hear(connect)
		c.say(connected)
		c.hear("ping")
		c.say("pong")
		c.ended()
	}
	far2 := func(f *framer) {
		id, _ := f.request()
		f.head(id, false, ":status", "200")
		if fr, ok := f.next().(*http2.DataFrame); !ok || string(fr.Data()) != "ping" {
			f.c.t.Fatalf("told %v", fr)
		}
		f.must(f.WriteData(id, true, []byte("pong")))
		f.serve(nil)
	}
	near1 := func(r *rig) {
		c := r.dial()
		c.say(connect)
		for line := ""; line != "\r\n"; {
			line = must(c.r.ReadString('\n'))
		}
		pause()
		c.say("ping")
		c.CloseWrite()
		c.hear("pong")
		c.ended()
	}
	near2 := func(r *rig) {
		c := r.dial()
		f := newFramer(c, func() { c.say(h2.Preface) }, http2.Setting{ID: http2.SettingInitialWindowSize})
		f.head(1, false, connectFields...)
		if fr, ok := f.next().(*http2.MetaHeadersFrame); !ok || fields(fr) != ":status: 200\n" {
			r.t.Fatalf("answered %v", fr)
		}
		pause()
		f.must(f.WriteData(1, true, []byte("ping")))
		pause() // in which there is no room for the answer
		f.must(f.WriteWindowUpdate(1, 100))
		if fr, ok := f.next().(*http2.DataFrame); !ok || string(fr.Data()) != "pong" {
			r.t.Fatalf("told %v", fr)
		}
	}
	for name, tt := range map[string]struct {
		rig  func(t *testing.T) *rig
		near func(*rig)
	}{
		"h1 to h1": {func(t *testing.T) *rig { t.Helper(); return one(t, far1) }, near1},
		"h2 to h1": {func(t *testing.T) *rig { t.Helper(); return one(t, far1) }, near2},
		"h1 to h2": {func(t *testing.T) *rig { t.Helper(); return two(t, far2) }, near1},
		"h2 to h2": {func(t *testing.T) *rig { t.Helper(); return two(t, far2) }, near2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := tt.rig(t)
			r.manager.StreamIdleTimeout = idle
			tt.near(r)
			if rec := r.record(); rec.Status != 200 || rec.Flags != 0 || rec.Err != "" {
				t.Errorf("record %d %s %s", rec.Status, rec.Flags, rec.Err)
			}
		})
	}
}
