package l7

import (
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// two is one with an endpoint that speaks HTTP/2, frame by frame.
func two(t testing.TB, scripts ...func(f *framer)) *rig {
	t.Helper()
	return newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint2(t, nil, scripts...)}, http: config.HTTP2})
}

func newEndpoint2(t testing.TB, settings []http2.Setting, scripts ...func(f *framer)) netip.AddrPort {
	t.Helper()
	var all []func(c *client)
	for _, script := range scripts {
		all = append(all, func(c *client) {
			if c.begun() {
				script(newFramer(c, func() { c.hear(h2.Preface) }, settings...))
			}
		})
	}
	return newEndpoint(t, all...).addr
}

// begun waits for the first byte. None comes where the proxy was told while it was
// dialling that nobody wants the connection any more.
func (c *client) begun() bool {
	c.t.Helper()
	_, err := c.r.Peek(1)
	if err != nil && !over(err) {
		c.t.Fatal(err)
	}
	return err == nil
}

// request reads the head of the next request, and returns its stream.
func (f *framer) request() (id uint32, head string) {
	f.c.t.Helper()
	fr, ok := f.next().(*http2.MetaHeadersFrame)
	if !ok {
		f.c.t.Fatal("no request came")
	}
	return fr.StreamID, fields(fr)
}

// serve answers requests alike until the connection ends.
func (f *framer) serve(how func(id uint32)) {
	f.c.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if over(err) {
			return
		}
		f.must(err) // what breaks HTTP/2 is no end
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				f.must(f.WriteSettingsAck())
			}
		case *http2.MetaHeadersFrame:
			how(fr.StreamID)
		}
	}
}

func (f *framer) ok(id uint32) { f.head(id, true, ":status", "200") }

const (
	plainGet = ":method: GET\n:scheme: http\n:path: /\n:authority: x.example\n"
	ended    = ":status: 200\n"
)

