package h1

import "strconv"

// A Response is the head of a response. Its zero value is ready to be parsed
// into; it may be reused after Reset. It is not safe for concurrent use.
type Response struct {
	Fields
	Status  int
	Upgrade Upgrade // what a 101 switches to
	Reason  Span
	Tunnel  bool // what follows are the bytes of a tunnel; see OpenTunnel
	verb    bool // the first line may be sent on as it is
	lineEnd int
}

// Reset makes r ready for the next head.
func (r *Response) Reset() {
	r.reset()
	r.Status, r.Upgrade, r.Reason, r.Tunnel = 0, NoUpgrade, Span{}, false
}

// Parse is as Request.Parse. toHEAD says that the request was HEAD, whose
// answer has no body whatever its fields tell.
func (r *Response) Parse(b []byte, toHEAD bool) (done bool, err error) {
	if !r.started {
		from, to, whole, err := r.nextLine(b)
		if err != nil || !whole {
			return false, err
		}
		if err := r.statusLine(b[from:to]); err != nil {
			return false, err
		}
		r.started, r.lineEnd = true, to
	}
	if done, err = r.fields(b); err != nil || !done {
		return false, err
	}
	return true, r.finish(b, toHEAD)
}

func (r *Response) statusLine(line []byte) error {
	const prefix = len("HTTP/1.1 200")
	if len(line) < prefix || string(line[:7]) != "HTTP/1." || line[8] != ' ' {
		return ErrStatusLine
	}
	if line[7] != '0' && line[7] != '1' {
		return ErrVersion
	}
	r.Minor = line[7] - '0'
	for _, c := range line[9:prefix] {
		if c < '0' || c > '9' {
			return ErrStatusLine
		}
		r.Status = r.Status*10 + int(c-'0')
	}
	if r.Status < 100 {
		return ErrStatusLine
	}
	// Servers that leave out the reason often leave out the space before it;
	// there is only one way to read that.
	if len(line) > prefix && line[prefix] != ' ' || !cleanValue(line[prefix:]) {
		return ErrStatusLine
	}
	r.verb = r.Minor == 1 && len(line) > prefix
	if len(line) > prefix {
		r.Reason = Span{uint16(prefix + 1), uint16(len(line))}
	}
	return nil
}

func (r *Response) finish(b []byte, toHEAD bool) error {
	coded := r.Has(TransferEncoding)
	switch {
	case coded && r.Minor == 0:
		return ErrCodingVersion
	case coded && r.hasLength:
		return ErrLengthAndChunk
	case coded && (r.Status < 200 || r.Status == 204):
		return ErrCodingStatus
	}
	switch {
	case r.Status < 200 || r.Status == 204:
		r.Framing = NoBody
		if r.hasLength { // has no place here (RFC 9110 section 8.6)
			r.list[r.at[ContentLength]-1].dropped = true
		}
	case r.Status == 304 || toHEAD:
		r.Framing = NoBody
	case coded:
		r.Framing = Chunked
	case r.hasLength:
		r.Framing = Length
	default:
		r.Framing = UntilClose
	}
	if r.upgrades {
		r.Upgrade = upgradeOf(r.Value(b, UpgradeTo))
	}
	r.dropNamed(b)
	return nil
}

// OpenTunnel says that r, which was parsed, answers CONNECT. One that agrees, with
// 2xx, is the beginning of a tunnel and has no body: what it says of one means
// nothing and is not sent on (RFC 9110 section 9.3.6).
func (r *Response) OpenTunnel() {
	if r.Status < 200 || r.Status > 299 {
		return
	}
	if r.Has(ContentLength) {
		r.Drop(int(r.at[ContentLength]) - 1)
	}
	r.Tunnel, r.Framing, r.Length, r.hasLength = true, UntilClose, 0, false
}

// A Reply says how a response is sent on.
type Reply struct {
	Chunked   bool // the body follows in the chunked coding, made anew
	Close     bool // the connection ends after it
	KeepAlive bool // the connection goes on, told to an HTTP/1.0 caller
	WebSocket bool // the connection becomes one
}

// AppendTo appends the head as it is sent on to the caller: its fields in their
// order and letter case without those that concern only one hop, its framing
// made anew. b is the buffer that was parsed.
func (r *Response) AppendTo(dst, b []byte, how Reply) []byte {
	if r.verb {
		dst = r.appendKept(dst, b, 0)
	} else {
		dst = append(dst, "HTTP/1.1 "...)
		dst = strconv.AppendInt(dst, int64(r.Status), 10)
		dst = append(dst, ' ')
		dst = append(dst, r.Reason.In(b)...)
		dst = append(dst, "\r\n"...)
		dst = r.appendKept(dst, b, r.lineEnd+2)
	}
	if r.hasLength && !r.plain && r.Status >= 200 && r.Status != 204 {
		dst = appendLength(dst, r.Length)
	}
	if how.Chunked {
		dst = append(dst, "Transfer-Encoding: chunked\r\n"...)
	}
	switch {
	case how.WebSocket:
		dst = append(dst, "Connection: Upgrade\r\nUpgrade: websocket\r\n"...)
	case how.Close:
		dst = append(dst, "Connection: close\r\n"...)
	case how.KeepAlive:
		dst = append(dst, "Connection: keep-alive\r\n"...)
	}
	return append(dst, "\r\n"...)
}
