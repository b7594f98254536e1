package l7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

const (
	get  = "GET / HTTP/1.1\r\nHost: x.example\r\n\r\n"
	ok   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	fine = "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nfine"
)

func TestHeadersPassAsTheyAreAndFramingIsOurs(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear("GET /a?b=%20c HTTP/1.1\r\nhOsT: X.example:80\r\nTraceParent: 00-1\r\nX-Request-Id: mine\r\nx-forwarded-for: 1.2.3.4\r\nAccept:  */*  \r\n\r\n")
		c.say("HTTP/1.1 200 Quite OK\r\nServer: theirs\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: timeout=5\r\nx-REQUEST-id: mine\r\nContent-Length: 2\r\n\r\nok")
	})
	c := r.dial()
	c.say("GET /a?b=%20c HTTP/1.1\r\nhOsT: X.example:80\r\nConnection: Keep-Alive, X-Hop\r\nTraceParent: 00-1\r\nX-Hop: 2\r\nX-Request-Id: mine\r\n" +
		"TE: trailers\r\nProxy-Connection: keep-alive\r\nx-envoy-max-retries: 9\r\nx-forwarded-for: 1.2.3.4\r\nAccept:  */*  \r\nUpgrade: h2c\r\nHTTP2-Settings: AA\r\n\r\n")
	c.hear("HTTP/1.1 200 Quite OK\r\nServer: theirs\r\nx-REQUEST-id: mine\r\nContent-Length: 2\r\n\r\nok")
	rec := r.record()
	if rec.Status != 200 || string(rec.Authority) != "X.example:80" || string(rec.Path) != "/a?b=%20c" || string(rec.Method) != "GET" ||
		string(rec.RequestID) != "mine" || rec.Sent != 2 || rec.VirtualHost != "x.example:80" || rec.Route != "default" || rec.RouteTable != "80" ||
		rec.Cluster != "outbound|80||x.example" || rec.Entry != where || rec.Tries != 1 || rec.Flags != 0 || rec.Reason != decision.OK ||
		!rec.Endpoint.IsValid() || !rec.Upstream.IsValid() || rec.Protocol != decision.HTTP11 || rec.UpstreamTime <= 0 || rec.Duration < rec.UpstreamTime {
		t.Errorf("record %+v", rec)
	}
}

func TestConnectionsAreKeptOnBothSides(t *testing.T) {
	r := one(t, func(c *client) {
		for range 3 {
			c.hear(get)
			c.say(ok)
		}
	})
	c := r.dial()
	for range 3 {
		c.say(get)
		c.hear(ok)
		r.record()
	}
}

func TestPipelinedRequestsAreAnsweredInOrder(t *testing.T) {
	r := one(t, func(c *client) {
		for i := range 20 {
			c.hear(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: x.example\r\nContent-Length: 3\r\n\r\nabc", i))
			c.say(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d", i))
		}
	})
	c := r.dial()
	var all strings.Builder
	for i := range 20 {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: x.example\r\nContent-Length: 3\r\n\r\nabc", i)
	}
	for s := all.String(); s != ""; { // in pieces that respect no boundary
		n := min(len(s), 37)
		c.say(s[:n])
		s = s[n:]
	}
	for i := range 20 {
		c.hear(fmt.Sprintf("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n%02d", i))
	}
}

func TestRetryFindsTheEndpointThatListens(t *testing.T) {
	up := newEndpoint(t, func(c *client) {
		for range 6 {
			c.hear(get)
			c.say(ok)
		}
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{closedPort(t), up.addr}})
	c := r.dial()
	var tries int
	for range 6 {
		c.say(get)
		c.hear(ok)
		rec := r.record()
		tries += int(rec.Tries)
		if rec.Flags != 0 || rec.Reason != decision.OK || rec.Endpoint != up.addr {
			t.Errorf("flags %s, reason %d, endpoint %s", rec.Flags, rec.Reason, rec.Endpoint)
		}
	}
	if tries < 8 {
		t.Errorf("%d tries for 6 requests over a dead and a live endpoint", tries)
	}
}

func TestAKeptConnectionThatDiesIsReplacedOnce(t *testing.T) {
	r := one(t,
		func(c *client) {
			c.hear(get)
			c.say(ok)
			c.hear(get) // takes the request and dies
		},
		func(c *client) {
			c.hear(get)
			c.say(fine)
		},
		func(c *client) { c.hear("POST") },
	)
	c := r.dial()
	c.say(get)
	c.hear(ok)
	r.record()
	c.say(get)
	c.hear(fine)
	if rec := r.record(); rec.Tries != 2 || rec.Status != 200 {
		t.Errorf("tries %d, status %d", rec.Tries, rec.Status)
	}
}

func TestAPostIsNotSentTwice(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear(get)
		c.say(ok)
		c.hear("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1\r\n\r\nx")
	}, func(c *client) { c.t.Fatal("the request came a second time") })
	c := r.dial()
	c.say(get)
	c.hear(ok)
	c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 1\r\n\r\nx")
	if res, body := c.answer("POST"); res.StatusCode != 503 || !strings.Contains(body, "ended the connection before its answer was complete") {
		t.Error(res.StatusCode, body)
	}
	r.record()
	if rec := r.record(); rec.Flags != decision.UC || rec.Details != "upstream_reset_before_response_started{connection_termination}" {
		t.Error(rec.Flags, rec.Details)
	}
}

