package h1

import (
	"bytes"
	"strconv"
)

// A Request is the head of a request. Its zero value is ready to be parsed
// into; it may be reused after Reset. It is not safe for concurrent use.
type Request struct {
	Fields
	Method    Span
	Target    Span // as sent
	Path      Span // origin form, with query; empty if the target has none (CONNECT, http://host)
	Authority Span // the one effective authority: of the target, else of Host
	Upgrade   Upgrade
	Asterisk  bool // OPTIONS *
	Connect   bool
	absolute  bool
	lineEnd   int
}

// Reset makes r ready for the next head.
func (r *Request) Reset() {
	r.reset()
	r.Method, r.Target, r.Path, r.Authority = Span{}, Span{}, Span{}, Span{}
	r.Upgrade, r.Asterisk, r.Connect, r.absolute = NoUpgrade, false, false, false
}

// Parse looks for a whole head at the beginning of b. If there is none yet it
// returns false and must be called again with the same bytes and more behind
// them; it goes on where it stopped. Errors are of type *Error; after one, or
// after true, Parse must not be called before Reset. After an error Method and
// Target are set if the first line was well formed.
func (r *Request) Parse(b []byte) (done bool, err error) {
	if !r.started {
		// One empty line before a request is let pass (RFC 9112 section 2.2).
		if r.line == 0 && len(b) >= 2 && b[0] == '\r' && b[1] == '\n' {
			r.begin, r.line, r.scan = 2, 2, 2
		}
		from, to, whole, err := r.nextLine(b)
		if err != nil || !whole {
			return false, err
		}
		if err := r.requestLine(b, from, to); err != nil {
			return false, err
		}
		r.started, r.lineEnd = true, to
	}
	if done, err = r.fields(b); err != nil || !done {
		return false, err
	}
	return true, r.finish(b)
}

func (r *Request) requestLine(b []byte, from, to int) error {
	line := b[from:to]
	sp := bytes.IndexByte(line, ' ')
	if sp <= 0 || !isToken(line[:sp]) {
		return ErrRequestLine
	}
	end := bytes.LastIndexByte(line, ' ')
	if end <= sp+1 {
		return ErrRequestLine
	}
	switch string(line[end+1:]) {
	case "HTTP/1.1":
		r.Minor = 1
	case "HTTP/1.0":
		r.Minor = 0
	default:
		return ErrVersion
	}
	for _, c := range line[sp+1 : end] {
		if c <= ' ' || c == 0x7f || c == '#' {
			return ErrTarget
		}
	}
	r.Method = Span{uint16(from), uint16(from + sp)}
	r.Target = Span{uint16(from + sp + 1), uint16(from + end)}
	return r.target(b)
}

// target tells the four forms of a target apart (RFC 9112 section 3.2).
func (r *Request) target(b []byte) error {
	t, method := r.Target.In(b), r.Method.In(b)
	switch {
	case string(method) == "CONNECT":
		r.Connect, r.Authority = true, r.Target
		if host, port, ok := splitAuthority(t); !ok || len(host) == 0 || !isPort(port) {
			return ErrConnectTarget
		}
	case t[0] == '/':
		r.Path = r.Target
	case len(t) == 1 && t[0] == '*':
		if string(method) != "OPTIONS" {
			return ErrAsterisk
		}
		r.Asterisk, r.Path = true, r.Target
	case hasSchemeHTTP(t):
		return r.absoluteForm(b)
	case bytes.Contains(t, []byte("://")):
		return ErrAbsolute
	default:
		return ErrTarget
	}
	return nil
}

func hasSchemeHTTP(t []byte) bool {
	return len(t) > 7 && equalFold(t[:4], "http") && string(t[4:7]) == "://"
}

func (r *Request) absoluteForm(b []byte) error {
	const scheme = len("http://")
	t := r.Target.In(b)
	end := scheme
	for end < len(t) && t[end] != '/' && t[end] != '?' {
		end++
	}
	if host, _, ok := splitAuthority(t[scheme:end]); !ok || len(host) == 0 {
		return ErrAbsolute
	}
	r.absolute = true
	from := r.Target.From + uint16(scheme)
	r.Authority = Span{from, r.Target.From + uint16(end)}
	r.Path = Span{r.Authority.To, r.Target.To}
	return nil
}

// finish makes the checks that need the whole head.
func (r *Request) finish(b []byte) error {
	if err := r.checkHost(b); err != nil {
		return err
	}
	if err := r.frame(); err != nil {
		return err
	}
	if r.Framing == Chunked || r.Framing == Length && r.Length > 0 {
		if r.Connect || string(r.Method.In(b)) == "TRACE" {
			return ErrBody
		}
	}
	if r.Connect && r.hasLength { // what would be no body is a tunnel (RFC 9110 section 9.3.6)
		r.Drop(int(r.at[ContentLength]) - 1)
		r.Framing, r.hasLength = NoBody, false
	}
	if r.Minor == 0 && r.Has(Expect) && equalFold(r.Value(b, Expect), "100-continue") {
		r.Drop(int(r.at[Expect]) - 1) // to be ignored (RFC 9110 section 10.1.1)
	}
	if r.upgrades && r.Minor == 1 {
		r.Upgrade = upgradeOf(r.Value(b, UpgradeTo))
		if r.Upgrade == WebSocket && string(r.Method.In(b)) != "GET" { // (RFC 6455 section 4.1)
			r.Upgrade = OtherUpgrade
		}
	}
	r.dropNamed(b)
	return nil
}

