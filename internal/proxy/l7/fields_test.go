package l7

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/accesslog"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// A printer writes records down as a format has them.
type printer struct {
	format *accesslog.Format
	lines  chan string
}

func (p *printer) Add(r *decision.Record) { p.lines <- string(p.format.AppendLine(nil, r)) }

// print lets the rig's server write lines of a format.
func (r *rig) print(format string) *printer {
	r.t.Helper()
	f, err := accesslog.CompileText(format, false)
	if err != nil {
		r.t.Fatal(err)
	}
	p := &printer{format: f, lines: make(chan string, 16)}
	r.server.log, r.server.answerFields = p, f.AnswerFields
	return p
}

func TestRecordsShowTheFieldsOfBothMessages(t *testing.T) {
	const format = "%REQ(X-A)% %REQ(USER-AGENT)% %REQ(X-NONE?ACCEPT)% | %RESPONSE_CODE% %RESP(X-B)% %RESP(CONTENT-TYPE)% %TRAILER(X-SUM)% %GRPC_STATUS%"
	const ask = "GET / HTTP/1.1\r\nHost: x.example\r\nX-a:  1 \r\nUser-Agent: curl\r\nAccept: */*\r\n\r\n"
	answer := "HTTP/1.1 200 OK\r\nX-B: b b\t\r\nGrpc-Status: 5\r\nContent-Length: 0\r\n\r\n"
	t.Run("HTTP/1.1 to HTTP/1.1, one exchange after the other", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
			c.hear(ask)
			c.say(answer)
			c.hear("GET /2 HTTP/1.1\r\nHost: x.example\r\n\r\n")
			c.say(ok)
		}).addr}})
		p, c := r.print(format), r.dial()
		c.say(ask)
		c.hear(answer)
		c.say("GET /2 HTTP/1.1\r\nHost: x.example\r\n\r\n")
		c.hear(ok)
		for _, want := range []string{"1 curl */* | 200 b b - - NotFound\n", "- - - | 200 - - - -\n"} {
			if got := <-p.lines; got != want {
				t.Errorf("line %q, want %q", got, want)
			}
		}
	})
	t.Run("an answer of the proxy", func(t *testing.T) {
		r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{closedPort(t)}, change: func(rt *config.Route) { rt.Retry = config.Retry{} }})
		p, c := r.print(format), r.dial()
		c.say(ask)
		c.answer("GET")
		if got, want := <-p.lines, "1 curl */* | 503 - text/plain - -\n"; got != want {
			t.Errorf("line %q, want %q", got, want)
		}
	})
	t.Run("HTTP/2 to HTTP/2, with a trailer", func(t *testing.T) {
		r := two(t, func(f *framer) {
			id, _ := f.request()
			f.head(id, false, ":status", "200", "x-b", "c", "content-type", "application/grpc")
			f.must(f.WriteData(id, false, []byte("ok")))
			f.head(id, true, "x-sum", "7", "grpc-status", "14")
		})
		p, f := r.print(format), r.frames()
		f.get(1, "/", "x-a", "1", "user-agent", "grpc-go", "accept", "*/*")
		f.answer(1)
		if got, want := <-p.lines, "1 grpc-go */* | 200 c application/grpc 7 Unavailable\n"; got != want {
			t.Errorf("line %q, want %q", got, want)
		}
	})
	t.Run("a request that breaks HTTP", func(t *testing.T) {
		r := newRig(t)
		p, c := r.print(format), r.dial()
		c.say("GET / HTTP/1.1\r\nX-A: 1\r\n\r\n")
		c.answer("GET")
		if got := <-p.lines; !strings.HasPrefix(got, "1 - - | 400 - text/plain") {
			t.Errorf("line %q", got)
		}
	})
}

func TestShowingFieldsAllocatesNothing(t *testing.T) {
	x := exchange{server: &Server{answerFields: func() bool { return true }}}
	x.answer = []byte("HTTP/1.1 200 OK\r\nX-B: b\r\n\r\n")
	if done, err := x.resp.Parse(x.answer, false); err != nil || !done {
		t.Fatal(done, err)
	}
	last := piece{last: true, trailer: []byte("x-sum: 1\r\n")}
	n := testing.AllocsPerRun(100, func() {
		x.kept.reset()
		x.showAnswer()
		x.showTrailer(last)
		if string(x.rec.Response.Field("x-b")) != "b" || string(x.rec.Trailer.Field("x-sum")) != "1" {
			t.Fatal("not shown")
		}
	})
	if n > 0 {
		t.Errorf("%v allocations", n)
	}
}
