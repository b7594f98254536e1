package l7

import (
	"bufio"
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
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// What cannot be said in HTTP/1 in one way only never leaves the proxy: the
// stream is reset, and the endpoint does not get a byte.
func TestFault43NothingReachesTheEndpointThatCouldSplitARequest(t *testing.T) {
	type pairs = []string
	good := pairs{":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example"}
	with := func(more ...string) pairs { return append(append(pairs{}, good...), more...) }
	swap := func(name, value string) pairs {
		p := append(pairs{}, good...)
		for i := 0; i < len(p); i += 2 {
			if p[i] == name {
				p[i+1] = value
			}
		}
		return p
	}
	const protocol = http2.ErrCodeProtocol
	for name, head := range map[string]pairs{
		"CR LF in a value":                   with("x-a", "b\r\nx-evil: 1"),
		"LF in a value":                      with("x-a", "b\nx-evil: 1"),
		"NUL in a value":                     with("x-a", "b\x00"),
		"a value with white space around it": with("x-a", " b"),
		"CR LF in a name":                    with("x-a: b\r\nx-evil", "1"),
		"a colon in a name":                  with("x-a:b", "1"),
		"a space in a name":                  with("x-a ", "1"),
		"a capital in a name":                with("X-A", "1"),
		"an empty name":                      with("", "1"),
		"a space in the path":                swap(":path", "/a HTTP/1.1\r\nx: y"),
		"a lone space in the path":           swap(":path", "/a b"),
		"CR LF in the path":                  swap(":path", "/\r\nGET /evil"),
		"a path that is a URL":               swap(":path", "http://evil.example/"),
		"an empty path":                      swap(":path", ""),
		"a fragment":                         swap(":path", "/#a"),
		"a space in the method":              swap(":method", "GET /evil"),
		"CR LF in the method":                swap(":method", "GET\r\n"),
		"CR LF in the authority":             swap(":authority", "x.example\r\nx: y"),
		"another scheme":                     swap(":scheme", "http://evil.example/?"),
		"transfer-encoding":                  with("transfer-encoding", "chunked"),
		"transfer-encoding of nothing":       with("transfer-encoding", "identity"),
		"connection":                         with("connection", "keep-alive"),
		"keep-alive":                         with("keep-alive", "timeout=5"),
		"proxy-connection":                   with("proxy-connection", "keep-alive"),
		"upgrade":                            with("upgrade", "websocket"),
		"te that is more than trailers":      with("te", "trailers, chunked"),
		"another host":                       with("host", "evil.example"),
		"two hosts":                          with("host", "x.example", "host", "evil.example"),
		"two lengths":                        with("content-length", "5", "content-length", "0"),
		"a length that is none":              with("content-length", "5, 5"),
		"a length with a sign":               with("content-length", "+5"),
		"a pseudo-header twice":              with(":path", "/evil"),
		"a pseudo-header after a field":      with("x-a", "b", ":path", "/evil"),
		"an unknown pseudo-header":           append(pairs{":evil", "1"}, good...),
		"no path":                            {":method", "POST", ":scheme", "http", ":authority", "x.example"},
		"no method":                          {":scheme", "http", ":path", "/", ":authority", "x.example"},
		":protocol without CONNECT":          with(":protocol", "websocket"),
		":protocol that is no WebSocket":     {":method", "CONNECT", ":protocol", "connect-udp", ":scheme", "http", ":path", "/", ":authority", "x.example"},
		":protocol that HTTP/1 ignores":      {":method", "CONNECT", ":protocol", "h2c", ":scheme", "http", ":path", "/", ":authority", "x.example"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{w.addr}})
			f := r.frames()
			f.head(1, false, head...)
			if code := f.reset(1); code != protocol {
				t.Errorf("reset with %v", code)
			}
			if rec := r.record(); rec.Flags != decision.DPE || rec.Details != "http2.violation.of.messaging.rule" || rec.Status != 0 || rec.Err == "" {
				t.Errorf("record %s %s %d %q", rec.Flags, rec.Details, rec.Status, rec.Err)
			}
			f.get(3, "/", "x-late", "1") // the connection lives on
			w.waitFor(t, "x-late")
			if got := w.text(); !strings.HasPrefix(got, "GET / HTTP/1.1\r\nhost: x.example\r\nx-late: 1\r\n\r\n") || strings.Contains(got, "evil") {
				t.Errorf("the endpoint got %q", got)
			}
		})
	}
	for name, tt := range map[string]struct {
		length string
		data   string
		end    bool
		body   string // what may go out of it
	}{
		"more than it says":         {"3", "hello", false, ""},
		"less than it says":         {"30", "hello", true, ""},
		"a second request in it":    {"9", "hello GET /evil HTTP/1.1\r\n\r\n", true, ""},
		"more than it says, at end": {"4", "hello", true, ""},
	} {
		t.Run("a body of "+name, func(t *testing.T) {
			came, ended := make(chan struct{}), make(chan string, 1)
			up := newEndpoint(t, func(c *client) {
				close(came)
				b, _ := io.ReadAll(c.r)
				ended <- string(b)
			})
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up.addr}})
			f := r.frames()
			f.head(1, false, with("content-length", tt.length)...)
			<-came
			f.must(f.WriteData(1, tt.end, []byte(tt.data)))
			if code := f.reset(1); code != protocol {
				t.Errorf("reset with %v", code)
			}
			// The connection to the endpoint ends with less than a whole request on it, or
			// nothing if the body was faster, and is never used again.
			got := <-ended
			head, body, _ := strings.Cut(got, "\r\n\r\n")
			if got != "" && !strings.HasSuffix(head, "content-length: "+tt.length) || body != "" && body != tt.body || strings.Contains(got, "evil") {
				t.Errorf("the endpoint got %q", got)
			}
			if rec := r.record(); rec.Flags != decision.DPE || rec.Details != "http2.violation.of.messaging.rule" || rec.Status != 0 {
				t.Errorf("record %s %s %d", rec.Flags, rec.Details, rec.Status)
			}
		})
	}
}