func (r *Request) checkHost(b []byte) error {
	if !r.Has(Host) {
		if r.Minor == 1 || !r.absolute && !r.Connect {
			return ErrNoHost
		}
		return nil
	}
	field := &r.list[r.at[Host]-1]
	v := field.Value.In(b)
	if len(v) == 0 {
		return ErrNoHost
	}
	host, port, ok := splitAuthority(v)
	if !ok || len(host) == 0 {
		return ErrHost
	}
	if !r.absolute && !r.Connect {
		r.Authority = field.Value
		return nil
	}
	targetHost, targetPort, _ := splitAuthority(r.Authority.In(b))
	if !equalHost(targetHost, host) || !r.samePort(targetPort, port) {
		return ErrHostDiffers
	}
	field.dropped = true // the authority of the target takes its place
	return nil
}

func equalHost(a, b []byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if fold(a[i]) != fold(b[i]) {
			return false
		}
	}
	return true
}

func fold(c byte) byte {
	if l := lower[c]; l != 0 {
		return l
	}
	return c
}

// samePort compares ports, where none stands for 80 and leaves CONNECT, which
// has no default, to say what it means.
func (r *Request) samePort(target, host []byte) bool {
	if r.Connect && len(host) == 0 {
		return true
	}
	return string(portOr80(target)) == string(portOr80(host))
}

func portOr80(p []byte) []byte {
	if len(p) == 0 {
		return []byte("80")
	}
	return p
}

func (r *Request) frame() error {
	switch {
	case r.Has(TransferEncoding):
		if r.Minor == 0 {
			return ErrCodingVersion
		}
		if r.hasLength {
			return ErrLengthAndChunk
		}
		r.Framing = Chunked
	case r.hasLength:
		r.Framing = Length
	}
	return nil
}

// upgradeOf tells what the value of an Upgrade field asks for.
func upgradeOf(v []byte) Upgrade {
	u := NoUpgrade
	for len(v) > 0 {
		var p []byte
		p, v = element(v)
		switch {
		case len(p) == 0 || equalFold(p, "h2c"):
		case equalFold(p, "websocket"):
			return WebSocket
		default:
			u = OtherUpgrade
		}
	}
	return u
}

// AppendTo appends the head as it is sent on to an endpoint: in origin form, but
// for CONNECT, HTTP/1.1, its fields in their order and letter case without those that
// concern only one hop, its framing made anew. b is the buffer that was parsed.
func (r *Request) AppendTo(dst, b []byte) []byte {
	named := r.absolute || r.Connect // the target names the host
	if r.Minor == 1 && !named {
		dst = r.appendKept(dst, b, r.begin)
	} else {
		dst = append(dst, r.Method.In(b)...)
		dst = append(dst, ' ')
		if r.absolute && (r.Path.Len() == 0 || b[r.Path.From] == '?') {
			dst = append(dst, '/')
		}
		if r.Connect {
			dst = append(dst, r.Authority.In(b)...)
		}
		dst = append(dst, r.Path.In(b)...)
		dst = append(dst, " HTTP/1.1\r\n"...)
		if named {
			dst = append(dst, "Host: "...)
			dst = append(dst, r.Authority.In(b)...)
			dst = append(dst, "\r\n"...)
		}
		dst = r.appendKept(dst, b, r.lineEnd+2)
	}
	switch {
	case r.Framing == Chunked:
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	case r.Framing == Length && !r.plain, r.Framing == NoBody && anticipatesBody(r.Method.In(b)):
		dst = appendLength(dst, r.Length)
	}
	if r.Upgrade == WebSocket {
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	}
	return append(dst, "\r\n"...)
}

// anticipatesBody reports whether a method gives content a meaning. A request with
// it that has none says so (RFC 9110 section 8.6): there are endpoints that refuse
// it otherwise.
func anticipatesBody(method []byte) bool {
	switch string(method) {
	case "POST", "PUT", "PATCH":
		return true
	}
	return false
}

func appendLength(dst []byte, n int64) []byte {
	dst = append(dst, "Content-Length: "...)
	dst = strconv.AppendInt(dst, n, 10)
	return append(dst, "\r\n"...)
}

// splitAuthority takes apart host[:port] and checks the characters of both. It
// refuses user information, percent-encoding and what else is no host.
func splitAuthority(a []byte) (host, port []byte, ok bool) {
	i := 0
	if len(a) > 0 && a[0] == '[' {
		end := bytes.IndexByte(a, ']')
		if end < 0 {
			return nil, nil, false
		}
		for _, c := range a[1:end] {
			if !isHex(c) && c != ':' && c != '.' {
				return nil, nil, false
			}
		}
		i = end + 1
	} else {
		for i < len(a) && isHostByte(a[i]) {
			i++
		}
	}
	host = a[:i]
	if i == len(a) {
		return host, nil, true
	}
	if a[i] != ':' {
		return nil, nil, false
	}
	port = a[i+1:]
	if len(port) > 5 {
		return nil, nil, false
	}
	for _, c := range port {
		if c < '0' || c > '9' {
			return nil, nil, false
		}
	}
	return host, port, true
}

// isPort reports whether p is a port, written in its shortest form.
func isPort(p []byte) bool {
	n := 0
	for _, c := range p { // at most five digits
		n = n*10 + int(c-'0')
	}
	return len(p) > 0 && p[0] != '0' && n <= 65535
}

func isHex(c byte) bool {
	return '0' <= c && c <= '9' || 'a' <= c && c <= 'f' || 'A' <= c && c <= 'F'
}

func isHostByte(c byte) bool {
	return 'a' <= c && c <= 'z' || '0' <= c && c <= '9' || 'A' <= c && c <= 'Z' || c == '.' || c == '-' || c == '_'
}