func TestWhatAnHTTP2EndpointHearsAndSays(t *testing.T) {
	for name, tt := range map[string]struct {
		says  string
		hears string
		body  string
		does  func(f *framer, id uint32)
		want  string
		flags decision.Flags
		notes string
	}{
		"GET": {
			"GET / HTTP/1.1\r\nHost: X.example\r\nConnection: keep-alive, x-hop\r\nX-Hop: 1\r\nTE: gzip, trailers\r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\nX-A: b\r\n\r\n",
			":method: GET\n:scheme: http\n:path: /\n:authority: X.example\nte: trailers\nx-a: b\n", "",
			func(f *framer, id uint32) {
				f.head(id, false, ":status", "200", "content-length", "2", "x-b", "c")
				f.must(f.WriteData(id, true, []byte("ok")))
			},
			"HTTP/1.1 200 \r\ncontent-length: 2\r\nx-b: c\r\n\r\nok", 0, "via_upstream",
		},
		"a body, and an answer of unknown length with a trailer": {
			"POST /p?q HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n\r\nhello",
			":method: POST\n:scheme: http\n:path: /p?q\n:authority: x.example\ncontent-length: 5\n", "hello",
			func(f *framer, id uint32) {
				f.head(id, false, ":status", "200")
				f.must(f.WriteData(id, false, []byte("ok")))
				f.head(id, true, "x-sum", "1")
			},
			"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", 0, "via_upstream",
		},
		"interim answers": {
			get, plainGet, "",
			func(f *framer, id uint32) {
				f.head(id, false, ":status", "103", "link", "</a>")
				f.head(id, true, ":status", "204")
			},
			"HTTP/1.1 103 \r\nlink: </a>\r\n\r\nHTTP/1.1 204 \r\n\r\n", 0, "via_upstream",
		},
		"HEAD": {
			"HEAD / HTTP/1.1\r\nHost: x.example\r\n\r\n", strings.Replace(plainGet, "GET", "HEAD", 1), "",
			func(f *framer, id uint32) { f.head(id, true, ":status", "200", "content-length", "7") },
			"HTTP/1.1 200 \r\ncontent-length: 7\r\n\r\n", 0, "via_upstream",
		},
		"reset before it answers": {
			get, plainGet, "",
			func(f *framer, id uint32) { f.must(f.WriteRSTStream(id, http2.ErrCodeInternal)) },
			"HTTP/1.1 503 ", decision.UR, "upstream_reset_before_response_started{remote_reset}",
		},
		"refused for good": {
			"POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 5\r\n\r\nhello",
			":method: POST\n:scheme: http\n:path: /\n:authority: x.example\ncontent-length: 5\n", "hello",
			func(f *framer, id uint32) {
				f.must(f.WriteRSTStream(id, http2.ErrCodeRefusedStream))
				id, _ = f.request()
				f.must(f.WriteRSTStream(id, http2.ErrCodeRefusedStream))
			},
			"HTTP/1.1 503 ", decision.UR, "upstream_reset_before_response_started{remote_refused_stream_reset}",
		},
		"an answer that breaks HTTP/2": {
			get, plainGet, "",
			func(f *framer, id uint32) { f.head(id, true, ":status", "200", "Connection", "close") },
			"HTTP/1.1 502 ", decision.UPE, "upstream_reset_before_response_started{protocol_error}",
		},
		"a body of another length than it says": {
			get, plainGet, "",
			func(f *framer, id uint32) { f.head(id, true, ":status", "200", "content-length", "7") },
			"HTTP/1.1 502 ", decision.UPE, "upstream_reset_before_response_started{protocol_error}",
		},
		"the connection ends": {
			get, plainGet, "",
			func(f *framer, _ uint32) { f.c.Close() },
			"HTTP/1.1 503 ", decision.UC, "upstream_reset_before_response_started{connection_termination}",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := two(t, func(f *framer) {
				id, head := f.request()
				if head != tt.hears {
					t.Errorf("the endpoint hears\n%swant\n%s", head, tt.hears)
				}
				for body := ""; body != tt.body; {
					fr, ok := f.next().(*http2.DataFrame)
					if !ok {
						t.Error("no data came")
						return
					}
					body += string(fr.Data())
				}
				tt.does(f, id)
			})
			c := r.dial()
			c.say(tt.says)
			c.hear(tt.want)
			if rec := r.record(); rec.Flags != tt.flags || rec.Details != tt.notes {
				t.Errorf("record %s %s, want %s %s", rec.Flags, rec.Details, tt.flags, tt.notes)
			}
		})
	}
}