func (w *witness) text() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	return string(w.seen)
}

func (w *witness) waitFor(t *testing.T, s string) {
	t.Helper()
	waitFor(t, func() bool { return strings.Contains(w.text(), s) })
}

// The text of a block that HTTP/1 refuses is answered as HTTP/1 would be.
func TestAHeadThatHTTP1RefusesIsAnsweredOnItsStream(t *testing.T) {
	r := newRig(t)
	f := r.frames()
	for i, tt := range []struct {
		fields  []string
		status  string
		details string
	}{
		{[]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "user@x.example"}, "400", "http2.violation.of.messaging.rule"},
		{[]string{":method", "GET", ":scheme", "http", ":path", "/"}, "400", "missing_host_header"},
		{[]string{":method", "CONNECT", ":authority", "x.example:0"}, "400", "http2.violation.of.messaging.rule"},
		{[]string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x.example", "x-large", strings.Repeat("x", 61<<10)}, "431", "http2.too_many_headers"},
	} {
		id := uint32(2*i + 1)
		block := f.block(tt.fields...)
		first := block[:min(len(block), 16<<10)]
		f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: first, EndStream: true, EndHeaders: len(first) == len(block)}))
		for block = block[len(first):]; len(block) > 0; {
			n := min(len(block), 16<<10)
			f.must(f.WriteContinuation(id, n == len(block), block[:n]))
			block = block[n:]
		}
		if head, _, _ := f.answer(id); !strings.HasPrefix(head, ":status: "+tt.status) {
			t.Errorf("%v: %s", tt.fields[:2], head)
		}
		if rec := r.record(); rec.Details != tt.details {
			t.Errorf("%v: %s", tt.fields[:2], rec.Details)
		}
	}
}

func TestFault40CookiesInCrumbsAreCountedDecoded(t *testing.T) {
	r := newRig(t)
	f := r.frames()
	fields := []string{":method", "GET", ":scheme", "http", ":path", "/", ":authority", "x.example"}
	for range 2000 {
		fields = append(fields, "cookie", "a") // a byte each, once it is in the table
	}
	f.head(1, true, fields...)
	if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: 431\n") {
		t.Error(head)
	}
	r.record()
}

func TestFault42ManyResetsEndTheConnectionAndNothingElse(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear(get)
		c.say(ok)
	})
	f := r.frames()
	done := make(chan http2.ErrCode, 1)
	go func() {
		for {
			fr, err := f.ReadFrame()
			if err != nil {
				close(done)
				return
			}
			if g, ok := fr.(*http2.GoAwayFrame); ok {
				done <- g.ErrCode
				return
			}
		}
	}()
	for id := uint32(1); id < 20_000; id += 2 {
		if f.WriteHeaders(http2.HeadersFrameParam{
			StreamID: id, EndHeaders: true, EndStream: true,
			BlockFragment: f.block(":method", "GET", ":scheme", "http", ":path", "/", ":authority", "who.example"),
		}) != nil ||
			f.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break
		}
	}
	if code, ok := <-done; ok && code != http2.ErrCodeEnhanceYourCalm {
		t.Errorf("given up with %v", code)
	}
	c := r.dial()
	c.say(get)
	c.hear(ok)
}

