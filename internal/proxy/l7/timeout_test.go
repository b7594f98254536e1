package l7

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// routeTimeout is long enough for all that has to come before it.
const routeTimeout = 300 * time.Millisecond

// timed is one, with a route that has a timeout.
func timed(t *testing.T, up netip.AddrPort) *rig {
	t.Helper()
	return newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, change: func(r *config.Route) {
		r.Timeout, r.Retry = routeTimeout, config.Retry{}
	}})
}

func TestRouteTimeoutIsAnswered504(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 4\r\n\r\n"
	mute := func(request string) netip.AddrPort {
		return newEndpoint(t, func(c *client) { c.hear(request); io.Copy(io.Discard, c.r) }).addr
	}
	for name, tt := range map[string]struct {
		up     netip.AddrPort
		pieces []string
	}{
		"no answer":                        {mute(get), []string{get}},
		"no answer to a body":              {mute(post + "body"), []string{post + "body"}},
		"no answer to a body that is late": {mute(post + "body"), []string{post, "body"}},
		"no connection":                    {fullPort(t), []string{get}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := timed(t, tt.up)
			c := r.dial()
			for i, piece := range tt.pieces {
				if i > 0 { // what the caller takes for its body is its own affair
					time.Sleep(2 * routeTimeout)
				}
				c.say(piece)
			}
			if res, body := c.answer("GET"); res.StatusCode != 504 || !strings.Contains(body, "no answer from endpoint") {
				t.Error(res.StatusCode, body)
			}
			if rec := r.record(); rec.Flags != decision.UT || rec.Details != "upstream_response_timeout" {
				t.Error(rec.Flags, rec.Details)
			}
		})
	}
}

// fullPort is an address where connections are neither accepted nor refused.
func fullPort(t *testing.T) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ln.Close() })
	raw, err := ln.(*net.TCPListener).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var small error
	if err := raw.Control(func(fd uintptr) { small = unix.Listen(int(fd), 0) }); err != nil || small != nil {
		t.Fatal(err, small)
	}
	for { // the backlog fills
		c, err := net.DialTimeout("tcp", ln.Addr().String(), routeTimeout)
		if err != nil {
			return ln.Addr().(*net.TCPAddr).AddrPort()
		}
		t.Cleanup(func() { c.Close() })
	}
}

func TestAWebSocketOutlivesTheRouteTimeout(t *testing.T) {
	const upgrade = "Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	r := timed(t, newEndpoint(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nHost: x.example\r\n" + upgrade)
		c.say("HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
		time.Sleep(2 * routeTimeout)
		c.say("late")
	}).addr)
	c := r.dial()
	c.say("GET / HTTP/1.1\r\nHost: x.example\r\n" + upgrade)
	c.hear("HTTP/1.1 101 Switching Protocols\r\n" + upgrade)
	c.hear("late")
}

func TestFault39ACallerThatStopsReadingIsLeft(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear(get)
		io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 100000000\r\n\r\n")
		for b := make([]byte, 1<<20); ; {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	})
	r.manager.StreamIdleTimeout = routeTimeout
	r.dial().say(get)
	if rec := r.record(); rec.Flags != decision.SI || rec.Details != "stream_idle_timeout" || rec.Sent == 0 {
		t.Error(rec.Flags, rec.Details, rec.Sent)
	}
}

func TestARequestThatTimesOutIsNotSentTwice(t *testing.T) {
	up := newEndpoint(t, func(c *client) {
		c.hear(get)
		c.say(ok)
		c.hear(get) // and is still thinking
		c.ended()
	}, func(c *client) { c.t.Fatal("the request came a second time") })
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up.addr}, change: func(r *config.Route) { r.Timeout = 2 * routeTimeout }})
	c := r.dial()
	c.say(get)
	c.hear(ok)
	r.record()
	c.say(get)
	if res, body := c.answer("GET"); res.StatusCode != 504 {
		t.Error(res.StatusCode, body)
	}
	if rec := r.record(); rec.Flags != decision.UT || rec.Tries != 1 {
		t.Error(rec.Flags, rec.Tries)
	}
}

func TestFault39SlowHeadIsAnswered408(t *testing.T) {
	r := newRig(t)
	r.server.headTimeout = 20 * time.Millisecond
	c := r.dial()
	c.say("GET / HTTP/1.1\r\nHo")
	const advice = "declare the port's protocol" // to who meant no HTTP, but not in a later request
	if res, body := c.answer("GET"); res.StatusCode != 408 || !res.Close || !strings.Contains(body, advice) {
		t.Error(res.StatusCode, body)
	}
	c.ended()
	later := r.dial()
	later.say(get)
	later.answer("GET")
	later.say("GET / HTTP/1.1\r\nHo")
	if res, body := later.answer("GET"); res.StatusCode != 408 || strings.Contains(body, advice) {
		t.Error(res.StatusCode, body)
	}
	first := r.record()
	if first.Status != 408 || first.Protocol != decision.HTTP11 || string(first.Path) != "/" || first.ID == 0 {
		t.Errorf("record %+v", first)
	}
	r.record()
	r.record()
	r.server.headTimeout = patience
	c = r.dial()
	c.say("GET / HTTP/1.1 and so on\r\n\r\n")
	c.answer("GET")
	if rec := r.record(); rec.Status != 400 || rec.Protocol != decision.HTTP11 || rec.ID == first.ID {
		t.Errorf("record %+v", rec)
	}
}
