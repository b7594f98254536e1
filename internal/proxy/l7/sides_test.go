package l7

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A stream is a caller of a protocol whose bodies have trailers. It notes what
// it is told.
type stream struct {
	ahead  piece   // came with the head
	pieces []piece // come later; then a read waits until it is stopped
	stop   chan struct{}
	told   strings.Builder
	tied   bool
}

func newStream(ahead piece, pieces ...piece) *stream {
	return &stream{ahead: ahead, pieces: pieces, stop: make(chan struct{})}
}

func (s *stream) note(what string, p piece) {
	fmt.Fprintf(&s.told, "%s %q", what, p.data)
	if p.last {
		s.told.WriteString(" last")
	}
	if len(p.trailer) > 0 {
		fmt.Fprintf(&s.told, " %q", p.trailer)
	}
	s.told.WriteByte('\n')
}

func (s *stream) protocol() decision.Protocol { return decision.HTTP2 }
func (s *stream) open() (piece, error)        { return s.ahead, nil }

func (s *stream) read(b *buffer) (piece, error) {
	if len(s.pieces) == 0 {
		<-s.stop
		return piece{}, errGone
	}
	p := s.pieces[0]
	s.pieces = s.pieces[1:]
	p.data = b.data()[:copy(b.data(), p.data)]
	return p, nil
}

func (s *stream) stopReading() { close(s.stop) }
func (s *stream) stopWriting() {}
func (s *stream) giveUp()      { s.told.WriteString("give up\n") }

func (s *stream) interim(r *h1.Response, _ []byte) error {
	fmt.Fprintf(&s.told, "interim %d\n", r.Status)
	return nil
}

func (s *stream) answer(r *h1.Response, _ []byte, p piece) error {
	s.note(fmt.Sprint("answer ", r.Status), p)
	return nil
}

func (s *stream) write(b *buffer, p piece) error {
	if len(p.data) > 0 && &p.data[0] != &b[room] {
		return errors.New("the data has no room around it")
	}
	s.note("write", p)
	return nil
}

func (s *stream) reply(head, body []byte) error {
	first, _, _ := strings.Cut(string(head), "\r\n")
	s.note("reply "+first, piece{data: bytes.TrimSpace(body), last: true})
	return nil
}

func (s *stream) abort(error)                                    { s.told.WriteString("abort\n") }
func (s *stream) end() bool                                      { s.told.WriteString("end\n"); return false }
func (s *stream) tie(context.Context, transport.Cutter)          { s.tied = true }
func (s *stream) untie() bool                                    { tied := s.tied; s.tied = false; return tied }
func (s *stream) trouble() error                                 { return nil }
func (s *stream) hijack() (stream *transport.Conn, ahead []byte) { return nil, nil }

// serveStream serves one request of s, and returns what it was told.
func (r *rig) serveStream(s *stream, head string) string {
	r.t.Helper()
	x := new(exchange)
	x.init(r.server)
	x.begin(s, r.manager, &r.base)
	_, err := x.req.Parse([]byte(head))
	x.serve(r.hard, []byte(head), err)
	return s.told.String()
}

func TestACallerOfAnotherProtocolMeetsHTTP1(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\n"
	for name, tt := range map[string]struct {
		head     string
		from     *stream
		hears    string
		says     string
		want     string
		received int64
	}{
		"all at hand": {
			get, newStream(piece{last: true}),
			get, ok, "answer 200 \"ok\" last\nend\n", 0,
		},
		"a body of known length": {
			post + "Content-Length: 5\r\n\r\n", newStream(piece{data: []byte("he")}, piece{data: []byte("llo"), last: true}),
			post + "Content-Length: 5\r\n\r\nhello", ok, "answer 200 \"ok\" last\nend\n", 5,
		},
		"a body of unknown length with a trailer": {
			post + "Transfer-Encoding: chunked\r\n\r\n", newStream(piece{}, piece{data: []byte("hello")}, piece{last: true, trailer: []byte("a: b\r\n")}),
			post + "Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n", ok, "answer 200 \"ok\" last\nend\n", 5,
		},
		"an answer in chunks": {
			get, newStream(piece{last: true}),
			get, "HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0\r\nt: u\r\n\r\n",
			"interim 103\nanswer 200 \"a\" last\nend\n", 0,
		},
		"an early answer": {
			post + "Content-Length: 5\r\n\r\n", newStream(piece{data: []byte("he")}),
			post + "Content-Length: 5\r\n\r\nhe", ok, "answer 200 \"ok\" last\ngive up\nend\n", 2,
		},
		"a torn answer": {
			get, newStream(piece{last: true}),
			get, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nok", "answer 200 \"ok\"\nabort\nend\n", 0,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t, func(c *client) {
				c.hear(tt.hears)
				c.say(tt.says)
			})
			if got := r.serveStream(tt.from, tt.head); got != tt.want {
				t.Errorf("the caller was told\n%swant\n%s", got, tt.want)
			}
			if rec := r.record(); rec.Protocol != decision.HTTP2 || rec.Received != tt.received {
				t.Errorf("record: %s, %d received, want %d", rec.Protocol, rec.Received, tt.received)
			}
			if tt.from.tied {
				t.Error("the caller is tied still")
			}
		})
	}
	t.Run("no route", func(t *testing.T) {
		r := newRig(t)
		got := r.serveStream(newStream(piece{}), "POST / HTTP/1.1\r\nHost: who.example\r\nTransfer-Encoding: chunked\r\n\r\n")
		if !strings.HasPrefix(got, "give up\nreply HTTP/1.1 502 Bad Gateway \"who.example") || !strings.HasSuffix(got, "last\nend\n") {
			t.Errorf("told %s", got)
		}
		r.record()
	})
}

