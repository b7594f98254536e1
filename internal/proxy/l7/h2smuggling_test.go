package l7

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// An extended CONNECT for h2c would become a GET whose upgrade HTTP/1 ignores, and
// the data of its stream the next request on a connection that is kept.
func TestNoProtocolMakesARequestOfTheDataBehindIt(t *testing.T) {
	asked := make(chan string, 9)
	r := one(t, func(c *client) {
		for {
			q, err := http.ReadRequest(c.r)
			if err != nil {
				return
			}
			_, _ = io.Copy(io.Discard, q.Body)
			asked <- q.URL.Path
			c.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine")
		}
	})
	f := r.frames()
	id := uint32(1)
	for _, protocol := range []string{"h2c", "H2C", "h2C", "connect-udp", "other"} {
		f.head(id, false, ":method", "CONNECT", ":protocol", protocol, ":scheme", "http", ":path", "/asked", ":authority", "x.example")
		f.must(f.WriteData(id, true, []byte("GET /smuggled HTTP/1.1\r\nHost: x.example\r\n\r\n")))
		if code := f.reset(id); code != http2.ErrCodeProtocol {
			t.Errorf("%s: reset with %v", protocol, code)
		}
		if rec := r.record(); rec.Flags != decision.DPE || rec.Details != "http2.violation.of.messaging.rule" {
			t.Errorf("%s: record %s %s", protocol, rec.Flags, rec.Details)
		}
		id += 2
	}
	victim := r.dial()
	victim.say("GET /mine HTTP/1.1\r\nHost: x.example\r\n\r\n")
	if _, body := victim.answer("GET"); body != "fine" {
		t.Errorf("another caller got %q", body)
	}
	if path := <-asked; path != "/mine" || len(asked) > 0 {
		t.Errorf("the endpoint was asked for %s, and %d more", path, len(asked))
	}
}

func TestTheNameOfWebSocketHasNoLetterCase(t *testing.T) {
	r := one(t, func(c *client) {
		q, err := http.ReadRequest(c.r)
		if err != nil || q.Header.Get("Upgrade") != "websocket" || q.Header.Get("Sec-Websocket-Key") == "" {
			c.t.Fatal(err, q)
		}
		c.say("HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: whatever\r\n\r\nhi")
	})
	f := r.frames()
	f.head(1, false, ":method", "CONNECT", ":protocol", "WebSocket", ":scheme", "http", ":path", "/", ":authority", "x.example")
	if head, body, _ := f.answer(1); !strings.HasPrefix(head, ":status: 200\n") || body != "hi" {
		t.Errorf("answered %q %q", head, body)
	}
}

// Whatever a side makes of a body, no more and no less of it is sent on than its
// head announces.
func TestABodyIsWhatItsHeadAnnounces(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\n"
	data := func(s string, last bool) piece { return piece{data: []byte(s), last: last} }
	for name, tt := range map[string]struct {
		head string
		from *stream
		sent string
	}{
		"data where there is none":         {get, newStream(data("GET /smuggled HTTP/1.1\r\n", true)), ""},
		"more to come where there is none": {get, newStream(piece{}), ""},
		"too much at once":                 {post + "Content-Length: 2\r\n\r\n", newStream(data("three", true)), ""},
		"too little at once":               {post + "Content-Length: 2\r\n\r\n", newStream(data("1", true)), ""},
		"too much later":                   {post + "Content-Length: 2\r\n\r\n", newStream(data("1", false), data("23", true)), post + "Content-Length: 2\r\n\r\n1"},
		"too little later":                 {post + "Content-Length: 2\r\n\r\n", newStream(data("1", false), piece{last: true}), post + "Content-Length: 2\r\n\r\n1"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWitness(t)
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{w.addr}})
			told := r.serveStream(tt.from, tt.head)
			if !strings.Contains(told, "reply HTTP/1.1 400 Bad Request ") {
				t.Errorf("the caller was told %s", told)
			}
			if rec := r.record(); rec.Status != 400 || rec.Flags != decision.DPE || rec.Reason != decision.BadRequest {
				t.Errorf("record %d %s %s", rec.Status, rec.Flags, rec.Err)
			}
			r.clusters.Close() // its connections are closed, and all that was sent has come
			waitFor(t, func() bool { return len(w.text()) >= len(tt.sent) })
			if got := w.text(); got != tt.sent {
				t.Errorf("the endpoint got %q, want %q", got, tt.sent)
			}
		})
	}
}

