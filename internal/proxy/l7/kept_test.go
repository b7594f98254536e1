package l7

import (
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

const emptyOK = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

// A kept connection on which the endpoint was not quiet is left, whatever the
// method and whether or not a body is still to come; nothing is sent on it, and
// it is no try.
func TestAKeptConnectionThatIsOfNoUseIsNoTry(t *testing.T) {
	spoils := map[string]func(*client){
		"the endpoint ended it":         func(c *client) { c.Close() },
		"the endpoint ended its half":   func(c *client) { _ = c.CloseWrite() },
		"the endpoint reset it":         func(c *client) { _ = c.SetLinger(0); c.Close() },
		"an answer nobody asked for":    func(c *client) { c.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil") },
		"a part of one":                 func(c *client) { c.say("H") },
		"an answer, and then their end": func(c *client) { c.say(emptyOK); c.Close() },
	}
	requests := map[string]struct{ first, rest string }{
		"GET":                      {"GET /2 HTTP/1.1\r\nHost: x.example\r\n\r\n", ""},
		"POST, body at hand":       {"POST /2 HTTP/1.1\r\nHost: x.example\r\nContent-Length: 2\r\n\r\nab", ""},
		"POST, body still to come": {"POST /2 HTTP/1.1\r\nHost: x.example\r\nContent-Length: 2\r\n\r\na", "b"},
	}
	for what, spoil := range spoils {
		for which, request := range requests {
			t.Run(what+", "+which, func(t *testing.T) {
				next := make(chan struct{})
				r := one(t, func(c *client) {
					c.hear("GET /1 HTTP/1.1\r\nHost: x.example\r\n\r\n")
					c.say(emptyOK)
					<-next
					spoil(c)
					next <- struct{}{}
					<-next // open until it is over, if it was not closed
				}, func(c *client) {
					c.hear(request.first + request.rest)
					c.say("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ngood")
				})
				c := r.dial()
				c.say("GET /1 HTTP/1.1\r\nHost: x.example\r\n\r\n")
				c.answer("GET")
				r.record()
				next <- struct{}{}
				<-next
				r.spoiled()
				c.say(request.first)
				if request.rest != "" {
					time.Sleep(time.Millisecond) // so that it comes by itself
					c.say(request.rest)
				}
				if res, body := c.answer("GET"); res.StatusCode != 200 || body != "good" {
					t.Errorf("%d %q", res.StatusCode, body)
				}
				if rec := r.record(); rec.Tries != 1 || rec.Status != 200 || rec.Flags != 0 || rec.Reason != decision.OK {
					t.Errorf("tries %d, status %d, flags %v: %s", rec.Tries, rec.Status, rec.Flags, rec.Sentence())
				}
				close(next)
			})
		}
	}
}

// spoiled waits until what an endpoint did to the kept connection has arrived.
func (r *rig) spoiled() {
	r.t.Helper()
	e, err := r.clusters.Get("outbound|80||x.example").Pick(netip.AddrPort{}, nil, &decision.Record{})
	if err != nil {
		r.t.Fatal(err)
	}
	defer e.Done()
	c := e.Take()
	if c == nil {
		r.t.Fatal("nothing is kept")
	}
	for end := time.Now().Add(patience); c.Alive(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatal("the kept connection is as good as it was")
		}
	}
	e.Keep(c)
}

// An endpoint that ends kept connections whenever it likes fails no request that
// may be repeated: it is asked anew, on a connection of its own.
func TestEndsOfKeptConnectionsFailNoRequest(t *testing.T) {
	const rounds = 300
	var scripts []func(*client)
	for i := range rounds + 1 {
		scripts = append(scripts, func(c *client) {
			for range 1 + i%3 {
				c.hear("GET / HTTP/1.1\r\nHost: x.example\r\n\r\n")
				c.say(emptyOK)
			}
			if i%2 == 0 {
				_ = c.SetLinger(0)
			}
		})
	}
	r := one(t, scripts...)
	c := r.dial()
	for i := range rounds {
		if i%5 == 0 { // two in one segment
			c.say("GET / HTTP/1.1\r\nHost: x.example\r\n\r\nGET / HTTP/1.1\r\nHost: x.example\r\n\r\n")
			c.answer("GET")
			r.record()
		} else {
			c.say("GET / HTTP/1.1\r\nHost: x.example\r\n\r\n")
		}
		if res, _ := c.answer("GET"); res.StatusCode != 200 {
			rec := r.record()
			t.Fatalf("request %d: %d, %s", i, res.StatusCode, rec.Sentence())
		}
		r.record()
	}
	// A request together with the end of the caller's direction is answered, and
	// then the connection ends.
	c.say("GET / HTTP/1.1\r\nHost: x.example\r\n\r\n")
	_ = c.CloseWrite()
	if res, _ := c.answer("GET"); res.StatusCode != 200 {
		t.Errorf("status %d", res.StatusCode)
	}
	c.ended()
}