// A far is an upstream of a protocol whose bodies have trailers.
type far struct {
	pieces []piece
	told   strings.Builder
	judged served
	whole  bool
	cut    chan struct{}
}

func (f *far) attach(context.Context, *cluster.Endpoint, bool, time.Time) error { return nil }
func (f *far) local() netip.AddrPort                                            { return netip.AddrPort{} }
func (f *far) Cut()                                                             { close(f.cut) }
func (f *far) setDeadline(time.Time)                                            {}
func (f *far) setTimeout(time.Duration)                                         {}
func (f *far) idle() bool                                                       { return false }
func (f *far) hijack() *transport.Conn                                          { return nil }
func (f *far) send(context.Context, *h1.Request, []byte, piece) (piece, error)  { return piece{}, nil }

func (f *far) readHead(*h1.Response, bool) ([]byte, error) { return nil, io.EOF }

func (f *far) open() (piece, error) { return f.read(new(buffer)) }
func (f *far) served(error) served  { return f.judged }
func (f *far) done(whole bool)      { f.whole = whole }

func (f *far) read(b *buffer) (piece, error) {
	p := f.pieces[0]
	f.pieces = f.pieces[1:]
	p.data = b.data()[:copy(b.data(), p.data)]
	return p, nil
}

func (f *far) write(_ *buffer, p piece) error {
	fmt.Fprintf(&f.told, "%q %v %q\n", p.data, p.last, p.trailer)
	return nil
}

func TestTrailersPassWhereBothSidesHaveThem(t *testing.T) {
	r := one(t)
	const trailer = "grpc-status: 0\r\ngrpc-message: \r\n"
	for name, tt := range map[string]struct {
		pieces []piece
		want   string
	}{
		"with the head": {[]piece{{data: []byte("a"), last: true, trailer: []byte(trailer)}}, fmt.Sprintf("answer 200 \"a\" last %q\nend\n", trailer)},
		"after a body": {
			[]piece{{}, {data: []byte("a")}, {last: true, trailer: []byte(trailer)}},
			fmt.Sprintf("answer 200 \"\"\nwrite \"a\"\nwrite \"\" last %q\nend\n", trailer),
		},
	} {
		t.Run(name, func(t *testing.T) {
			s, f := newStream(piece{}, piece{data: []byte("q")}, piece{last: true, trailer: []byte("x: y\r\n")}), newFar()
			f.pieces = tt.pieces
			x := r.exchange(s, f)
			x.startUpload(piece{})
			waitFor(t, x.upload.last.Load)
			x.respond(r.hard)
			if got := s.told.String(); got != tt.want {
				t.Errorf("the caller was told\n%swant\n%s", got, tt.want)
			}
			if got, want := f.told.String(), "\"q\" false \"\"\n\"\" true \"x: y\\r\\n\"\n"; got != want {
				t.Errorf("the endpoint was told\n%swant\n%s", got, want)
			}
			if !f.whole {
				t.Error("the exchange does not count as whole")
			}
			r.record()
		})
	}
}

func newFar() *far { return &far{cut: make(chan struct{})} }

// exchange is one whose request has gone from s to f.
func (r *rig) exchange(s *stream, f *far) *exchange {
	r.t.Helper()
	x := new(exchange)
	x.init(r.server)
	x.begin(s, r.manager, &r.base)
	const head = "POST / HTTP/1.1\r\nHost: x.example\r\nTransfer-Encoding: chunked\r\n\r\n"
	x.in = []byte(head)
	if done, err := x.req.Parse(x.in); !done || err != nil {
		r.t.Fatal(done, err)
	}
	x.describe()
	x.whole = s.ahead.last
	x.upload.size.begin(&x.req.Fields)
	x.cluster = r.clusters.Get("outbound|80||x.example")
	e, err := x.cluster.Pick(netip.AddrPort{}, nil, &x.rec)
	if err != nil {
		r.t.Fatal(err)
	}
	x.endpoint, x.up = e, f
	s.tie(r.hard, f)
	x.answer = []byte("HTTP/1.1 200 OK\r\n\r\n")
	if done, err := x.resp.Parse(x.answer, false); !done || err != nil {
		r.t.Fatal(done, err)
	}
	return x
}