func TestAnAnswerIsWhatItsHeadAnnounces(t *testing.T) {
	data := func(s string, last bool) piece { return piece{data: []byte(s), last: last} }
	for name, tt := range map[string]struct {
		head   string
		pieces []piece
		want   string
	}{
		"data where there is none": {"HTTP/1.1 204 No Content\r\n\r\n", []piece{data("HTTP/1.1 200 OK\r\n", true)}, "reply HTTP/1.1 502 "},
		"too much at once":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", []piece{data("three", true)}, "reply HTTP/1.1 502 "},
		"too little at once":       {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", []piece{data("1", true)}, "reply HTTP/1.1 502 "},
		"too much later":           {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", []piece{data("1", false), data("23", true)}, "answer 200 \"1\"\nabort\n"},
		"too little later":         {"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n", []piece{data("1", false), {last: true}}, "answer 200 \"1\"\nabort\n"},
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t)
			s, f := newStream(piece{last: true}), newFar()
			f.pieces = tt.pieces
			x := r.exchange(s, f)
			x.answer = []byte(tt.head)
			x.resp.Reset()
			if done, err := x.resp.Parse(x.answer, false); !done || err != nil {
				t.Fatal(done, err)
			}
			x.respond(r.hard)
			if told := s.told.String(); !strings.HasPrefix(told, tt.want) {
				t.Errorf("the caller was told %s", told)
			}
			if rec := r.record(); rec.Flags != decision.UPE || f.whole {
				t.Errorf("record %s %s, kept %v", rec.Flags, rec.Err, f.whole)
			}
		})
	}
}

// Answers that have no body are over with their head, whether or not the endpoint
// ends their stream.
func TestAnAnswerWithoutABodyIsOverWithItsHead(t *testing.T) {
	for method, status := range map[string]string{"HEAD": "200", "GET": "204", "POST": "304"} {
		heard := make(chan struct{})
		addr := newEndpoint2(t, nil, func(f *framer) {
			defer close(heard)
			id, _ := f.request()
			f.head(id, false, ":status", status)
			if fr, ok := f.next().(*http2.RSTStreamFrame); !ok || fr.StreamID != id {
				f.c.t.Fatal("the stream that the endpoint leaves open was not reset")
			}
		})
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2})
		c := r.dial()
		c.say(method + " / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 0\r\n\r\n")
		if res, _ := c.answer(method); res.Status[:3] != status || res.Close {
			t.Errorf("%s: %s, close %v", method, res.Status, res.Close)
		}
		<-heard // or the end of the rig may come before the reset
		if rec := r.record(); rec.Flags != 0 || rec.Reason != decision.OK {
			t.Errorf("%s: record %s %s", method, rec.Flags, rec.Details)
		}
	}
}

// To a caller that speaks HTTP/2 an answer of 2xx to an extended CONNECT is an open
// WebSocket, whatever the endpoint meant by it.
func TestAnAnswerIsNoWebSocketUnlessTheEndpointSwitched(t *testing.T) {
	for status, want := range map[string]string{"200 OK": "502", "204 No Content": "502", "299 Odd": "502", "301 Moved": "301", "404 Not Found": "404"} {
		r := one(t, func(c *client) {
			if _, err := http.ReadRequest(c.r); err != nil {
				c.t.Fatal(err)
			}
			c.say("HTTP/1.1 " + status + "\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
		})
		f := r.frames()
		f.head(1, false, ":method", "CONNECT", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority", "x.example")
		f.must(f.WriteData(1, false, []byte("GET /smuggled HTTP/1.1\r\n\r\n")))
		if head, _, _ := f.answer(1); !strings.HasPrefix(head, ":status: "+want+"\n") {
			t.Errorf("%s: %s", status, head)
		}
		if rec := r.record(); want == "502" && (rec.Flags != decision.UPE || rec.Reason != decision.UpstreamBroken || rec.Err != errOpened.Error()) {
			t.Errorf("%s: record %s %v %s", status, rec.Flags, rec.Reason, rec.Err)
		}
	}
}

func TestOnlyGETBecomesAWebSocket(t *testing.T) {
	w := newWitness(t)
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{w.addr}, http: config.HTTP2})
	c := r.dial()
	c.say("DELETE /x HTTP/1.1\r\nHost: x.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
	if res, _ := c.answer("DELETE"); res.StatusCode != 403 {
		t.Error(res.Status)
	}
	if rec := r.record(); rec.Reason != decision.UpgradeRefused || string(rec.Method) != "DELETE" || w.text() != "" {
		t.Errorf("record %v of %s; the endpoint got %q", rec.Reason, rec.Method, w.text())
	}
}

// A server may repeat in its trailer what has no place there.
func TestATrailerThatRepeatsTheHeadBreaksNoAnswer(t *testing.T) {
	addr := newEndpoint2(t, nil, func(f *framer) {
		id, _ := f.request()
		f.head(id, false, ":status", "200")
		f.must(f.WriteData(id, false, []byte("fine")))
		f.head(id, true, "grpc-status", "0", "content-type", "application/grpc")
		f.serve(nil)
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{addr}, http: config.HTTP2})
	f := r.frames()
	f.get(1, "/")
	if _, body, trailer := f.answer(1); body != "fine" || trailer != "grpc-status: 0\n" {
		t.Errorf("answered %q, trailer %q", body, trailer)
	}
	if rec := r.record(); rec.Flags != 0 {
		t.Errorf("record %s", rec.Flags)
	}
}
