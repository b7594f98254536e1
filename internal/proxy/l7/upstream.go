package l7

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/l4"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// maxInterim bounds the 1xx answers before one final answer.
const maxInterim = 32

// errFlood is what an endpoint does that sends more.
var errFlood = errors.New("more than 32 interim (1xx) answers to one request")

// errSwitch is an answer 101 to a request that asked for nothing of the kind.
var errSwitch = errors.New("it switched protocols (101) unasked, or to another one than asked")

// forward sends the request to an endpoint and its answer to the caller.
func (x *exchange) forward(ctx context.Context, rt *config.Route) bool {
	x.compose()
	if x.timeout = rt.Timeout; x.timeout > 0 && x.whole {
		x.deadline = time.Now().Add(x.timeout)
	}
	fresh := false
	for {
		if status := x.connect(ctx, rt, fresh); status != 0 {
			return x.reply(status)
		}
		if !x.deadline.IsZero() {
			_ = x.up.SetDeadline(x.deadline) // fails on a closed conn alone
		}
		renew(x.up, x.conn.manager)
		n, err := x.up.Write(x.out)
		x.sentAt = time.Now()
		if err == nil && !x.whole {
			x.startUpload()
		}
		failed := x.readAnswer()
		if failed == nil {
			return x.respond(ctx)
		}
		if !x.replayable(n, err, failed) {
			return x.fail(ctx, failed)
		}
		// The endpoint ended the kept connection while the request was on its
		// way: the ordinary race, and no fault of the endpoint.
		x.letGo(false)
		fresh = true
	}
}

// replayable reports whether the request may be sent once more after a kept
// connection was ended by the endpoint, which failed tells: certainly if nothing
// of it went out, else if doing it twice does no harm and all of it is at hand.
// An endpoint that only says nothing is still at work on it.
func (x *exchange) replayable(written int, err, failed error) bool {
	if !x.reused || x.answered > 0 || x.interim > 0 || x.upload.running {
		return false
	}
	if !errors.Is(failed, io.EOF) && !errors.Is(failed, syscall.ECONNRESET) && !errors.Is(failed, syscall.EPIPE) {
		return false
	}
	if err != nil && written == 0 {
		return true
	}
	return x.whole && idempotent(x.rec.Method)
}

func idempotent(method []byte) bool {
	switch string(method) {
	case "GET", "HEAD", "OPTIONS", "TRACE", "PUT", "DELETE":
		return true
	}
	return false
}

// compose makes the request as it goes to the endpoint, with what is at hand of
// its body.
func (x *exchange) compose() {
	if x.req.Has(h1.Envoy) {
		x.dropPrivate()
	}
	x.out = x.req.AppendTo(x.out[:0], x.in)
	if x.req.Framing != h1.Chunked {
		x.out = append(x.out, x.body...)
		return
	}
	x.out = appendChunk(x.out, x.body)
	if x.whole {
		x.out = append(x.out, h1.LastChunk...)
	}
}

func appendChunk(dst, data []byte) []byte {
	if len(data) == 0 {
		return dst
	}
	dst = h1.AppendChunkSize(dst, len(data))
	dst = append(dst, data...)
	return append(dst, '\r', '\n')
}

