package main

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"
)

// loadH2 ADDR REQUESTS CONNS STREAMS KIND sends requests over HTTP/2 by prior
// knowledge, so many at once on each connection, and prints the nanoseconds it
// took. KIND is get, for 1 KiB, or grpc, for unary calls of an echo. Whatever is
// not the answer that is due is an error.
func loadH2(args []string) error {
	n, err := numbers(args[1:4])
	if err != nil {
		return err
	}
	kind := gets
	if args[4] == "grpc" {
		kind = calls
	}
	var left atomic.Int64
	left.Store(int64(n[0]))
	return timed(n[1], func(int) error {
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		h := newH2Caller(c, kind)
		// A server that does not speak HTTP/2 may say nothing at all.
		if err := errors.Join(c.SetDeadline(time.Now().Add(5*time.Second)), h.greet()); err != nil {
			return fmt.Errorf("begin HTTP/2: %w", err)
		}
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		return h.talk(n[2], &left)
	})
}

// An h2Kind is what is asked and what has to come back.
type h2Kind struct {
	fields   []hpack.HeaderField
	message  []byte // sent as data; none: the head ends the stream
	received int    // bytes of data in the answer
	trailer  bool   // it has to end with grpc-status 0
}

// messageSize is what a unary call carries each way.
const messageSize = 128

var (
	gets = h2Kind{
		fields: []hpack.HeaderField{
			{Name: ":method", Value: "GET"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: "/some/path"},
			{Name: ":authority", Value: host},
			{Name: "user-agent", Value: "bench"},
			{Name: "accept", Value: "*/*"},
		},
		received: bodySize,
	}
	calls = h2Kind{
		fields: []hpack.HeaderField{
			{Name: ":method", Value: "POST"},
			{Name: ":scheme", Value: "http"},
			{Name: ":path", Value: "/bench.Echo/Call"},
			{Name: ":authority", Value: host},
			{Name: "content-type", Value: "application/grpc"},
			{Name: "te", Value: "trailers"},
			{Name: "user-agent", Value: "bench"},
		},
		message:  append([]byte{0, 0, 0, 0, messageSize}, make([]byte, messageSize)...),
		received: 5 + messageSize,
		trailer:  true,
	}
)

const frameHead = 9

// An h2Caller is one connection of the load. It is as cheap as can be: frames
// are looked at where they were read, and written many at a time.
type h2Caller struct {
	c    net.Conn
	r    *bufio.Reader
	out  []byte
	kind h2Kind

	encoder  *hpack.Encoder
	encoded  blockWriter
	decoder  *hpack.Decoder
	status   string // of the block being decoded
	trailer  string // its grpc-status
	next     uint32
	open     map[uint32]int // data received, by stream
	window   int            // what may be sent on the connection
	consumed int            // data received and not yet given back
}

type blockWriter struct{ b []byte }

func (w *blockWriter) Write(p []byte) (int, error) {
	w.b = append(w.b, p...)
	return len(p), nil
}

// ample is the window that the caller gives.
const ample = 1 << 28

func newH2Caller(c net.Conn, kind h2Kind) *h2Caller {
	h := &h2Caller{c: c, r: bufio.NewReaderSize(c, 64<<10), kind: kind, next: 1, open: make(map[uint32]int), window: 65535}
	h.encoder = hpack.NewEncoder(&h.encoded)
	h.decoder = hpack.NewDecoder(4096, func(f hpack.HeaderField) {
		switch f.Name {
		case ":status":
			h.status = f.Value
		case "grpc-status":
			h.trailer = f.Value
		}
	})
	return h
}

// frame appends a frame to what is to be written.
func (h *h2Caller) frame(t http2.FrameType, flags http2.Flags, stream uint32, payload []byte) {
	n := len(payload)
	h.out = append(h.out, byte(n>>16), byte(n>>8), byte(n), byte(t), byte(flags))
	h.out = binary.BigEndian.AppendUint32(h.out, stream)
	h.out = append(h.out, payload...)
}

func (h *h2Caller) flush() error {
	if len(h.out) == 0 {
		return nil
	}
	_, err := h.c.Write(h.out)
	h.out = h.out[:0]
	return err
}

// greet sends the preface and awaits the server's.
func (h *h2Caller) greet() error {
	h.out = append(h.out, http2.ClientPreface...)
	settings := binary.BigEndian.AppendUint16(nil, uint16(http2.SettingInitialWindowSize))
	h.frame(http2.FrameSettings, 0, 0, binary.BigEndian.AppendUint32(settings, ample))
	h.frame(http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, ample))
	if err := h.flush(); err != nil {
		return err
	}
	head, err := h.r.Peek(frameHead)
	if err != nil {
		return err
	}
	if http2.FrameType(head[3]) != http2.FrameSettings {
		return fmt.Errorf("the server begins with %q, not with its settings", head)
	}
	return h.read()
}

// talk keeps streams open until there are no requests left.
func (h *h2Caller) talk(streams int, left *atomic.Int64) error {
	more := true
	for {
		for more && len(h.open) < streams && h.window >= len(h.kind.message) {
			if more = left.Add(-1) >= 0; more {
				if err := h.ask(); err != nil {
					return err
				}
			}
		}
		if !more && len(h.open) == 0 {
			return nil
		}
		if h.waits() {
			if err := h.flush(); err != nil {
				return err
			}
		}
		if err := h.read(); err != nil {
			return err
		}
	}
}

