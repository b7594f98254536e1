package sniff

import (
	"strings"

	"github.com/fairlead/fairlead/internal/hostname"
)

// MaxHello bounds a ClientHello (its handshake message), as Envoy does.
const MaxHello = 16 << 10

// maxRecords bounds the records a ClientHello may be spread over. One byte per
// record is legal and nobody's habit.
const maxRecords = 64

// A Hello is what a ClientHello says that routing needs.
type Hello struct {
	ServerName string   // lower case, canonical; empty if absent or not a host name
	Protocols  []string // ALPN offers
}

// Numbers of RFC 8446 and of the extensions read here.
const (
	recordHandshake   = 22
	recordHeader      = 5
	maxRecord         = 1 << 14 // a plaintext record
	messageHello      = 1
	messageHeader     = 4
	extServerName     = 0
	extALPN           = 16
	nameTypeHost      = 0
	maxProtocolOffers = 64
)

// ClientHello parses the beginning of a TLS stream, across records and
// fragments. A hello over MaxHello, or one whose lengths do not agree, is No:
// what follows it cannot be told. It holds on to nothing of b.
func ClientHello(b []byte) (Hello, Verdict) {
	var message []byte
	for records := 1; records <= maxRecords; records++ {
		payload, rest, whole := record(b)
		if whole == No {
			return Hello{}, No
		}
		// The first record is looked at where it lies; most hellos fit in it.
		if records == 1 {
			message = payload[:len(payload):len(payload)]
		} else {
			message = append(message, payload...)
		}
		switch body, v := helloBody(message); {
		case v == No:
			return Hello{}, No
		case v == Yes:
			return parseHello(body)
		case whole == More:
			return Hello{}, More
		}
		b = rest
	}
	return Hello{}, No
}

// record takes the first record off b. With More the payload is what has come
// of it so far.
func record(b []byte) (payload, rest []byte, v Verdict) {
	if len(b) > 0 && b[0] != recordHandshake || len(b) > 1 && b[1] != 3 || len(b) > 2 && b[2] > 4 {
		return nil, nil, No
	}
	if len(b) < recordHeader {
		return nil, nil, More
	}
	n := int(b[3])<<8 | int(b[4])
	if n == 0 || n > maxRecord {
		return nil, nil, No
	}
	b = b[recordHeader:]
	if len(b) < n {
		return b, nil, More
	}
	return b[:n], b[n:], Yes
}

// helloBody returns the body of the ClientHello message at the beginning of m.
func helloBody(m []byte) ([]byte, Verdict) {
	if len(m) > 0 && m[0] != messageHello {
		return nil, No
	}
	if len(m) < messageHeader {
		return nil, More
	}
	n := int(m[1])<<16 | int(m[2])<<8 | int(m[3])
	if n > MaxHello-messageHeader {
		return nil, No
	}
	if len(m) < messageHeader+n {
		return nil, More
	}
	return m[messageHeader : messageHeader+n], Yes
}

func parseHello(b []byte) (h Hello, v Verdict) {
	r := reader{rest: b}
	r.skip(2 + 32)                        // legacy version, random
	r.vector(1)                           // session id
	if len(r.vector(2)) == 0 || r.short { // cipher suites
		return Hello{}, No
	}
	if len(r.vector(1)) == 0 || r.short { // compression methods
		return Hello{}, No
	}
	if len(r.rest) == 0 {
		return Hello{}, Yes // no extensions, as before TLS 1.2
	}
	extensions := reader{rest: r.vector(2)}
	if r.short || len(r.rest) > 0 {
		return Hello{}, No
	}
	var named, offered bool
	for len(extensions.rest) > 0 {
		kind, body := extensions.number(2), reader{}
		body.rest = extensions.vector(2)
		if extensions.short {
			return Hello{}, No
		}
		ok := true
		switch kind {
		case extServerName:
			ok = !named && h.serverName(body)
			named = true
		case extALPN:
			ok = !offered && h.protocols(body)
			offered = true
		}
		if !ok {
			return Hello{}, No
		}
	}
	return h, Yes
}

// serverName reads the server_name extension (RFC 6066 section 3).
func (h *Hello) serverName(r reader) bool {
	names := reader{rest: r.vector(2)}
	if r.short || len(r.rest) > 0 || len(names.rest) == 0 {
		return false
	}
	var seen bool
	for len(names.rest) > 0 {
		kind := names.number(1)
		name := names.vector(2)
		if names.short || len(name) == 0 {
			return false
		}
		if kind != nameTypeHost {
			continue
		}
		if seen {
			return false
		}
		seen = true
		h.ServerName = canonical(string(name))
	}
	return true
}

// canonical returns the name as hosts are compared, or nothing if it is none.
func canonical(s string) string {
	name, err := hostname.Parse(s)
	if err != nil || name.IsWildcard() || strings.Contains(string(name), ":") {
		return ""
	}
	return string(name)
}

// protocols reads the ALPN extension (RFC 7301 section 3.1).
func (h *Hello) protocols(r reader) bool {
	list := reader{rest: r.vector(2)}
	if r.short || len(r.rest) > 0 || len(list.rest) == 0 {
		return false
	}
	for len(list.rest) > 0 {
		p := list.vector(1)
		if list.short || len(p) == 0 || len(h.Protocols) == maxProtocolOffers {
			return false
		}
		h.Protocols = append(h.Protocols, string(p))
	}
	return true
}

// A reader takes numbers and vectors off a structure of TLS. After a step over
// the end, short is set and everything reads as empty.
type reader struct {
	rest  []byte
	short bool
}

func (r *reader) skip(n int) []byte {
	if r.short || n > len(r.rest) {
		r.short, r.rest = true, nil
		return nil
	}
	b := r.rest[:n]
	r.rest = r.rest[n:]
	return b
}

// number reads a number of that many bytes.
func (r *reader) number(bytes int) int {
	n := 0
	for _, c := range r.skip(bytes) {
		n = n<<8 | int(c)
	}
	return n
}

// vector reads bytes that follow their length, a number of that many bytes.
func (r *reader) vector(bytes int) []byte { return r.skip(r.number(bytes)) }
