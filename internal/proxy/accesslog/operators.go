package accesslog

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// A known is an operator that can be named in a format.
type known struct {
	op      operator
	numeric bool
	max     int
}

// lookup returns the operator of a name, which may need an argument.
func lookup(name, argument string, hasArgument bool) (known, error) {
	if of := withArgument(name); of != nil {
		if !hasArgument && name != "START_TIME" && name != "EMIT_TIME" && name != "GRPC_STATUS" {
			return known{}, errors.New("it needs an argument in parentheses")
		}
		return of(argument)
	}
	k, ok := plainOperator(name)
	if !ok {
		return known{}, errors.New("no such operator; see Envoy's list of access log operators")
	}
	if hasArgument {
		return known{}, errors.New("it takes no argument")
	}
	if k.max == 0 {
		k.max = maxValue
	}
	return k, nil
}

// withArgument returns what makes an operator of its argument; nil for a name
// that takes none.
func withArgument(name string) func(string) (known, error) {
	switch name {
	case "START_TIME":
		return func(layout string) (known, error) {
			return timeOf(layout, func(r *decision.Record) time.Time { return r.Start })
		}
	case "EMIT_TIME":
		return func(layout string) (known, error) {
			return timeOf(layout, func(r *decision.Record) time.Time { return r.Start.Add(r.Duration) })
		}
	case "REQ":
		return func(a string) (known, error) { return header(a, requestField) }
	case "RESP":
		return func(a string) (known, error) { return header(a, responseField) }
	case "TRAILER":
		return func(a string) (known, error) { return header(a, trailerField) }
	case "GRPC_STATUS":
		return grpcStatus
	case "DYNAMIC_METADATA", "CLUSTER_METADATA", "UPSTREAM_METADATA", "FILTER_STATE", "UPSTREAM_FILTER_STATE", "ENVIRONMENT", "METADATA":
		return func(string) (known, error) { return known{op: nothing, max: maxValue}, nil } // nothing here sets any
	}
	return nil
}

func nothing(dst []byte, _ *decision.Record) ([]byte, bool) { return dst, false }

