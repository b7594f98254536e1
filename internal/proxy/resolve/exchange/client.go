package exchange

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// ErrNoServer means that there is no name server to ask.
var ErrNoServer = errors.New("no name server is known; name one in /etc/resolv.conf")

// A Func asks one server one question and returns the answer that belongs to
// it, whatever its code. It must return soon after ctx has ended and must not
// change q.
type Func func(ctx context.Context, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error)

// A Client asks servers in order until one gives a usable answer: NOERROR or
// NXDOMAIN. A server that fails is followed at once by the next, one that is
// silent after Next is joined by the next and may still answer. It is safe for
// concurrent use as long as nobody changes it.
type Client struct {
	Servers  []netip.AddrPort
	Next     time.Duration // 0: 1 s
	Attempts int           // rounds over all servers; 0: 2
	Exchange Func

	panics atomic.Uint64
}

// Panics is how often an exchange panicked: a fault in the reading of what a
// server sent, which counted as no answer of that server.
func (c *Client) Panics() uint64 { return c.panics.Load() }

// An RcodeError is a server's refusal to answer.
type RcodeError struct{ Rcode int }

// Error names the code as DNS does.
func (e *RcodeError) Error() string { return "answered " + dns.RcodeToString[e.Rcode] }

type result struct {
	server int
	reply  *dns.Msg
	err    error
}

// Ask returns the first usable answer. It gives up when every server has
// failed in every round or when ctx ends, which bounds a silent server; ctx
// should have a deadline. It returns after all it started has ended. Its error
// names each server and what it did, wraps the causes and, where no server is
// known, is ErrNoServer.
func (c *Client) Ask(ctx context.Context, q *dns.Msg) (*dns.Msg, error) {
	if len(c.Servers) == 0 {
		return nil, ErrNoServer
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()

	tries := len(c.Servers) * orDefault(c.Attempts, 2)
	next := orDefault(c.Next, time.Second)
	results := make(chan result, tries)
	begun, ended := 0, 0
	begin := func() {
		server := begun % len(c.Servers)
		begun++
		wg.Go(func() {
			results <- c.try(ctx, q, server)
		})
	}

	begin()
	timer := time.NewTimer(next)
	defer timer.Stop()
	causes := make([]error, len(c.Servers))
	for {
		select {
		case <-ctx.Done():
			return nil, c.failure(causes, begun, ctx.Err())
		case <-timer.C:
			if begun < tries {
				begin()
				timer.Reset(next)
			}
		case r := <-results:
			ended++
			if r.err == nil {
				if r.reply.Rcode == dns.RcodeSuccess || r.reply.Rcode == dns.RcodeNameError {
					return r.reply, nil
				}
				r.err = &RcodeError{r.reply.Rcode}
			}
			causes[r.server] = r.err
			switch {
			case begun < tries:
				begin()
				timer.Reset(next)
			case ended == tries:
				return nil, c.failure(causes, begun, nil)
			}
		}
	}
}

// try asks one server. What comes over the wire must not end the proxy, whatever
// it is.
func (c *Client) try(ctx context.Context, q *dns.Msg, server int) (r result) {
	r.server = server
	defer func() {
		if p := recover(); p != nil {
			c.panics.Add(1)
			r.reply, r.err = nil, fmt.Errorf("was asked, and the proxy failed at its answer, a fault of the proxy's own: %v", p)
		}
	}()
	r.reply, r.err = c.Exchange(ctx, q, c.Servers[server])
	return r
}

// failure says what each server that was asked did. A server without a cause,
// or one whose try the context cut short, was silent.
func (c *Client) failure(causes []error, begun int, ended error) error {
	f := &failure{}
	for i, server := range c.Servers {
		cause := causes[i]
		switch {
		case cause == nil && i >= begun:
			continue
		case cause == nil && ended != nil:
			cause = ended
		}
		text := "gave no answer in time"
		if !isTimeout(cause) {
			text = cause.Error()
		}
		f.texts = append(f.texts, fmt.Sprintf("name server %s %s", server, text))
		f.causes = append(f.causes, cause)
	}
	return f
}

type failure struct {
	texts  []string
	causes []error
}

func (f *failure) Error() string   { return strings.Join(f.texts, "; ") }
func (f *failure) Unwrap() []error { return f.causes }

func isTimeout(err error) bool {
	var t interface{ Timeout() bool }
	return errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) || errors.As(err, &t) && t.Timeout()
}

func orDefault[T int | time.Duration](v, def T) T {
	if v <= 0 {
		return def
	}
	return v
}
