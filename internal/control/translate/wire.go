package translate

import (
	"math"

	"google.golang.org/protobuf/encoding/protowire"
)

// A wire is a message in the making. Those of which there is one for every host or
// port are written as they are sent, field by field: to build them first would
// cost several times as much. Tests read them back.
type wire []byte

// text appends a field that is a string, an empty one too.
func (w *wire) text(field protowire.Number, s string) {
	*w = protowire.AppendString(protowire.AppendTag(*w, field, protowire.BytesType), s)
}

// number appends a field that is an integer or a bool.
func (w *wire) number(field protowire.Number, n uint64) {
	*w = protowire.AppendVarint(protowire.AppendTag(*w, field, protowire.VarintType), n)
}

// float appends a field that is a double.
func (w *wire) float(field protowire.Number, x float64) {
	*w = protowire.AppendFixed64(protowire.AppendTag(*w, field, protowire.Fixed64Type), math.Float64bits(x))
}

// raw appends fields that are encoded already.
func (w *wire) raw(fields []byte) { *w = append(*w, fields...) }

// open begins a field that is a message: what is appended before it is closed
// is in it.
func (w *wire) open(field protowire.Number) (at int) {
	*w = protowire.AppendTag(*w, field, protowire.BytesType)
	return len(*w)
}

// close ends the message that began there.
func (w *wire) close(at int) {
	size := len(*w) - at
	*w = protowire.AppendVarint(*w, uint64(size)) //nolint:gosec // a length
	prefix := len(*w) - at - size
	var length [10]byte // as long as any varint
	copy(length[:], (*w)[at+size:])
	copy((*w)[at+prefix:], (*w)[at:at+size])
	copy((*w)[at:], length[:prefix])
}
