package l7

import (
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
)

// Callers that are slow in each way there is hold nobody else up, and are left
// when their time is over.
func TestFault39SlowCallersHoldNobodyElseUp(t *testing.T) {
	const each = 50
	big := strings.Repeat("x", 1<<20)
	up := httpEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		if req.URL.Path == "/big" {
			for {
				if _, err := io.WriteString(w, big); err != nil {
					return
				}
			}
		}
		if _, err := io.Copy(io.Discard, req.Body); err == nil {
			io.WriteString(w, "ok")
		}
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
	const slow = 3 * time.Second // long enough for the quick ones to meet them all
	r.server.headTimeout = slow
	r.manager.StreamIdleTimeout = slow
	ways := []struct {
		says   string
		reason string
		status int
	}{
		{"GET / HTTP/1.1\r\nHost: x.exa", "request_header_timeout", 408},
		{"POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1000\r\n\r\nthe begi", "stream_idle_timeout", 408},
		{"GET /big HTTP/1.1\r\nHost: x.example\r\n\r\n", "stream_idle_timeout", 200},
	}
	var slowOnes []*client
	for range each {
		for _, way := range ways {
			c := r.dial()
			c.say(way.says)
			slowOnes = append(slowOnes, c)
		}
	}
	var quick sync.WaitGroup
	for range 10 {
		quick.Go(func() {
			c := r.goClient(1)
			for range 20 {
				res, err := c.Get("http://x.example/")
				if err != nil {
					t.Errorf("a quick request beside %d slow ones: %v", len(slowOnes), err)
					return
				}
				res.Body.Close()
				if res.StatusCode != 200 {
					t.Errorf("a quick request was answered %d", res.StatusCode)
				}
			}
		})
	}
	quick.Wait()
	left := map[string]int{}
	for range 200 + len(slowOnes) {
		if rec := r.record(); rec.Flags != 0 || rec.Status != 200 {
			left[rec.Details]++
		}
	}
	if left["stream_idle_timeout"] != 2*each || len(left) != 2 {
		t.Errorf("left: %v; want %d of slow heads, %d of slow bodies and readers", left, each, 2*each)
	}
}

// Tables of header compression that are made anew again and again, by SETTINGS
// and within blocks, end in answers or in the end of that connection.
func TestFault41TableSizeThrash(t *testing.T) {
	page := httpEndpoint(t, func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, "ok") })
	get := []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x.example"}
	t.Run("by settings", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{page}})
		f := r.frames()
		id := uint32(1)
		for range 100 {
			for _, size := range []uint32{0, 4096, 1<<32 - 1, 1} {
				f.must(f.WriteSettings(http2.Setting{ID: http2.SettingHeaderTableSize, Val: size}))
			}
			f.get(id, "/", "x-large", strings.Repeat("v", 3000))
			if head, body, _ := f.answer(id); !strings.HasPrefix(head, ":status: 200\n") || body != "ok" {
				t.Fatalf("stream %d: %s%s", id, head, body)
			}
			id += 2
		}
	})
	t.Run("within blocks", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{page}})
		f := r.frames()
		block := strings.Repeat("\x20\x3f\xe1\x1f", 3000) + string(f.block(get...)) // to 0 and back to 4096
		for id := uint32(1); id < 100; id += 2 {
			f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte(block), EndStream: true, EndHeaders: true}))
			if head, _, _ := f.answer(id); !strings.HasPrefix(head, ":status: 200\n") {
				t.Fatalf("stream %d: %s", id, head)
			}
		}
	})
	t.Run("beyond its bound", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{page}})
		f := r.frames()
		f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte("\x3f\xff\xff\xff\xff\x07"), EndStream: true, EndHeaders: true}))
		if code := f.goaway(); code != http2.ErrCodeCompression {
			t.Errorf("given up with %v", code)
		}
		if res, _ := do(t, r.goClient(2), "GET", "http://x.example/", nil); res.StatusCode != 200 {
			t.Errorf("another connection is answered %d", res.StatusCode)
		}
	})
}

