package l7

import (
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A witness is an endpoint that keeps every byte it is sent.
type witness struct {
	addr netip.AddrPort
	mu   sync.Mutex
	seen []byte // guarded by mu
}

func (w *witness) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.seen = append(w.seen, p...)
	return len(p), nil
}

func newWitness(t *testing.T) *witness {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	w := &witness{addr: ln.Addr().(*net.TCPAddr).AddrPort()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				c.SetDeadline(time.Now().Add(patience))
				io.Copy(w, c)
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return w
}

// A scripted connection to an endpoint: what it was made of decides what reads
// and writes give, whatever the time.
type scripted struct {
	net.Conn // closed, deadlines and addresses
	said     io.Reader
	fails    error
}

func (s *scripted) Read(p []byte) (int, error)  { return s.said.Read(p) }
func (s *scripted) Write(p []byte) (int, error) { return 0, s.fails }

// keepScripted makes c the kept connection that the next request takes.
func (r *rig) keepScripted(c *scripted) {
	r.t.Helper()
	ours, theirs := net.Pipe()
	r.t.Cleanup(func() { theirs.Close() })
	c.Conn = ours
	e, err := r.clusters.Get("outbound|80||x.example").Pick(netip.AddrPort{}, nil, &decision.Record{})
	if err != nil {
		r.t.Fatal(err)
	}
	e.Keep(transport.New(c, nil))
	e.Done()
}

// An endpoint answers and resets before it was sent anything: what the caller
// sends afterwards is a body without a reader, not a request.
func TestTheRestOfABodyIsNoRequest(t *testing.T) {
	r := one(t, func(c *client) { c.t.Fatal("the rest of a body went out as a request") })
	r.keepScripted(&scripted{
		said:  strings.NewReader("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n"),
		fails: syscall.ECONNRESET,
	})
	c := r.dial()
	c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1000\r\n\r\n")
	if res, body := c.answer("POST"); res.StatusCode != 413 || !res.Close {
		t.Errorf("%d %q, close %v; want 413 and the end", res.StatusCode, body, res.Close)
	}
	c.say("GET /smuggled HTTP/1.1\r\nHost: x.example\r\n\r\n")
	c.CloseWrite()
	c.ended()
	if rec := r.record(); rec.Status != 413 {
		t.Errorf("record %d %s", rec.Status, rec.Sentence())
	}
}

// malformations reads a file of messages that must be refused.
func malformations(t *testing.T, file string) (all []string) {
	t.Helper()
	text, err := os.ReadFile("../h1/testdata/" + file)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		_, quoted, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "\t")
		if !ok || strings.HasPrefix(line, "#") {
			continue
		}
		message, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, message)
	}
	return all
}

// prefixed puts a head before each of bodies.
func prefixed(head string, bodies []string) (all []string) {
	for _, b := range bodies {
		all = append(all, head+b)
	}
	return all
}

// faults.md 34 to 37, two-sided: what is refused has not reached the endpoint,
// and what came behind it has not either.
func TestFault34To37NothingMalformedReachesTheEndpoint(t *testing.T) {
	w := newWitness(t)
	r := newRig(t, entry{host: "a", endpoints: []netip.AddrPort{w.addr}})
	requests := malformations(t, "requests.bad")
	if len(requests) < 150 {
		t.Errorf("%d malformed heads, want at least 150", len(requests))
	}
	requests = append(requests, prefixed("POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n", malformations(t, "chunks.bad"))...)
	for _, request := range requests {
		c := r.dial()
		c.say(request + "GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n")
		res, body := c.answer("GET")
		if res.StatusCode != 400 || !res.Close {
			t.Errorf("%q was answered %d %q", request, res.StatusCode, body)
		}
		c.CloseWrite()
		c.ended()
		if rec := r.record(); rec.Status != 400 || rec.Endpoint.IsValid() {
			t.Errorf("%q: record %d, endpoint %s", request, rec.Status, rec.Endpoint)
		}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) > 0 {
		t.Errorf("after %d malformed requests the endpoint saw %q", len(requests), w.seen)
	}
}

// faults.md 38, two-sided: of a malformed answer nothing reaches the caller, nor
// of what came behind it, and the endpoint is never sent another request on the
// connection.
func TestFault38NothingMalformedReachesTheCaller(t *testing.T) {
	answers := malformations(t, "responses.bad")
	if len(answers) < 60 {
		t.Errorf("%d malformed heads, want at least 60", len(answers))
	}
	answers = append(answers, prefixed("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", malformations(t, "chunks.bad"))...)
	const smuggled = "HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\nsmuggled"
	var scripts []func(c *client)
	for _, answer := range answers {
		scripts = append(scripts, func(c *client) {
			c.hear(get)
			io.WriteString(c, answer+smuggled)
			if more, _ := io.ReadAll(c.r); len(more) > 0 {
				c.t.Fatalf("after %q the connection was used for %q", answer, more)
			}
		})
	}
	r := one(t, scripts...)
	c := r.dial()
	for _, answer := range answers {
		c.say(get)
		res, body := c.answer("GET")
		if res.StatusCode != 502 || res.Close || strings.Contains(body, "smuggled") || !strings.Contains(body, "not valid in the protocol") {
			t.Errorf("%.200q was answered %d %q, close %v", answer, res.StatusCode, body, res.Close)
		}
		if rec := r.record(); rec.Flags != decision.UPE || rec.Reason != decision.UpstreamBroken || rec.Status != 502 || rec.Tries != 1 {
			t.Errorf("%.200q: record %d %s, %d tries", answer, rec.Status, rec.Flags, rec.Tries)
		}
	}
}
