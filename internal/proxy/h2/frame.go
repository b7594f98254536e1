package h2

import "encoding/binary"

// A frameType is the type of a frame.
type frameType uint8

const (
	frameData frameType = iota
	frameHeaders
	framePriority
	frameReset
	frameSettings
	framePushPromise
	framePing
	frameGoaway
	frameWindowUpdate
	frameContinuation
)

// Flags of frames. END_STREAM and ACK share a bit.
const (
	flagEndStream  = 0x1
	flagAck        = 0x1
	flagEndHeaders = 0x4
	flagPadded     = 0x8
	flagPriority   = 0x20
)

// The settings that matter to us.
const (
	settingTableSize          = 0x1
	settingPush               = 0x2
	settingMaxStreams         = 0x3
	settingWindow             = 0x4
	settingMaxFrame           = 0x5
	settingMaxHeaderList      = 0x6
	settingConnect            = 0x8
	settingNoPriorities       = 0x9
	defaultWindow             = 65535
	smallestMaxFrame          = 16384
	largestMaxFrame           = 1<<24 - 1
	unlimited                 = 1<<32 - 1
	headerLen                 = 9
	tableSize                 = 4096 // of HPACK, both ways
	tableSizeZero        byte = 0x20 // the table size update that empties the table
)

// A frame is one whole frame. Its payload is a part of what was received.
type frame struct {
	kind    frameType
	flags   byte
	id      uint32
	payload []byte
}

func (f *frame) has(flag byte) bool { return f.flags&flag != 0 }

// size reads the length of the frame that b begins with, header and all.
func size(b []byte) int { return headerLen + (int(b[0])<<16 | int(b[1])<<8 | int(b[2])) }

// unpad cuts the padding off.
func (f *frame) unpad() *Error {
	if !f.has(flagPadded) {
		return nil
	}
	if len(f.payload) == 0 {
		return ErrFrameSize
	}
	n := int(f.payload[0])
	if n >= len(f.payload) {
		return ErrPadding
	}
	f.payload = f.payload[1 : len(f.payload)-n]
	return nil
}

func appendFrame(dst []byte, n int, kind frameType, flags byte, id uint32) []byte {
	return append(dst, byte(n>>16), byte(n>>8), byte(n), byte(kind), flags, byte(id>>24), byte(id>>16), byte(id>>8), byte(id))
}

func appendUint32(dst []byte, v uint32) []byte { return binary.BigEndian.AppendUint32(dst, v) }

func appendSetting(dst []byte, id uint16, v uint32) []byte {
	return appendUint32(append(dst, byte(id>>8), byte(id)), v)
}

func appendReset(dst []byte, id uint32, code Code) []byte {
	return appendUint32(appendFrame(dst, 4, frameReset, 0, id), uint32(code))
}

func appendWindowUpdate(dst []byte, id, n uint32) []byte {
	return appendUint32(appendFrame(dst, 4, frameWindowUpdate, 0, id), n)
}

func appendGoaway(dst []byte, last uint32, code Code) []byte {
	return appendUint32(appendUint32(appendFrame(dst, 8, frameGoaway, 0, 0), last), uint32(code))
}

func appendPing(dst []byte, ack bool, data []byte) []byte {
	var flags byte
	if ack {
		flags = flagAck
	}
	return append(appendFrame(dst, 8, framePing, flags, 0), data...)
}

// appendBlock appends a header block as HEADERS and, where it is too large for
// one frame, CONTINUATION.
func appendBlock(dst []byte, id uint32, prefix, block []byte, end bool, maxFrame int) []byte {
	kind, flags := frameHeaders, byte(0)
	if end {
		flags = flagEndStream
	}
	for {
		n := min(len(block), maxFrame-len(prefix))
		if n == len(block) {
			flags |= flagEndHeaders
		}
		dst = appendFrame(dst, len(prefix)+n, kind, flags, id)
		dst = append(dst, prefix...)
		dst = append(dst, block[:n]...)
		if block = block[n:]; len(block) == 0 {
			return dst
		}
		kind, flags, prefix = frameContinuation, 0, nil
	}
}