// An endpoint that is declared to speak HTTP/2, or is taken to because its caller
// does, and speaks HTTP/1 is found out by how it begins.
func TestAnEndpointOfHTTP1IsToldByItsAnswer(t *testing.T) {
	for _, version := range []config.HTTPVersion{config.HTTP2, config.AsCaller} {
		refuse := func(c *client) {
			c.hear(h2.Preface)
			c.say("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			_, _ = io.Copy(io.Discard, c.r) // until the proxy ends it: a reset would take the answer back
		}
		// What it says may come before the request is sent, which then is sent once more.
		r := newRig(t, entry{host: "x.example", http: version, endpoints: []netip.AddrPort{newEndpoint(t, refuse, refuse, refuse).addr}})
		f := r.frames()
		f.get(1, "/")
		for {
			if _, ok := f.next().(*http2.DataFrame); ok {
				break
			}
		}
		const want = "it answered in HTTP/1.1, and HTTP/2 is spoken with it; declare the port with protocol HTTP"
		if rec := r.record(); rec.Status != 502 || rec.Flags != decision.UPE || rec.Err != want {
			t.Errorf("version %d: record %d %s %q", version, rec.Status, rec.Flags, rec.Err)
		}
	}
}

const lateReset = "upstream_reset_after_response_started{remote_reset}"

// resets is an endpoint's reset.
func resets(code http2.ErrCode) func(*framer, uint32) {
	return func(f *framer, id uint32) { f.must(f.WriteRSTStream(id, code)) }
}

func TestAnAnswerThatIsTornIsSeenTorn(t *testing.T) {
	for name, tt := range map[string]struct {
		tear  func(f *framer, id uint32)
		flags decision.Flags
		notes string
		code  http2.ErrCode // that a caller in HTTP/2 is told
	}{
		"reset":           {resets(http2.ErrCodeInternal), decision.UR, lateReset, http2.ErrCodeInternal},
		"cancelled":       {resets(http2.ErrCodeCancel), decision.UR, lateReset, http2.ErrCodeCancel},
		"too much":        {resets(http2.ErrCodeEnhanceYourCalm), decision.UR, lateReset, http2.ErrCodeEnhanceYourCalm},
		"refused at last": {resets(http2.ErrCodeRefusedStream), decision.UR, lateReset, http2.ErrCodeInternal},
		"its own trouble": {resets(http2.ErrCodeFlowControl), decision.UR, lateReset, http2.ErrCodeInternal},
		"end": {
			func(f *framer, _ uint32) { f.c.Close() },
			decision.UC, "upstream_reset_after_response_started{connection_termination}", http2.ErrCodeInternal,
		},
		"fault": {
			func(f *framer, id uint32) { f.head(id, false, "a", "b") },
			decision.UPE, "upstream_reset_after_response_started{protocol_error}", http2.ErrCodeInternal,
		},
	} {
		heard := make(chan struct{}, 1)
		begin := func(f *framer) {
			id, _ := f.request()
			f.head(id, false, ":status", "200")
			f.must(f.WriteData(id, false, []byte("half")))
			<-heard
			tt.tear(f, id)
		}
		check := func(t *testing.T, r *rig) {
			t.Helper()
			if rec := r.record(); rec.Flags != tt.flags || rec.Details != tt.notes || rec.Status != 200 || rec.Sent != 4 {
				t.Errorf("record %d %s %s, %d sent", rec.Status, rec.Flags, rec.Details, rec.Sent)
			}
		}
		t.Run("h1 to h2, "+name, func(t *testing.T) {
			r := two(t, begin)
			c := r.dial()
			c.say(get)
			c.hear("HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n")
			heard <- struct{}{}
			c.ended() // without the last chunk
			check(t, r)
		})
		t.Run("h2 to h2, "+name, func(t *testing.T) {
			r := two(t, begin)
			f := r.frames()
			f.get(1, "/")
			for got := ""; got != "half"; {
				if fr, ok := f.next().(*http2.DataFrame); ok {
					got += string(fr.Data())
				}
			}
			heard <- struct{}{}
			if code := f.reset(1); code != tt.code {
				t.Error(code)
			}
			check(t, r)
		})
	}
	t.Run("h2 to h1", func(t *testing.T) {
		r := one(t, func(c *client) {
			c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")
		})
		f := r.frames()
		f.get(1, "/")
		if code := f.reset(1); code != http2.ErrCodeInternal {
			t.Error(code)
		}
		if rec := r.record(); rec.Flags != decision.UC || rec.Sent != 4 {
			t.Error(rec.Flags, rec.Sent)
		}
	})
}

// What an endpoint says it has not looked at is sent again, whatever it is.
func TestARequestThatWasNotTakenIsSentAgain(t *testing.T) {
	refuse := map[string]func(f *framer, id uint32){
		"the stream is refused": func(f *framer, id uint32) {
			f.must(f.WriteRSTStream(id, http2.ErrCodeRefusedStream))
			id, _ = f.request()
			f.ok(id)
		},
		"the connection is given up": func(f *framer, _ uint32) {
			f.must(f.WriteGoAway(0, http2.ErrCodeNo, nil))
		},
	}
	for name, first := range refuse {
		t.Run(name, func(t *testing.T) {
			r := two(t, func(f *framer) {
				id, _ := f.request()
				first(f, id)
				f.serve(f.ok)
			}, func(f *framer) { f.serve(f.ok) })
			f := r.frames()
			f.head(1, true, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example")
			if head, _, _ := f.answer(1); head != ended {
				t.Error(head)
			}
			if rec := r.record(); rec.Tries != 2 || rec.Flags != 0 {
				t.Error(rec.Tries, rec.Flags)
			}
		})
	}
}

// A connection that its peer ended while a request was on its way says nothing
// about the request: it is sent again where doing it twice does no harm.
func TestASharedConnectionThatDiesIsReplacedOnce(t *testing.T) {
	for method, status := range map[string]string{"GET": "200", "POST": "503"} {
		r := two(t, func(f *framer) {
			id, _ := f.request()
			f.ok(id)
			f.request() // and then ends
		}, func(f *framer) { f.serve(f.ok) })
		f := r.frames()
		f.get(1, "/")
		f.answer(1)
		r.record()
		f.head(3, true, ":method", method, ":scheme", "http", ":path", "/", ":authority", "x.example")
		if head, _, _ := f.answer(3); !strings.HasPrefix(head, ":status: "+status) {
			t.Errorf("%s: %s", method, head)
		}
		r.record()
	}
}

func TestStreamsShareConnections(t *testing.T) {
	t.Run("one, for all that it takes", func(t *testing.T) {
		var held []uint32
		r := two(t, func(f *framer) {
			f.serve(func(id uint32) {
				if held = append(held, id); len(held) == 50 { // all are there at once
					for _, id := range held {
						f.ok(id)
					}
				}
			})
		})
		f := r.frames()
		for i := range uint32(50) {
			f.get(2*i+1, "/")
		}
		for range 50 {
			f.next()
			r.record()
		}
	})
	t.Run("another, for what it does not take", func(t *testing.T) {
		full := func(f *framer) {
			f.serve(func(id uint32) {
				if f.buf.Len() == 0 { // the first on each gets its answer at once, the next ones never
					f.ok(id)
				}
			})
		}
		r := newRig(t, entry{host: "x.example", http: config.HTTP2, endpoints: []netip.AddrPort{
			newEndpoint2(t, []http2.Setting{{ID: http2.SettingMaxConcurrentStreams, Val: 1}}, full, full, full),
		}})
		f := r.frames()
		f.get(1, "/")
		f.answer(1)
		f.get(3, "/")
		waitFor(t, func() bool { return r.active() == 1 })
		f.get(5, "/")
		f.answer(5)
		f.get(7, "/")
		waitFor(t, func() bool { return r.active() == 2 })
		if s := r.clusters.Get("outbound|80||x.example").Endpoints()[0]; s.Idle != 2 {
			t.Errorf("%d connections", s.Idle)
		}
	})
	t.Run("a failed dial fails all who wait", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{closedPort(t)}, http: config.HTTP2, change: func(rt *config.Route) { rt.Retry = config.Retry{} }})
		f := r.frames()
		for i := range uint32(5) {
			f.get(2*i+1, "/")
		}
		for range 5 {
			if rec := r.record(); rec.Flags != decision.UF || rec.Status != 503 {
				t.Error(rec.Flags, rec.Status)
			}
		}
	})
}

