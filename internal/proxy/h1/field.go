package h1

import (
	"bytes"
	"encoding/binary"
)

// A Kind names the header fields that a proxy has to know.
type Kind uint8

// The kinds of field. Other is the zero value.
const (
	Other Kind = iota
	Host
	Connection
	ContentLength
	TransferEncoding
	KeepAlive
	ProxyConnection
	UpgradeTo
	TE
	Trailer
	HTTP2Settings
	Expect
	UserAgent
	RequestID
	ContentType
	Envoy // any x-envoy-…
	kinds
)

// A Field is one header field of a head.
type Field struct {
	Name, Value Span // the value without the white space around it
	end         uint16
	Kind        Kind
	dropped     bool
}

// Dropped reports whether the field is not sent on.
func (f *Field) Dropped() bool { return f.dropped }

// maxOptions bounds what Connection may name; ten and more are refused, as
// Envoy does.
const maxOptions = 9

// A Fields is what heads of both kinds have in common. Its zero value is ready
// to be parsed into.
type Fields struct {
	Len       int // length of the head with its final empty line, once it is whole
	Minor     uint8
	Framing   Framing
	Length    int64 // if Framing is Length, or the length an answer to HEAD tells
	hasLength bool
	plain     bool // Content-Length is in its shortest form, and sent on as it is

	// What Connection says.
	closes, keeps, upgrades bool

	begin   int // of the message in the buffer
	line    int // beginning of the line that is not whole yet
	scan    int // up to where that line has been looked through
	n       int
	at      [kinds]uint8 // index of the first field of a kind, plus one
	options [maxOptions]Span
	named   int // options in use
	started bool
	list    [MaxFields]Field
}

// N is the number of fields.
func (f *Fields) N() int { return f.n }

// Field returns field i, in order.
func (f *Fields) Field(i int) *Field { return &f.list[i] }

// Value returns the value of the first field of a kind in b, the buffer that
// was parsed; nil if there is none.
func (f *Fields) Value(b []byte, k Kind) []byte {
	if i := f.at[k]; i > 0 {
		return f.list[i-1].Value.In(b)
	}
	return nil
}

// Has reports whether there is a field of a kind.
func (f *Fields) Has(k Kind) bool { return f.at[k] > 0 }

// Drop keeps field i from being sent on.
func (f *Fields) Drop(i int) { f.list[i].dropped = true }

// Persistent reports whether the sender will use the connection again.
func (f *Fields) Persistent() bool { return !f.closes && (f.Minor == 1 || f.keeps) }

// reset forgets everything but the table of fields, whose content is dead once
// n is 0.
func (f *Fields) reset() {
	f.Len, f.Minor, f.Framing, f.Length, f.hasLength, f.plain = 0, 0, NoBody, 0, false, false
	f.closes, f.keeps, f.upgrades = false, false, false
	f.begin, f.line, f.scan, f.n, f.named, f.started = 0, 0, 0, 0, 0, false
	f.at = [kinds]uint8{}
}

// nextLine finds the next whole line of b. It looks at no byte twice.
func (f *Fields) nextLine(b []byte) (from, to int, whole bool, err error) {
	i := bytes.IndexByte(b[f.scan:], '\n')
	if i < 0 {
		f.scan = len(b)
		if len(b) >= MaxHead {
			return 0, 0, false, ErrHeadTooLarge
		}
		return 0, 0, false, nil
	}
	from, to = f.line, f.scan+i
	if to >= MaxHead {
		return 0, 0, false, ErrHeadTooLarge
	}
	f.line, f.scan = to+1, to+1
	if to == from || b[to-1] != '\r' {
		return 0, 0, false, ErrLineEnd
	}
	return from, to - 1, true, nil
}

// fields reads field lines until the empty one.
func (f *Fields) fields(b []byte) (done bool, err error) {
	for {
		from, to, whole, err := f.nextLine(b)
		if err != nil || !whole {
			return false, err
		}
		if from == to {
			f.Len = f.line
			return true, nil
		}
		if err := f.add(b, from, to); err != nil {
			return false, err
		}
	}
}

// add takes in the field line b[from:to].
func (f *Fields) add(b []byte, from, to int) error {
	if f.n == MaxFields {
		return ErrTooManyFields
	}
	colon := from
	for lower[b[colon]] != 0 { // the CR after the line ends this at the latest
		colon++
	}
	if b[colon] != ':' || colon == from {
		return badName(b, from, colon, to)
	}
	if !cleanValue(b[colon+1 : to]) {
		return ErrFieldValue
	}
	vf, vt := colon+1, to
	for vf < vt && (b[vf] == ' ' || b[vf] == '\t') {
		vf++
	}
	for vt > vf && (b[vt-1] == ' ' || b[vt-1] == '\t') {
		vt--
	}
	d := &f.list[f.n]
	*d = Field{
		Name:  Span{uint16(from), uint16(colon)},
		Value: Span{uint16(vf), uint16(vt)},
		end:   uint16(to + 2),
		Kind:  kindOf(b[from:colon]),
	}
	f.n++
	return f.note(b, d)
}

func badName(b []byte, from, at, to int) error {
	switch c := b[at]; {
	case at == from && (c == ' ' || c == '\t'):
		return ErrFold
	case at < to && (c == ' ' || c == '\t'):
		return ErrSpaceColon
	}
	return ErrFieldName
}

