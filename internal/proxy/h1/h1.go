// Package h1 is the HTTP/1 codec: message heads, the chunked coding and the
// rules of framing, strict as RFC 9110 and RFC 9112 ask. It does no I/O, keeps
// no bytes and allocates nothing: a parsed head is a set of offsets into the
// buffer its caller owns, and everything that is sent on is appended to a
// buffer its caller owns.
//
// What cannot be read in exactly one way is refused rather than repaired: two
// parsers that repair differently are how requests are smuggled. Framing that
// is sent on is always made anew from what was understood.
package h1

// MaxHead bounds a message head, first line to empty line, as Envoy does.
const MaxHead = 60 << 10

// MaxFields bounds the number of header fields of a head, as Envoy does.
const MaxFields = 100

// A Span is a place in the buffer a head was parsed from. It stays right for
// as long as the head lies at the beginning of that buffer.
type Span struct{ From, To uint16 }

// In returns the bytes of s in b.
func (s Span) In(b []byte) []byte { return b[s.From:s.To] }

// Len is the number of bytes.
func (s Span) Len() int { return int(s.To - s.From) }

// A Framing says where the body of a message ends.
type Framing uint8

// The framings. NoBody is the zero value.
const (
	NoBody     Framing = iota
	Length             // after a known number of bytes
	Chunked            // the chunked coding ends itself
	UntilClose         // with the connection; responses only
)

// An Upgrade is what a request asks the connection to become.
type Upgrade uint8

// The upgrades told apart. An offer of h2c alone counts as none: it is ignored
// and not sent on. A WebSocket is asked for by GET alone.
const (
	NoUpgrade Upgrade = iota
	WebSocket
	OtherUpgrade
)

// lower maps the characters of a token (RFC 9110 section 5.6.2) to lower case
// and everything else to 0.
var lower = func() (t [256]byte) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		t[c] = c
	}
	for c := byte('A'); c <= 'Z'; c++ {
		t[c] = c + 'a' - 'A'
	}
	return t
}()

// equalFold reports whether b is s, which is a token in lower case, in any
// letter case.
func equalFold(b []byte, s string) bool {
	if len(b) != len(s) {
		return false
	}
	for i := range b {
		if lower[b[i]] != s[i] {
			return false
		}
	}
	return true
}

// hasPrefixFold is equalFold for the beginning of b.
func hasPrefixFold(b []byte, s string) bool { return len(b) >= len(s) && equalFold(b[:len(s)], s) }

func isToken(b []byte) bool {
	for _, c := range b {
		if lower[c] == 0 {
			return false
		}
	}
	return len(b) > 0
}

// element cuts the first element off a comma-separated list, without the white
// space around it.
func element(list []byte) (first, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}

func trim(b []byte) []byte {
	for len(b) > 0 && (b[0] == ' ' || b[0] == '\t') {
		b = b[1:]
	}
	for len(b) > 0 && (b[len(b)-1] == ' ' || b[len(b)-1] == '\t') {
		b = b[:len(b)-1]
	}
	return b
}