// active is how many requests are on the endpoint of x.example.
func (r *rig) active() int64 { return r.clusters.Get("outbound|80||x.example").Endpoints()[0].Active }

func TestTrailersPassEndToEnd(t *testing.T) {
	heard, called, answered := make(chan string, 1), make(chan struct{}), make(chan struct{})
	r := two(t, func(f *framer) {
		id, head := f.request()
		var body string
		for {
			fr := f.next()
			if d, ok := fr.(*http2.DataFrame); ok {
				if body += string(d.Data()); body == "call" {
					close(called)
				}
				continue
			}
			heard <- head + body + fields(fr.(*http2.MetaHeadersFrame))
			break
		}
		f.head(id, false, ":status", "200", "content-type", "application/grpc")
		f.must(f.WriteData(id, false, []byte("answer")))
		<-answered
		f.head(id, true, "grpc-status", "3", "grpc-message", "no")
	})
	f := r.frames()
	f.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/s/m", ":authority", "x.example", "content-type", "application/grpc", "te", "trailers")
	f.must(f.WriteData(1, false, []byte("call")))
	<-called
	f.head(1, true, "x-sum", "4")
	first, ok := f.next().(*http2.MetaHeadersFrame)
	if !ok {
		t.Fatal("no answer")
	}
	close(answered)
	trailer, body, _ := f.answer(1) // but for its head
	if head := fields(first); head != ":status: 200\ncontent-type: application/grpc\n" || body != "answer" || trailer != "grpc-status: 3\ngrpc-message: no\n" {
		t.Errorf("the caller hears %q %q %q", head, body, trailer)
	}
	const want = ":method: POST\n:scheme: http\n:path: /s/m\n:authority: x.example\ncontent-type: application/grpc\nte: trailers\ncallx-sum: 4\n"
	if got := <-heard; got != want {
		t.Errorf("the endpoint hears %q", got)
	}
	if rec := r.record(); rec.Call.String() != "InvalidArgument" {
		t.Errorf("the call ended with %q", rec.Call)
	}
}