// connect gets a connection to an endpoint, trying again as the route says. It
// returns the status of the reply if there is none to be had.
func (x *exchange) connect(ctx context.Context, rt *config.Route, fresh bool) (status int) {
	r := &x.rec
	for retry := 1; ; retry++ {
		var avoid []*cluster.Endpoint
		if rt.Retry.PreviousHosts {
			avoid = x.tried
		}
		e, err := x.cluster.Pick(r.Original, avoid, r)
		if err != nil {
			r.Reason, r.Flags, r.Details = decision.NoEndpoint, r.Flags|decision.UH, "no_healthy_upstream"
			return 503
		}
		x.endpoint = e
		if r.Tries < 255 {
			r.Tries++
		}
		if x.reused = !fresh && x.takeKept(); !x.reused {
			x.up, err = x.dial(ctx)
		}
		if err == nil {
			x.conn.down.Tie(x.up)
			if ctx.Err() != nil {
				x.conn.down.Cut() // the one that came with the end of ctx did not see the tie
			}
			r.Reason, r.Err, r.Details = decision.OK, "", "" // of earlier tries
			r.Upstream = x.up.Local()
			return 0
		}
		x.up, x.endpoint = nil, nil
		e.Done()
		if !x.deadline.IsZero() && !time.Now().Before(x.deadline) {
			x.timedOut(false)
			return 504
		}
		x.connectFailed(err)
		if !rt.Retry.ConnectFailure || rt.Retry.Attempts == 0 || ctx.Err() != nil {
			return 503
		}
		if retry > rt.Retry.Attempts || len(x.tried) == cap(x.tried) {
			r.Flags |= decision.URX
			return 503
		}
		x.tried = append(x.tried, e)
		if !x.pause(retry, rt.Retry.BaseInterval) {
			x.timedOut(false)
			return 504
		}
		r.Flags &^= decision.UF
	}
}

// dial connects to the endpoint, within what is left of the route's time.
func (x *exchange) dial(ctx context.Context) (*transport.Conn, error) {
	if !x.deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, x.deadline)
		defer cancel()
	}
	return x.endpoint.Dial(ctx)
}

// takeKept takes a kept connection. One on which anything has arrived is not
// used: an answer nobody asked for would be taken for the next one.
func (x *exchange) takeKept() bool {
	for {
		c := x.endpoint.Take()
		if c == nil {
			return false
		}
		if c.Alive() {
			x.up = c
			return true
		}
		_ = c.Close() // ended by its peer already
	}
}

func (x *exchange) connectFailed(err error) {
	r := &x.rec
	r.Reason, r.Err = decision.ConnectFailed, l4.Plain(err) // the sentence names the address
	r.Flags |= decision.UF
	r.Details = "upstream_reset_before_response_started{remote_connection_failure}"
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		r.Details = "upstream_reset_before_response_started{connection_timeout}"
	}
}

// pause waits before a retry, and reports false if the route's time is up first.
func (x *exchange) pause(retry int, base time.Duration) bool {
	d := backOff(retry, base, rand.Uint64())
	if !x.deadline.IsZero() && time.Now().Add(d).After(x.deadline) {
		return false
	}
	time.Sleep(d)
	return true
}

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
func (x *exchange) readAnswer() error {
	toHEAD := string(x.rec.Method) == "HEAD"
	x.resp.Reset()
	for {
		if x.answered > 0 {
			done, err := x.resp.Parse(x.answer[:x.answered], toHEAD)
			if err != nil {
				return err
			}
			if done && x.resp.Status >= 200 {
				x.rec.UpstreamTime = time.Since(x.sentAt)
				return nil
			}
			if done {
				if x.resp.Status == 101 {
					return x.switched()
				}
				if err := x.sendInterim(); err != nil {
					return err
				}
				continue
			}
		}
		if x.answered == len(x.answer) {
			x.growAnswer()
		}
		n, err := x.up.Read(x.answer[x.answered:])
		x.answered += n
		if n == 0 && err != nil {
			return err
		}
	}
}

// switched checks a 101.
func (x *exchange) switched() error {
	if x.req.Upgrade != h1.WebSocket || x.resp.Upgrade != h1.WebSocket {
		return errSwitch
	}
	x.rec.UpstreamTime = time.Since(x.sentAt)
	return nil
}

// sendInterim sends a 1xx answer on and makes room for the next answer. A
// caller of HTTP/1.0 would not know what it is.
func (x *exchange) sendInterim() error {
	if x.interim++; x.interim > maxInterim {
		return errFlood
	}
	if x.req.Minor == 1 {
		// The request in x.out is done with: there is no replay after this.
		x.out = x.resp.AppendTo(x.out[:0], x.answer, h1.Reply{})
		if err := x.send(x.out); err != nil {
			return err
		}
	}
	x.answered = copy(x.answer, x.answer[x.resp.Len:x.answered])
	x.resp.Reset()
	return nil
}