// plainOperator returns the operator of a name that takes no argument.
func plainOperator(name string) (known, bool) {
	if k, ok := addressOperator(name); ok {
		return k, true
	}
	switch name {
	case "PROTOCOL":
		return known{op: protocol}, true
	case "RESPONSE_CODE":
		return number(func(r *decision.Record) (int64, bool) { return int64(r.Status), true }), true
	case "BYTES_RECEIVED", "DOWNSTREAM_WIRE_BYTES_RECEIVED", "UPSTREAM_WIRE_BYTES_SENT":
		return number(func(r *decision.Record) (int64, bool) { return r.Received, true }), true
	case "BYTES_SENT", "DOWNSTREAM_WIRE_BYTES_SENT", "UPSTREAM_WIRE_BYTES_RECEIVED":
		return number(func(r *decision.Record) (int64, bool) { return r.Sent, true }), true
	case "DURATION":
		return number(func(r *decision.Record) (int64, bool) { return r.Duration.Milliseconds(), true }), true
	case "RESPONSE_DURATION":
		return number(func(r *decision.Record) (int64, bool) { return r.UpstreamTime.Milliseconds(), r.UpstreamTime > 0 }), true
	case "UPSTREAM_REQUEST_ATTEMPT_COUNT":
		return number(func(r *decision.Record) (int64, bool) { return int64(r.Tries), true }), true
	case "CONNECTION_ID", "STREAM_ID", "UNIQUE_ID":
		return number(func(r *decision.Record) (int64, bool) { return int64(r.ID), true }), true //nolint:gosec // G115: a count from one
	case "GRPC_STATUS_NUMBER":
		k, err := grpcStatus("NUMBER")
		return k, err == nil
	case "RESPONSE_FLAGS":
		return known{op: func(dst []byte, r *decision.Record) ([]byte, bool) { return r.Flags.Append(dst), true }}, true
	case "RESPONSE_CODE_DETAILS":
		return text(func(r *decision.Record) string { return r.Details }), true
	case "CONNECTION_TERMINATION_DETAILS":
		return text(func(r *decision.Record) string {
			if r.Status == 0 {
				return r.Err
			}
			return ""
		}), true
	case "UPSTREAM_TRANSPORT_FAILURE_REASON":
		return text(func(r *decision.Record) string { return r.Err }), true
	case "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW":
		return text(func(r *decision.Record) string { return r.Cluster }), true
	case "UPSTREAM_HOST_NAME", "UPSTREAM_HOST_NAME_WITHOUT_PORT":
		return text(func(r *decision.Record) string { return r.EndpointName }), true
	case "REQUESTED_SERVER_NAME":
		return text(func(r *decision.Record) string { return r.SNI }), true
	case "ROUTE_NAME":
		return text(func(r *decision.Record) string { return r.Route }), true
	case "FILTER_CHAIN_NAME":
		return text(func(r *decision.Record) string { return r.Chain }), true
	case "VIRTUAL_HOST_NAME":
		return text(func(r *decision.Record) string { return r.VirtualHost }), true
	case "LOCAL_REPLY_BODY":
		return known{op: func(dst []byte, r *decision.Record) ([]byte, bool) {
			return r.AppendSentence(dst), r.Reason != decision.OK
		}, max: maxPath}, true
	case "VIRTUAL_CLUSTER_NAME", "UPSTREAM_PROTOCOL", "REQUEST_DURATION", "REQUEST_TX_DURATION", "RESPONSE_TX_DURATION",
		"HOSTNAME", "ACCESS_LOG_TYPE", "TRACE_ID", "DOWNSTREAM_TRANSPORT_FAILURE_REASON", "ROUNDTRIP_DURATION",
		"DOWNSTREAM_TLS_VERSION", "DOWNSTREAM_TLS_CIPHER", "DOWNSTREAM_TLS_SESSION_ID", "DOWNSTREAM_PEER_URI_SAN", "DOWNSTREAM_LOCAL_URI_SAN",
		"DOWNSTREAM_PEER_SUBJECT", "DOWNSTREAM_LOCAL_SUBJECT", "DOWNSTREAM_PEER_ISSUER", "DOWNSTREAM_PEER_CERT", "DOWNSTREAM_PEER_FINGERPRINT_256",
		"UPSTREAM_TLS_VERSION", "UPSTREAM_TLS_CIPHER", "UPSTREAM_TLS_SESSION_ID", "UPSTREAM_PEER_URI_SAN", "UPSTREAM_PEER_SUBJECT":
		return known{op: nothing}, true // what this proxy does not know yet
	}
	return known{}, false
}

// addressOperator returns the operators of the four addresses of an exchange, whole and
// in parts.
func addressOperator(name string) (known, bool) {
	base, part := name, ""
	if b, ok := strings.CutSuffix(name, "_WITHOUT_PORT"); ok {
		base, part = b, "_WITHOUT_PORT"
	} else if b, ok := strings.CutSuffix(name, "_PORT"); ok {
		base, part = b+"_ADDRESS", "_PORT"
	}
	var of func(*decision.Record) netip.AddrPort
	switch base {
	case "UPSTREAM_HOST", "UPSTREAM_REMOTE_ADDRESS":
		of = func(r *decision.Record) netip.AddrPort { return r.Endpoint }
	case "UPSTREAM_LOCAL_ADDRESS":
		of = func(r *decision.Record) netip.AddrPort { return r.Upstream }
	case "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_DIRECT_LOCAL_ADDRESS":
		of = func(r *decision.Record) netip.AddrPort { return r.Original }
	case "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS":
		of = func(r *decision.Record) netip.AddrPort { return r.Downstream }
	default:
		return known{}, false
	}
	switch part {
	case "_WITHOUT_PORT":
		return known{op: func(dst []byte, r *decision.Record) ([]byte, bool) {
			a := of(r)
			if !a.IsValid() {
				return dst, false
			}
			return a.Addr().WithZone("").AppendTo(dst), true
		}}, true
	case "_PORT":
		return number(func(r *decision.Record) (int64, bool) { return int64(of(r).Port()), of(r).IsValid() }), true
	}
	pipe := base == "UPSTREAM_HOST" || base == "UPSTREAM_REMOTE_ADDRESS"
	return known{op: func(dst []byte, r *decision.Record) ([]byte, bool) {
		a := of(r)
		switch {
		case a.IsValid():
			return netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).AppendTo(dst), true
		case pipe && r.EndpointName != "":
			return append(dst, r.EndpointName...), true // a unix socket
		}
		return dst, false
	}}, true
}