func TestWhatMayBeSentTwice(t *testing.T) {
	r := one(t)
	for _, tt := range []struct {
		judged served
		method string
		whole  bool
		change func(*exchange)
		want   bool
	}{
		{untouched, "POST", true, nil, true},
		{untouched, "POST", false, nil, true}, // nothing was read beyond what is at hand
		{untouched, "GET", true, func(x *exchange) { x.replayed = true }, false},
		{untouched, "GET", true, func(x *exchange) { x.interim = 1 }, false},
		{untouched, "GET", false, func(x *exchange) { x.upload.running = true }, false},
		{hardly, "GET", true, nil, true},
		{hardly, "PUT", true, nil, true},
		{hardly, "PUT", false, nil, false},
		{hardly, "POST", true, nil, false},
		{hardly, "PATCH", true, nil, false},
		{perhaps, "GET", true, nil, false},
		{perhaps, "HEAD", true, nil, false},
	} {
		f := newFar()
		f.judged = tt.judged
		x := r.exchange(newStream(piece{}), f)
		x.rec.Method, x.whole = []byte(tt.method), tt.whole
		if tt.change != nil {
			tt.change(x)
		}
		got, late := x.again(io.EOF, new(config.Route))
		x.giveBack()
		if got != tt.want || late {
			t.Errorf("%s, whole %v, judged %d: %v, want %v", tt.method, tt.whole, tt.judged, got, tt.want)
		}
	}
}

// An endpoint that answers what it was not wholly sent leaves a body without a
// reader; one whose caller was cut off meanwhile leaves nothing to keep.
func TestWhatDoesNotEndWellIsToldToBothSides(t *testing.T) {
	r := one(t)
	for _, tt := range []struct {
		name        string
		whole, tied bool
		kept        bool
		want        string
	}{
		{"well", true, true, true, "answer 200 \"\" last\nend\n"},
		{"half a request", false, true, false, "give up\nanswer 200 \"\" last\nend\n"},
		{"cut off", true, false, false, "answer 200 \"\" last\nend\n"},
	} {
		s, f := newStream(piece{}), newFar()
		f.pieces = []piece{{last: true}}
		x := r.exchange(s, f)
		x.whole = tt.whole
		if !tt.tied {
			s.tied = false
		}
		x.respond(r.hard)
		r.record()
		if got := s.told.String(); got != tt.want || f.whole != tt.kept {
			t.Errorf("%s: told %q, want %q; kept %v", tt.name, got, tt.want, f.whole)
		}
	}
}

// A caller of HTTP/1 that goes away ends what another protocol does for it.
func TestAnUpstreamThatIsNoConnectionIsCutToo(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	c := &h1Caller{conn: &conn{down: transport.New(ours, nil)}}
	f := newFar()
	c.tie(t.Context(), f)
	if !c.untie() {
		t.Error("the tie did not hold")
	}
	c.tie(t.Context(), f)
	c.conn.down.Cut()
	<-f.cut
	if c.untie() {
		t.Error("the tie holds though the upstream was cut")
	}
}

func TestAPanicWithinAnAnswerIsSeen(t *testing.T) {
	r := one(t)
	s, f := newStream(piece{last: true}), newFar()
	x := r.exchange(s, f)
	x.started = true
	x.crashed("a fault")
	if got := s.told.String(); got != "abort\n" || f.whole {
		t.Errorf("told %q, kept %v", got, f.whole)
	}
	if rec := r.record(); rec.Reason != decision.Internal || rec.Details != "internal_error" {
		t.Error(rec.Reason, rec.Details)
	}
}

// A trap is a side that panics where it waits.
type trap struct{}

func (trap) ready() bool { return false }
func (trap) wait()       { panic("a fault") }

func TestAPanicWithinAWaitLeavesNoBufferToTwo(t *testing.T) {
	s, f := newStream(piece{}), newFar()
	for name, fall := range map[string]func(x *exchange){
		"of a request": func(x *exchange) {
			x.passUp(struct {
				*stream
				trap
			}{stream: s}, f, piece{})
			<-x.upload.done
		},
		"of an answer": func(x *exchange) {
			x.up = struct {
				*far
				trap
			}{far: f}
			defer func() { _ = recover() }()
			_ = x.passDown()
		},
	} {
		r := one(t)
		fall(r.exchange(s, f))
		first, second := r.server.buffers.Get(), r.server.buffers.Get()
		if first == second {
			t.Errorf("%s: two hold the same buffer", name)
		}
	}
}
