package l7

import (
	"encoding/hex"
	"math/rand/v2"
	"strconv"

	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// What is added to messages, or changed in them, is so because somebody asked for it
// (config.Headers). Then heads are written anew, which costs memory; the ordinary
// exchange takes none of the ways below.

// Headers that are added.
const (
	requestID     = "x-request-id"
	forwardedPort = "x-forwarded-port"
	attemptCount  = "x-envoy-attempt-count"
	expectedTime  = "x-envoy-expected-rq-timeout-ms"
	serviceTime   = "x-envoy-upstream-service-time"
	serverName    = "server"
)

// A rewriting is a head that is written anew.
type rewriting struct {
	text []byte // the head as it was
	set  []byte // lines that are added
	drop []string
}

// add lets the head have a field, beside others of its name.
func (w *rewriting) add(name, value string) {
	w.set = append(w.set, name...)
	w.set = append(w.set, ": "...)
	w.set = append(w.set, value...)
	w.set = append(w.set, "\r\n"...)
}

// replace lets the head have a field instead of others of its name.
func (w *rewriting) replace(name, value string) {
	w.drop = append(w.drop, name)
	w.add(name, value)
}

// has reports whether the head has a field.
func (w *rewriting) has(name string) bool { return (&headText{w.text}).Field(name) != nil }

// head returns the new head; lower says that names of fields are in lower case.
func (w *rewriting) head(lower bool) []byte {
	out := make([]byte, 0, len(w.text)+len(w.set))
	for first, rest := true, w.text; len(rest) > 0; first = false {
		to := 0
		for to < len(rest) && rest[to] != '\n' {
			to++
		}
		to = min(to+1, len(rest))
		line := rest[:to]
		rest = rest[to:]
		switch {
		case first:
			out = append(out, line...)
			continue
		case len(line) <= 2: // the empty one
			out = append(out, w.set...)
			return append(out, line...)
		case w.drops(line):
			continue
		}
		at := len(out)
		out = append(out, line...)
		for i := at; lower && i < len(out) && out[i] != ':'; i++ {
			if c := out[i]; 'A' <= c && c <= 'Z' {
				out[i] = c + 'a' - 'A'
			}
		}
	}
	return out
}

func (w *rewriting) drops(line []byte) bool {
	for _, name := range w.drop {
		if _, same := h1.FieldValue(line, name); same {
			return true
		}
	}
	return false
}

// decorate lets the request have what was asked for, before it is sent once. It may
// be called again before it is sent once more.
func (x *exchange) decorate() {
	h := x.manager.Headers
	if h == nil && !x.counted {
		return
	}
	w := rewriting{text: x.in[:x.req.Len], drop: private[:]}
	lower := h != nil && h.LowerCase
	if x.cluster.Config().InMesh {
		x.decorateInMesh(&w)
	} else if !lower {
		return
	}
	text := w.head(lower)
	x.req.Reset()
	if done, err := x.req.Parse(text); err == nil && done {
		x.in = text
		return
	}
	// It does not fit: it goes as it came.
	x.req.Reset()
	_, _ = x.req.Parse(x.in) // which succeeded before
	x.dropPrivate()
}

func (x *exchange) decorateInMesh(w *rewriting) {
	if x.counted {
		w.replace(attemptCount, strconv.Itoa(int(x.rec.Tries)))
	}
	h := x.manager.Headers
	if h == nil {
		return
	}
	if h.RequestID && !w.has(requestID) {
		id := newRequestID()
		w.add(requestID, id)
		x.rec.RequestID = []byte(id)
	}
	if h.ForwardedPort && !w.has(forwardedPort) {
		w.add(forwardedPort, strconv.Itoa(int(x.rec.Original.Port())))
	}
	if h.Debug && x.timeout > 0 {
		w.add(expectedTime, strconv.FormatInt(x.timeout.Milliseconds(), 10))
	}
}

// newRequestID makes a UUID of version 4.
func newRequestID() string {
	var id [16]byte
	for i := range 8 {
		id[i], id[i+8] = byte(rand.Uint32()), byte(rand.Uint32()) //nolint:gosec // an id, not a secret
	}
	id[6], id[8] = id[6]&0xf|0x40, id[8]&0x3f|0x80
	text := hex.EncodeToString(id[:])
	return text[:8] + "-" + text[8:12] + "-" + text[12:16] + "-" + text[16:20] + "-" + text[20:]
}

// dress lets the endpoint's answer have what was asked for, before it is sent on.
func (x *exchange) dress() {
	h := x.manager.Headers
	if h == nil || h.Server == "" && !h.Debug && !h.LowerCase {
		return
	}
	w := rewriting{text: x.answer[:x.resp.Len]}
	if h.Server != "" {
		w.replace(serverName, h.Server)
	}
	if h.Debug {
		w.replace(serviceTime, strconv.FormatInt(x.rec.UpstreamTime.Milliseconds(), 10))
	}
	if text := w.head(h.LowerCase); x.reparse(text) {
		x.answer = text
		return
	}
	x.reparse(x.answer) // which succeeded before
}

// reparse parses a head of the endpoint's answer that was written anew.
func (x *exchange) reparse(text []byte) bool {
	x.resp.Reset()
	done, err := x.resp.Parse(text, string(x.rec.Method) == "HEAD")
	if x.req.Connect {
		x.resp.OpenTunnel()
	}
	return err == nil && done
}

// appendServer is dress for a head that the proxy made.
func (x *exchange) appendServer(head []byte) []byte {
	if h := x.manager.Headers; h != nil && h.Server != "" {
		head = append(head, "server: "...)
		head = append(head, h.Server...)
		head = append(head, "\r\n"...)
	}
	return head
}