// note keeps what the framing and forwarding of the message depend on.
func (f *Fields) note(b []byte, d *Field) error {
	if d.Kind == Other {
		return nil
	}
	first := f.at[d.Kind] == 0
	if first {
		f.at[d.Kind] = uint8(f.n)
	}
	switch d.Kind {
	case Host:
		if !first {
			return ErrTwoHosts
		}
	case ContentLength:
		if !first {
			return ErrLengthTwice
		}
		err := f.noteLength(d.Value.In(b))
		d.dropped = !f.plain // "007" goes on as 7
		return err
	case TransferEncoding:
		if !first || !equalFold(d.Value.In(b), "chunked") {
			return ErrCoding
		}
		d.dropped = true
	case Connection:
		d.dropped = true
		return f.noteOptions(b, d.Value)
	case KeepAlive, ProxyConnection, UpgradeTo, TE, Trailer, HTTP2Settings:
		d.dropped = true
	case Other, Expect, UserAgent, RequestID, ContentType, Envoy, kinds:
	}
	return nil
}

func (f *Fields) noteLength(v []byte) error {
	if len(v) == 0 || len(v) > 18 {
		return ErrContentLength
	}
	var n int64
	for _, c := range v {
		if c < '0' || c > '9' {
			return ErrContentLength
		}
		n = n*10 + int64(c-'0')
	}
	f.Length, f.hasLength, f.plain = n, true, v[0] != '0' || len(v) == 1
	return nil
}

func (f *Fields) noteOptions(b []byte, v Span) error {
	for i := int(v.From); i < int(v.To); {
		j := i
		for j < int(v.To) && b[j] != ',' {
			j++
		}
		if option := trim(b[i:j]); len(option) > 0 {
			if err := f.noteOption(b, option); err != nil {
				return err
			}
		}
		i = j + 1
	}
	return nil
}

func (f *Fields) noteOption(b, option []byte) error {
	if !isToken(option) || f.named == maxOptions {
		return ErrConnection
	}
	switch {
	case equalFold(option, "close"):
		f.closes = true
	case equalFold(option, "keep-alive"):
		f.keeps = true
	case equalFold(option, "upgrade"):
		f.upgrades = true
	case equalFold(option, "host"), equalFold(option, "content-length"), hasPrefixFold(option, "x-forwarded-"):
		return ErrConnection
	}
	from := cap(b) - cap(option) // option is a part of b
	f.options[f.named] = Span{uint16(from), uint16(from + len(option))}
	f.named++
	return nil
}

// dropNamed drops what Connection named.
func (f *Fields) dropNamed(b []byte) {
	for _, o := range f.options[:f.named] {
		for i := range f.n {
			if d := &f.list[i]; d.Name.Len() == o.Len() && sameFold(d.Name.In(b), o.In(b)) {
				d.dropped = true
			}
		}
	}
}

func sameFold(a, b []byte) bool {
	for i := range a {
		if lower[a[i]] != lower[b[i]] {
			return false
		}
	}
	return true
}

// appendKept appends b from a position on up to the empty line, without the
// dropped fields. What stands together is copied together.
func (f *Fields) appendKept(dst, b []byte, from int) []byte {
	for i := range f.n {
		d := &f.list[i]
		if !d.dropped {
			continue
		}
		dst = append(dst, b[from:d.Name.From]...)
		from = int(d.end)
	}
	return append(dst, b[from:f.Len-2]...)
}

// cleanValue reports whether v has no control character but the tab. It looks
// at eight bytes at a time.
func cleanValue(v []byte) bool {
	const (
		ones  = 0x0101010101010101
		highs = 0x8080808080808080
	)
	for len(v) >= 8 {
		x := binary.LittleEndian.Uint64(v)
		del := x ^ (ones * 0x7f)
		if ((x-ones*0x20)&^x|(del-ones)&^del)&highs != 0 && !cleanBytes(v[:8]) {
			return false
		}
		v = v[8:]
	}
	return cleanBytes(v)
}

func cleanBytes(v []byte) bool {
	for _, c := range v {
		if c < ' ' && c != '\t' || c == 0x7f {
			return false
		}
	}
	return true
}

// kindOf tells the kind of a field by its name, a token.
func kindOf(n []byte) Kind {
	var k Kind
	var s string
	switch len(n) {
	case 2:
		k, s = TE, "te"
	case 4:
		k, s = Host, "host"
	case 6:
		k, s = Expect, "expect"
	case 7:
		if lower[n[0]] == 'u' {
			k, s = UpgradeTo, "upgrade"
		} else {
			k, s = Trailer, "trailer"
		}
	case 10:
		switch lower[n[0]] {
		case 'c':
			k, s = Connection, "connection"
		case 'k':
			k, s = KeepAlive, "keep-alive"
		default:
			k, s = UserAgent, "user-agent"
		}
	case 12:
		if lower[n[0]] == 'c' {
			k, s = ContentType, "content-type"
		} else {
			k, s = RequestID, "x-request-id"
		}
	case 14:
		if lower[n[0]] == 'c' {
			k, s = ContentLength, "content-length"
		} else {
			k, s = HTTP2Settings, "http2-settings"
		}
	case 16:
		k, s = ProxyConnection, "proxy-connection"
	case 17:
		k, s = TransferEncoding, "transfer-encoding"
	}
	if k != Other && equalFold(n, s) {
		return k
	}
	if len(n) > 8 && lower[n[0]] == 'x' && hasPrefixFold(n, "x-envoy-") {
		return Envoy
	}
	return Other
}

// FieldValue returns the value in a field line (without what ends it, but for a
// CR) if its name is name, a token in lower case.
func FieldValue(line []byte, name string) (value []byte, ok bool) {
	n := len(name)
	if len(line) <= n || line[n] != ':' || !equalFold(line[:n], name) {
		return nil, false
	}
	if value = line[n+1:]; len(value) > 0 && value[len(value)-1] == '\r' {
		value = value[:len(value)-1]
	}
	return trim(value), true
}
