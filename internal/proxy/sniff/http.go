package sniff

import "bytes"

// MaxLine bounds the first line of a request.
const MaxLine = 64 << 10

// preface begins an HTTP/2 connection (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxMethod bounds a method: the longest registered one has 17 letters.
const maxMethod = 32

// The application protocols of HTTP without TLS, as Envoy's inspector names them.
const (
	HTTP11 = "http/1.1"
	HTTP10 = "http/1.0"
	H2C    = "h2c"
)

// HTTP tells the application protocol of the first line: HTTP11, HTTP10 or H2C.
// It says No as soon as the bytes cannot become the first line of a request. With
// More it names the best guess, once there is one: the peer may never say the rest.
//
// It is strict, as others speak in words, too: unless the method is one of
// the usual ones, nothing is guessed before the version, and until then it is Unlikely.
func HTTP(b []byte) (string, Verdict) {
	if len(b) > 0 && b[0] == preface[0] {
		switch n := min(len(b), len(preface)); {
		case string(b[:n]) != preface[:n]:
		case n == len(preface):
			return H2C, Yes
		case n >= len("PRI "): // no method is called PRI
			return H2C, More
		default:
			return "", More
		}
	}
	sp, v := method(b)
	if v != Yes {
		return "", v
	}
	known := usual(b[:sp])
	doubt, guess := Unlikely, ""
	if known {
		doubt, guess = More, HTTP11
	}
	line := b[sp+1:]
	n, v := target(line, string(b[:sp]) == "CONNECT")
	switch {
	case v == No || len(b) > MaxLine:
		return "", No
	case v == More:
		return guess, doubt
	}
	return version(line[n+1:], guess, doubt)
}

// version judges what follows the target, of which guess and doubt say what it is if
// nothing more comes.
func version(b []byte, guess string, doubt Verdict) (string, Verdict) {
	const prefix = "HTTP/1."
	n := min(len(b), len(prefix))
	switch {
	case string(b[:n]) != prefix[:n]:
		return "", No
	case n < len(prefix):
		return guess, doubt
	case len(b) == n:
		return HTTP11, More
	}
	spoken := HTTP11
	switch b[n] {
	case '1':
	case '0':
		spoken = HTTP10
	default:
		return "", No
	}
	switch end := b[n+1:]; {
	case len(end) == 0, len(end) == 1 && end[0] == '\r':
		return HTTP11, More
	case end[0] == '\n', end[0] == '\r' && end[1] == '\n':
		return spoken, Yes
	}
	return "", No
}

// method finds the space after the method. What is no beginning of a usual one is
// hardly one.
func method(b []byte) (int, Verdict) {
	for i, c := range b {
		switch {
		case c == ' ' && i > 0:
			return i, Yes
		case i == maxMethod || !isMethodByte(c):
			return 0, No
		}
	}
	for _, m := range methods {
		if len(b) <= len(m) && m[:len(b)] == string(b) {
			return 0, More
		}
	}
	return 0, Unlikely
}

// methods are the usual ones: those of RFC 9110 and PATCH.
var methods = [...]string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func usual(method []byte) bool {
	for _, m := range methods {
		if m == string(method) {
			return true
		}
	}
	return false
}

// isMethodByte is stricter than a token: methods in use are letters, a few with
// a hyphen or an underscore, and a first byte of another protocol should be
// recognised at once.
func isMethodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_'
}

// target finds the space after the target, which has one of the four forms: a path,
// a URL of HTTP, an asterisk, or after CONNECT an authority.
func target(b []byte, connect bool) (int, Verdict) {
	end := bytes.IndexByte(b, ' ')
	t := b
	if end >= 0 {
		t = b[:end]
	}
	for _, c := range t {
		if c <= ' ' || c == 0x7f || connect && !isAuthorityByte(c) {
			return 0, No
		}
	}
	switch whole := end >= 0; {
	case len(t) == 0 && whole:
		return 0, No
	case len(t) > 0 && !connect && !takesForm(t, whole):
		return 0, No
	case !whole:
		return 0, More
	}
	return end, Yes
}

// takesForm reports whether t, which is not empty, has the form of a target, or may
// have it yet if it is not whole.
func takesForm(t []byte, whole bool) bool {
	switch t[0] {
	case '/':
		return true
	case '*':
		return len(t) == 1
	}
	for _, scheme := range [...]string{"http://", "https://"} {
		n := min(len(t), len(scheme))
		if bytes.EqualFold(t[:n], []byte(scheme[:n])) && (n == len(scheme) || !whole) {
			return true
		}
	}
	return false
}

func isAuthorityByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || '0' <= c && c <= '9' ||
		c == '.' || c == '-' || c == '_' || c == ':' || c == '[' || c == ']'
}

// Means reports whether b, which HTTP does not take for a request, is one that breaks
// HTTP all the same, for a port that is declared for that: it begins with a usual method or
// with a word and a path, or its first line tells a version of HTTP.
func Means(b []byte) Verdict {
	sp := -1
	for i, c := range b {
		if c == ' ' && i > 0 {
			sp = i
			break
		}
		if c <= ' ' || c >= 0x7f || i == maxMethod {
			return No
		}
	}
	if sp < 0 {
		return More
	}
	if _, v := method(b); usual(b[:sp]) || v == Yes && len(b) > sp+1 && b[sp+1] == '/' {
		return Yes
	}
	line, _, whole := bytes.Cut(b[sp:], []byte("\n"))
	at := bytes.Index(line, []byte(" HTTP/"))
	if at >= 0 {
		line = line[:at]
	}
	switch {
	case len(line) > MaxLine, bytes.ContainsFunc(line, isControl):
		return No
	case at >= 0:
		return Yes
	case whole:
		return No
	}
	return More
}

func isControl(r rune) bool { return r < ' ' && r != '\r' && r != '\t' || r == 0x7f }

// The header of the frame with which an HTTP/2 server begins (RFC 9113 sections
// 3.4 and 6.5).
const (
	frameHeader  = 9
	typeSettings = 4
	settingSize  = 6
	maxFrame     = 1 << 14
)

// HTTPServer reports whether b, the first that a server says to a caller who has
// not spoken, is an HTTP server's: the answer to a request that never came, with
// which some end an idle connection, or HTTP/2's SETTINGS. Neither greets.
func HTTPServer(b []byte) bool {
	if bytes.HasPrefix(b, []byte("HTTP/1.")) {
		return true
	}
	if len(b) < frameHeader || b[3] != typeSettings {
		return false
	}
	size := int(b[0])<<16 | int(b[1])<<8 | int(b[2])
	return size%settingSize == 0 && size <= maxFrame && string(b[4:frameHeader]) == "\x00\x00\x00\x00\x00"
}
