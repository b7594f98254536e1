package l7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/l4"
	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// An outcome is how an exchange ends that the endpoint did not answer: what the
// caller is told and what the record tells. The words are Envoy's.
type outcome struct {
	status  int // 0: there is nobody to tell
	reason  decision.Reason
	flags   decision.Flags
	details string
}

// The outcomes, in the order in which a request may meet them.
var (
	slowHead       = outcome{408, decision.BadRequest, 0, "request_header_timeout"}
	upgradeRefused = outcome{403, decision.UpgradeRefused, 0, "upgrade_failed"}
	noRoute        = outcome{404, decision.NoRoute, decision.NR, "route_not_found"}
	directResponse = outcome{0, decision.OK, 0, "direct_response"}
	notDeclared    = outcome{0, decision.NotDeclared, 0, "direct_response"}
	noCluster      = outcome{503, decision.NoCluster, decision.NC, "cluster_not_found"}
	noEndpoint     = outcome{503, decision.NoEndpoint, decision.UH, "no_healthy_upstream"}
	unreachable    = outcome{503, decision.ConnectFailed, decision.UF, beforeAnswer + "{remote_connection_failure}"}
	connectTimeout = outcome{503, decision.ConnectFailed, decision.UF, beforeAnswer + "{connection_timeout}"}
	timedOut       = outcome{504, decision.Timeout, decision.UT, "upstream_response_timeout"}
	idledOut       = outcome{504, decision.Timeout, decision.SI, "stream_idle_timeout"}
	brokenAnswer   = outcome{502, decision.UpstreamBroken, decision.UPE, beforeAnswer + "{protocol_error}"}
	endedAnswer    = outcome{503, decision.UpstreamReset, decision.UC, beforeAnswer + "{connection_termination}"}
	cutByDrain     = outcome{0, decision.Drained, decision.LR, l4.ClosedByDrain}
	clientGone     = outcome{0, decision.ClientGone, decision.DC, "downstream_remote_disconnect"}
	clientReset    = outcome{0, decision.ClientGone, decision.DR, "http2.remote_reset"}
	brokenStream   = outcome{0, decision.BadRequest, decision.DPE, "http2.violation.of.messaging.rule"}
	overloaded     = outcome{503, decision.Overload, decision.OM, "overload"}
	slowBody       = outcome{408, decision.Overload, decision.OM, "request_body_too_slow"}
	slowReader     = outcome{0, decision.Overload, decision.OM, "response_taken_too_slowly"}
	tooManyStreams = outcome{0, decision.Overload, decision.DPE, "http2.local_refused_stream"}
	internalError  = outcome{500, decision.Internal, 0, "internal_error"}

	resetAnswer   = outcome{503, decision.UpstreamReset, decision.UR, beforeAnswer + "{remote_reset}"}
	refusedAnswer = outcome{503, decision.UpstreamReset, decision.UR, beforeAnswer + "{remote_refused_stream_reset}"}
	noWebSocket   = outcome{503, decision.ConnectFailed, decision.UF, "upgrade_failed"}

	// The same after a part of the answer went to the caller.
	brokenLate = outcome{502, decision.UpstreamBroken, decision.UPE, withinAnswer + "{protocol_error}"}
	resetLate  = outcome{503, decision.UpstreamReset, decision.UR, withinAnswer + "{remote_reset}"}
	endedLate  = outcome{503, decision.UpstreamReset, decision.UC, withinAnswer + "{connection_termination}"}
)

const (
	beforeAnswer = "upstream_reset_before_response_started"
	withinAnswer = "upstream_reset_after_response_started"
)

// as is o with the status of the configuration.
func (o outcome) as(status int) outcome {
	o.status = status
	return o
}

// malformed is the outcome of a request that breaks the protocol.
func (x *exchange) malformed(fault error) outcome {
	if errors.Is(fault, errSlowHead) {
		return slowHead
	}
	o := outcome{400, decision.BadRequest, decision.DPE, "http1.codec_error"}
	var f *h1.Error
	if errors.As(fault, &f) {
		o.status, o.details = f.Status, f.Details
	}
	if o.status == 431 {
		o.reason = decision.TooLarge
	}
	switch {
	case x.rec.Protocol != decision.HTTP2 || !strings.HasPrefix(o.details, "http1."):
	case o.reason == decision.TooLarge:
		o.details = "http2.too_many_headers"
	default:
		o.details = brokenStream.details
	}
	return o
}