// A call that fails at once is answered with a head that says so; elsewhere the
// field is one like others.
func TestTheHeadMayTellHowACallEnded(t *testing.T) {
	r := two(t, func(f *framer) {
		f.serve(func(id uint32) { f.head(id, true, ":status", "200", "grpc-status", "5") })
	})
	f := r.frames()
	for i, tt := range []struct{ contentType, want string }{{"application/grpc", "NotFound"}, {"text/plain", ""}} {
		id := uint32(2*i + 1)
		f.head(id, true, ":method", "POST", ":scheme", "http", ":path", "/s/m", ":authority", "x.example", "content-type", tt.contentType)
		f.answer(id)
		if rec := r.record(); rec.Call.String() != tt.want {
			t.Errorf("%s: the call ended with %q", tt.contentType, rec.Call)
		}
	}
}

// An endpoint that has said all it has to say ends the wait for a body that nobody reads.
func TestAnAnswerEndsTheWaitForTheBody(t *testing.T) {
	for name, r := range map[string]*rig{
		"h1": one(t, func(c *client) {
			c.hear("POST / HTTP/1.1\r\nhost: x.example\r\nTransfer-Encoding: chunked\r\n\r\n")
			c.say(ok)
			io.Copy(io.Discard, c.r)
		}),
		"h2": two(t, func(f *framer) { f.serve(f.ok) }),
	} {
		f := r.frames()
		f.head(1, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "x.example")
		if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") {
			t.Errorf("%s: %s", name, head)
		}
		if code := f.reset(1); code != http2.ErrCodeNo {
			t.Errorf("%s: the rest is refused with %v, want NO_ERROR", name, code)
		}
		if rec := r.record(); rec.Status != 200 || rec.Flags != 0 {
			t.Errorf("%s: %d %s", name, rec.Status, rec.Flags)
		}
	}
}

func TestAStreamIsAnswered504InTime(t *testing.T) {
	mute := func(f *framer) { f.serve(func(uint32) {}) }
	for name, tt := range map[string]struct {
		change  func(*rig)
		flags   decision.Flags
		details string
	}{
		"route": {func(*rig) {}, decision.UT, "upstream_response_timeout"},
		"idle":  {func(r *rig) { r.manager.StreamIdleTimeout = routeTimeout / 4 }, decision.SI, "stream_idle_timeout"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint2(t, nil, mute)}, http: config.HTTP2, change: func(rt *config.Route) {
				if rt.Retry = (config.Retry{}); name == "route" {
					rt.Timeout = routeTimeout
				}
			}})
			tt.change(r)
			f := r.frames()
			f.get(1, "/")
			if head, body, _ := f.answer(1); !strings.HasPrefix(head, ":status: 504\n") || !strings.Contains(body, "no answer from endpoint") {
				t.Error(head, body)
			}
			if rec := r.record(); rec.Flags != tt.flags || rec.Details != tt.details {
				t.Error(rec.Flags, rec.Details)
			}
		})
	}
}