// Every stream is judged by its own authority: a connection opens no door for
// another host.
func TestFault50AnotherAuthorityOnTheSameConnection(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
		c.say(ok)
	})
	f := r.frames()
	f.get(1, "/")
	if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") {
		t.Error(head)
	}
	if rec := r.record(); rec.Entry != where {
		t.Errorf("%+v", rec.Entry)
	}
	f.head(3, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "other.example")
	if head, _, _ := f.answer(3); !strings.HasPrefix(head, ":status: 502\n") {
		t.Error(head)
	}
	if rec := r.record(); rec.Reason != decision.NotDeclared || string(rec.Authority) != "other.example" {
		t.Error(rec.Reason, string(rec.Authority))
	}
}

func TestFault69DrainFinishesTheStreamsAtHand(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	r := one(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
		close(asked)
		<-answer
		c.say(ok)
	})
	f := r.frames()
	f.get(1, "/")
	<-asked
	r.drain()
	if code := f.goaway(); code != http2.ErrCodeNo {
		t.Error(code)
	}
	close(answer)
	if head, body := finish(f, 1); !strings.HasPrefix(head, ":status: 200\n") || body != "ok" {
		t.Errorf("%s%s", head, body)
	}
	if _, err := io.Copy(io.Discard, f.c.r); err != nil {
		t.Errorf("the connection ends with %v", err)
	}
	if rec := r.record(); rec.Status != 200 || rec.Flags != 0 {
		t.Error(rec.Status, rec.Flags)
	}
}

// finish is answer, for a connection that is being given up.
func finish(f *framer, id uint32) (head, body string) {
	f.c.t.Helper()
	for {
		switch fr := f.next().(type) {
		case *http2.GoAwayFrame:
		case *http2.MetaHeadersFrame:
			if head += fields(fr); fr.StreamEnded() {
				return head, body
			}
		case *http2.DataFrame:
			if body += string(fr.Data()); fr.StreamEnded() {
				return head, body
			}
		default:
			f.c.t.Fatalf("stream %d: %v", id, fr)
		}
	}
}

// TestFault69ADrainWaitsForStreamsLongerThanForConnections has streams in progress
// when connections that wait are closed, on connections of which the listener knew
// that they are of HTTP/2, and on one of which it did not.
func TestFault69ADrainWaitsForStreamsLongerThanForConnections(t *testing.T) {
	for name, tt := range map[string]struct {
		to     config.HTTPVersion
		found  decision.Protocol
		fields []string
		sends  string // before the drain
	}{
		"HTTP/1":                       {to: config.HTTP1, found: decision.HTTP2},
		"HTTP/2":                       {to: config.HTTP2, found: decision.HTTP2},
		"HTTP/2, within an answer":     {to: config.HTTP2, found: decision.HTTP2, sends: "half, "},
		"HTTP/1, within an answer":     {to: config.HTTP1, found: decision.HTTP2, sends: "half, "},
		"gRPC":                         {to: config.HTTP2, found: decision.HTTP2, fields: []string{"content-type", "application/grpc", "te", "trailers"}},
		"HTTP/2 that nobody looked at": {to: config.HTTP2, found: decision.TCP},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			asked, answer := make(chan struct{}), make(chan struct{})
			at := goEndpoint(t, func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Trailer", "grpc-status")
				if tt.sends != "" {
					_, _ = io.WriteString(w, tt.sends)
					_ = http.NewResponseController(w).Flush()
				}
				close(asked)
				<-answer
				_, _ = io.WriteString(w, "whole")
				w.Header().Set("grpc-status", "0")
			})
			r := prepareRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{at}, http: tt.to})
			r.base.Protocol = tt.found
			r.open(t)
			f := r.frames()
			f.get(1, "/", tt.fields...)
			<-asked
			r.drain()
			// There is nothing to see when connections that wait are closed.
			time.Sleep(DrainGrace + DrainGrace/2)
			close(answer)
			head, body := finish(f, 1)
			if !strings.HasPrefix(head, ":status: 200\n") || body != tt.sends+"whole" {
				t.Errorf("%s%s", head, body)
			}
			if len(tt.fields) > 0 && !strings.Contains(head, "\ngrpc-status: 0\n") {
				t.Errorf("the call's end is not told: %s", head)
			}
			if _, err := io.Copy(io.Discard, f.c.r); err != nil {
				t.Errorf("the connection ends with %v", err)
			}
			if rec := r.record(); rec.Status != 200 || rec.Flags != 0 || rec.Reason != decision.OK {
				t.Error(rec.Status, rec.Flags, rec.Sentence())
			}
		})
	}
}

