package l7

import "github.com/fairlead/fairlead/internal/proxy/h1"

// A sheet is what an answer lies in as it comes, or as it goes out with what
// framing adds. It is taken once there is something to put into it: few are in
// use at a time, and those are warm in the processor's cache.
type sheet [answerSize + answerSize/16]byte

// room is left before and after the data of a piece for framing made in place.
const room = 24

// data is where a piece is read into.
func (b *buffer) data() []byte { return b[room : len(b)-room] }

// framed returns p, whose data lies in b, as HTTP/1 has it: as it is, or as a
// chunk made in place. A piece without data must be the last.
func (b *buffer) framed(p piece, chunked bool) []byte {
	if !chunked {
		return p.data
	}
	from, end := room, room+len(p.data)
	if len(p.data) > 0 {
		var size [room]byte
		s := h1.AppendChunkSize(size[:0], len(p.data))
		from -= len(s)
		copy(b[from:], s)
		end += copy(b[end:], "\r\n")
	}
	if p.last {
		end += copy(b[end:], h1.LastChunk)
	}
	return b[from:end]
}

// appendPiece is framed for a piece that is copied. It may be empty.
func appendPiece(dst []byte, p piece, chunked bool) []byte {
	if !chunked {
		return append(dst, p.data...)
	}
	if len(p.data) > 0 {
		dst = h1.AppendChunkSize(dst, len(p.data))
		dst = append(dst, p.data...)
		dst = append(dst, '\r', '\n')
	}
	if p.last {
		dst = append(dst, h1.LastChunk...)
	}
	return dst
}

// A measure holds a body to what its head says of it, whatever the protocols on both
// sides: what follows a head that announces less would be the next message to
// whoever reads the bytes. It is the last that sees a piece before it is sent.
type measure struct {
	framing h1.Framing
	left    int64 // of a body with a length: bytes still to come
}

// begin prepares for the body that follows a head.
func (m *measure) begin(f *h1.Fields) { *m = measure{f.Framing, f.Length} }

// take takes the next piece. Its error is h1.ErrBodyLength.
func (m *measure) take(p piece) error {
	n := int64(len(p.data))
	switch m.framing {
	case h1.NoBody:
		if n > 0 || !p.last {
			return h1.ErrBodyLength
		}
	case h1.Length:
		if m.left -= n; m.left < 0 || p.last && m.left > 0 {
			return h1.ErrBodyLength
		}
	case h1.Chunked, h1.UntilClose:
	}
	return nil
}

// An incoming is a body as it arrives on an HTTP/1 connection. It is the one
// place that knows where such a body ends.
type incoming struct {
	framing h1.Framing
	left    int64 // of a body with a length: bytes still to arrive
	dec     h1.Decoder
}

// begin prepares for the body that follows a head.
func (in *incoming) begin(f *h1.Fields) {
	*in = incoming{framing: f.Framing, left: f.Length}
}

// take takes what was read. The data of the piece is a part of b, used is how
// much of b belongs to the body. Errors are of type *h1.Error.
func (in *incoming) take(b []byte) (p piece, used int, err error) {
	switch in.framing {
	case h1.NoBody:
		return piece{last: true}, 0, nil
	case h1.Length:
		n := int(min(in.left, int64(len(b))))
		in.left -= int64(n)
		return piece{data: b[:n], last: in.left == 0}, n, nil
	case h1.Chunked:
		n, used, err := in.dec.Compact(b)
		return piece{data: b[:n], last: in.dec.Done()}, used, err
	case h1.UntilClose:
	}
	return piece{data: b}, len(b), nil
}
