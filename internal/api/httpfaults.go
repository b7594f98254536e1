package api

import (
	"slices"
	"strconv"
	"strings"
	"time"

	networking "istio.io/api/networking/v1alpha3"
)

// retryGrounds are the words that retryOn may have beside status codes.
func retryGrounds() []string {
	return []string{
		"5xx", "gateway-error", "reset", "reset-before-request", "connect-failure", "envoy-ratelimited", "retriable-4xx",
		"refused-stream", "retriable-status-codes", "retriable-headers", "http3-post-connect-failure",
		"cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable",
	}
}

func (v *validator) retries(field string, r *networking.HTTPRetry) {
	if r == nil {
		return
	}
	if r.Attempts < 0 {
		v.err(field+".attempts", "%d is negative; use 0 for no retries", r.Attempts)
	}
	if r.Attempts == 0 {
		for _, f := range []part{{"perTryTimeout", r.PerTryTimeout != nil}, {"retryOn", r.RetryOn != ""}, {"retryRemoteLocalities", r.RetryRemoteLocalities != nil}} {
			if f.there {
				v.err(join(field, f.name), "says how to retry, and attempts is 0, which is not to; set attempts, or remove this")
			}
		}
	}
	v.optionalDuration(field+".perTryTimeout", r.PerTryTimeout)
	v.optionalDuration(field+".backoff", r.Backoff)
	if r.RetryOn == "" {
		return
	}
	for word := range strings.SplitSeq(r.RetryOn, ",") {
		word = strings.TrimSpace(word)
		if knownStatus(word) || slices.Contains(retryGrounds(), word) {
			continue
		}
		if near := Nearest(word, retryGrounds()); near != "" {
			v.err(field+".retryOn", "%s is no ground for a retry; did you mean %s?", quote(word), near)
		} else {
			v.err(field+".retryOn", "%s is no ground for a retry; use a status code, %s", quote(word), strings.Join(retryGrounds(), ", "))
		}
	}
}

// knownStatus reports whether word is a status code that has a name.
func knownStatus(word string) bool {
	code, err := strconv.Atoi(word)
	if err != nil {
		return false
	}
	for _, r := range [][2]int{
		{100, 103}, {200, 208}, {226, 226}, {300, 305}, {307, 308}, {400, 418}, {421, 426}, {428, 429}, {431, 431}, {451, 451}, {500, 508}, {510, 511},
	} {
		if r[0] <= code && code <= r[1] {
			return true
		}
	}
	return false
}

func (v *validator) fault(field string, f *networking.HTTPFaultInjection) {
	if f == nil {
		return
	}
	if f.Abort == nil && f.Delay == nil {
		v.err(field, "injects nothing; give it delay or abort")
	}
	v.delayed(field+".delay", f.Delay)
	v.aborted(field+".abort", f.Abort)
}

func (v *validator) delayed(field string, d *networking.HTTPFaultInjection_Delay) {
	if d == nil {
		return
	}
	v.percentage(field+".percentage", d.Percentage)
	percent := d.Percent //nolint:staticcheck // deprecated, and in use
	switch {
	case percent < 0 || percent > 100:
		v.err(field+".percent", "%d is no percentage; use 0 to 100", percent)
	case v.object.has(field + ".percent"):
		v.warn(field+".percent", "is deprecated; write percentage: {value: %d}", percent)
	case d.Percentage == nil:
		v.warn(field, "has no percentage, and so delays nothing; write percentage: {value: 100} to delay every request")
	}
	switch t := d.HttpDelayType.(type) {
	case *networking.HTTPFaultInjection_Delay_ExponentialDelay:
		v.err(field+".exponentialDelay", "Istio refuses it: no proxy can do it; use fixedDelay")
	case *networking.HTTPFaultInjection_Delay_FixedDelay:
		v.optionalDuration(field+".fixedDelay", t.FixedDelay)
	default:
		v.warn(field, "does not say how long; give it fixedDelay")
	}
}

