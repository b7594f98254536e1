// Package h2 is the HTTP/2 codec: frames, header blocks, and the state of one
// connection and its streams, strict as RFC 9113 asks. It does no I/O, reads no
// clock and starts nothing. A Conn is given the bytes that arrived and says what
// they mean; what is to be sent it appends to a buffer that its driver takes.
//
// Inside the proxy a message head has one form, HTTP/1.1 text, so that its rules
// stand once, in package h1. A header block that arrives is checked as RFC 9113
// section 8 demands and becomes such a text, which h1 then parses; heads that
// are sent on are made from what h1 parsed. In that text
//
//   - the authority is the Host field, first of all fields;
//   - a body of unknown length is "transfer-encoding: chunked", though its bytes
//     come as they are, without the chunked coding;
//   - cookie fields are one field, the last;
//   - an extended CONNECT (RFC 8441) is a GET with "upgrade: websocket" and a key
//     made for it, the answer 200 to one is a 101, and the other way round;
//   - trailers are field lines alone, without the empty line.
//
// No field of a header block can end a line or add one.
package h2

import "github.com/fairlead/fairlead/internal/proxy/h1"

// Preface is what a client sends before its first frame.
const Preface = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"

// Bounds of what a peer may send.
const (
	MaxFrame   = 16 << 10   // payload of a frame
	MaxHead    = h1.MaxHead // header list, counted decoded, with 32 bytes for each field
	MaxTrailer = h1.MaxTrailer
	maxBlock   = MaxHead + 4<<10 // header block, counted as it arrives
)

// maxWindow is the largest flow-control window.
const maxWindow = 1<<31 - 1

// A Code is an error code of HTTP/2.
type Code uint32

// The codes.
const (
	NoError Code = iota
	ProtocolError
	InternalError
	FlowControlError
	SettingsTimeout
	StreamClosed
	FrameSizeError
	RefusedStream
	Cancel
	CompressionError
	ConnectError
	EnhanceYourCalm
	InadequateSecurity
	HTTP11Required
	codes
)

var codeNames = [codes]string{
	"NO_ERROR", "PROTOCOL_ERROR", "INTERNAL_ERROR", "FLOW_CONTROL_ERROR", "SETTINGS_TIMEOUT", "STREAM_CLOSED", "FRAME_SIZE_ERROR",
	"REFUSED_STREAM", "CANCEL", "COMPRESSION_ERROR", "CONNECT_ERROR", "ENHANCE_YOUR_CALM", "INADEQUATE_SECURITY", "HTTP_1_1_REQUIRED",
}

// String is the name in RFC 9113; a code that it does not know means INTERNAL_ERROR.
func (c Code) String() string {
	if c >= codes {
		return codeNames[InternalError]
	}
	return codeNames[c]
}

// An Error says how the peer broke the protocol. Errors are values: each is one
// of those below, so that == decides. One of the connection ends it; one of a
// stream ends that stream alone.
type Error struct {
	Code Code
	Conn bool
	text string
}

// Error is the fault in plain words, to be read after "the peer breaks HTTP/2: ".
func (e *Error) Error() string { return e.text }

// Details is Envoy's response code details for the fault.
func (e *Error) Details() string {
	switch e {
	case ErrName, ErrValue, ErrConnField:
		return "http2.invalid.header.field"
	case ErrHeadLarge, ErrTrailerLarge, ErrBlockSize:
		return "http2.too_many_headers"
	case ErrFlood, ErrUnread, ErrManyInterim:
		return "http2.inbound_empty_frames_flood"
	}
	return "http2.violation.of.messaging.rule"
}

func connBad(c Code, text string) *Error   { return &Error{c, true, text} }
func streamBad(c Code, text string) *Error { return &Error{c, false, text} }

