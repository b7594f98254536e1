package l7

import (
	"io"
	"net/http"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// reply answers at the proxy with the sentence that the record tells, and
// finishes the record. It reports whether the connection can go on.
func (x *exchange) reply(status int) bool {
	var own [512]byte
	return x.replyText(status, append(x.rec.AppendSentence(own[:0]), '\n'))
}

// replyText is reply with a text of the configuration.
func (x *exchange) replyText(status int, text []byte) bool {
	x.rec.Status = status
	if !x.whole {
		// The rest of the body has no reader, and its end is where the next
		// request would begin.
		x.closing, x.linger = true, true
	}
	x.out = x.out[:0]
	switch {
	case x.isGRPC():
		x.appendGRPC(status, text)
		text = nil
	case status == 204 || status == 304: // these have no body, and end with their head
		x.appendStatus(status)
		x.out = append(x.out, "\r\n"...)
		text = nil
	default:
		x.appendHead(status, text)
	}
	if string(x.rec.Method) != "HEAD" {
		x.out = append(x.out, text...)
		x.rec.Sent = int64(len(text))
	}
	if _, err := x.conn.down.Write(x.out); err != nil {
		x.rec.Flags |= decision.DC
		x.closing, x.linger = true, false
	}
	return x.end()
}

func (x *exchange) appendHead(status int, text []byte) {
	x.appendStatus(status)
	if len(text) > 0 {
		x.out = append(x.out, "content-type: text/plain\r\n"...)
	}
	x.out = append(x.out, "content-length: "...)
	x.out = strconv.AppendInt(x.out, int64(len(text)), 10)
	x.out = append(x.out, "\r\n\r\n"...)
}

func (x *exchange) appendStatus(status int) {
	x.out = append(x.out, "HTTP/1.1 "...)
	x.out = strconv.AppendInt(x.out, int64(status), 10)
	x.out = append(x.out, ' ')
	x.out = append(x.out, http.StatusText(status)...)
	x.out = append(x.out, "\r\ndate: "...)
	x.out = time.Now().UTC().AppendFormat(x.out, http.TimeFormat)
	x.out = append(x.out, "\r\n"...)
	switch {
	case x.closing:
		x.out = append(x.out, "connection: close\r\n"...)
	case x.req.Minor == 0:
		x.out = append(x.out, "connection: keep-alive\r\n"...)
	}
}

// appendGRPC answers a gRPC call as one expects it: with its own status, in a
// head that says HTTP 200.
func (x *exchange) appendGRPC(status int, text []byte) {
	x.rec.Status = http.StatusOK
	x.appendStatus(http.StatusOK)
	x.out = append(x.out, "content-type: application/grpc\r\ngrpc-status: "...)
	x.out = strconv.AppendInt(x.out, grpcStatus(status), 10)
	x.out = append(x.out, "\r\ngrpc-message: "...)
	x.out = appendPercent(x.out, text)
	x.out = append(x.out, "\r\ncontent-length: 0\r\n\r\n"...)
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

// end finishes the exchange towards the caller and records it.
func (x *exchange) end() bool {
	x.record()
	if x.closing && x.linger {
		x.drainCaller()
	}
	return !x.closing
}

// record hands the record over, once.
func (x *exchange) record() {
	if x.recorded {
		return
	}
	x.recorded = true
	x.rec.Duration = time.Since(x.rec.Start)
	x.server.log.Add(&x.rec)
}

// Bounds of waiting for a caller to stop sending.
const (
	lingerTime = 5 * time.Second
	lingerIdle = time.Second
)

// drainCaller lets a caller that is still sending read its answer: closing a
// socket with unread bytes would reset it and could destroy the answer.
func (x *exchange) drainCaller() {
	down := x.conn.down
	if down.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(lingerTime)
	for now := time.Now(); now.Before(end); now = time.Now() {
		if down.SetReadDeadline(now.Add(lingerIdle)) != nil {
			return
		}
		if n, err := io.ReadFull(down, x.answer); n == 0 || err != nil {
			return
		}
	}
}