// waits reports that the next frame has not arrived whole.
func (h *h2Caller) waits() bool {
	if h.r.Buffered() < frameHead {
		return true
	}
	head, err := h.r.Peek(frameHead)
	return err != nil || h.r.Buffered() < frameHead+length(head)
}

func length(head []byte) int { return int(head[0])<<16 | int(head[1])<<8 | int(head[2]) }

func (h *h2Caller) ask() error {
	h.encoded.b = h.encoded.b[:0]
	for _, f := range h.kind.fields {
		if err := h.encoder.WriteField(f); err != nil {
			return err
		}
	}
	flags := http2.FlagHeadersEndHeaders
	if h.kind.message == nil {
		flags |= http2.FlagHeadersEndStream
	}
	h.frame(http2.FrameHeaders, flags, h.next, h.encoded.b)
	if h.kind.message != nil {
		h.frame(http2.FrameData, http2.FlagDataEndStream, h.next, h.kind.message)
		h.window -= len(h.kind.message)
	}
	h.open[h.next] = 0
	h.next += 2
	return nil
}

// read takes one frame.
func (h *h2Caller) read() error {
	head, err := h.r.Peek(frameHead)
	if err != nil {
		return fmt.Errorf("read a frame: %w", noEOF(err))
	}
	n := length(head)
	whole, err := h.r.Peek(frameHead + n)
	if err != nil {
		return fmt.Errorf("read a frame of %d bytes: %w", n, noEOF(err))
	}
	t, flags, stream := http2.FrameType(whole[3]), http2.Flags(whole[4]), binary.BigEndian.Uint32(whole[5:])&(1<<31-1)
	if err := h.take(t, flags, stream, whole[frameHead:]); err != nil {
		return fmt.Errorf("%v on stream %d: %w", t, stream, err)
	}
	_, err = h.r.Discard(frameHead + n)
	return err
}

func noEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

func (h *h2Caller) take(t http2.FrameType, flags http2.Flags, stream uint32, p []byte) error {
	switch t {
	case http2.FrameData:
		got, known := h.open[stream]
		if !known || flags.Has(http2.FlagDataPadded) {
			return errors.New("not of a stream that is open, or padded")
		}
		h.open[stream] = got + len(p)
		h.giveBack(len(p))
		if flags.Has(http2.FlagDataEndStream) {
			return h.end(stream, h.kind.trailer)
		}
	case http2.FrameHeaders:
		return h.headers(flags, stream, p)
	case http2.FrameSettings:
		return h.settings(flags, p)
	case http2.FramePing:
		if !flags.Has(http2.FlagPingAck) {
			h.frame(http2.FramePing, http2.FlagPingAck, 0, p)
		}
	case http2.FrameWindowUpdate:
		if stream == 0 && len(p) == 4 {
			h.window += int(binary.BigEndian.Uint32(p))
		}
	case http2.FrameRSTStream:
		if len(p) == 4 && binary.BigEndian.Uint32(p) == uint32(http2.ErrCodeNo) {
			return nil // it has answered, and wants no more of the request
		}
		return fmt.Errorf("the server gives up: % x", p)
	case http2.FrameGoAway:
		return fmt.Errorf("the server gives up: % x", p)
	case http2.FramePriority, http2.FramePushPromise, http2.FrameContinuation, http2.FramePriorityUpdate:
		return errors.New("not expected")
	}
	return nil // what is not known is passed over
}

// giveBack returns window for data that has been taken.
func (h *h2Caller) giveBack(n int) {
	if h.consumed += n; h.consumed > ample/2 {
		h.frame(http2.FrameWindowUpdate, 0, 0, binary.BigEndian.AppendUint32(nil, uint32(h.consumed))) //nolint:gosec // below a window
		h.consumed = 0
	}
}

func (h *h2Caller) settings(flags http2.Flags, p []byte) error {
	if flags.Has(http2.FlagSettingsAck) {
		return nil
	}
	for ; len(p) >= 6; p = p[6:] {
		if http2.SettingID(binary.BigEndian.Uint16(p)) == http2.SettingHeaderTableSize {
			h.encoder.SetMaxDynamicTableSizeLimit(binary.BigEndian.Uint32(p[2:]))
		}
	}
	h.frame(http2.FrameSettings, http2.FlagSettingsAck, 0, nil)
	return nil
}

func (h *h2Caller) headers(flags http2.Flags, stream uint32, p []byte) error {
	if _, known := h.open[stream]; !known || !flags.Has(http2.FlagHeadersEndHeaders) || flags.Has(http2.FlagHeadersPadded) || flags.Has(http2.FlagHeadersPriority) {
		return errors.New("not of a stream that is open, or not one whole frame")
	}
	h.status, h.trailer = "", ""
	if _, err := h.decoder.Write(p); err != nil {
		return err
	}
	if err := h.decoder.Close(); err != nil {
		return err
	}
	if h.status != "" && h.status != "200" {
		return fmt.Errorf("status %s", h.status)
	}
	if flags.Has(http2.FlagHeadersEndStream) {
		return h.end(stream, h.kind.trailer && h.trailer != "0")
	}
	return nil
}

// end checks the answer that is now whole.
func (h *h2Caller) end(stream uint32, unsound bool) error {
	if got := h.open[stream]; got != h.kind.received {
		return fmt.Errorf("an answer of %d bytes with grpc-status %q, want %d bytes", got, h.trailer, h.kind.received)
	}
	if unsound {
		return fmt.Errorf("ended with grpc-status %q, want 0", h.trailer)
	}
	delete(h.open, stream)
	return nil
}
