package l7

import (
	"context"
	"errors"
	"math/rand/v2"
	"os"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// maxInterim bounds the 1xx answers before one final answer.
const maxInterim = 32

// Answers that are no answers.
var (
	errFlood  = errors.New("more than 32 interim (1xx) answers to one request")
	errOpened = errors.New("it accepted a WebSocket with another answer than 101, which would be one to a caller that speaks HTTP/2")
	errSwitch = errors.New("it switched protocols (101) unasked, or to another one than asked")
)

// forward sends the request to an endpoint and its answer to the caller.
func (x *exchange) forward(ctx context.Context, rt *config.Route) (more bool) {
	x.dropPrivate()
	if x.timeout = x.timeLimit(rt); x.timeout > 0 && x.whole {
		x.deadline = time.Now().Add(x.timeout)
	}
	defer x.giveBack()
	for {
		status, connected := x.connect(ctx, rt)
		switch {
		case connected:
		case status == 0: // there is nobody to tell
			x.caller.abort(errGone)
			return x.finish()
		default:
			return x.reply(status)
		}
		if !x.deadline.IsZero() {
			x.up.setDeadline(x.deadline)
		}
		x.decorate()
		x.renew()
		left, err := x.up.send(ctx, &x.req, x.in, x.first)
		x.sentAt = time.Now()
		if err == nil && (!x.whole || !left.none()) {
			x.startUpload(left)
		}
		failed := x.readAnswer()
		again, late := x.again(failed, rt)
		switch {
		case again:
		case failed != nil:
			return x.fail(ctx, failed)
		default:
			return x.respond(ctx)
		}
		x.recallUpload()
		if late && len(x.tried) < cap(x.tried) {
			x.tried = append(x.tried, x.endpoint)
		}
		x.letGo(false)
		if late && !x.pause(ctx, rt.Retry.BaseInterval) {
			return x.settle(timedOut, words(failed))
		}
	}
}

func words(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// again reports whether the request is sent once more after a try that failed, or
// that the answer at hand says was in vain (failed is nil then): at once, or late,
// after a pause. All of it must be at hand, and nothing told to the caller.
func (x *exchange) again(failed error, rt *config.Route) (again, late bool) {
	x.giveBack()
	if x.interim > 0 || x.upload.running && !x.first.last && !x.upload.atHand() {
		return false, false
	}
	if failed != nil {
		if again, free := x.replayable(failed); again {
			return free || x.claim(), false
		}
	}
	again = x.retryable(failed, rt) && x.attempt(rt)
	return again, again
}

// retryable reports whether the route has the request tried again that the endpoint
// refused without a look at it, or that it says itself it could not serve.
func (x *exchange) retryable(failed error, rt *config.Route) bool {
	if failed == nil {
		return x.inVain(rt)
	}
	return rt.Retry.RefusedStream && (errors.Is(failed, streams.ErrRefused) || errors.Is(failed, streams.ErrCapacity))
}

// attempt counts a retry that the route has made, if there is one left.
func (x *exchange) attempt(rt *config.Route) bool {
	switch {
	case rt.Retry.Attempts == 0:
		return false
	case x.retries >= rt.Retry.Attempts:
		x.rec.Flags |= decision.URX
		return false
	case !x.claim():
		return false
	}
	x.retries++
	return true
}

// claim takes a place among the retries that the cluster has in flight at once,
// which the end of the try gives back.
func (x *exchange) claim() bool {
	if x.claimed = x.cluster.Retry(); !x.claimed {
		x.rec.Flags |= decision.UO
	}
	return x.claimed
}

// giveBack ends what claim began, if it did.
func (x *exchange) giveBack() {
	if x.claimed {
		x.claimed = false
		x.cluster.Retried()
	}
}

// replayable reports whether the request may be sent once more, and only once,
// after a try that failed: certainly if the endpoint cannot have acted on it, and if it is not
// likely to have where doing it twice does no harm. Kept connections are gone
// through until one is of use. free says that this is no retry to an endpoint: it
// was not asked, or said before that it would take no more.
func (x *exchange) replayable(failed error) (again, free bool) {
	switch x.up.served(failed) {
	case another:
		x.rec.Tries--
		return true, true
	case untouched:
		var reset streams.ResetError
		again, free = true, !errors.As(failed, &reset)
	case hardly:
		again = x.whole && idempotent(x.rec.Method)
	case perhaps:
	}
	again = again && !x.replayed
	x.replayed = x.replayed || again
	return again, free
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// connect attaches to an endpoint, trying again as the route says. It returns
// the status of the reply if there is none to be had; 0: nobody is there to get it.
func (x *exchange) connect(ctx context.Context, rt *config.Route) (status int, connected bool) {
	r := &x.rec
	for {
		if x.over(ctx) {
			return 0, false
		}
		var avoid []*cluster.Endpoint
		if rt.Retry.PreviousHosts {
			avoid = x.tried
		}
		e, err := x.cluster.Pick(r.Original, avoid, r)
		if err != nil {
			x.judge(noEndpoint, r.Err) // which Pick has filled
			return noEndpoint.status, false
		}
		if r.Tries < 255 {
			r.Tries++
		}
		up := x.upstreamFor(x.cluster)
		x.caller.tie(ctx, up)
		if err = up.attach(ctx, e, x.replayed, x.deadline); err == nil {
			x.endpoint, x.up = e, up
			x.connected()
			return 0, true
		}
		x.caller.untie()
		e.Done()
		x.giveBack()
		if x.over(ctx) {
			return 0, false
		}
		if !x.deadline.IsZero() && !time.Now().Before(x.deadline) {
			x.judge(timedOut, r.Err)
			return timedOut.status, false
		}
		o, words := x.notAttached(err)
		x.judge(o, words)
		if !rt.Retry.ConnectFailure || rt.Retry.Attempts == 0 {
			return o.status, false
		}
		if x.retries >= rt.Retry.Attempts || len(x.tried) == cap(x.tried) {
			r.Flags |= decision.URX
			return o.status, false
		}
		// To go on to an endpoint not tried yet is not to ask one twice.
		if other := rt.Retry.PreviousHosts && len(x.tried)+1 < r.Endpoints; !other && !x.claim() {
			return o.status, false
		}
		x.retries++
		x.tried = append(x.tried, e)
		if !x.pause(ctx, rt.Retry.BaseInterval) {
			x.judge(timedOut, r.Err)
			return timedOut.status, false
		}
		r.Flags &^= o.flags
	}
}

// over reports whether nobody wants an answer any more, and judges that.
func (x *exchange) over(ctx context.Context) bool {
	cause := x.caller.trouble()
	if ctx.Err() != nil {
		cause = cut(ctx)
	}
	if cause == nil || errors.Is(cause, os.ErrDeadlineExceeded) { // it took nothing of an answer before
		return false
	}
	o, words := x.failure(cause)
	x.judge(o, words)
	return true
}

// upstreamFor returns what speaks with the endpoints of c.
func (x *exchange) upstreamFor(c *cluster.Cluster) upstream {
	if v := c.Config().HTTP; v == config.HTTP2 || v == config.AsCaller && x.rec.Protocol == decision.HTTP2 {
		if x.toH2 == nil {
			x.toH2 = new(h2Upstream)
		}
		x.toH2.scheme = x.scheme()
		x.toH2.leash.slacken()
		return x.toH2
	}
	if x.toH1 == nil {
		x.toH1 = new(h1Upstream)
		x.toH1.init(x.server)
	}
	x.toH1.leash.slacken()
	return x.toH1
}

// pause waits before a retry, until the caller is found gone or ctx ends at most. It
// reports false if the route's time is up first.
func (x *exchange) pause(ctx context.Context, base time.Duration) bool {
	d := backOff(x.retries, base, rand.Uint64())
	if !x.deadline.IsZero() && time.Now().Add(d).After(x.deadline) {
		return false
	}
	x.nap.slacken()
	x.caller.tie(ctx, &x.nap)
	defer x.caller.untie()
	held, release := x.nap.hold(ctx)
	defer release()
	held, wake := context.WithTimeout(held, d)
	defer wake()
	<-held.Done()
	return true
}

// A nap is a wait that can be cut.
type nap struct{ leash }

// Cut ends it.
func (n *nap) Cut() { n.pull() }

// backOff is Envoy's wait before a retry (1 for the first): uniform below
// base·(2^retry − 1), at most ten times base.
func backOff(retry int, base time.Duration, random uint64) time.Duration {
	if base == 0 {
		base = 25 * time.Millisecond
	}
	base = max(base, time.Millisecond)
	spread := base << min(retry, 10)
	return min(time.Duration(random%uint64(spread-base)), 10*base)
}

// readAnswer reads the head of the final answer; interim ones are sent on.
func (x *exchange) readAnswer() (err error) {
	toHEAD := string(x.rec.Method) == "HEAD"
	for {
		if x.answer, err = x.up.readHead(&x.resp, toHEAD); err != nil {
			return err
		}
		switch {
		case x.resp.Status == 101 && (x.req.Upgrade != h1.WebSocket || x.resp.Upgrade != h1.WebSocket):
			return errSwitch
		case x.resp.Status >= 200 && x.resp.Status < 300 && x.req.Upgrade == h1.WebSocket && x.rec.Protocol == decision.HTTP2:
			return errOpened
		case x.resp.Status == 101 || x.resp.Status >= 200:
			if x.req.Connect {
				x.resp.OpenTunnel()
			}
			x.rec.UpstreamTime = time.Since(x.sentAt)
			return nil
		}
		if x.interim++; x.interim > maxInterim {
			return errFlood
		}
		x.renew()
		if err := x.caller.interim(&x.resp, x.answer); err != nil {
			return err
		}
	}
}

// fail answers for an endpoint that gave no usable answer.
func (x *exchange) fail(ctx context.Context, cause error) (more bool) {
	if status := x.breakOff(ctx, cause); status != 0 {
		return x.reply(status)
	}
	x.caller.abort(cause)
	return x.finish()
}

// breakOff ends the work on an exchange that broke, and records why. It returns
// the status to answer with; 0: there is nobody to tell.
func (x *exchange) breakOff(ctx context.Context, cause error) (status int) {
	trouble := x.caller.trouble()
	idle := x.up.idle() || errors.Is(trouble, os.ErrDeadlineExceeded)
	x.stopUpload()
	x.letGo(false)
	o, words := x.failure(x.blame(ctx, cause))
	if o == timedOut && idle {
		o = idledOut
	}
	x.judge(o, words)
	return o.status
}

// blame returns why an exchange broke: what the caller did, if it did anything,
// since the endpoint sees only the consequence.
func (x *exchange) blame(ctx context.Context, cause error) error {
	if ctx.Err() != nil {
		return cut(ctx)
	}
	if x.pace.late.Load() || x.upload.pace.late.Load() {
		return errSlow
	}
	if err := x.caller.trouble(); err != nil {
		return err
	}
	if err := x.upload.err; err != nil && !errors.Is(err, errUpstream) && !errors.Is(err, errStopped) {
		return err
	}
	return cause
}

// renew gives the try another stretch of silence, if it is bounded.
func (x *exchange) renew() { renew(x.up, x.manager) }

func renew(up upstream, m *config.HTTPManager) {
	if m.StreamIdleTimeout > 0 {
		up.setTimeout(m.StreamIdleTimeout)
	}
}

// stopTimer ends the time of the route.
func (x *exchange) stopTimer() {
	if x.timeout > 0 {
		x.up.setDeadline(time.Time{})
	}
}

// letGo ends the use of the endpoint. whole says that nothing is missing of
// request and answer.
func (x *exchange) letGo(whole bool) {
	if x.up == nil {
		return
	}
	if tied := x.caller.untie(); !tied {
		whole = false
	}
	if whole {
		x.stopTimer()
	}
	x.up.done(whole)
	x.endpoint.Done()
	x.up, x.endpoint = nil, nil
}
