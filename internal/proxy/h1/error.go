package h1

// An Error says why bytes are not the message they should be. Errors are
// values: each is one of those below, so that == decides.
type Error struct {
	Status  int    // what a caller that sent the bytes is answered with
	Details string // Envoy's response code details
	text    string
}

// Error is the fault in plain words, to be read after "the request breaks HTTP: ".
func (e *Error) Error() string { return e.text }

func bad(details, text string) *Error { return &Error{400, details, text} }

// Faults of a head.
var (
	ErrHeadTooLarge   = &Error{431, "http1.headers_too_large", "the head is longer than 60 KiB"}
	ErrTooManyFields  = &Error{431, "http1.too_many_headers", "the head has more than 100 header fields"}
	ErrLineEnd        = bad("http1.codec_error", "a line ends with LF alone instead of CR LF")
	ErrRequestLine    = bad("http1.codec_error", "the first line is not METHOD TARGET HTTP/1.1")
	ErrVersion        = bad("http1.codec_error", "the version is neither HTTP/1.1 nor HTTP/1.0")
	ErrStatusLine     = bad("http1.codec_error", "the first line is not HTTP/1.1 STATUS REASON")
	ErrFold           = bad("http1.codec_error", "a header field is continued on a second line")
	ErrFieldName      = bad("http1.invalid_characters", "the name of a header field is not a token")
	ErrSpaceColon     = bad("http1.invalid_characters", "there is white space between the name of a header field and its colon")
	ErrFieldValue     = bad("http1.invalid_characters", "the value of a header field has a control character")
	ErrTarget         = bad("http1.invalid_url", "the request target is not a path, or has a fragment, white space or a control character")
	ErrAbsolute       = bad("http1.invalid_url", "the request target is a URL that is not http://HOST/…")
	ErrAsterisk       = bad("http1.invalid_url", "the target * belongs to OPTIONS alone")
	ErrConnectTarget  = bad("http1.invalid_url", "the target of CONNECT is not HOST:PORT")
	ErrNoHost         = bad("missing_host_header", "there is no Host header field, or it is empty")
	ErrTwoHosts       = bad("http1.codec_error", "there is more than one Host header field")
	ErrHost           = bad("http1.codec_error", "the Host header field does not hold a host")
	ErrHostDiffers    = bad("http1.invalid_url", "the request target names another host than the Host header field")
	ErrConnection     = bad("http1.connection_header_rejected", "the Connection header field names too much, or what it must not name")
	ErrContentLength  = bad("http1.codec_error", "Content-Length is not one decimal number")
	ErrLengthTwice    = bad("http1.codec_error", "there is more than one Content-Length header field")
	ErrLengthAndChunk = bad("http1.content_length_and_chunked_not_allowed", "there are both Content-Length and Transfer-Encoding")
	ErrCoding         = bad("http1.invalid_transfer_encoding", "Transfer-Encoding is something else than chunked, once")
	ErrCodingVersion  = bad("http1.transfer_encoding_not_allowed", "Transfer-Encoding is not part of HTTP/1.0")
	ErrCodingStatus   = bad("http1.transfer_encoding_not_allowed", "Transfer-Encoding has no place in an answer that has no body")
	ErrBodyLength     = bad("http1.codec_error", "the body is not what the head announces: there is none, or it has another length")
	ErrBody           = bad("http1.body_disallowed", "TRACE and CONNECT have no body")
)

// Faults of a chunked body.
var (
	ErrChunkSize    = bad("http1.codec_error", "the size of a chunk is not a hexadecimal number below 2^62")
	ErrChunkExt     = bad("http1.codec_error", "the extension of a chunk is malformed or longer than 4 KiB")
	ErrChunkEnd     = bad("http1.codec_error", "a chunk does not end with CR LF")
	ErrTrailer      = bad("http1.codec_error", "a trailer field is malformed")
	ErrTrailerLarge = bad("http1.codec_error", "the trailer is longer than 16 KiB")
)
