package l7

import (
	"io"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
)

func TestATornAnswerIsSeenTorn(t *testing.T) {
	for name, answer := range map[string]string{
		"length":  "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nshort",
		"chunked": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n",
		"garbled": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nshort\r\n5\r\n",
	} {
		for _, version := range []string{"1.0", "1.1"} {
			t.Run(name+" to "+version, func(t *testing.T) {
				r := one(t, func(c *client) {
					c.hear("GET / HTTP/1.1\r\nHost: x.example\r\n\r\n")
					c.say(answer)
				})
				c := r.dial()
				c.say("GET / HTTP/" + version + "\r\nHost: x.example\r\n\r\n")
				res, err := http.ReadResponse(c.r, nil)
				if err == nil {
					_, err = io.ReadAll(res.Body)
				}
				if err == nil {
					t.Error("the answer looks whole")
				}
				if rec := r.record(); rec.Flags != decision.UC || rec.Status != 200 || rec.Reason != decision.UpstreamReset {
					t.Error(rec.Flags, rec.Status, rec.Reason)
				}
			})
		}
	}
}

// Where only the end of the connection ends the answer, a reset that the upload
// hears of first is no end.
func TestAnAnswerTornWhileUploadingIsSeenTorn(t *testing.T) {
	for range 50 {
		r := one(t, func(c *client) {
			c.hear("POST / HTTP/1.1\r\n")
			c.say("HTTP/1.0 200 OK\r\n\r\nhalf of it")
			c.SetLinger(0)
		})
		c := r.dial()
		c.say("POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 100000000\r\n\r\n")
		wrote := make(chan struct{})
		go func() {
			defer close(wrote)
			for b := make([]byte, 1<<10); ; {
				if _, err := c.Write(b); err != nil {
					return
				}
			}
		}()
		res, err := http.ReadResponse(c.r, nil)
		var body []byte
		if err == nil {
			body, err = io.ReadAll(res.Body)
		}
		if rec := r.record(); err == nil && res.StatusCode == 200 || rec.Reason != decision.UpstreamReset {
			t.Fatalf("the answer %q looks whole; reason %d", body, rec.Reason)
		}
		c.Close()
		<-wrote
	}
}

// faults.md 38: each is refused, and the connection it came on never used again.
func TestFault38HostileAnswers(t *testing.T) {
	for name, answer := range map[string]string{
		"length and chunked": "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
		"two lengths":        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
		"101 unasked":        "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n",
		"1xx flood":          strings.Repeat("HTTP/1.1 102 Processing\r\n\r\n", 40),
		"bare LF":            "HTTP/1.1 200 OK\nContent-Length: 0\n\n",
		"not HTTP":           "SSH-2.0-OpenSSH_9\r\n\r\n",
		"garbled body":       "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
		"folded":             "HTTP/1.1 200 OK\r\nA: b\r\n c\r\nContent-Length: 0\r\n\r\n",
		"no end":             "HTTP/1.1 200 OK\r\nA: " + strings.Repeat("b", 64<<10),
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t, func(c *client) {
				c.hear(get)
				io.WriteString(c, answer)
				io.Copy(io.Discard, c.r)
			}, func(c *client) {
				c.hear(get)
				c.say(ok)
			})
			c := r.dial()
			c.say(get)
			res, body := c.answer("GET")
			for ; res.StatusCode < 200; res, body = c.answer("GET") {
			}
			if res.StatusCode != 502 || !strings.Contains(body, "not valid in the protocol") {
				t.Error(res.StatusCode, body)
			}
			if rec := r.record(); rec.Flags != decision.UPE || rec.Reason != decision.UpstreamBroken {
				t.Error(rec.Flags, rec.Reason, rec.Details)
			}
			c.say(get)
			c.hear(ok)
		})
	}
	for name, tt := range map[string]struct{ method, answer, want string }{
		"extra answer":   {"GET", ok + ok, ok},
		"204 with body":  {"GET", "HTTP/1.1 204 No Content\r\n\r\n" + ok, "HTTP/1.1 204 No Content\r\n\r\n"},
		"HEAD with body": {"HEAD", ok, strings.TrimSuffix(ok, "ok")},
	} {
		t.Run(name, func(t *testing.T) {
			request := tt.method + strings.TrimPrefix(get, "GET")
			r := one(t, func(c *client) {
				c.hear(request)
				c.say(tt.answer)
				c.ended()
			}, func(c *client) {
				c.hear(get)
				c.say(fine)
			})
			c := r.dial()
			c.say(request)
			c.hear(tt.want)
			c.say(get)
			c.hear(fine)
		})
	}
}

