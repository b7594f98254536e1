package l7

import (
	"strings"
	"testing"
)

// An endpoint in HTTP/2 is told the scheme that the caller means, which may not be
// that of the connection to us.
func TestTheSchemeOfARequestIsKept(t *testing.T) {
	heard := make(chan string, 1)
	r := two(t, func(f *framer) {
		for range 6 {
			id, head := f.request()
			heard <- head
			f.head(id, true, ":status", "204")
		}
	})
	want := func(what, scheme string) {
		t.Helper()
		if head := <-heard; !strings.Contains(head, "\n:scheme: "+scheme+"\n") {
			t.Errorf("%s: the endpoint was asked for %q", what, head)
		}
	}
	f := r.frames()
	for i, scheme := range []string{"https", "http"} { // the second on the stream object of the first
		id := uint32(2*i + 1) //nolint:gosec // small
		f.head(id, true, ":method", "GET", ":scheme", scheme, ":path", "/", ":authority", "x.example")
		f.answer(id)
		want("h2", scheme)
	}
	c := r.dial()
	for field, scheme := range map[string]string{"": "http", "X-Forwarded-PROTO: https\r\n": "https", "x-forwarded-proto: gopher\r\n": "http", "x-forwarded-prot0: https\r\n": "http"} {
		c.say("GET / HTTP/1.1\r\nHost: x.example\r\n" + field + "\r\n")
		c.hear("HTTP/1.1 204 \r\n\r\n")
		want("h1, "+field, scheme)
	}
}