func TestFault45DeadlinesOfGRPC(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"1H": time.Hour, "2M": 2 * time.Minute, "3S": 3 * time.Second, "4m": 4 * time.Millisecond, "5u": 5 * time.Microsecond, "6n": 6,
		"99999999H": aYear, "0S": 0, "": -1, "S": -1, "1": -1, "1s": -1, "123456789S": -1, "-1S": -1, " 1S": -1, "1.5S": -1,
	} {
		got, ok := grpcTimeout([]byte(text))
		if !ok {
			got = -1
		}
		if got != want {
			t.Errorf("%q: %v, want %v", text, got, want)
		}
	}
	mute := func(f *framer) { f.serve(func(uint32) {}) }
	for name, tt := range map[string]struct {
		route  time.Duration
		asked  string
		header string
		late   bool
	}{
		"its own":                    {0, "50m", "application/grpc", true},
		"no longer than the route's": {50 * time.Millisecond, "1H", "application/grpc", true},
		"none, so the route's":       {50 * time.Millisecond, "", "application/grpc", true},
		"not of gRPC":                {0, "50m", "text/plain", false},
		"malformed":                  {0, "50", "application/grpc", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint2(t, nil, mute)}, http: config.HTTP2, change: func(rt *config.Route) { rt.Timeout = tt.route }})
			f := r.frames()
			more := []string{"content-type", tt.header}
			if tt.asked != "" {
				more = append(more, "grpc-timeout", tt.asked)
			}
			f.get(1, "/", more...)
			if !tt.late {
				waitFor(t, func() bool { return r.active() == 1 })
				time.Sleep(150 * time.Millisecond)
				if r.active() != 1 {
					t.Error("the call was ended")
				}
				return
			}
			status := "grpc-status: 14\n"
			if name == "its own" {
				status = "grpc-status: 4\n"
			}
			if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") || !strings.Contains(head, status) {
				t.Error(head)
			}
			if rec := r.record(); rec.Flags != decision.UT || rec.Details != "upstream_response_timeout" {
				t.Error(rec.Flags, rec.Status)
			}
		})
	}
}

