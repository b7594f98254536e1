package l7

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
)

const grpcType = "application/grpc"

// isGRPC goes by what Envoy goes by: application/grpc, or with a +suffix. What asks
// for a tunnel is no call, whatever it says: a refusal with 200 would open it.
func (x *exchange) isGRPC() bool {
	if x.asksTunnel() {
		return false
	}
	t := x.req.Value(x.in, h1.ContentType)
	if len(t) < len(grpcType) || !bytes.EqualFold(t[:len(grpcType)], []byte(grpcType)) {
		return false
	}
	return len(t) == len(grpcType) || t[len(grpcType)] == '+' || t[len(grpcType)] == ';'
}

// timeLimit is how long the endpoint may take from the end of the request on; 0: as
// long as it likes. A call of gRPC brings its own limit, which the route's bounds.
func (x *exchange) timeLimit(rt *config.Route) time.Duration {
	if !x.isGRPC() {
		return rt.Timeout
	}
	if d, ok := x.callTime(); ok && (rt.Timeout == 0 || d < rt.Timeout) {
		return max(d, 1)
	}
	return rt.Timeout
}

// callTime is how long a call of gRPC may take, if it says so.
func (x *exchange) callTime() (d time.Duration, ok bool) {
	for i := range x.req.N() {
		f := x.req.Field(i)
		if f.Kind == h1.Other && bytes.EqualFold(f.Name.In(x.in), []byte("grpc-timeout")) {
			return grpcTimeout(f.Value.In(x.in))
		}
	}
	return 0, false
}

// The status of a call whose time is over.
const deadlineExceeded = 4

// callStatus is the status of a call that the proxy answers. One whose own time is
// over failed for that, whoever ended it: its caller, its endpoint and the proxy
// watch the same clock, and which of them is first must not be seen.
func (x *exchange) callStatus(status int) int64 {
	if status == 503 || status == 504 {
		if d, ok := x.callTime(); ok && time.Since(x.rec.Start) >= d {
			return deadlineExceeded
		}
	}
	return grpcStatus(status)
}

// Statuses of calls that a route may have tried again.
const (
	cancelled   = "1"
	unavailable = "14"
)

// inVain reports whether the answer at hand tells in its head, as one does that is
// nothing else, that a call of gRPC failed in a way that the route has tried again.
func (x *exchange) inVain(rt *config.Route) bool {
	if !rt.Retry.Unavailable && !rt.Retry.Cancelled || !x.isGRPC() {
		return false
	}
	head := headText{x.answer[:x.resp.Len]}
	switch string(head.Field("grpc-status")) {
	case unavailable:
		return rt.Retry.Unavailable
	case cancelled:
		return rt.Retry.Cancelled
	}
	return false
}

// noteCall records how a call of gRPC ended if the text, a head or what comes last,
// says so.
func (x *exchange) noteCall(text []byte) {
	if !x.isGRPC() {
		return
	}
	h := headText{text}
	if v := h.Field("grpc-status"); v != nil {
		x.rec.Call = decision.ParseCallStatus(v)
	}
}

// aYear is as long as a call can ask for.
const aYear = 365 * 24 * time.Hour

// grpcTimeout reads a number of at most eight digits and its unit.
func grpcTimeout(v []byte) (time.Duration, bool) {
	if len(v) < 2 || len(v) > 9 {
		return 0, false
	}
	var unit time.Duration
	switch v[len(v)-1] {
	case 'H':
		unit = time.Hour
	case 'M':
		unit = time.Minute
	case 'S':
		unit = time.Second
	case 'm':
		unit = time.Millisecond
	case 'u':
		unit = time.Microsecond
	case 'n':
		unit = time.Nanosecond
	default:
		return 0, false
	}
	n := int64(0)
	for _, c := range v[:len(v)-1] {
		if c < '0' || c > '9' {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	if n > int64(aYear/unit) {
		return aYear, true
	}
	return time.Duration(n * int64(unit)), true
}

// appendGRPC appends the head that answers a gRPC call as one expects it: with
// a status of its own, in a head that says HTTP 200 and is all of the answer.
func appendGRPC(dst []byte, status int64, text []byte) []byte {
	dst = appendStatus(dst, http.StatusOK)
	dst = append(dst, "content-type: application/grpc\r\ngrpc-status: "...)
	dst = strconv.AppendInt(dst, status, 10)
	dst = append(dst, "\r\ngrpc-message: "...)
	dst = appendPercent(dst, text)
	return append(dst, "\r\ncontent-length: 0\r\n"...)
}

// grpcStatus is Envoy's mapping of HTTP codes.
func grpcStatus(status int) int64 {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

// appendPercent appends text in the encoding of grpc-message.
func appendPercent(dst, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for i, c := range text {
		switch {
		case c == '\n' && i == len(text)-1:
		case c >= ' ' && c <= '~' && c != '%':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