func TestAKeptConnectionOnWhichAnythingArrivedIsNotUsed(t *testing.T) {
	said := make(chan struct{})
	r := one(t, func(c *client) {
		c.hear(get)
		c.say(ok)
		<-said
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison")
		said <- struct{}{}
		io.Copy(io.Discard, c)
	}, func(c *client) {
		c.hear(get)
		c.say(fine)
	})
	c := r.dial()
	c.say(get)
	c.hear(ok)
	r.record()
	said <- struct{}{}
	<-said
	c.say(get)
	c.hear(fine)
}

func TestContinueGoesEndToEnd(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	r := one(t, func(c *client) {
		c.hear(post)
		c.say("HTTP/1.1 100 Continue\r\n\r\n")
		c.hear("hello")
		c.say("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok)
	})
	c := r.dial()
	c.say(post)
	c.hear("HTTP/1.1 100 Continue\r\n\r\n")
	c.say("hello")
	c.hear("HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" + ok)
	if rec := r.record(); rec.Received != 5 || rec.Status != 200 {
		t.Error(rec.Received, rec.Status)
	}
}

func TestExpectationThatFailsEndsTheConnection(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	r := one(t, func(c *client) {
		c.hear(post)
		c.say("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\n\r\n")
		c.ended()
	})
	c := r.dial()
	c.say(post)
	c.hear("HTTP/1.1 417 Expectation Failed\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
	c.ended()
}

func TestEarlyAnswerWhileTheBodyFlows(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 100000000\r\n\r\n")
		c.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 3\r\n\r\nbig")
		io.Copy(io.Discard, c.r) // until the proxy gives up
	}, func(c *client) {
		c.hear(get)
		c.say(ok)
	})
	c := r.dial()
	c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 100000000\r\n\r\n")
	wrote := make(chan struct{})
	go func() {
		defer close(wrote)
		b := make([]byte, 64<<10)
		for {
			if _, err := c.Write(b); err != nil {
				return
			}
		}
	}()
	res, body := c.answer("POST")
	if res.StatusCode != 413 || body != "big" || !res.Close {
		t.Errorf("%v %q", res, body)
	}
	c.Close()
	<-wrote
	if rec := r.record(); rec.Status != 413 {
		t.Error(rec.Status)
	}
	next := r.dial() // and no connection to the endpoint was poisoned
	next.say(get)
	next.hear(ok)
}

func TestHalfCloseStillGetsItsAnswer(t *testing.T) {
	go1 := make(chan struct{})
	r := one(t, func(c *client) {
		c.hear(get)
		<-go1
		c.say(ok)
	})
	c := r.dial()
	c.say(get)
	c.CloseWrite()
	close(go1)
	c.hear(ok)
	c.ended()
}