// fail answers for an endpoint that gave no usable answer.
func (x *exchange) fail(ctx context.Context, cause error) bool {
	if status := x.breakOff(ctx, cause); status != 0 {
		return x.reply(status)
	}
	x.closing = true
	return x.end()
}

// breakOff ends the work on an exchange that broke, and records why. It returns
// the status to answer with; 0: there is nobody to tell.
func (x *exchange) breakOff(ctx context.Context, cause error) (status int) {
	idle := x.up.TimedOut() || x.conn.down.TimedOut()
	x.stopUpload()
	x.letGo(false)
	r := &x.rec
	cause = x.blame(ctx, cause)
	var fault *h1.Error
	errors.As(cause, &fault)
	phase := "upstream_reset_before_response_started"
	if x.started {
		phase = "upstream_reset_after_response_started"
	}
	switch {
	case errors.Is(cause, errCut):
		r.Details = "closed_by_drain"
		return 0
	case errors.Is(cause, errGone):
		r.Reason, r.Flags, r.Details = decision.ClientGone, r.Flags|decision.DC, "downstream_remote_disconnect"
		return 0
	case errors.Is(cause, errPanic):
		r.Reason, r.Details, r.Err = decision.Internal, "internal_error", cause.Error()
		return 500
	case errors.Is(cause, errUpload):
		r.Reason, r.Flags, r.Details, r.Err = decision.BadRequest, r.Flags|decision.DPE, fault.Details, fault.Error()
		return fault.Status
	case errors.Is(cause, os.ErrDeadlineExceeded):
		x.timedOut(idle)
		return 504
	case fault != nil, errors.Is(cause, errFlood), errors.Is(cause, errSwitch):
		r.Reason, r.Flags, r.Err = decision.UpstreamBroken, r.Flags|decision.UPE, cause.Error()
		r.Details = phase + "{protocol_error}"
		return 502
	}
	r.Reason, r.Flags, r.Details = decision.UpstreamReset, r.Flags|decision.UC, phase+"{connection_termination}"
	if !errors.Is(cause, io.EOF) {
		r.Err = l4.Plain(cause)
	}
	return 503
}

// timedOut records that the route's time is up or, if idle, that no byte moved.
func (x *exchange) timedOut(idle bool) {
	r := &x.rec
	r.Reason, r.Flags, r.Details = decision.Timeout, r.Flags|decision.UT, "upstream_response_timeout"
	if idle {
		r.Flags, r.Details = r.Flags&^decision.UT|decision.SI, "stream_idle_timeout"
	}
}

// renew gives the exchange on up another stretch of silence, if it is bounded.
func renew(up *transport.Conn, m *config.HTTPManager) {
	if m.StreamIdleTimeout > 0 {
		up.SetTimeout(m.StreamIdleTimeout)
	}
}

// stopTimer ends the time of the route.
func (x *exchange) stopTimer() {
	if x.timeout > 0 {
		_ = x.up.SetDeadline(time.Time{}) // fails on a closed conn alone
	}
}

// letGo ends the use of the endpoint; keep says that the connection can serve
// again.
func (x *exchange) letGo(keep bool) {
	if x.up != nil {
		if x.conn.down.Untie() && keep {
			x.stopTimer()
			x.endpoint.Keep(x.up)
			x.up = nil
		}
		x.dropUpstream()
	}
	if x.endpoint != nil {
		x.endpoint.Done()
		x.endpoint = nil
	}
}

func (x *exchange) dropUpstream() {
	if x.up != nil {
		_ = x.up.Close()
		x.up = nil
	}
}

// private are the request headers that steer a proxy of the mesh. They are not
// sent on.
var private = [...]string{
	"x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-retry-on", "x-envoy-retry-grpc-on",
	"x-envoy-max-retries", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-timeout-ms",
	"x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-expected-rq-timeout-ms",
	"x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal",
}