// Each flood ends its connection with ENHANCE_YOUR_CALM, and nothing else: a
// connection beside it is served all the time.
func TestFault42FloodsEndTheirConnection(t *testing.T) {
	page := httpEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		io.Copy(io.Discard, req.Body)
		io.WriteString(w, "ok")
	})
	for name, flood := range map[string]struct {
		open  bool // stream 1, with a body to come
		write func(f *framer, n int) error
	}{
		"PING":             {false, func(f *framer, _ int) error { return f.WritePing(false, [8]byte{1}) }},
		"SETTINGS":         {false, func(f *framer, _ int) error { return f.WriteSettings() }},
		"acknowledgements": {false, func(f *framer, _ int) error { return f.WriteSettingsAck() }},
		"changing windows": {false, func(f *framer, n int) error {
			return f.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: uint32(n % 1000)})
		}},
		"empty DATA":                      {true, func(f *framer, _ int) error { return f.WriteData(1, false, nil) }},
		"padding alone":                   {true, func(f *framer, _ int) error { return f.WriteDataPadded(1, false, nil, []byte{}) }},
		"WINDOW_UPDATE":                   {true, func(f *framer, _ int) error { return f.WriteWindowUpdate(1, 1) }},
		"WINDOW_UPDATE of the connection": {false, func(f *framer, _ int) error { return f.WriteWindowUpdate(0, 1) }},
		"PRIORITY":                        {false, func(f *framer, _ int) error { return f.WritePriority(1, http2.PriorityParam{StreamDep: 3}) }},
		"unknown frames":                  {false, func(f *framer, _ int) error { return f.WriteRawFrame(99, 0, 0, []byte("x")) }},
		"CONTINUATION": {false, func(f *framer, n int) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			}
			return f.WriteContinuation(1, false, []byte{0, 1, 'a', 1, 'b'})
		}},
		"empty CONTINUATION": {false, func(f *framer, n int) error {
			if n == 0 {
				return f.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x82}})
			}
			return f.WriteContinuation(1, false, nil)
		}},
		"rapid reset": {false, func(f *framer, n int) error {
			id := uint32(2*n + 1)
			if err := f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: id, EndHeaders: true, EndStream: true,
				BlockFragment: f.block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x.example"),
			}); err != nil {
				return err
			}
			return f.WriteRSTStream(id, http2.ErrCodeCancel)
		}},
		"resets that are provoked": {false, func(f *framer, n int) error {
			return f.WriteHeaders(http2.HeadersFrameParam{
				StreamID: uint32(2*n + 1), EndHeaders: true, EndStream: true, BlockFragment: f.block(":method", "GET", "X", "y"),
			})
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{page}})
			beside := r.goClient(2)
			f := r.frames()
			if flood.open {
				f.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example")
			}
			var over atomic.Bool
			word := make(chan http2.ErrCode, 1)
			go func() {
				defer over.Store(true)
				defer close(word)
				for {
					fr, err := f.ReadFrame()
					if err != nil {
						return
					}
					if g, ok := fr.(*http2.GoAwayFrame); ok {
						word <- g.ErrCode
						return
					}
				}
			}()
			n := 0
			for ; !over.Load() && n < 50_000; n++ {
				if flood.write(f, n) != nil {
					break
				}
				if n%500 == 0 {
					if res, _ := do(t, beside, "GET", "http://x.example/", nil); res.StatusCode != 200 {
						t.Errorf("beside the flood: %d", res.StatusCode)
					}
				}
			}
			if code, ok := <-word; !ok || code != http2.ErrCodeEnhanceYourCalm {
				t.Errorf("after %d: %v, told %v", n, code, ok)
			}
		})
	}
}