func TestHTTP10(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear("GET /1 HTTP/1.1\r\nHost: x.example\r\n\r\n")
		c.say(ok)
		c.hear("GET /2 HTTP/1.1\r\nHost: x.example\r\n\r\n")
		c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n3;x=y\r\ndef\r\n0\r\nT: x\r\n\r\n")
		c.hear("GET /3 HTTP/1.1\r\nHost: x.example\r\n\r\n")
		c.say("HTTP/1.1 100 Continue\r\n\r\n" + ok)
	})
	c := r.dial()
	c.say("GET /1 HTTP/1.0\r\nHost: x.example\r\nConnection: keep-alive\r\n\r\n")
	c.hear("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok")
	c.say("GET /2 HTTP/1.0\r\nHost: x.example\r\nConnection: keep-alive\r\n\r\n")
	c.hear("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabcdef")
	c.ended()
	if rec := r.record(); rec.Protocol != decision.HTTP10 {
		t.Error(rec.Protocol)
	}
	r.record()
	c = r.dial()
	c.say("GET /3 HTTP/1.0\r\nHost: x.example\r\n\r\n")
	c.hear("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	c.ended()
}

func TestAnswersWithoutABody(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear("HEAD")
		c.hear(strings.TrimPrefix(get, "GET"))
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
		c.hear(get)
		c.say("HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n")
		c.hear(get)
		c.say("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n")
		c.hear(get)
		c.say(ok)
	})
	c := r.dial()
	c.say("HEAD" + strings.TrimPrefix(get, "GET"))
	c.hear("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
	c.say(get)
	c.hear("HTTP/1.1 204 No Content\r\n\r\n")
	c.say(get)
	c.hear("HTTP/1.1 304 Not Modified\r\nContent-Length: 1000\r\n\r\n")
	c.say(get)
	c.hear(ok)
}

func TestAnswerUntilCloseBecomesChunked(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear(get)
		c.say("HTTP/1.0 200 OK\r\n\r\nto the end")
	}, func(c *client) {
		c.hear(get)
		c.say(ok)
	})
	c := r.dial()
	c.say(get)
	res, body := c.answer("GET")
	if body != "to the end" || len(res.TransferEncoding) != 1 {
		t.Errorf("%v %q", res, body)
	}
	c.say(get)
	c.hear(ok)
}

func TestWebSocketBecomesAStream(t *testing.T) {
	const handshake = "GET /chat HTTP/1.1\r\nHost: x.example\r\nSec-WebSocket-Key: abc\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
	r := one(t, func(c *client) {
		c.hear(handshake)
		c.say("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
		c.hear("early")
		io.Copy(c, c.r)
		c.CloseWrite()
	})
	c := r.dial()
	c.say(handshake + "early")
	c.hear("HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\nhello")
	for i := range 3 {
		if i == 1 {
			r.drain() // a drain lets it go on; the listener ends it at the deadline
		}
		c.say("echo")
		c.hear("echo")
	}
	c.CloseWrite()
	c.ended()
	if rec := r.record(); rec.Status != 101 || rec.Received != 17 || rec.Sent != 17 || rec.Reason != decision.OK {
		t.Error(rec.Status, rec.Received, rec.Sent, rec.Reason, rec.Err)
	}
}

func TestARefusedUpgradeIsAnOrdinaryAnswer(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear("GET / HTTP/1.1\r\nHost: x.example\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n")
		c.say("HTTP/1.1 400 No\r\nConnection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 2\r\n\r\nno")
		c.hear(get)
		c.say(ok)
	})
	c := r.dial()
	c.say("GET / HTTP/1.1\r\nHost: x.example\r\nConnection: upgrade\r\nUpgrade: WebSocket\r\n\r\n")
	c.hear("HTTP/1.1 400 No\r\nContent-Length: 2\r\n\r\nno")
	c.say(get)
	c.hear(ok)
}

// Some callers send an empty line after a request. It is not the beginning of
// the next one: the connection goes on waiting, as long as any.
func TestAnEmptyLineBeginsNoRequest(t *testing.T) {
	r := one(t, func(c *client) {
		for range 4 {
			c.hear(get)
			c.say(ok)
		}
	})
	r.server.headTimeout = 250 * time.Millisecond
	c := r.dial()
	c.say(get + "\r\n")
	c.hear(ok)
	time.Sleep(2 * r.server.headTimeout)
	c.say(get)
	c.hear(ok)
	c.say("\r\n")
	time.Sleep(2 * r.server.headTimeout)
	c.say("\r\n" + get)
	c.hear(ok)
	c.say("\r")
	time.Sleep(time.Millisecond)
	c.say("\n")
	time.Sleep(2 * r.server.headTimeout)
	c.say(get)
	c.hear(ok)
	c.say("\r\n")
	c.CloseWrite()
	c.ended()
	for range 4 {
		r.record()
	}
	if n := len(r.log.added); n > 0 {
		t.Errorf("%d records too many", n)
	}
}

