package h1

import "strconv"

// Bounds of what a chunked body may hold beside data.
const (
	MaxChunkExtension = 4 << 10  // per chunk
	MaxTrailer        = 16 << 10 // per body
)

// LastChunk ends a chunked body without a trailer.
const LastChunk = "0\r\n\r\n"

// AppendChunkSize appends the line that begins a chunk of n bytes. The chunk
// ends with CR LF after its data. n must not be 0: that would end the body.
func AppendChunkSize(dst []byte, n int) []byte {
	dst = strconv.AppendUint(dst, uint64(n), 16)
	return append(dst, "\r\n"...)
}

// A Decoder undoes the chunked coding, piece by piece as the bytes arrive.
// Extensions and trailers are checked, counted and dropped. The zero Decoder is
// at the beginning of a body.
type Decoder struct {
	state chunkState
	left  int64 // bytes of data to come in this chunk
	count int   // digits of the size, bytes of the extension or of the trailer
}

type chunkState uint8

const (
	atSize chunkState = iota // before the first digit
	inSize
	atExtName
	inExtName
	atExtValue
	inExtValue
	inQuoted
	inEscape
	afterQuoted
	atSizeLF
	inData
	atDataCR
	atDataLF
	atTrailer // at the beginning of a line after the last chunk
	inTrailerName
	inTrailerValue
	atTrailerLF
	atEndLF
	ended
)

// Done reports whether the body has ended.
func (d *Decoder) Done() bool { return d.state == ended }

// Next reads b up to the end of the next piece of data and returns that piece,
// which is a part of b, and how many bytes of b were used up. The piece is
// empty if b ended first, or the body. What follows the body stays unused.
// Errors are of type *Error and final.
func (d *Decoder) Next(b []byte) (data []byte, used int, err error) {
	for i := 0; i < len(b) && d.state != ended; {
		if d.state == inData {
			n := int(min(d.left, int64(len(b)-i)))
			if d.left -= int64(n); d.left == 0 {
				d.state = atDataCR
			}
			return b[i : i+n], i + n, nil
		}
		if err := d.step(b[i]); err != nil {
			return nil, i, err
		}
		i++
		used = i
	}
	return nil, used, nil
}

// Compact reads all of b, moves the data to its beginning, and returns how many
// bytes of data there are and how many bytes of b were used up.
func (d *Decoder) Compact(b []byte) (n, used int, err error) {
	for used < len(b) && d.state != ended {
		data, k, err := d.Next(b[used:])
		if err != nil {
			return n, used, err
		}
		used += k
		if len(data) > 0 {
			n += copy(b[n:], data)
		}
	}
	return n, used, nil
}

// step takes one byte that is not data.
func (d *Decoder) step(c byte) error {
	switch d.state {
	case atSize, inSize:
		return d.size(c)
	case atExtName, inExtName, atExtValue, inExtValue, inQuoted, inEscape, afterQuoted:
		if d.count++; d.count > MaxChunkExtension {
			return ErrChunkExt
		}
		return d.extension(c)
	case atSizeLF:
		if c != '\n' {
			return ErrChunkSize
		}
		d.count = 0
		if d.state = inData; d.left == 0 {
			d.state = atTrailer
		}
	case atDataCR:
		if c != '\r' {
			return ErrChunkEnd
		}
		d.state = atDataLF
	case atDataLF:
		if c != '\n' {
			return ErrChunkEnd
		}
		d.state = atSize
	case atTrailer, inTrailerName, inTrailerValue, atTrailerLF, atEndLF:
		if d.count++; d.count > MaxTrailer {
			return ErrTrailerLarge
		}
		return d.trailer(c)
	case inData, ended:
	}
	return nil
}

func (d *Decoder) size(c byte) error {
	var v byte
	switch {
	case '0' <= c && c <= '9':
		v = c - '0'
	case 'a' <= c && c <= 'f':
		v = c - 'a' + 10
	case 'A' <= c && c <= 'F':
		v = c - 'A' + 10
	case d.state == inSize && c == '\r':
		d.state = atSizeLF
		return nil
	case d.state == inSize && c == ';':
		d.state, d.count = atExtName, 0
		return nil
	default:
		return ErrChunkSize
	}
	if d.state == atSize {
		d.state, d.left, d.count = inSize, 0, 0
	}
	if d.count++; d.count > 16 || d.left >= 1<<58 {
		return ErrChunkSize
	}
	d.left = d.left<<4 | int64(v)
	return nil
}

// extension reads ;name, ;name=token and ;name="quoted", without white space.
func (d *Decoder) extension(c byte) error {
	switch d.state {
	case atExtName:
		d.state = inExtName
		return tokenOr(c, ErrChunkExt)
	case inExtName:
		if c == '=' {
			d.state = atExtValue
			return nil
		}
		return d.extensionEnd(c, true)
	case atExtValue:
		if c == '"' {
			d.state = inQuoted
			return nil
		}
		d.state = inExtValue
		return tokenOr(c, ErrChunkExt)
	case inExtValue:
		return d.extensionEnd(c, true)
	case inQuoted:
		switch {
		case c == '"':
			d.state = afterQuoted
		case c == '\\':
			d.state = inEscape
		case c < ' ' && c != '\t' || c == 0x7f:
			return ErrChunkExt
		}
	case inEscape:
		if c < ' ' && c != '\t' || c == 0x7f {
			return ErrChunkExt
		}
		d.state = inQuoted
	default:
		return d.extensionEnd(c, false)
	}
	return nil
}

func (d *Decoder) extensionEnd(c byte, goesOn bool) error {
	switch {
	case c == '\r':
		d.state = atSizeLF
	case c == ';':
		d.state = atExtName
	case goesOn && lower[c] != 0:
	default:
		return ErrChunkExt
	}
	return nil
}

func tokenOr(c byte, err error) error {
	if lower[c] == 0 {
		return err
	}
	return nil
}

func (d *Decoder) trailer(c byte) error {
	switch d.state {
	case atTrailer:
		if c == '\r' {
			d.state = atEndLF
			return nil
		}
		d.state = inTrailerName
		return tokenOr(c, ErrTrailer)
	case inTrailerName:
		if c == ':' {
			d.state = inTrailerValue
			return nil
		}
		return tokenOr(c, ErrTrailer)
	case inTrailerValue:
		switch {
		case c == '\r':
			d.state = atTrailerLF
		case c < ' ' && c != '\t' || c == 0x7f:
			return ErrTrailer
		}
	case atTrailerLF:
		if c != '\n' {
			return ErrTrailer
		}
		d.state = atTrailer
	default:
		if c != '\n' {
			return ErrTrailer
		}
		d.state = ended
	}
	return nil
}
