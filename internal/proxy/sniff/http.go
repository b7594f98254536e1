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
func HTTP(b []byte) (string, Verdict) {
	if len(b) > 0 && b[0] == preface[0] {
		switch n := min(len(b), len(preface)); {
		case string(b[:n]) != preface[:n]:
		case n == len(preface):
			return H2C, Yes
		case n >= len("PRI "): // no method is called PRI
			return H2C, More
		}
	}
	sp, v := method(b)
	if v != Yes {
		return "", v
	}
	end := bytes.IndexByte(b, '\n')
	line := b
	if end >= 0 {
		line = b[:end]
	}
	if !targetBegins(line[sp+1:]) || len(line) > MaxLine {
		return "", No
	}
	if end < 0 {
		// A method and a space: a request with a long or slow first line. What is
		// wrong with it is for HTTP to say.
		return HTTP11, More
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	target, version, ok := bytes.Cut(line[sp+1:], []byte(" "))
	if !ok || len(target) == 0 {
		return "", No
	}
	switch string(version) {
	case "HTTP/1.1":
		return HTTP11, Yes
	case "HTTP/1.0":
		return HTTP10, Yes
	}
	return "", No
}

// method finds the space after the method.
func method(b []byte) (int, Verdict) {
	for i, c := range b {
		switch {
		case c == ' ' && i > 0:
			return i, Yes
		case i == maxMethod || !isMethodByte(c):
			return 0, No
		}
	}
	return 0, More
}

// isMethodByte is stricter than a token: methods in use are letters, a few with
// a hyphen or an underscore, and a first byte of another protocol should be
// recognised at once.
func isMethodByte(c byte) bool {
	return 'A' <= c && c <= 'Z' || 'a' <= c && c <= 'z' || c == '-' || c == '_'
}

// targetBegins reports whether what follows the method may be a target so far.
func targetBegins(b []byte) bool {
	for i, c := range b {
		if c == ' ' {
			return i > 0
		}
		if c < ' ' && c != '\r' || c == 0x7f {
			return false
		}
	}
	return true
}

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
