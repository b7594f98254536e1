// Package accesslog is Envoy's language of access log lines: it compiles a
// format once and writes records by it. It is pure; whoever writes lines
// somewhere is package telemetry.
//
// A line has no byte that could end it or begin another: what callers and
// endpoints chose is escaped and cut, in both encodings.
package accesslog

import (
	"bytes"

	"github.com/fairlead/fairlead/internal/decision"
)

// Text is Istio's default format of a line of text.
const Text = `[%START_TIME%] "%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%" %RESPONSE_CODE% %RESPONSE_FLAGS% ` +
	`%RESPONSE_CODE_DETAILS% %CONNECTION_TERMINATION_DETAILS% "%UPSTREAM_TRANSPORT_FAILURE_REASON%" %BYTES_RECEIVED% %BYTES_SENT% ` +
	`%DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% "%REQ(X-FORWARDED-FOR)%" "%REQ(USER-AGENT)%" "%REQ(X-REQUEST-ID)%" ` +
	`"%REQ(:AUTHORITY)%" "%UPSTREAM_HOST%" %UPSTREAM_CLUSTER_RAW% %UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% ` +
	`%DOWNSTREAM_REMOTE_ADDRESS% %REQUESTED_SERVER_NAME% %ROUTE_NAME%` + "\n"

// JSON are the keys and values of Istio's default line of JSON.
func JSON() map[string]any {
	return map[string]any{
		"start_time":                        "%START_TIME%",
		"route_name":                        "%ROUTE_NAME%",
		"method":                            "%REQ(:METHOD)%",
		"path":                              "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%",
		"protocol":                          "%PROTOCOL%",
		"response_code":                     "%RESPONSE_CODE%",
		"response_flags":                    "%RESPONSE_FLAGS%",
		"response_code_details":             "%RESPONSE_CODE_DETAILS%",
		"connection_termination_details":    "%CONNECTION_TERMINATION_DETAILS%",
		"bytes_received":                    "%BYTES_RECEIVED%",
		"bytes_sent":                        "%BYTES_SENT%",
		"duration":                          "%DURATION%",
		"upstream_service_time":             "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
		"x_forwarded_for":                   "%REQ(X-FORWARDED-FOR)%",
		"user_agent":                        "%REQ(USER-AGENT)%",
		"request_id":                        "%REQ(X-REQUEST-ID)%",
		"authority":                         "%REQ(:AUTHORITY)%",
		"upstream_host":                     "%UPSTREAM_HOST%",
		"upstream_cluster":                  "%UPSTREAM_CLUSTER_RAW%",
		"upstream_local_address":            "%UPSTREAM_LOCAL_ADDRESS%",
		"downstream_local_address":          "%DOWNSTREAM_LOCAL_ADDRESS%",
		"downstream_remote_address":         "%DOWNSTREAM_REMOTE_ADDRESS%",
		"requested_server_name":             "%REQUESTED_SERVER_NAME%",
		"upstream_transport_failure_reason": "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
	}
}

// Values of a line are cut at these lengths, in bytes: nobody outside decides
// how long a line becomes.
const (
	maxPath  = 8 << 10
	maxValue = 1 << 10
)

// Bounds of a format.
const (
	maxFormat = 64 << 10 // bytes of text
	maxParts  = 512      // operators and the text between them, or keys
	maxDepth  = 8        // of objects in objects
)

// A Format is a compiled format. It is immutable.
type Format struct {
	text   []part
	object []member // of a JSON format; nil for text
	isJSON bool
	omit   bool // members without a value are left out
	none   bool // there are no lines
	answer bool // it asks for fields of endpoints' answers
}

// None returns the format of which every line is empty: nothing is written.
func None() *Format { return &Format{none: true} }

// AnswerFields reports whether lines show fields of answers beside what a record
// holds anyhow. A nil Format shows none.
func (f *Format) AnswerFields() bool { return f != nil && f.answer }

// A part is literal text or an operator.
type part struct {
	literal string
	op      operator // nil: literal
	numeric bool     // its value is a number
	max     int      // the longest value, in bytes
	answer  bool     // it is a field of an answer
}

// An operator appends the value of one thing in a record. It reports false, and
// appends nothing, if the record has none. Its bytes are not escaped yet.
type operator func(dst []byte, r *decision.Record) (out []byte, ok bool)

// An escaper appends s so that it cannot end what it stands in.
type escaper func(dst, s []byte) []byte

// AppendLine appends rec as one line. It does not allocate if dst has room and
// no value needs escaping.
func (f *Format) AppendLine(dst []byte, rec *decision.Record) []byte {
	if f.none {
		return dst
	}
	if f.isJSON {
		return append(appendObject(dst, f.object, rec, f.omit), '\n')
	}
	for i := range f.text {
		dst = f.text[i].append(dst, rec, appendEscaped, f.omit)
	}
	return dst
}

// append appends the literal or the value: "-" stands for none, or nothing if
// omit says so.
func (p *part) append(dst []byte, rec *decision.Record, escape escaper, omit bool) []byte {
	if p.op == nil {
		return append(dst, p.literal...)
	}
	dst, ok := p.value(dst, rec, escape)
	if !ok && !omit {
		dst = append(dst, '-')
	}
	return dst
}

// value appends the value of the operator, cut and escaped.
func (p *part) value(dst []byte, rec *decision.Record, escape escaper) (out []byte, ok bool) {
	from := len(dst)
	if dst, ok = p.op(dst, rec); !ok {
		return dst, false
	}
	v := dst[from:]
	v = v[:min(len(v), p.max)]
	if !isPlain(v) {
		return escape(dst[:from], bytes.Clone(v)), true
	}
	return dst[:from+len(v)], true
}

// isPlain reports that v needs no escaping in any encoding.
func isPlain(v []byte) bool {
	for _, c := range v {
		if c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			return false
		}
	}
	return true
}

const hex = "0123456789abcdef"

// appendEscaped appends s for a line of text, in which values may stand between
// quotation marks.
func appendEscaped(dst, s []byte) []byte {
	plain := 0
	for i, c := range s {
		if c >= ' ' && c != '"' && c != '\\' && c < 0x7f {
			continue
		}
		dst = append(dst, s[plain:i]...)
		plain = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, `\n`...)
		case '\r':
			dst = append(dst, `\r`...)
		case '\t':
			dst = append(dst, `\t`...)
		default:
			dst = append(dst, '\\', 'x', hex[c>>4], hex[c&0xf])
		}
	}
	return append(dst, s[plain:]...)
}
