package l7

import (
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// A caller that gives up ends its connection in order, as one does that only has
// nothing more to ask.
func TestACallerThatEndsItsSideAndHearsNothingIsGone(t *testing.T) {
	const post = "POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: 6\r\n\r\n"
	for name, tt := range map[string]struct {
		say    []string // each once the endpoint has heard the one before
		behind string   // which it does not hear
		tell   string   // before the caller ends
		gone   bool
	}{
		"a request":                 {say: []string{get}, gone: true},
		"one with another behind":   {say: []string{get}, behind: get, gone: true},
		"one with a body":           {say: []string{post, "abc", "def"}, gone: true},
		"one that was told to wait": {say: []string{get}, tell: "HTTP/1.1 103 Early Hints\r\n\r\n", gone: true},
		"an answer has begun":       {say: []string{get}, tell: "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\no"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			heard, goOn, left := make(chan struct{}), make(chan struct{}), make(chan struct{})
			r := prepareRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
				for _, s := range tt.say {
					c.hear(s)
					heard <- struct{}{}
				}
				c.say(tt.tell)
				if !tt.gone {
					<-goOn
					c.say("k")
				}
				io.Copy(io.Discard, c.r)
				close(left)
			}, func(c *client) {
				c.hear(get)
				io.Copy(io.Discard, c.r)
			}).addr}})
			r.sweeper.Farewell = time.Millisecond
			r.open(t)
			c := r.dial()
			for _, s := range tt.say {
				c.say(s)
				<-heard
			}
			c.say(tt.behind)
			c.hear(tt.tell)
			c.CloseWrite()
			if !tt.gone {
				other := r.dial() // which is looked for as often
				other.say(get)
				other.CloseWrite()
				if rec := r.record(); rec.Flags != decision.DC {
					t.Errorf("the other's record: %+v", rec)
				}
				close(goOn)
				c.hear("k")
				c.ended() // after the answer, as its own end was there
				if rec := r.record(); rec.Flags != 0 || rec.Status != 200 {
					t.Errorf("flags %v, status %d", rec.Flags, rec.Status)
				}
				return
			}
			rec := r.record()
			if rec.Flags != decision.DC || rec.Status != 0 || rec.Reason != decision.ClientGone || rec.Details != "downstream_remote_disconnect" {
				t.Errorf("flags %v, status %d, reason %v, %s", rec.Flags, rec.Status, rec.Reason, rec.Details)
			}
			<-left                                         // the endpoint is told
			if rest, _ := io.ReadAll(c.r); len(rest) > 0 { // it is reset if something was not read
				t.Errorf("heard %q", rest)
			}
		})
	}
}
