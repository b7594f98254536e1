package l7

import "github.com/fairlead/fairlead/internal/proxy/h1"

// A headText shows the fields of a head, or of a trailer, to who writes a record
// down. It is a part of its exchange, as the text is, so that showing costs nothing.
type headText struct{ text []byte }

// Field returns the value of the first field of a name in lower case, or nil.
// First lines and the empty one are none: no name has what is in them.
func (h *headText) Field(name string) []byte {
	for from := 0; from < len(h.text); {
		to := from
		for to < len(h.text) && h.text[to] != '\n' {
			to++
		}
		if v, ok := h1.FieldValue(h.text[from:to], name); ok {
			return v
		}
		from = to + 1
	}
	return nil
}

// maxKept bounds the memory that is kept from one exchange to the next.
const maxKept = 4 << 10

// A kept is what the record shows of an answer whose buffers are given back
// before it is written.
type kept struct {
	head, trailer headText
	room          []byte // of both
}

// reset forgets the answer.
func (k *kept) reset() {
	k.head.text, k.trailer.text = nil, nil
	if cap(k.room) > maxKept {
		k.room = nil
	}
	k.room = k.room[:0]
}

// keep copies text. What was kept before stays where it is.
func (k *kept) keep(text []byte) []byte {
	from := len(k.room)
	k.room = append(k.room, text...)
	return k.room[from:len(k.room):len(k.room)]
}

// showsAnswer reports whether the record is to come with the fields of the answer.
func (x *exchange) showsAnswer() bool {
	f := x.server.answerFields
	return f != nil && f()
}

// showAnswer lets the record show the head of the endpoint's answer.
func (x *exchange) showAnswer() {
	x.noteCall(x.answer[:x.resp.Len])
	if x.showsAnswer() {
		x.kept.head.text = x.kept.keep(x.answer[:x.resp.Len])
		x.rec.Response = &x.kept.head
	}
}

// showTrailer lets the record show the trailer of the answer.
func (x *exchange) showTrailer(p piece) {
	if !p.last || len(p.trailer) == 0 {
		return
	}
	x.noteCall(p.trailer)
	if x.showsAnswer() {
		x.kept.trailer.text = x.kept.keep(p.trailer)
		x.rec.Trailer = &x.kept.trailer
	}
}