// An endpoint that says nothing keeps nobody: not a caller that is gone, and
// not a drain that is over.
func TestASilentEndpointIsLeft(t *testing.T) {
	for name, tt := range map[string]struct {
		request string
		leave   func(r *rig, c *client)
		flags   decision.Flags
		reason  decision.Reason
		details string
	}{
		"the caller resets": {
			get, func(_ *rig, c *client) { c.SetLinger(0); c.Close() },
			decision.DC, decision.ClientGone, "downstream_remote_disconnect",
		},
		"the drain is over": {get, func(r *rig, _ *client) { r.cut() }, decision.LR, decision.Drained, "closed_by_drain"},
		"the drain is over in a body": {
			"POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 9\r\n\r\n", func(r *rig, _ *client) { r.cut() },
			decision.LR, decision.Drained, "closed_by_drain",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard, left := make(chan struct{}), make(chan struct{})
			r := one(t, func(c *client) {
				c.hear(tt.request)
				close(heard)
				io.Copy(io.Discard, c.r)
				close(left)
			})
			c := r.dial()
			c.say(tt.request)
			<-heard
			tt.leave(r, c)
			<-left
			if rec := r.record(); rec.Flags != tt.flags || rec.Reason != tt.reason || rec.Details != tt.details || rec.Status != 0 {
				t.Errorf("flags %s, reason %d, details %s, status %d", rec.Flags, rec.Reason, rec.Details, rec.Status)
			}
		})
	}
}

// faults.md 44: an expectation nobody answers, and endpoints that end within the
// body. What went wrong is told, and no connection it went wrong on used again.
func TestFault44ExpectationsAndBodiesThatEndEarly(t *testing.T) {
	const (
		expect = "POST / HTTP/1.1\r\nHost: x.example\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
		post   = "POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 100000000\r\n\r\n"
	)
	for name, tt := range map[string]struct {
		request string
		script  func(c *client)
		caller  func(c *client)
		status  int
		flags   decision.Flags
	}{
		"never answered, and the body sent at last": {
			expect, func(c *client) { c.hear(expect + "hello"); c.say(ok) },
			func(c *client) { c.say("hello"); c.hear(ok) }, 200, 0,
		},
		"never answered, and given up": {
			expect, func(c *client) { c.hear(expect); io.Copy(io.Discard, c.r) },
			func(c *client) { c.Close() }, 0, decision.DC,
		},
		"answered late and finally": {
			expect, func(c *client) {
				c.hear(expect + "hel")
				c.say("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\n\r\n")
			},
			func(c *client) {
				c.say("hel")
				c.hear("HTTP/1.1 413 Content Too Large\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
				c.ended()
			}, 413, 0,
		},
		"ended within the body": {
			post, func(c *client) { c.hear(post + "begun"); c.CloseWrite(); io.Copy(io.Discard, c.r) },
			func(c *client) { c.say("begun"); refused(c) }, 503, decision.UC,
		},
		"reset within the body": {
			post, func(c *client) { c.hear(post + "begun"); c.SetLinger(0) },
			func(c *client) { c.say("begun"); refused(c) }, 503, decision.UC,
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t, tt.script, func(c *client) { c.hear(get); c.say(fine) })
			c := r.dial()
			c.say(tt.request)
			tt.caller(c)
			if rec := r.record(); rec.Status != tt.status || rec.Flags != tt.flags {
				t.Errorf("record %d %s: %s", rec.Status, rec.Flags, rec.Sentence())
			}
			next := r.dial()
			next.say(get)
			next.hear(fine)
		})
	}
}

// refused expects the proxy's word that the endpoint broke off, and the end.
func refused(c *client) {
	c.t.Helper()
	if res, body := c.answer("POST"); res.StatusCode != 503 || !res.Close || !strings.Contains(body, "before its answer was complete") {
		c.t.Fatalf("answered %d %q, close %v", res.StatusCode, body, res.Close)
	}
}

// faults.md 40: a head is bounded, and costs no more than its bound.
func TestFault40HeadBombs(t *testing.T) {
	w := newWitness(t)
	r := newRig(t, entry{host: "a", endpoints: []netip.AddrPort{w.addr}})
	for name, bomb := range map[string]string{
		"many fields":    strings.Repeat("A: b\r\n", 20000),
		"one long field": "A: " + strings.Repeat("b", 1<<20),
		"cookie crumbs":  strings.Repeat("Cookie: a=b\r\n", 5000),
		"a long name":    strings.Repeat("a", 1<<20),
	} {
		t.Run(name, func(t *testing.T) {
			c := r.dial()
			go io.WriteString(c, "GET / HTTP/1.1\r\nHost: a\r\n"+bomb) // it is not read to its end
			if res, _ := c.answer("GET"); res.StatusCode != 431 || !res.Close {
				t.Errorf("answered %d, close %v", res.StatusCode, res.Close)
			}
			c.Close()
			if rec := r.record(); rec.Flags != decision.DPE || rec.Reason != decision.TooLarge {
				t.Error(rec.Flags, rec.Reason)
			}
		})
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if len(w.seen) > 0 {
		t.Errorf("the endpoint saw %q", w.seen)
	}
}