// failure is the outcome of a try that broke.
func (x *exchange) failure(cause error) (o outcome, words string) {
	var fault *h1.Error
	var broke *h2.Error
	broken := errors.As(cause, &fault) || errors.Is(cause, errFlood) || errors.Is(cause, errSwitch) || errors.Is(cause, errOpened)
	var reset streams.ResetError
	switch {
	case errors.Is(cause, errCut):
		return cutByDrain, waited(cause)
	case errors.Is(cause, errReset):
		return clientReset, ""
	case errors.Is(cause, errGone):
		return clientGone, ""
	case errors.Is(cause, errSlow) && x.pace.late.Load():
		return slowReader, errSlow.Error()
	case errors.Is(cause, errSlow):
		return slowBody, errSlow.Error()
	case errors.Is(cause, errOurs):
		return internalError.as(0), cause.Error()
	case errors.Is(cause, errPanic):
		return internalError, cause.Error()
	case errors.Is(cause, errUpload) && fault != nil:
		return x.malformed(fault), fault.Error()
	case errors.Is(cause, errUpload) && errors.As(cause, &broke):
		return brokenStream, broke.Error() // the codec has told it
	case errors.Is(cause, os.ErrDeadlineExceeded):
		return timedOut, ""
	case errors.Is(cause, streams.ErrShort):
		o = overloaded
		if errors.Is(x.caller.trouble(), streams.ErrShort) {
			o.status = 0 // its stream was reset
		}
		return o, cause.Error()
	case errors.Is(cause, errNoWebSocket):
		return noWebSocket, cause.Error()
	case errors.As(cause, &reset):
		return x.resetBy(reset), cause.Error()
	case errors.Is(cause, streams.ErrRefused), errors.Is(cause, streams.ErrCapacity):
		return refusedAnswer, cause.Error()
	case errors.As(cause, &broke):
		broken, cause = true, broke
	}
	switch {
	case broken && x.started:
		return brokenLate, cause.Error()
	case broken:
		return brokenAnswer, cause.Error()
	}
	if !errors.Is(cause, io.EOF) && !errors.Is(cause, io.ErrUnexpectedEOF) {
		words = l4.Plain(cause)
	}
	if x.started {
		return endedLate, words
	}
	return endedAnswer, words
}

// cut is why something ended with ctx, the end of a drain.
func cut(ctx context.Context) error { return fmt.Errorf("%w: %w", errCut, context.Cause(ctx)) }

// waited says for how long the drain was that a cut ended; "" if that is not known.
func waited(cut error) string {
	var over decision.DrainOver
	if errors.As(cut, &over) {
		return over.Error()
	}
	return ""
}

// resetBy is the outcome of a try that the endpoint reset.
func (x *exchange) resetBy(e streams.ResetError) outcome {
	switch {
	case x.started:
		return resetLate
	case errors.Is(e, streams.ErrRefused):
		return refusedAnswer
	}
	return resetAnswer
}

// notAttached is the outcome of a try that got no connection, or one that was of no use.
func (x *exchange) notAttached(err error) (o outcome, words string) {
	var dial *cluster.DialError
	if errors.As(err, &dial) {
		return notConnected(err)
	}
	return x.failure(err)
}

// notConnected is the outcome of a try that reached no endpoint. The sentence
// names the address.
func notConnected(err error) (o outcome, words string) {
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		return connectTimeout, l4.Plain(err)
	}
	return unreachable, l4.Plain(err)
}

// judge records an outcome, with the failure in the system's words if it has any.
func (x *exchange) judge(o outcome, words string) {
	r := &x.rec
	r.Reason, r.Details, r.Err = o.reason, o.details, words
	r.Flags |= o.flags
}

// settle records an outcome and answers as it says.
func (x *exchange) settle(o outcome, words string) (more bool) {
	x.judge(o, words)
	return x.reply(o.status)
}

// describe fills the record with what is known of the request, whose head may
// be broken or not whole.
func (x *exchange) describe() {
	r, in := &x.rec, x.in
	r.ID = x.server.NextID()
	r.Protocol = x.caller.protocol()
	r.Method = x.req.Method.In(in)
	r.Path = x.req.Path.In(in)
	if len(r.Path) == 0 {
		r.Path = x.req.Target.In(in)
	}
	r.Authority = x.req.Authority.In(in)
	r.UserAgent = x.req.Value(in, h1.UserAgent)
	r.RequestID = x.req.Value(in, h1.RequestID)
	x.asked.text = in[:x.req.Len]
	r.Request = &x.asked
}

// connected records that an endpoint was reached, whatever earlier tries met.
func (x *exchange) connected() {
	r := &x.rec
	r.Reason, r.Err, r.Details = decision.OK, "", ""
	r.Upstream = x.up.local()
}

// answered records that the endpoint's answer goes to the caller.
func (x *exchange) answered() {
	x.rec.Status, x.rec.Details = x.resp.Status, "via_upstream"
	x.showAnswer()
}

// record hands the record over, once.
func (x *exchange) record() {
	if x.recorded {
		return
	}
	x.recorded = true
	x.rec.Duration = time.Since(x.rec.Start)
	x.server.log.Add(&x.rec)
}