// TestWhatWeCloseIsNotLaidAtTheCallersDoor closes a caller's connection under a
// request, which nothing but a fault of the proxy's does.
func TestWhatWeCloseIsNotLaidAtTheCallersDoor(t *testing.T) {
	asked := make(chan struct{})
	r := prepareRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
		close(asked)
		c.ended()
	}).addr}})
	var down atomic.Pointer[transport.Conn]
	r.accepted = func(c *transport.Conn) { down.Store(c) }
	r.open(t)
	f := r.frames()
	f.get(1, "/")
	<-asked
	if err := down.Load().Close(); err != nil {
		t.Fatal(err)
	}
	if rec := r.record(); rec.Reason != decision.Internal || rec.Flags != 0 || rec.Status != 0 {
		t.Error(rec.Status, rec.Flags, rec.Sentence())
	}
}

func TestTheEndOfTheDrainCutsStreams(t *testing.T) {
	asked := make(chan struct{})
	r := one(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
		close(asked)
		c.ended()
	})
	f := r.frames()
	f.get(1, "/")
	<-asked
	r.drain()
	r.cut()
	if rec := r.record(); rec.Details != "closed_by_drain" || rec.Flags != decision.LR || rec.Reason != decision.Drained {
		t.Error(rec.Details, rec.Flags, rec.Sentence())
	}
}

func TestFault71APanicCostsOneStream(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	r := one(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
		close(asked)
		<-answer
		c.say(ok)
	})
	var broken atomic.Bool
	cfg := r.server.config
	r.server.config = func() *config.Config {
		if broken.Load() {
			panic("a fault")
		}
		return cfg()
	}
	f := r.frames()
	f.get(1, "/")
	<-asked
	broken.Store(true)
	f.get(3, "/")
	if head, _, _ := f.answer(3); !strings.HasPrefix(head, ":status: 500\n") {
		t.Error(head)
	}
	if rec := r.record(); rec.Status != 500 || rec.Reason != decision.Internal {
		t.Error(rec.Status, rec.Reason)
	}
	broken.Store(false)
	close(answer)
	if head, body, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") || body != "ok" {
		t.Errorf("%s%s", head, body)
	}
	r.record()
}

func TestFault44ExpectationsAndEarlyAnswersAcrossTheVersions(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			r, c := across(t, v.from, v.to, func(w http.ResponseWriter, req *http.Request) {
				if req.URL.Path == "/refuse" {
					w.WriteHeader(413) // before it has read anything
					return
				}
				b, err := io.ReadAll(req.Body)
				if err != nil {
					t.Error(err)
				}
				w.Write(b)
			})
			c.Transport.(*http.Transport).ExpectContinueTimeout = patience
			for path, want := range map[string]int{"/take": 200, "/refuse": 413} {
				req := must(http.NewRequest("POST", "http://x.example"+path, strings.NewReader("hello")))
				req.Header.Set("Expect", "100-continue")
				res, err := c.Do(req)
				if err != nil {
					t.Fatal(err)
				}
				body := must(io.ReadAll(res.Body))
				res.Body.Close()
				if res.StatusCode != want || want == 200 && string(body) != "hello" {
					t.Errorf("%s: %d %q", path, res.StatusCode, body)
				}
				r.record()
			}
			// An answer while the body flows: the rest is not wanted, and nothing breaks.
			more, feed := io.Pipe()
			go func() {
				for {
					if _, err := feed.Write(make([]byte, 32<<10)); err != nil {
						return
					}
				}
			}()
			res, err := c.Post("http://x.example/refuse", "", bufio.NewReader(more))
			more.CloseWithError(io.ErrClosedPipe)
			if err != nil {
				t.Fatal(err)
			}
			res.Body.Close()
			if res.StatusCode != 413 {
				t.Error(res.StatusCode)
			}
			if rec := r.record(); rec.Status != 413 {
				t.Error(rec.Status, rec.Flags)
			}
			if res, body := do(t, c, "POST", "http://x.example/take", strings.NewReader("again")); res.StatusCode != 200 || body != "again" {
				t.Errorf("then %d %q", res.StatusCode, body)
			}
		})
	}
}
