package l7

import (
	"bytes"
	"net/http"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// reply answers at the proxy with the sentence that the record tells, and
// finishes the exchange.
func (x *exchange) reply(status int) (more bool) {
	x.local = append(x.rec.AppendSentence(x.local[:0]), '\n')
	return x.sendLocal(status)
}

// replyText is reply with a text of the configuration.
func (x *exchange) replyText(status int, text string) (more bool) {
	x.local = append(x.local[:0], text...)
	return x.sendLocal(status)
}

// sendLocal sends what lies in x.local, and puts a head behind it for that.
func (x *exchange) sendLocal(status int) (more bool) {
	if !x.whole {
		x.caller.giveUp() // the rest of the body has no reader
	}
	n, text := len(x.local), x.local
	switch {
	case x.isGRPC():
		x.local = appendGRPC(x.local, status, text)
		status, text = http.StatusOK, text[:0]
	case status == http.StatusNoContent || status == http.StatusNotModified: // these end with their head
		x.local = appendStatus(x.local, status)
		text = text[:0]
	default:
		x.local = appendHead(x.local, status, text)
	}
	head := x.local[n:]
	if string(x.rec.Method) == "HEAD" {
		text = text[:0]
	}
	x.rec.Status, x.rec.Sent = status, int64(len(text))
	if x.caller.reply(head, text) != nil {
		x.rec.Flags |= decision.DC
		x.caller.abort()
	}
	return x.finish()
}

// appendHead appends the head of an answer with a body, but for its last line.
func appendHead(dst []byte, status int, text []byte) []byte {
	dst = appendStatus(dst, status)
	if len(text) > 0 {
		dst = append(dst, "content-type: text/plain\r\n"...)
	}
	dst = append(dst, "content-length: "...)
	dst = strconv.AppendInt(dst, int64(len(text)), 10)
	return append(dst, "\r\n"...)
}

func appendStatus(dst []byte, status int) []byte {
	dst = append(dst, "HTTP/1.1 "...)
	dst = strconv.AppendInt(dst, int64(status), 10)
	dst = append(dst, ' ')
	dst = append(dst, http.StatusText(status)...)
	dst = append(dst, "\r\ndate: "...)
	dst = time.Now().UTC().AppendFormat(dst, http.TimeFormat)
	return append(dst, "\r\n"...)
}

// appendGRPC appends the head that answers a gRPC call as one expects it: with
// a status of its own, in a head that says HTTP 200 and is all of the answer.
func appendGRPC(dst []byte, status int, text []byte) []byte {
	dst = appendStatus(dst, http.StatusOK)
	dst = append(dst, "content-type: application/grpc\r\ngrpc-status: "...)
	dst = strconv.AppendInt(dst, grpcStatus(status), 10)
	dst = append(dst, "\r\ngrpc-message: "...)
	dst = appendPercent(dst, text)
	return append(dst, "\r\ncontent-length: 0\r\n"...)
}

const grpcType = "application/grpc"

// isGRPC goes by what Envoy goes by: application/grpc, or with a +suffix.
func (x *exchange) isGRPC() bool {
	t := x.req.Value(x.in, h1.ContentType)
	if len(t) < len(grpcType) || !bytes.EqualFold(t[:len(grpcType)], []byte(grpcType)) {
		return false
	}
	return len(t) == len(grpcType) || t[len(grpcType)] == '+' || t[len(grpcType)] == ';'
}

// grpcStatus is Envoy's mapping of HTTP codes.
func grpcStatus(status int) int64 {
	switch status {
	case 400:
		return 13
	case 401:
		return 16
	case 403:
		return 7
	case 404:
		return 12
	case 429, 502, 503, 504:
		return 14
	}
	return 2
}

// appendPercent appends text in the encoding of grpc-message.
func appendPercent(dst, text []byte) []byte {
	const digits = "0123456789ABCDEF"
	for i, c := range text {
		switch {
		case c == '\n' && i == len(text)-1:
		case c >= ' ' && c <= '~' && c != '%':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&15])
		}
	}
	return dst
}
