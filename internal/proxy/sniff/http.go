package sniff

import "bytes"

// MaxLine bounds the first line of a request.
const MaxLine = 64 << 10

// preface begins an HTTP/2 connection (RFC 9113 section 3.4).
const preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// maxMethod bounds a method: the longest registered one has 17 letters.
const maxMethod = 32

// HTTP tells the application protocol of the first line: "http/1.1",
// "http/1.0" or "h2c". It says No as soon as the bytes cannot become the first
// line of a request.
func HTTP(b []byte) (string, Verdict) {
	if len(b) > 0 && b[0] == preface[0] {
		switch n := min(len(b), len(preface)); {
		case string(b[:n]) != preface[:n]:
		case n == len(preface):
			return "h2c", Yes
		case n > len("PRI * "): // no method is called PRI
			return "", More
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
		return "", More
	}
	line = bytes.TrimSuffix(line, []byte("\r"))
	target, version, ok := bytes.Cut(line[sp+1:], []byte(" "))
	if !ok || len(target) == 0 {
		return "", No
	}
	switch string(version) {
	case "HTTP/1.1":
		return "http/1.1", Yes
	case "HTTP/1.0":
		return "http/1.0", Yes
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