func TestWebSocketsAcrossTheVersions(t *testing.T) {
	const (
		upgrade = "GET /chat HTTP/1.1\r\nHost: x.example\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
		yes     = "HTTP/1.1 101 Switching Protocols\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	)
	connect := []string{":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/chat", ":authority", "x.example", "sec-websocket-version", "13"}
	// What the ends do, given that they speak one version or the other.
	far1 := func(c *client) {
		head, _ := c.r.ReadString('\n')
		for {
			line, err := c.r.ReadString('\n')
			if err != nil || line == "\r\n" {
				break
			}
			head += strings.ToLower(line)
		}
		if !strings.HasPrefix(head, "GET /chat HTTP/1.1\r\n") || !strings.Contains(head, "upgrade: websocket\r\n") || !strings.Contains(head, "sec-websocket-key: ") {
			c.t.Fatalf("asked %q", head)
		}
		c.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: whatever\r\n\r\nhi")
		c.hear("ho")
		c.say("bye")
	}
	far2 := func(f *framer) {
		id, head := f.request()
		if want := ":method: CONNECT\n:protocol: websocket\n:scheme: http\n:path: /chat\n:authority: x.example\nsec-websocket-version: 13\n"; head != want {
			f.c.t.Fatalf("asked %q", head)
		}
		f.head(id, false, ":status", "200")
		f.must(f.WriteData(id, false, []byte("hi")))
		if fr, ok := f.next().(*http2.DataFrame); !ok || string(fr.Data()) != "ho" {
			f.c.t.Fatalf("told %v", fr)
		}
		f.must(f.WriteData(id, true, []byte("bye")))
		f.serve(nil)
	}
	willing := func() *rig {
		return newRig(t, entry{host: "x.example", http: config.HTTP2, endpoints: []netip.AddrPort{
			newEndpoint2(t, []http2.Setting{{ID: http2.SettingEnableConnectProtocol, Val: 1}}, far2),
		}})
	}
	near1 := func(r *rig) {
		c := r.dial()
		c.say(upgrade)
		c.hear(yes)
		c.hear("hi")
		c.say("ho")
		c.hear("bye")
		c.ended()
		c.Close()
	}
	near2 := func(r *rig) {
		f := r.frames()
		f.head(1, false, connect...)
		if fr, ok := f.next().(*http2.MetaHeadersFrame); !ok || fields(fr) != ended || fr.StreamEnded() {
			r.t.Fatalf("answered %v", fr)
		}
		say := "ho"
		for got := ""; got != "hibye"; {
			fr, ok := f.next().(*http2.DataFrame)
			if !ok {
				r.t.Fatalf("after %q: %v", got, fr)
			}
			if got += string(fr.Data()); got == "hi" {
				f.must(f.WriteData(1, false, []byte(say)))
			}
		}
		f.must(f.WriteData(1, true, nil))
	}
	for name, tt := range map[string]struct {
		rig  func() *rig
		near func(*rig)
	}{
		"h2 to h1": {func() *rig { return one(t, far1) }, near2},
		"h2 to h2": {willing, near2},
		"h1 to h2": {willing, near1},
	} {
		t.Run(name, func(t *testing.T) {
			r := tt.rig()
			tt.near(r)
			if rec := r.record(); rec.Status != 101 || rec.Sent != 5 || rec.Received != 2 || rec.Err != "" {
				t.Errorf("record %d, %d sent, %d received, %s", rec.Status, rec.Sent, rec.Received, rec.Err)
			}
		})
	}
	t.Run("an endpoint that takes none", func(t *testing.T) {
		r := two(t, func(f *framer) { f.serve(func(uint32) { f.c.t.Fatal("asked all the same") }) })
		c := r.dial()
		c.say(upgrade)
		if res, body := c.answer("GET"); res.StatusCode != 503 || !strings.Contains(body, "declare the port as HTTP") {
			t.Error(res.StatusCode, body)
		}
		if rec := r.record(); rec.Flags != decision.UF || rec.Details != "upgrade_failed" {
			t.Error(rec.Flags, rec.Details)
		}
	})
}

func TestACallerThatGoesAwayEndsTheStreamBehindIt(t *testing.T) {
	saw := make(chan string, 2)
	script := func(f *framer) {
		id, _ := f.request()
		saw <- "request"
		saw <- fmt.Sprint(f.reset(id))
	}
	for name, tt := range map[string]struct {
		leave   func(r *rig) (leave func())
		flags   decision.Flags
		details string
	}{
		"a stream is reset": {func(r *rig) func() {
			f := r.frames()
			f.get(1, "/")
			return func() { f.must(f.WriteRSTStream(1, http2.ErrCodeCancel)) }
		}, decision.DR, "http2.remote_reset"},
		"a connection of HTTP/2 ends": {func(r *rig) func() {
			f := r.frames()
			f.get(1, "/")
			return func() { f.c.Close() }
		}, decision.DC, "downstream_remote_disconnect"},
		"a connection of HTTP/1 is reset": {func(r *rig) func() {
			c := r.dial()
			c.say(get)
			return func() { c.SetLinger(0); c.Close() }
		}, decision.DC, "downstream_remote_disconnect"},
		"a connection of HTTP/1 ends within a body": {func(r *rig) func() {
			c := r.dial()
			c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 10\r\n\r\nhalf")
			return func() { c.Close() }
		}, decision.DC, "downstream_remote_disconnect"},
	} {
		t.Run(name, func(t *testing.T) {
			r := two(t, script)
			leave := tt.leave(r)
			<-saw
			leave()
			if code := <-saw; code != "CANCEL" {
				t.Error(code)
			}
			if rec := r.record(); rec.Flags != tt.flags || rec.Details != tt.details || rec.Status != 0 {
				t.Error(rec.Flags, rec.Details, rec.Status)
			}
		})
	}
	t.Run("and the connection", func(t *testing.T) {
		r := one(t, func(c *client) {
			c.hear("GET / HTTP/1.1\r\nhost: x.example\r\n\r\n")
			saw <- "request"
			_, err := io.ReadAll(c.r)
			saw <- fmt.Sprint(err)
		})
		f := r.frames()
		f.get(1, "/")
		<-saw
		f.must(f.WriteRSTStream(1, http2.ErrCodeCancel))
		if err := <-saw; err != "<nil>" {
			t.Error(err)
		}
		r.record()
	})
}
