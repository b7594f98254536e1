package h2

import (
	"crypto/sha1" //nolint:gosec // G505: what RFC 6455 asks for, where no secret depends on it
	"encoding/base64"
	"encoding/binary"
	"errors"
	"strings"

	"golang.org/x/net/http2/hpack"

	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// A blockKind says what a header block is the head of.
type blockKind uint8

const (
	requestBlock blockKind = iota
	responseBlock
	trailerBlock
	ignoredBlock // decompressed only, for what comes after it
)

// A decoder turns header blocks into text. What it found out about the last
// block stands in its exported-to-the-package fields until the next one.
type decoder struct {
	hp *hpack.Decoder

	// What the block is.
	kind   blockKind
	end    bool   // END_STREAM
	toHEAD bool   // the answer is one to HEAD
	accept string // the answer is one to an extended CONNECT with this key; empty: it is not
	tunnel bool   // the answer is one to a CONNECT
	random uint64 // for the key of a WebSocket

	// What it says.
	text   []byte
	fault  *Error    // the first
	large  *h1.Error // the head is well formed so far, but too large
	length int64     // Content-Length; -1: none
	status int
	noBody bool // an answer that has no body, whatever it tells

	size   int
	fields int
	begun  bool // the first line is written
	host   bool // so is the Host field
	seen   uint8

	method, path, scheme, authority, protocol, code string

	cookie []byte
	crumbs int // of cookies
}

// The pseudo-header fields, as bits of decoder.seen.
const (
	sawMethod = 1 << iota
	sawPath
	sawScheme
	sawAuthority
	sawProtocol
	sawStatus
)

func (d *decoder) init() {
	d.hp = hpack.NewDecoder(tableSize, d.emit)
	d.hp.SetMaxStringLength(maxBlock)
}

// decode decompresses a whole block and appends its text to dst. An error of
// the connection is final. After one of a stream, and if d.large is set, the
// decompression is still in order.
func (d *decoder) decode(kind blockKind, block []byte, end bool, dst []byte) ([]byte, *Error) {
	d.kind, d.end, d.text = kind, end, dst
	d.fault, d.large, d.length, d.status, d.noBody = nil, nil, -1, 0, false
	d.size, d.fields, d.begun, d.host, d.seen = 0, 0, false, false, 0
	d.method, d.path, d.scheme, d.authority, d.protocol, d.code = "", "", "", "", "", ""
	d.crumbs, d.cookie = 0, d.cookie[:0]
	d.hp.SetEmitEnabled(kind != ignoredBlock)
	_, err := d.hp.Write(block)
	if err == nil {
		err = d.hp.Close()
	}
	switch {
	case errors.Is(err, hpack.ErrStringLength):
		return dst, ErrBlockSize
	case err != nil:
		return dst, ErrCompression
	}
	if d.fault == nil && kind != ignoredBlock {
		d.finish()
	}
	text := d.text
	d.text = nil
	if cap(d.cookie) > 4<<10 {
		d.cookie = nil
	}
	return text, d.fault
}

func (d *decoder) bad(err *Error) {
	if d.fault == nil {
		d.fault = err
		d.hp.SetEmitEnabled(false) // the rest matters to the table alone
	}
}

// tooLarge gives up what follows: what a few bytes stand for may be long, and the
// sender shall not have us look at it.
func (d *decoder) tooLarge(err *h1.Error) {
	d.large = err
	d.hp.SetEmitEnabled(false)
}

// emit takes one field.
func (d *decoder) emit(f hpack.HeaderField) {
	if d.size += len(f.Name) + len(f.Value) + 32; d.fault != nil {
		return
	}
	if d.kind == trailerBlock {
		if d.size > MaxTrailer {
			d.bad(ErrTrailerLarge)
			return
		}
	} else if d.size > MaxHead {
		d.tooLarge(h1.ErrHeadTooLarge)
	}
	if !cleanValue(f.Value) {
		d.bad(ErrValue)
		return
	}
	if len(f.Name) > 0 && f.Name[0] == ':' {
		d.pseudo(f.Name, f.Value)
		return
	}
	if !isName(f.Name) {
		d.bad(ErrName)
		return
	}
	if !d.begun {
		if d.begin(); d.fault != nil {
			return
		}
	}
	if d.fields++; d.fields > h1.MaxFields {
		d.tooLarge(h1.ErrTooManyFields)
	}
	if d.large == nil {
		d.field(f.Name, f.Value)
	}
}

func (d *decoder) pseudo(name, value string) {
	var bit uint8
	var to *string
	switch {
	case d.begun || d.kind == trailerBlock:
	case d.kind == responseBlock:
		if name == ":status" {
			bit, to = sawStatus, &d.code
		}
	case name == ":method":
		bit, to = sawMethod, &d.method
	case name == ":path":
		bit, to = sawPath, &d.path
	case name == ":scheme":
		bit, to = sawScheme, &d.scheme
	case name == ":authority":
		bit, to = sawAuthority, &d.authority
	case name == ":protocol":
		bit, to = sawProtocol, &d.protocol
	}
	if to == nil || d.seen&bit != 0 {
		d.bad(ErrPseudo)
		return
	}
	d.seen |= bit
	*to = value
}

// begin writes what the pseudo-header fields say.
func (d *decoder) begin() {
	d.begun = true
	switch d.kind {
	case requestBlock:
		d.beginRequest()
	case responseBlock:
		d.beginResponse()
	case trailerBlock, ignoredBlock:
	}
}

func (d *decoder) beginRequest() {
	connect := d.method == "CONNECT"
	extended := d.seen&sawProtocol != 0
	switch need := uint8(sawMethod | sawScheme | sawPath); {
	case d.seen&sawMethod == 0:
		d.bad(ErrPseudo)
	case !isToken(d.method):
		d.bad(ErrMethod)
	case connect && !extended:
		if d.seen != sawMethod|sawAuthority {
			d.bad(ErrConnect)
		}
	case extended && (!connect || d.seen&sawAuthority == 0):
		d.bad(ErrConnect)
	case extended && !d.isWebSocket():
		d.bad(ErrProtocol)
	case d.seen&need != need:
		d.bad(ErrPseudo)
	case d.scheme != "http" && d.scheme != "https":
		d.bad(ErrScheme)
	case d.path == "" || d.path[0] != '/' && (d.path != "*" || d.method != "OPTIONS") || !isTarget(d.path):
		d.bad(ErrPath)
	}
	if !isTarget(d.authority) {
		d.bad(ErrAuthority)
	}
	if d.fault != nil {
		return
	}
	t := d.text
	switch {
	case extended:
		t = append(append(t, "GET "...), d.path...)
	case connect:
		t = append(append(t, "CONNECT "...), d.authority...)
	default:
		t = append(append(append(t, d.method...), ' '), d.path...)
	}
	t = append(t, " HTTP/1.1\r\n"...)
	if d.authority != "" {
		t = appendLine(t, "host", d.authority)
		d.host = true
	}
	if extended {
		t = append(t, "connection: Upgrade\r\nupgrade: websocket\r\n"...)
		t = appendKey(t, d.random)
	}
	d.text = t
}

// isWebSocket reports whether :protocol is websocket, in any letter case. Others
// are refused here, where the bytes of a stream that is a tunnel and not a body
// can still be told from one.
func (d *decoder) isWebSocket() bool {
	return isToken(d.protocol) && strings.EqualFold(d.protocol, "websocket")
}

// appendKey appends a Sec-WebSocket-Key. It only has to differ from others.
func appendKey(dst []byte, random uint64) []byte {
	var key [16]byte
	binary.LittleEndian.PutUint64(key[:], random)
	binary.LittleEndian.PutUint64(key[8:], random*0x9e3779b97f4a7c15)
	dst = append(dst, "sec-websocket-key: "...)
	dst = base64.StdEncoding.AppendEncode(dst, key[:])
	return append(dst, "\r\n"...)
}

func (d *decoder) beginResponse() {
	if d.seen == 0 {
		d.bad(ErrPseudo)
		return
	}
	c := d.code
	if len(c) != 3 || c[0] < '1' || c[0] > '9' || c[1] < '0' || c[1] > '9' || c[2] < '0' || c[2] > '9' || c == "101" {
		d.bad(ErrStatus)
		return
	}
	d.status = int(c[0]-'0')*100 + int(c[1]-'0')*10 + int(c[2]-'0')
	t := d.text
	if d.switched() {
		t = append(t, "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: "...)
		sum := sha1.Sum(append([]byte(d.accept), "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"...)) //nolint:gosec // G401: as above
		t = base64.StdEncoding.AppendEncode(t, sum[:])
		d.text = append(t, "\r\n"...)
		return
	}
	d.noBody = d.toHEAD || d.status == 204 && !d.opened() || d.status == 304
	t = append(append(t, "HTTP/1.1 "...), c...)
	d.text = append(t, " \r\n"...)
}

// switched reports that the block is the answer that begins a WebSocket.
func (d *decoder) switched() bool { return d.accept != "" && d.opened() }

// opened reports that the block is the answer that begins a tunnel: what it says of
// a body means nothing (RFC 9110 section 9.3.6).
func (d *decoder) opened() bool {
	return (d.tunnel || d.accept != "") && d.status >= 200 && d.status < 300
}

// field takes a regular field.
func (d *decoder) field(name, value string) {
	switch name {
	case "connection", "proxy-connection", "keep-alive", "transfer-encoding", "upgrade":
		d.bad(ErrConnField)
		return
	case "te":
		if value != "trailers" {
			d.bad(ErrConnField)
			return
		}
	case "host":
		if d.kind == requestBlock {
			d.hostField(value)
			return
		}
	case "content-length":
		if d.opened() {
			return
		}
		if d.length >= 0 || !d.setLength(value) {
			d.bad(ErrLength)
			return
		}
		if d.length == 0 && d.kind == requestBlock && d.method == "CONNECT" { // there is no body to be of it
			d.length = -1
			return
		}
	case "cookie":
		if d.kind == requestBlock {
			if d.crumbs++; len(d.cookie) > 0 && len(value) > 0 {
				d.cookie = append(d.cookie, "; "...)
			}
			d.cookie = append(d.cookie, value...)
			return
		}
	case "sec-websocket-key":
		if d.seen&sawProtocol != 0 {
			return
		}
	case "sec-websocket-accept":
		if d.switched() {
			return
		}
	}
	if d.kind == trailerBlock && !trailing(name) {
		if framing(name) {
			d.bad(ErrTrailer)
		}
		return // it is dropped
	}
	d.text = appendLine(d.text, name, value)
}

// trailing reports whether a field may stand in a trailer. What would change
// the framing, the routing or the meaning of what was sent before may not.
func trailing(name string) bool {
	switch name {
	case "host", "content-length", "te", "trailer", "expect", "cookie", "set-cookie", "authorization", "proxy-authorization",
		"content-encoding", "content-type", "content-range":
		return false
	}
	return true
}

// framing reports whether what may not stand in a trailer contradicts the head that
// went before. The rest comes too late to mean anything; there are servers that
// repeat some of it.
func framing(name string) bool {
	switch name {
	case "host", "content-length", "te", "expect":
		return true
	}
	return false
}

func (d *decoder) hostField(value string) {
	if d.host {
		// Two of the same are one to us, and sent on once.
		if !strings.EqualFold(value, d.authority) {
			d.bad(ErrAuthority)
		}
		return
	}
	d.text = appendLine(d.text, "host", value)
	d.host, d.authority = true, value
}

func (d *decoder) setLength(v string) bool {
	if len(v) == 0 || len(v) > 18 {
		return false
	}
	var n int64
	for i := range len(v) {
		if v[i] < '0' || v[i] > '9' {
			return false
		}
		n = n*10 + int64(v[i]-'0')
	}
	d.length = n
	return true
}

// finish writes what is known at the end of the block only.
func (d *decoder) finish() {
	if !d.begun {
		if d.begin(); d.fault != nil {
			return
		}
	}
	if d.kind == trailerBlock {
		if d.large != nil {
			d.bad(ErrTrailerLarge)
		}
		return
	}
	if d.large != nil && d.kind == responseBlock {
		d.bad(ErrHeadLarge)
		return
	}
	if d.end && d.length > 0 && !d.noBody {
		d.bad(ErrLength)
		return
	}
	if d.crumbs > 0 {
		d.text = append(append(append(d.text, "cookie: "...), d.cookie...), "\r\n"...)
	}
	if d.length < 0 && d.large == nil && d.untold() {
		d.text = append(d.text, "transfer-encoding: chunked\r\n"...)
	}
	d.text = append(d.text, "\r\n"...)
}

// untold reports that the message has a body whose end only the stream tells.
// An answer without one says so as well: it ends at once, and not with a
// connection.
func (d *decoder) untold() bool {
	if d.kind == requestBlock {
		return !d.end && d.method != "CONNECT"
	}
	return d.status >= 200 && !d.noBody && !d.opened()
}

func appendLine(dst []byte, name, value string) []byte {
	dst = append(append(dst, name...), ": "...)
	return append(append(dst, value...), "\r\n"...)
}

// nameByte says which bytes the name of a field may have, tokenByte those of a token.
var nameByte, tokenByte = func() (name, token [256]bool) {
	for _, c := range []byte("!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz") {
		name[c], token[c] = true, true
	}
	for c := byte('A'); c <= 'Z'; c++ {
		token[c] = true
	}
	return name, token
}()

func isName(s string) bool {
	for i := range len(s) {
		if !nameByte[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

func isToken[S ~string | ~[]byte](s S) bool {
	for i := range len(s) {
		if !tokenByte[s[i]] {
			return false
		}
	}
	return len(s) > 0
}

// isTarget reports whether s can stand in a request line.
func isTarget(s string) bool {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c == 0x7f || c == '#' {
			return false
		}
	}
	return true
}

// cleanValue reports whether v can be the value of a field: no control
// character but the tab, and no white space around it.
func cleanValue[S ~string | ~[]byte](v S) bool {
	if len(v) == 0 {
		return true
	}
	if f, l := v[0], v[len(v)-1]; f == ' ' || f == '\t' || l == ' ' || l == '\t' {
		return false
	}
	for i := range len(v) {
		if c := v[i]; c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}
