package accesslog

import (
	"unicode/utf8"

	"github.com/fairlead/fairlead/internal/decision"
)

// appendObject appends members as a JSON object. Members without a value are
// null, or left out if omit says so.
func appendObject(dst []byte, members []member, rec *decision.Record, omit bool) []byte {
	dst = append(dst, '{')
	more := false
	for i := range members {
		m := &members[i]
		before := len(dst)
		if more {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		dst = append(dst, m.key...)
		dst = append(dst, '"', ':')
		var ok bool
		if dst, ok = m.append(dst, rec, omit); !ok && omit {
			dst = dst[:before]
			continue
		}
		more = true
	}
	return append(dst, '}')
}

// append appends the value, and reports whether there is one.
func (m *member) append(dst []byte, rec *decision.Record, omit bool) (out []byte, ok bool) {
	switch m.kind {
	case literal:
		return append(dst, m.number...), true
	case object:
		return appendObject(dst, m.inner, rec, omit), true
	case array:
		dst = append(dst, '[')
		for i := range m.list {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst, _ = m.list[i].append(dst, rec, omit)
		}
		return append(dst, ']'), true
	case value:
	}
	if len(m.parts) == 1 && m.parts[0].op != nil {
		return m.parts[0].appendTyped(dst, rec)
	}
	dst = append(dst, '"')
	for i := range m.parts {
		dst = m.parts[i].append(dst, rec, appendJSON, omit)
	}
	return append(dst, '"'), true
}

// appendTyped appends a value as what it is: a number where it is one.
func (p *part) appendTyped(dst []byte, rec *decision.Record) (out []byte, ok bool) {
	from := len(dst)
	if p.numeric {
		if dst, ok = p.op(dst, rec); ok {
			return dst, true
		}
	} else if dst, ok = p.value(append(dst, '"'), rec, appendJSON); ok {
		return append(dst, '"'), true
	}
	return append(dst[:from], "null"...), false
}

// appendJSON appends s as the inside of a JSON string. Bytes that are not UTF-8
// become U+FFFD.
func appendJSON(dst, s []byte) []byte {
	for len(s) > 0 {
		c := s[0]
		if c >= utf8.RuneSelf {
			r, size := utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[size:]
			continue
		}
		s = s[1:]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c == '\n':
			dst = append(dst, `\n`...)
		case c == '\r':
			dst = append(dst, `\r`...)
		case c == '\t':
			dst = append(dst, `\t`...)
		case c < ' ' || c == 0x7f:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xf])
		default:
			dst = append(dst, c)
		}
	}
	return dst
}
