package telemetry

import (
	"net/netip"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/fairlead/fairlead/internal/decision"
)

// Values of a line are cut at these lengths, in bytes, and end with an
// ellipsis then: nobody outside decides how long a line becomes.
const (
	maxPath  = 8 << 10
	maxValue = 1 << 10
	maxWhy   = 4 << 10
)

// startFormat is that of the start, to the second.
const startFormat = "2006-01-02T15:04:05."

// An encoder makes lines. Its zero value is ready; it is not safe for concurrent use.
type encoder struct {
	dst     []byte // the line
	scratch []byte // room for one sentence
	stamp   []byte // second, as startFormat has it
	second  int64  // most lines begin in the same one as the line before
	places  places
}

// encode returns rec as one line of JSON, newline included, which is valid until
// the next call. The keys are Istio's
// where it has one. What is empty is left out, so that a line about a TCP
// connection does not carry the keys of a request.
func (e *encoder) encode(rec *decision.Record) []byte {
	e.dst = append(e.dst[:0], `{"start_time":"`...)
	e.start(rec.Start)
	e.value(`,"method":"`, rec.Method, maxValue)
	e.value(`,"path":"`, rec.Path, maxPath)
	e.dst = append(e.dst, `,"protocol":"`...)
	e.dst = append(e.dst, rec.Protocol.String()...)
	e.number(`","response_code":`, int64(rec.Status))
	e.text(`,"grpc_status":"`, rec.Call.String())
	e.dst = append(e.dst, `,"response_flags":"`...)
	e.dst = rec.Flags.Append(e.dst)
	e.dst = append(e.dst, '"')
	e.text(`,"response_code_details":"`, rec.Details)
	e.text(`,"upstream_transport_failure_reason":"`, rec.Err)
	e.number(`,"bytes_received":`, rec.Received)
	e.number(`,"bytes_sent":`, rec.Sent)
	e.number(`,"duration":`, rec.Duration.Milliseconds())
	if rec.UpstreamTime > 0 {
		e.number(`,"upstream_service_time":`, rec.UpstreamTime.Milliseconds())
	}
	e.value(`,"user_agent":"`, rec.UserAgent, maxValue)
	e.value(`,"request_id":"`, rec.RequestID, maxValue)
	e.value(`,"authority":"`, rec.Authority, maxValue)
	if rec.Endpoint.IsValid() {
		e.address(`,"upstream_host":"`, rec.Endpoint)
	} else {
		e.text(`,"upstream_host":"`, rec.EndpointName)
	}
	e.address(`,"upstream_local_address":"`, rec.Upstream)
	e.address(`,"downstream_local_address":"`, rec.Original)
	e.address(`,"downstream_remote_address":"`, rec.Downstream)
	e.dst = e.places.append(e.dst, rec)
	if rec.Tries > 1 {
		e.number(`,"tries":`, int64(rec.Tries))
	}
	if rec.Reason != decision.OK {
		e.scratch = rec.AppendSentence(e.scratch[:0])
		e.value(`,"why":"`, e.scratch, maxWhy)
	}
	e.dst = append(e.dst, '}', '\n')
	return e.dst
}

// start appends the end of a value that tells t, UTC, to the millisecond.
func (e *encoder) start(t time.Time) {
	if s := t.Unix(); s != e.second || len(e.stamp) == 0 {
		e.stamp, e.second = t.UTC().AppendFormat(e.stamp[:0], startFormat), s
	}
	ms := t.Nanosecond() / 1e6
	e.dst = append(e.dst, e.stamp...)
	e.dst = append(e.dst, '0'+byte(ms/100), '0'+byte(ms/10%10), '0'+byte(ms%10), 'Z', '"')
}

// In what follows, before is what stands before a value: comma, key, colon and,
// if it is a string, the quote.

func (e *encoder) number(before string, v int64) {
	e.dst = append(e.dst, before...)
	e.dst = strconv.AppendInt(e.dst, v, 10)
}

func (e *encoder) text(before, v string) { e.dst = appendMember(e.dst, before, v) }

func appendMember(dst []byte, before, v string) []byte {
	if v == "" {
		return dst
	}
	dst = append(dst, before...)
	dst = appendText(dst, v, maxValue)
	return append(dst, '"')
}

func (e *encoder) value(before string, v []byte, limit int) {
	if len(v) == 0 {
		return
	}
	e.dst = append(e.dst, before...)
	e.dst = appendText(e.dst, v, limit)
	e.dst = append(e.dst, '"')
}

func (e *encoder) address(before string, a netip.AddrPort) {
	if !a.IsValid() {
		return
	}
	// The zone of an IPv6 address is the only part that is not ours to spell.
	if a.Addr().Is6() {
		a = netip.AddrPortFrom(a.Addr().WithZone(""), a.Port())
	}
	e.dst = append(e.dst, before...)
	e.dst = a.AppendTo(e.dst)
	e.dst = append(e.dst, '"')
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
	for i := 0; ; {
		if i += plainPrefix(s[i:]); i == len(s) {
			break
		}
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

// plainPrefix is how many bytes at the start of s are ASCII that stands for itself in a
// JSON string. It looks at eight at once.
func plainPrefix[S []byte | string](s S) int {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	i := 0
	for ; i+8 <= len(s); i += 8 {
		w := s[i : i+8]
		x := uint64(w[0]) | uint64(w[1])<<8 | uint64(w[2])<<16 | uint64(w[3])<<24 |
			uint64(w[4])<<32 | uint64(w[5])<<40 | uint64(w[6])<<48 | uint64(w[7])<<56
		quote, slash, del := x^ones*'"', x^ones*'\\', x^ones*0x7f
		if (x|(x-ones*' ')&^x|(quote-ones)&^quote|(slash-ones)&^slash|(del-ones)&^del)&highs != 0 {
			break
		}
	}
	for ; i < len(s); i++ {
		if c := s[i]; c < ' ' || c == '"' || c == '\\' || c >= 0x7f {
			break
		}
	}
	return i
}