// Faults that end the connection.
var (
	ErrPreface      = connBad(ProtocolError, "the connection does not begin with the preface of HTTP/2 and SETTINGS")
	ErrHTTP1        = connBad(ProtocolError, "it answered in HTTP/1.1, and HTTP/2 is spoken with it; declare the port with protocol HTTP")
	ErrFrameSize    = connBad(FrameSizeError, "a frame is larger than 16 KiB, or not as large as its type has it")
	ErrFrameStream  = connBad(ProtocolError, "a frame is on a stream where its type has no place")
	ErrPadding      = connBad(ProtocolError, "a frame is padded with more than it holds")
	ErrInterleaved  = connBad(ProtocolError, "another frame stands inside a header block, or CONTINUATION outside of one")
	ErrPush         = connBad(ProtocolError, "PUSH_PROMISE, which we have not allowed")
	ErrSetting      = connBad(ProtocolError, "a setting has a value that it cannot have")
	ErrWindowSize   = connBad(FlowControlError, "a flow-control window grows beyond 2^31-1")
	ErrConnWindow   = connBad(FlowControlError, "more data than the window of the connection allows")
	ErrIncrement    = connBad(ProtocolError, "WINDOW_UPDATE of the connection by 0")
	ErrIdleStream   = connBad(ProtocolError, "a frame for a stream that was never opened")
	ErrStreamID     = connBad(ProtocolError, "a stream number that is even, or lower than one before")
	ErrClosedStream = connBad(StreamClosed, "HEADERS on a stream that is closed")
	ErrCompression  = connBad(CompressionError, "a header block cannot be decompressed")
	ErrBlockSize    = connBad(EnhanceYourCalm, "a header block goes on for more than 64 KiB")
	ErrFlood        = connBad(EnhanceYourCalm, "far more frames that carry nothing, or resets, than a peer in order sends")
	ErrUnread       = connBad(EnhanceYourCalm, "the peer asks for answers that it does not read")
)

// errSelfDependOpen is ErrSelfDepend where more of the block is to come.
var errSelfDependOpen = connBad(ProtocolError, "a stream depends on itself")

// Faults that end a stream.
var (
	ErrHalfClosed    = streamBad(StreamClosed, "a frame on a stream whose sender has ended it")
	ErrSelfDepend    = streamBad(ProtocolError, "a stream depends on itself")
	ErrPrioritySize  = streamBad(FrameSizeError, "PRIORITY is not 5 bytes long")
	ErrNoIncrement   = streamBad(ProtocolError, "WINDOW_UPDATE by 0")
	ErrStreamGrowth  = streamBad(FlowControlError, "the window of a stream grows beyond 2^31-1")
	ErrStreamWindow  = streamBad(FlowControlError, "more data than the window of the stream allows")
	ErrTooMany       = streamBad(RefusedStream, "more streams at once than SETTINGS_MAX_CONCURRENT_STREAMS allows")
	ErrDraining      = streamBad(RefusedStream, "the connection is being given up")
	ErrPseudo        = streamBad(ProtocolError, "a pseudo-header field is unknown, repeated, missing, or not before all other fields")
	ErrName          = streamBad(ProtocolError, "the name of a header field is not a token in lower case")
	ErrValue         = streamBad(ProtocolError, "the value of a header field has a control character, or white space around it")
	ErrConnField     = streamBad(ProtocolError, "a header field that concerns a connection has no place in HTTP/2")
	ErrMethod        = streamBad(ProtocolError, ":method is not a token")
	ErrPath          = streamBad(ProtocolError, ":path is not a path, or has a fragment, white space or a control character")
	ErrScheme        = streamBad(ProtocolError, ":scheme is neither http nor https")
	ErrAuthority     = streamBad(ProtocolError, ":authority and Host differ, or there are two of them")
	ErrConnect       = streamBad(ProtocolError, "CONNECT without :authority, or with what it must not have")
	ErrProtocol      = streamBad(ProtocolError, "an extended CONNECT is for something else than a WebSocket (:protocol)")
	ErrStatus        = streamBad(ProtocolError, ":status is not a number of three digits, or is 101")
	ErrLength        = streamBad(ProtocolError, "Content-Length is not one decimal number, or not the length of the body")
	ErrTrailer       = streamBad(ProtocolError, "a trailer has a field that has no place there, or does not end the stream")
	ErrTrailerLarge  = streamBad(EnhanceYourCalm, "the trailer is longer than 16 KiB")
	ErrHeadLarge     = streamBad(EnhanceYourCalm, "the head of the answer is longer than 60 KiB or has more than 100 fields")
	ErrNoBody        = streamBad(ProtocolError, "a body follows an answer that has none")
	ErrNoHead        = streamBad(ProtocolError, "data before the head of the answer, or an interim answer that ends the stream")
	ErrManyInterim   = streamBad(EnhanceYourCalm, "more than 32 interim (1xx) answers to one request, or large ones faster than they are read")
	ErrNotConnecting = streamBad(ProtocolError, "the peer has not allowed extended CONNECT")
)
