package l7

import (
	"net/http"
	"strconv"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
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
		call := x.callStatus(status)
		x.local = appendGRPC(x.local, call, text)
		x.rec.Call = decision.ToCallStatus(int(call))
		status, text = http.StatusOK, text[:0]
	case status == http.StatusNoContent || status == http.StatusNotModified: // these end with their head
		x.local = appendStatus(x.local, status)
		text = text[:0]
	default:
		x.local = appendHead(x.local, status, text)
	}
	x.local = x.appendServer(x.local)
	head := x.local[n:]
	x.told.text = head
	x.rec.Response = &x.told
	if string(x.rec.Method) == "HEAD" {
		text = text[:0]
	}
	x.rec.Status, x.rec.Sent = status, int64(len(text))
	if x.caller.reply(head, text) != nil {
		x.rec.Flags |= decision.DC
		x.caller.abort(errGone)
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