func TestFault69DrainFinishesTheExchangeAtHand(t *testing.T) {
	answer := make(chan struct{})
	r := one(t, func(c *client) {
		c.hear(get)
		<-answer
		c.say(ok)
	})
	idle, busy := r.dial(), r.dial()
	busy.say(get)
	waitFor(t, func() bool { return r.clusters.Get("outbound|80||x.example").Endpoints()[0].Active == 1 })
	r.drain()
	idle.ended()
	close(answer)
	busy.hear("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
	busy.ended()
}

// TestFault69ADrainLetsConnectionsAskOnceMore has a caller who has not asked yet,
// one who has, and one whose next request is behind the one at hand.
func TestFault69ADrainLetsConnectionsAskOnceMore(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	r := one(t, func(c *client) {
		c.hear(get)
		c.say(ok)
		c.hear(get)
		close(asked)
		<-answer
		c.say(ok)
		for range 2 {
			c.hear(get)
			c.say(ok)
		}
	})
	const last = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok"
	kept := r.dial()
	kept.say(get)
	kept.hear(ok)
	r.record() // and the connection to the endpoint is kept, too
	busy := r.dial()
	busy.say(get + get)
	<-asked
	fresh := r.dial()
	waitFor(t, func() bool { return r.sweeper.Len() == 3 })
	r.drain()
	// Longer than it takes to close what waits: there is nothing to see.
	time.Sleep(50 * time.Millisecond)
	close(answer)
	for _, c := range []*client{busy, fresh, kept} {
		if c != busy {
			c.say(get)
		}
		c.hear(last)
		c.ended()
		c.Close()
	}
}

func TestFault71APanicCostsOneRequest(t *testing.T) {
	r := one(t, func(c *client) {
		c.hear(get)
		c.say(ok)
		c.hear(get)
		c.say(ok)
	})
	healthy := r.dial()
	healthy.say(get)
	healthy.hear(ok)
	r.record()
	cfg := r.server.config
	broken := true
	r.server.config = func() *config.Config {
		if broken {
			broken = false
			panic("a fault")
		}
		return cfg()
	}
	c := r.dial()
	c.say(get)
	if res, _ := c.answer("GET"); res.StatusCode != 500 {
		t.Error(res.StatusCode)
	}
	c.ended()
	if rec := r.record(); rec.Status != 500 || rec.Reason != decision.Internal || !strings.Contains(rec.Sentence(), "a fault of its own; its log holds the details: a fault") {
		t.Error(rec.Status, rec.Sentence())
	}
	healthy.say(get)
	healthy.hear(ok)
	if n := r.server.Panics(); n != 1 {
		t.Errorf("%d panics counted", n)
	}
}

func TestCallerThatGoesAwayInItsBody(t *testing.T) {
	saw := make(chan error, 1)
	r := one(t, func(c *client) {
		_, err := io.ReadAll(c.r)
		saw <- err
	})
	c := r.dial()
	c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 10\r\n\r\nhalf")
	c.Close()
	if rec := r.record(); rec.Flags != decision.DC || rec.Status != 0 || rec.Reason != decision.ClientGone {
		t.Error(rec.Flags, rec.Status, rec.Reason)
	}
	<-saw
}

func TestABodyThatTurnsBadIsRefused(t *testing.T) {
	r := one(t, func(c *client) { io.Copy(io.Discard, c.r) })
	c := r.dial()
	c.say("POST / HTTP/1.1\r\nHost: x.example\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
	waitFor(t, func() bool { return r.clusters.Get("outbound|80||x.example").Endpoints()[0].Active == 1 })
	c.say("zz\r\n")
	if res, _ := c.answer("POST"); res.StatusCode != 400 || !res.Close {
		t.Error(res.StatusCode)
	}
	if rec := r.record(); rec.Flags != decision.DPE {
		t.Error(rec.Flags)
	}
}

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for !ok() {
		if ctx.Err() != nil {
			t.Fatal(errors.New("the condition did not come about"))
		}
		time.Sleep(time.Millisecond)
	}
}
