package h2

import (
	"bytes"
	"strconv"

	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// Places in the static table of HPACK (RFC 7541 appendix A).
const (
	tabAuthority     = 1
	tabGET           = 2
	tabPOST          = 3
	tabPath          = 4 // "/"
	tabHTTP          = 6
	tabHTTPS         = 7
	tabStatus        = 8 // 200
	tabContentLength = 28
	tabContentType   = 31
	tabUserAgent     = 58
)

// Representations of a field (RFC 7541 section 6). Nothing is ever added to the
// peer's table, so that a block can be made without knowing its connection.
const (
	indexed      = 0x80
	literal      = 0x00
	literalNever = 0x10 // nor may anybody after us
)

// appendInt appends n with a prefix of so many bits; the bits before are 0.
func appendInt(dst []byte, bits uint, n int) []byte {
	limit := 1<<bits - 1
	if n < limit {
		return append(dst, byte(n))
	}
	dst = append(dst, byte(limit))
	for n -= limit; n >= 0x80; n >>= 7 {
		dst = append(dst, byte(n)|0x80)
	}
	return append(dst, byte(n))
}

// lowerByte is strings.ToLower for one byte of a token.
var lowerByte = func() (t [256]byte) {
	for i := range t {
		t[i] = byte(i)
	}
	for c := 'A'; c <= 'Z'; c++ {
		t[c] = byte(c) + 'a' - 'A'
	}
	return t
}()

// AppendField appends a field to a header block, its name in lower case. The
// name must be a token and the value hold no control character.
func AppendField[N, V ~string | ~[]byte](dst []byte, name N, value V) []byte {
	first := byte(literal)
	if len(name) == len("cookie") || len(name) == len("set-cookie") || len(name) == len("authorization") || len(name) == len("proxy-authorization") {
		first = secrecy(string(name))
	}
	dst = appendInt(append(dst, first), 7, len(name))
	n := len(dst)
	dst = append(dst, name...)
	for i := n; i < len(dst); i++ {
		dst[i] = lowerByte[dst[i]]
	}
	dst = appendInt(dst, 7, len(value))
	return append(dst, value...)
}

// secrecy says how a field is represented whose name is as long as that of a
// secret one.
func secrecy(name string) byte {
	for _, s := range [...]string{"cookie", "set-cookie", "authorization", "proxy-authorization"} {
		if len(name) == len(s) && bytes.EqualFold([]byte(name), []byte(s)) {
			return literalNever
		}
	}
	return literal
}

// appendKnown appends a field whose name is in the static table.
func appendKnown[V ~string | ~[]byte](dst []byte, name int, value V) []byte {
	dst = appendInt(dst, 4, name)
	dst = appendInt(dst, 7, len(value))
	return append(dst, value...)
}

func appendNumber(dst []byte, name int, n int64) []byte {
	var digits [20]byte
	return appendKnown(dst, name, strconv.AppendInt(digits[:0], n, 10))
}

// AppendStatus begins the header block of an answer.
func AppendStatus(dst []byte, status int) []byte {
	var i int
	switch status {
	case 200:
		i = tabStatus
	case 204:
		i = tabStatus + 1
	case 206:
		i = tabStatus + 2
	case 304:
		i = tabStatus + 3
	case 400:
		i = tabStatus + 4
	case 404:
		i = tabStatus + 5
	case 500:
		i = tabStatus + 6
	default:
		return appendNumber(dst, tabStatus, int64(status))
	}
	return append(dst, indexed|byte(i))
}

// AppendResponse appends the header block of an answer that was parsed from b,
// as it is sent on: without the fields that concern only one hop. A 101 becomes
// the 200 that begins a WebSocket on a stream; any other use of 101 is the
// caller's to prevent.
func AppendResponse(dst []byte, r *h1.Response, b []byte) []byte {
	if r.Status == 101 {
		dst = AppendStatus(dst, 200)
	} else {
		dst = AppendStatus(dst, r.Status)
	}
	for i := range r.N() {
		f := r.Field(i)
		switch {
		case f.Dropped():
			if f.Kind == h1.ContentLength && r.Status >= 200 && r.Status != 204 && !r.Tunnel { // not in its shortest form
				dst = appendNumber(dst, tabContentLength, r.Length)
			} else if f.Kind == h1.Trailer {
				dst = AppendField(dst, f.Name.In(b), f.Value.In(b))
			}
		case r.Status == 101 && (f.Kind == h1.ContentLength || isField(f.Name.In(b), "sec-websocket-accept")):
		default:
			dst = appendParsed(dst, f, b)
		}
	}
	return dst
}

// AppendRequest appends the header block of a request that was parsed from b,
// as it is sent on: without the fields that concern only one hop. scheme is
// http or https. A WebSocket becomes an extended CONNECT.
func AppendRequest(dst []byte, r *h1.Request, b []byte, scheme string) []byte {
	websocket := r.Upgrade == h1.WebSocket
	switch method := r.Method.In(b); {
	case websocket:
		dst = appendKnown(dst, tabGET, "CONNECT")
		dst = AppendField(dst, ":protocol", "websocket")
	case string(method) == "GET":
		dst = append(dst, indexed|tabGET)
	case string(method) == "POST":
		dst = append(dst, indexed|tabPOST)
	default:
		dst = appendKnown(dst, tabGET, method)
	}
	if !r.Connect {
		if scheme == "https" {
			dst = append(dst, indexed|tabHTTPS)
		} else {
			dst = append(dst, indexed|tabHTTP)
		}
		dst = appendPath(dst, r, b)
	}
	dst = appendKnown(dst, tabAuthority, r.Authority.In(b))
	for i := range r.N() {
		f := r.Field(i)
		switch {
		case f.Kind == h1.Host:
		case f.Kind == h1.TE:
			if listsTrailers(f.Value.In(b)) {
				dst = AppendField(dst, "te", "trailers")
			}
		case f.Dropped():
			if f.Kind == h1.ContentLength && r.Framing == h1.Length {
				dst = appendNumber(dst, tabContentLength, r.Length)
			} else if f.Kind == h1.Trailer {
				dst = AppendField(dst, f.Name.In(b), f.Value.In(b))
			}
		case websocket && (f.Kind == h1.ContentLength || isField(f.Name.In(b), "sec-websocket-key")):
		default:
			dst = appendParsed(dst, f, b)
		}
	}
	return dst
}

func appendPath(dst []byte, r *h1.Request, b []byte) []byte {
	path := r.Path.In(b)
	switch {
	case len(path) == 0 || string(path) == "/":
		return append(dst, indexed|tabPath)
	case path[0] == '?': // http://host?query
		dst = appendInt(dst, 4, tabPath)
		dst = appendInt(dst, 7, len(path)+1)
		return append(append(dst, '/'), path...)
	}
	return appendKnown(dst, tabPath, path)
}

func appendParsed(dst []byte, f *h1.Field, b []byte) []byte {
	v := f.Value.In(b)
	switch f.Kind {
	case h1.ContentLength:
		return appendKnown(dst, tabContentLength, v)
	case h1.ContentType:
		return appendKnown(dst, tabContentType, v)
	case h1.UserAgent:
		return appendKnown(dst, tabUserAgent, v)
	default:
		return AppendField(dst, f.Name.In(b), v)
	}
}

func isField(name []byte, s string) bool {
	return len(name) == len(s) && bytes.EqualFold(name, []byte(s))
}

// listsTrailers reports whether a TE field takes trailers.
func listsTrailers(v []byte) bool {
	for part := range bytes.SplitSeq(v, []byte(",")) {
		if isField(bytes.TrimSpace(part), "trailers") {
			return true
		}
	}
	return false
}

// AppendTrailer appends field lines, each ended by CR LF, as the header block of
// a trailer. It reports false if what they hold may not stand there; dst is
// then as it was.
func AppendTrailer(dst, lines []byte) (block []byte, ok bool) {
	from := len(dst)
	for len(lines) > 0 {
		line, rest, whole := bytes.Cut(lines, []byte("\r\n"))
		name, value, colon := bytes.Cut(line, []byte(":"))
		value = bytes.Trim(value, " \t")
		if !whole || !colon || !isToken(name) || !cleanValue(value) || !mayTrail(name) {
			return dst[:from], false
		}
		dst, lines = AppendField(dst, name, value), rest
	}
	return dst, true
}

// longest is that of the names that may not stand in a trailer.
const longest = len("proxy-authorization")

func mayTrail(name []byte) bool {
	var low [longest]byte
	if len(name) > longest {
		return true
	}
	for i, c := range name {
		low[i] = lowerByte[c]
	}
	switch n := string(low[:len(name)]); n {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		return false
	default:
		return trailing(n)
	}
}