func protocol(dst []byte, r *decision.Record) ([]byte, bool) {
	if r.Protocol < decision.HTTP10 {
		return dst, false // as Envoy has it: bytes have no protocol
	}
	return append(dst, r.Protocol.String()...), true
}

func number(of func(*decision.Record) (int64, bool)) known {
	return known{numeric: true, max: maxValue, op: func(dst []byte, r *decision.Record) ([]byte, bool) {
		n, ok := of(r)
		if !ok {
			return dst, false
		}
		return strconv.AppendInt(dst, n, 10), true
	}}
}

func text(of func(*decision.Record) string) known {
	return known{op: func(dst []byte, r *decision.Record) ([]byte, bool) {
		s := of(r)
		return append(dst, s...), s != ""
	}}
}

// header returns the operator of NAME or NAME?OTHER.
func header(argument string, of func(r *decision.Record, name string) []byte) (known, error) {
	names := strings.Split(strings.ToLower(argument), "?")
	if len(names) > 2 || slices.Contains(names, "") {
		return known{}, errors.New("its argument is a header name, or two with a question mark between them")
	}
	limit := maxValue
	if slices.Contains(names, ":path") {
		limit = maxPath
	}
	return known{max: limit, op: func(dst []byte, r *decision.Record) ([]byte, bool) {
		for _, name := range names {
			if v := of(r, name); len(v) > 0 {
				return append(dst, v...), true
			}
		}
		return dst, false
	}}, nil
}

func requestField(r *decision.Record, name string) []byte {
	switch name {
	case ":method":
		return r.Method
	case ":path":
		return r.Path
	case ":authority", "host":
		return r.Authority
	case "user-agent":
		return r.UserAgent
	case "x-request-id":
		return r.RequestID
	}
	return field(r.Request, name)
}

// serviceTime is the one header of answers that a record holds itself.
const serviceTime = "x-envoy-upstream-service-time"

func responseField(r *decision.Record, name string) []byte {
	if name == serviceTime && r.UpstreamTime > 0 {
		// It is the proxy that would add this one towards a caller of the mesh.
		return strconv.AppendInt(nil, r.UpstreamTime.Milliseconds(), 10)
	}
	return field(r.Response, name)
}

func trailerField(r *decision.Record, name string) []byte { return field(r.Trailer, name) }

func field(f decision.Fields, name string) []byte {
	if f == nil {
		return nil
	}
	return f.Field(name)
}

// grpcStatus returns the operator of the status of a call: from the trailer,
// else, of an answer without messages, from the header.
func grpcStatus(form string) (known, error) {
	names := map[string][]string{
		"": decision.CallStatuses(), "CAMEL_STRING": decision.CallStatuses(), "SNAKE_STRING": snake(), "NUMBER": nil,
	}
	list, ok := names[form]
	if !ok {
		return known{}, fmt.Errorf("form %q does not exist; use CAMEL_STRING, SNAKE_STRING or NUMBER", form)
	}
	return known{numeric: list == nil, max: maxValue, op: func(dst []byte, r *decision.Record) ([]byte, bool) {
		v := field(r.Trailer, "grpc-status")
		if v == nil {
			v = field(r.Response, "grpc-status")
		}
		n, err := strconv.Atoi(string(v))
		if err != nil || n < 0 {
			return dst, false
		}
		if n >= len(list) {
			return strconv.AppendInt(dst, int64(n), 10), true
		}
		return append(dst, list[n]...), true
	}}, nil
}

func snake() []string {
	return []string{
		"OK", "CANCELLED", "UNKNOWN", "INVALID_ARGUMENT", "DEADLINE_EXCEEDED", "NOT_FOUND", "ALREADY_EXISTS", "PERMISSION_DENIED", "RESOURCE_EXHAUSTED",
		"FAILED_PRECONDITION", "ABORTED", "OUT_OF_RANGE", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS", "UNAUTHENTICATED",
	}
}