func (v *validator) aborted(field string, a *networking.HTTPFaultInjection_Abort) {
	if a == nil {
		return
	}
	v.percentage(field+".percentage", a.Percentage)
	if a.Percentage == nil {
		v.warn(field, "has no percentage, and so aborts nothing; write percentage: {value: 100} to abort every request")
	}
	switch e := a.ErrorType.(type) {
	case *networking.HTTPFaultInjection_Abort_HttpStatus:
		v.httpStatus(field+".httpStatus", int64(e.HttpStatus))
	case *networking.HTTPFaultInjection_Abort_GrpcStatus:
		v.grpcStatus(field+".grpcStatus", e.GrpcStatus)
	case *networking.HTTPFaultInjection_Abort_Http2Error:
		v.err(field+".http2Error", "Istio refuses it: no proxy can do it; use httpStatus or grpcStatus")
	default:
		v.warn(field, "does not say what to answer; give it httpStatus or grpcStatus")
	}
}

func (v *validator) grpcStatus(field, status string) {
	known := []string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED",
		"RESOURCE_EXHAUSTED", "FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
	}
	if slices.Contains(known, status) {
		return
	}
	if near := Nearest(status, known); near != "" {
		v.err(field, "%s is no status of gRPC; did you mean %s?", quote(status), near)
		return
	}
	v.err(field, "%s is no status of gRPC; use one of %s", quote(status), strings.Join(known, ", "))
}

func (v *validator) percentage(field string, p *networking.Percent) {
	if p != nil && (p.Value < 0 || p.Value > 100) {
		v.err(field+".value", "%g is no percentage; use 0 to 100", p.Value)
	}
}

func (v *validator) mirrors(r *routing, field string, h *networking.HTTPRoute) {
	if h.Mirror != nil {
		v.destination(r, field+".mirror", h.Mirror)
		if len(h.Mirrors) > 0 {
			v.err(field+".mirrors", "cannot go with mirror; move that one into the list")
		}
	}
	for i, m := range h.Mirrors {
		field := index(field+".mirrors", i)
		v.neededDestination(r, field+".destination", m.Destination)
		v.percentage(field+".percentage", m.Percentage)
	}
	v.percentage(field+".mirrorPercentage", h.MirrorPercentage)
	percent := h.MirrorPercent //nolint:staticcheck // deprecated, and in use
	switch {
	case percent == nil:
	case percent.Value > 100:
		v.err(field+".mirrorPercent", "%d is no percentage; use 0 to 100", percent.Value)
	default:
		v.warn(field+".mirrorPercent", "is deprecated; write mirrorPercentage: {value: %d}", percent.Value)
	}
	if h.Mirror != nil {
		return
	}
	for _, f := range []part{{"mirrorPercentage", h.MirrorPercentage != nil}, {"mirrorPercent", percent != nil}} {
		if f.there {
			v.warn(join(field, f.name), "is without effect, as there is no mirror; each of mirrors has a percentage of its own")
		}
	}
}

func (v *validator) cors(field string, c *networking.CorsPolicy) {
	if c == nil {
		return
	}
	for i, origin := range c.AllowOrigins {
		field := index(field+".allowOrigins", i)
		if origin.GetExact() == "" && origin.GetPrefix() == "" && origin.GetRegex() == "" {
			v.err(field, "allows no origin; give it exact, prefix or regex")
		} else {
			v.stringMatch(field, origin)
		}
	}
	if v.object.has(field + ".allowOrigin") {
		v.warn(field+".allowOrigin", "is deprecated; write allowOrigins, with exact: before each")
	}
	for _, f := range []struct {
		name  string
		items []string
		what  string
	}{
		{"allowMethods", c.AllowMethods, "method"},
		{"allowHeaders", c.AllowHeaders, "name of a header"},
		{"exposeHeaders", c.ExposeHeaders, "name of a header"},
	} {
		for i, item := range f.items {
			if fault := headerFault(item); fault != "" { // a method has the same grammar
				v.err(index(join(field, f.name), i), "%s is no %s: %s", quote(item), f.what, fault)
			}
		}
	}
	if c.MaxAge == nil {
		return
	}
	v.duration(field+".maxAge", c.MaxAge)
	if age := c.MaxAge.AsDuration(); age >= time.Millisecond && age%time.Second != 0 && age%time.Millisecond == 0 {
		v.err(field+".maxAge", "%s is no whole number of seconds; round it", age)
	}
}
