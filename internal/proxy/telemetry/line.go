package telemetry

import (
	"net/netip"
	"strconv"
	"unicode/utf8"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
)

// Values of a line are cut at these lengths, in bytes, and end with an
// ellipsis then: nobody outside decides how long a line becomes.
const (
	maxPath  = 8 << 10
	maxValue = 1 << 10
	maxWhy   = 4 << 10
)

const startFormat = "2006-01-02T15:04:05.000Z"

// appendLine appends rec as one line of JSON, newline included. scratch is
// room for one sentence; it is returned for the next call. The keys are Istio's
// where it has one. What is empty is left out, so that a line about a TCP
// connection does not carry the keys of a request.
func appendLine(dst, scratch []byte, rec *decision.Record) (line, room []byte) {
	o := object{dst: append(dst, '{')}
	o.key("start_time")
	o.dst = append(o.dst, '"')
	o.dst = rec.Start.UTC().AppendFormat(o.dst, startFormat)
	o.dst = append(o.dst, '"')
	o.value("method", rec.Method, maxValue)
	o.value("path", rec.Path, maxPath)
	o.text("protocol", rec.Protocol.String())
	o.number("response_code", int64(rec.Status))
	o.key("response_flags")
	o.dst = append(o.dst, '"')
	o.dst = rec.Flags.Append(o.dst)
	o.dst = append(o.dst, '"')
	o.text("response_code_details", rec.Details)
	o.text("upstream_transport_failure_reason", rec.Err)
	o.number("bytes_received", rec.Received)
	o.number("bytes_sent", rec.Sent)
	o.number("duration", rec.Duration.Milliseconds())
	if rec.UpstreamTime > 0 {
		o.number("upstream_service_time", rec.UpstreamTime.Milliseconds())
	}
	o.value("user_agent", rec.UserAgent, maxValue)
	o.value("request_id", rec.RequestID, maxValue)
	o.value("authority", rec.Authority, maxValue)
	if rec.Endpoint.IsValid() {
		o.address("upstream_host", rec.Endpoint)
	} else {
		o.text("upstream_host", rec.EndpointName)
	}
	o.text("upstream_cluster", rec.Cluster)
	o.address("upstream_local_address", rec.Upstream)
	o.address("downstream_local_address", rec.Original)
	o.address("downstream_remote_address", rec.Downstream)
	o.text("requested_server_name", rec.SNI)
	o.text("route_name", rec.Route)
	o.ours(rec)
	if rec.Reason != decision.OK {
		scratch = rec.AppendSentence(scratch[:0])
		o.value("why", scratch, maxWhy)
	}
	return append(o.dst, '}', '\n'), scratch
}

// ours appends what only this proxy knows.
func (o *object) ours(rec *decision.Record) {
	if rec.Entry != (mesh.Ref{}) {
		o.key("entry")
		o.dst = append(o.dst, '"')
		o.dst = appendText(o.dst, rec.Entry.Kind, maxValue)
		o.dst = append(o.dst, ' ')
		o.dst = appendText(o.dst, rec.Entry.Namespace, maxValue)
		o.dst = append(o.dst, '/')
		o.dst = appendText(o.dst, rec.Entry.Name, maxValue)
		o.dst = append(o.dst, '"')
	}
	if rec.Entry.File != "" {
		o.key("entry_place")
		o.dst = append(o.dst, '"')
		o.dst = appendText(o.dst, rec.Entry.File, maxValue)
		if rec.Entry.Line > 0 {
			o.dst = append(o.dst, ':')
			o.dst = strconv.AppendInt(o.dst, int64(rec.Entry.Line), 10)
		}
		o.dst = append(o.dst, '"')
	}
	if rec.Endpoint.IsValid() {
		o.text("upstream_name", rec.EndpointName)
	}
	o.text("listener", rec.Listener)
	o.text("filter_chain", rec.Chain)
	o.text("virtual_host", rec.VirtualHost)
	if rec.Tries > 1 {
		o.number("tries", int64(rec.Tries))
	}
	if rec.DNS != decision.NotResolved {
		o.text("dns", rec.DNS.String())
	}
	o.text("dns_error", rec.DNSError)
	o.text("policy", rec.Policy.String())
	o.text("name", rec.Name)
}

// An object is a JSON object that is being appended to dst.
type object struct {
	dst []byte
	any bool // a key is there already
}

func (o *object) key(k string) {
	if o.any {
		o.dst = append(o.dst, ',')
	}
	o.any = true
	o.dst = append(o.dst, '"')
	o.dst = append(o.dst, k...)
	o.dst = append(o.dst, '"', ':')
}

func (o *object) number(k string, v int64) {
	o.key(k)
	o.dst = strconv.AppendInt(o.dst, v, 10)
}

func (o *object) text(k, v string) {
	if v == "" {
		return
	}
	o.key(k)
	o.dst = append(o.dst, '"')
	o.dst = appendText(o.dst, v, maxValue)
	o.dst = append(o.dst, '"')
}

func (o *object) value(k string, v []byte, limit int) {
	if len(v) == 0 {
		return
	}
	o.key(k)
	o.dst = append(o.dst, '"')
	o.dst = appendText(o.dst, v, limit)
	o.dst = append(o.dst, '"')
}

func (o *object) address(k string, a netip.AddrPort) {
	if !a.IsValid() {
		return
	}
	// The zone of an IPv6 address is the only part that is not ours to spell.
	o.key(k)
	o.dst = append(o.dst, '"')
	o.dst = netip.AddrPortFrom(a.Addr().WithZone(""), a.Port()).AppendTo(o.dst)
	o.dst = append(o.dst, '"')
}

const hex = "0123456789abcdef"

// appendText appends the first limit bytes of s as the inside of a JSON string.
// Bytes that are not UTF-8 become U+FFFD.
func appendText[S []byte | string](dst []byte, s S, limit int) []byte {
	cut := len(s) > limit
	if cut {
		s = s[:limit]
	}
	plain := 0 // s[plain:i] needs no change
	for i := 0; i < len(s); {
		c := s[i]
		if c >= utf8.RuneSelf {
			// Four bytes hold any rune, and on the stack they cost nothing.
			var seq [utf8.UTFMax]byte
			n := copy(seq[:], s[i:])
			r, size := utf8.DecodeRune(seq[:n])
			if r == utf8.RuneError && size <= 1 {
				dst = append(dst, s[plain:i]...)
				dst = append(dst, "\ufffd"...)
				i++
				plain = i
				continue
			}
			i += size
			continue
		}
		if c >= ' ' && c != '"' && c != '\\' && c != 0x7f {
			i++
			continue
		}
		dst = append(dst, s[plain:i]...)
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		}
		i++
		plain = i
	}
	dst = append(dst, s[plain:]...)
	if cut {
		dst = append(dst, "…"...)
	}
	return dst
}