// What fails is tried again where nothing was sent, as often as the route says,
// and never where the endpoint may have acted: failures do not multiply.
func TestFault46FailuresDoNotMultiply(t *testing.T) {
	const n = 50
	storm := func(r *rig, request string) {
		var all sync.WaitGroup
		for range n {
			c := r.dial()
			all.Go(func() {
				io.WriteString(c, request)
				io.Copy(io.Discard, c.r)
			})
		}
		all.Wait()
	}
	const (
		closing  = "Host: x.example\r\nConnection: close\r\n"
		post     = "POST / HTTP/1.1\r\n" + closing + "Content-Length: 4\r\n\r\nbody"
		halfSent = "PUT / HTTP/1.1\r\n" + closing + "Content-Length: 4000\r\n\r\nhalf a body"
		get      = "GET / HTTP/1.1\r\n" + closing + "\r\n"
	)
	t.Run("nobody listens", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{closedPort(t), closedPort(t)}})
		storm(r, get)
		for range n {
			// Both are asked once; to ask one twice is a retry that the budget bounds.
			rec := r.record()
			if within := rec.Tries == 3 && rec.Flags == decision.UF|decision.URX; !within && (rec.Tries != 2 || rec.Flags != decision.UF|decision.UO) || rec.Status != 503 {
				t.Fatalf("%d tries, %d %s", rec.Tries, rec.Status, rec.Flags)
			}
		}
	})
	for name, tt := range map[string]struct {
		request string
		ends    func(c *client)
		status  int
	}{
		"POST that is reset":    {post, func(c *client) { c.SetLinger(0) }, 503},
		"PUT that is half sent": {halfSent, func(c *client) { c.SetLinger(0) }, 503},
		"GET that is reset":     {get, func(c *client) { c.SetLinger(0) }, 503},
		"GET that is answered 503": {get, func(c *client) {
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}, 503},
		"POST that is answered 503": {post, func(c *client) {
			io.WriteString(c, "HTTP/1.1 503 Service Unavailable\r\nConnection: close\r\nContent-Length: 0\r\n\r\n")
		}, 503},
		"GET that is answered in part": {get, func(c *client) { io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhal") }, 200},
	} {
		t.Run(name, func(t *testing.T) {
			var came atomic.Int64
			script := func(c *client) {
				if b := make([]byte, 16); must(c.r.Read(b)) > 0 {
					came.Add(1)
				}
				tt.ends(c)
			}
			var scripts []func(*client)
			for range 3 * n {
				scripts = append(scripts, script)
			}
			r := one(t, scripts...)
			storm(r, tt.request)
			for range n {
				if rec := r.record(); rec.Tries != 1 || rec.Status != tt.status {
					t.Errorf("%d tries, %d: %s", rec.Tries, rec.Status, rec.Sentence())
				}
			}
			if got := came.Load(); got != n {
				t.Errorf("%d requests reached the endpoint, want %d", got, n)
			}
		})
	}
}

// Fields that come several times stay several, and a name with an underscore is
// another name: neither passes for what has a meaning.
func TestFault47FieldsKeepTheirNamesAndNumber(t *testing.T) {
	const (
		first  = "GET /1 HTTP/1.1\r\nhost: x.example\r\n"
		fields = "x-a: 1\r\nx_a: 2\r\nx-a: 3\r\nx-a: \r\nx-a: 4, 5\r\ncontent_length: 5\r\ntransfer_encoding: chunked\r\nx_envoy_max_retries: 9\r\nx-forwarded_for: 6\r\n"
		hop    = "connection: x_b\r\nx_b: gone\r\nx-b: stays\r\n"
		second = "GET /2 HTTP/1.1\r\nhost: x.example\r\n"
	)
	r := one(t, func(c *client) {
		c.hear(first + fields + "x-b: stays\r\n\r\n")
		c.say(ok)
		c.hear(second + fields + "\r\n")
		c.say(ok)
	})
	c := r.dial()
	c.say(first + fields + hop + "x-envoy-max-retries: 1\r\nx-envoy-max-retries: 2\r\n\r\n")
	c.hear(ok)
	r.record() // and the connection is kept
	f := r.frames()
	var pairs []string
	for line := range strings.Lines(fields) {
		name, value, _ := strings.Cut(strings.TrimSpace(line), ":")
		pairs = append(pairs, name, strings.TrimSpace(value))
	}
	f.get(1, "/2", pairs...)
	if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") {
		t.Error(head)
	}
}
