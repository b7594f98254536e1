package h1

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// A refusal is one line of a table of bytes that must be refused.
type refusal struct{ details, bytes string }

func refusals(t testing.TB, file string) []refusal {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("testdata", file))
	if err != nil {
		t.Fatal(err)
	}
	var all []refusal
	for line := range strings.Lines(string(text)) {
		line = strings.TrimSuffix(line, "\n")
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		details, quoted, _ := strings.Cut(line, "\t")
		s, err := strconv.Unquote(quoted)
		if err != nil {
			t.Fatalf("%s: %s: %v", file, line, err)
		}
		all = append(all, refusal{details, s})
	}
	return all
}

func checkRefused(t *testing.T, err error, want refusal) {
	t.Helper()
	var fault *Error
	switch {
	case !errors.As(err, &fault):
		t.Errorf("%q: %v, want it refused as %s", want.bytes, err, want.details)
	case fault.Details != want.details || fault.Status != http.StatusBadRequest:
		t.Errorf("%q: %d %s (%s), want 400 %s", want.bytes, fault.Status, fault.Details, fault, want.details)
	}
}

// faults.md 34, 36 and 37: what can be read in two ways is refused.
func TestFault34And36And37MalformedRequestsAreRefused(t *testing.T) {
	all := refusals(t, "requests.bad")
	if len(all) < 80 {
		t.Errorf("only %d malformed requests", len(all))
	}
	for _, bad := range all {
		var r Request
		_, err := r.Parse([]byte(bad.bytes))
		checkRefused(t, err, bad)
	}
}

// faults.md 38.
func TestFault38MalformedResponsesAreRefused(t *testing.T) {
	all := refusals(t, "responses.bad")
	if len(all) < 30 {
		t.Errorf("only %d malformed responses", len(all))
	}
	for _, bad := range all {
		var r Response
		_, err := r.Parse([]byte(bad.bytes), false)
		checkRefused(t, err, bad)
	}
}

// faults.md 35.
func TestFault35ChunkTricksAreRefused(t *testing.T) {
	for _, bad := range refusals(t, "chunks.bad") {
		var d Decoder
		_, _, err := d.Compact([]byte(bad.bytes))
		checkRefused(t, err, bad)
	}
	long := "1;" + strings.Repeat("a", MaxChunkExtension+1)
	var d Decoder
	if _, _, err := d.Compact([]byte(long)); !errors.Is(err, ErrChunkExt) {
		t.Errorf("a long extension: %v", err)
	}
	d = Decoder{}
	if _, _, err := d.Compact([]byte("0\r\n" + strings.Repeat("a: b\r\n", MaxTrailer/6+1))); !errors.Is(err, ErrTrailerLarge) {
		t.Errorf("a long trailer: %v", err)
	}
}

func TestRequestsAreSentOnInOriginForm(t *testing.T) {
	tests := []struct{ in, want string }{
		{"GET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET / HTTP/1.0\r\nhost: a\r\nExpect: 100-continue\r\n\r\n", "GET / HTTP/1.1\r\nhost: a\r\n\r\n"},
		{"GET http://a HTTP/1.1\r\nB: c\r\nHost: a\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n"},
		{"GET HTTP://A:80?q HTTP/1.1\r\nHost: a\r\n\r\n", "GET /?q HTTP/1.1\r\nHost: A:80\r\n\r\n"},
		{"GET http://a/b?c HTTP/1.0\r\n\r\n", "GET /b?c HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n", "OPTIONS * HTTP/1.1\r\nHost: [::1]:80\r\n\r\n"},
		{"POST / HTTP/1.1\r\nContent-LENGTH: 007\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 7\r\n\r\n"},
		{"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"PUT http://a/ HTTP/1.0\r\n\r\n", "PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n", "PATCH / HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\n\r\n"},
		{"DELETE / HTTP/1.1\r\nHost: a\r\n\r\n", "DELETE / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"POST / HTTP/1.1\r\nContent-LENGTH: 7\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nContent-LENGTH: 7\r\nHost: a\r\n\r\n"},
		{"POST / HTTP/1.1\r\nTransfer-encoding: \tChunked \r\nTrailer: x\r\nHost: a\r\n\r\n", "POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, b , ,keep-alive\r\nB: 1\r\nc: 2\r\nb: 3\r\nKeep-Alive: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nc: 2\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: x\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c, WebSocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"},
		{"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\n\r\n", "GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{"GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nA:\xff\r\nB:\r\nC:\tx\ty \r\n\r\n", "GET /\xc3\xa9 HTTP/1.1\r\nHost: a\r\nA:\xff\r\nB:\r\nC:\tx\ty \r\n\r\n"},
	}
	for _, test := range tests {
		var r Request
		done, err := r.Parse([]byte(test.in))
		if err != nil || !done {
			t.Errorf("%q: %v, %v", test.in, done, err)
			continue
		}
		if diff := cmp.Diff(test.want, string(r.AppendTo(nil, []byte(test.in)))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.in, diff)
		}
	}
}

func TestWhatRequestsSay(t *testing.T) {
	type said struct {
		Method, Path, Authority string
		Framing                 Framing
		Length                  int64
		Persistent              bool
		Upgrade                 Upgrade
	}
	tests := []struct {
		in   string
		want said
	}{
		{"GET /a?b HTTP/1.1\r\nHost: c:1\r\n\r\n", said{"GET", "/a?b", "c:1", NoBody, 0, true, NoUpgrade}},
		{"GET / HTTP/1.0\r\nHost: c\r\n\r\n", said{"GET", "/", "c", NoBody, 0, false, NoUpgrade}},
		{"GET / HTTP/1.0\r\nHost: c\r\nConnection: Keep-Alive\r\n\r\n", said{"GET", "/", "c", NoBody, 0, true, NoUpgrade}},
		{"PUT / HTTP/1.1\r\nHost: c\r\nConnection: close\r\nContent-Length: 12\r\nExpect: 100-Continue\r\n\r\n", said{"PUT", "/", "c", Length, 12, false, NoUpgrade}},
		{"PUT / HTTP/1.1\r\nHost: c\r\nTransfer-Encoding: chunked\r\n\r\n", said{"PUT", "/", "c", Chunked, 0, true, NoUpgrade}},
		{"GET http://d/x HTTP/1.1\r\nHost: D:80\r\n\r\n", said{"GET", "/x", "d", NoBody, 0, true, NoUpgrade}},
		{"CONNECT d:443 HTTP/1.1\r\nHost: d:443\r\n\r\n", said{"CONNECT", "", "d:443", NoBody, 0, true, NoUpgrade}},
		{"CONNECT d:443 HTTP/1.0\r\nContent-Length: 0\r\n\r\n", said{"CONNECT", "", "d:443", NoBody, 0, false, NoUpgrade}},
		{"CONNECT [::1]:65535 HTTP/1.1\r\nHost: [::1]:65535\r\n\r\n", said{"CONNECT", "", "[::1]:65535", NoBody, 0, true, NoUpgrade}},
		{"DELETE / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n", said{"DELETE", "/", "c", NoBody, 0, true, OtherUpgrade}},
		{"GET / HTTP/1.1\r\nHost: c\r\nConnection: upgrade\r\nUpgrade: foo/2\r\n\r\n", said{"GET", "/", "c", NoBody, 0, true, OtherUpgrade}},
	}
	for _, test := range tests {
		b := []byte(test.in)
		var r Request
		if done, err := r.Parse(b); err != nil || !done {
			t.Errorf("%q: %v, %v", test.in, done, err)
			continue
		}
		got := said{string(r.Method.In(b)), string(r.Path.In(b)), string(r.Authority.In(b)), r.Framing, r.Length, r.Persistent(), r.Upgrade}
		if diff := cmp.Diff(test.want, got); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.in, diff)
		}
	}
}

func TestResponsesAreSentOnWithOurFraming(t *testing.T) {
	tests := []struct {
		in      string
		head    bool
		how     Reply
		want    string
		framing Framing
		keeps   bool
	}{
		{"HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 2\r\n\r\n", false, Reply{}, "HTTP/1.1 200 OK\r\nserver: x\r\nContent-Length: 2\r\n\r\n", Length, true},
		{"HTTP/1.0 200 OK\r\nContent-Length: 02\r\n\r\n", false, Reply{Close: true}, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n", Length, false},
		{"HTTP/1.1 200\r\nConnection: close\r\n\r\n", false, Reply{Chunked: true}, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n", UntilClose, false},
		{"HTTP/1.1 200 \r\n\r\n", false, Reply{Chunked: true, KeepAlive: true}, "HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\nConnection: keep-alive\r\n\r\n", UntilClose, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n", false, Reply{Chunked: true}, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", Chunked, true},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, Reply{}, "HTTP/1.1 200 OK\r\n\r\n", NoBody, true},
		{"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", true, Reply{}, "HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\n", NoBody, true},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 09\r\n\r\n", false, Reply{}, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", NoBody, true},
		{"HTTP/1.1 204 No Content\r\nContent-Length: 0\r\n\r\n", false, Reply{}, "HTTP/1.1 204 No Content\r\n\r\n", NoBody, true},
		{"HTTP/1.1 100 Continue\r\n\r\n", false, Reply{}, "HTTP/1.1 100 Continue\r\n\r\n", NoBody, true},
		{"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", false, Reply{WebSocket: true}, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n", NoBody, true},
		{"HTTP/1.1 999 Request denied\r\nConnection: x\r\nX: y\r\nContent-Length: 0\r\n\r\n", false, Reply{}, "HTTP/1.1 999 Request denied\r\nContent-Length: 0\r\n\r\n", Length, true},
	}
	for _, test := range tests {
		b := []byte(test.in)
		var r Response
		if done, err := r.Parse(b, test.head); err != nil || !done {
			t.Errorf("%q: %v, %v", test.in, done, err)
			continue
		}
		if diff := cmp.Diff(test.want, string(r.AppendTo(nil, b, test.how))); diff != "" {
			t.Errorf("%q (-want +got):\n%s", test.in, diff)
		}
		if r.Framing != test.framing || r.Persistent() != test.keeps {
			t.Errorf("%q: framing %d, persistent %v; want %d, %v", test.in, r.Framing, r.Persistent(), test.framing, test.keeps)
		}
	}
}

func TestHeadsAreBounded(t *testing.T) {
	fields := func(n int) string {
		return "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: b\r\n", n-1) + "\r\n"
	}
	long := func(n int) string {
		s := "GET / HTTP/1.1\r\nHost: a\r\nA: "
		return s + strings.Repeat("a", n-len(s)-4) + "\r\n\r\n"
	}
	for _, test := range []struct {
		in   string
		want error
	}{
		{fields(MaxFields), nil},
		{fields(MaxFields + 1), ErrTooManyFields},
		{long(MaxHead), nil},
		{long(MaxHead + 1), ErrHeadTooLarge},
		{strings.Repeat("a", MaxHead), ErrHeadTooLarge},
	} {
		var r Request
		done, err := r.Parse([]byte(test.in))
		if !errors.Is(err, test.want) || done != (test.want == nil) {
			t.Errorf("%d bytes: %v, %v; want %v", len(test.in), done, err, test.want)
		}
	}
}

// A head that arrives byte by byte must not cost more for each byte.
func TestParsingGoesOnWhereItStopped(t *testing.T) {
	in := []byte("GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("a", 50000) + "\r\n\r\n")
	var r Request
	for n := range in {
		if r.scan > n {
			t.Fatalf("looked at byte %d of %d", r.scan, n)
		}
		if done, err := r.Parse(in[:n:n]); done || err != nil {
			t.Fatalf("after %d of %d bytes: %v, %v", n, len(in), done, err)
		}
		if r.scan != n && !bytes.HasPrefix(in[:n], []byte("\r")) {
			t.Fatalf("stopped at %d of %d", r.scan, n)
		}
	}
	if done, err := r.Parse(in); !done || err != nil || r.Len != len(in) {
		t.Fatalf("%v, %v, %d", done, err, r.Len)
	}
}

func TestTheCodecAllocatesNothing(t *testing.T) {
	in := []byte("POST /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: curl/8\r\nAccept: */*\r\nConnection: x\r\nX: y\r\nTransfer-Encoding: chunked\r\n\r\n")
	answer := []byte("HTTP/1.1 200 OK\r\nServer: x\r\nContent-Type: text/html\r\nContent-Length: 1024\r\nConnection: keep-alive\r\n\r\n")
	body := []byte("5;a=b\r\nhello\r\n0\r\nA: b\r\n\r\n")
	var r Request
	var s Response
	var work [64]byte
	out := make([]byte, 0, 4096)
	if n := testing.AllocsPerRun(100, func() {
		r.Reset()
		if done, err := r.Parse(in); !done || err != nil {
			t.Fatal(err)
		}
		out = r.AppendTo(out[:0], in)
		s.Reset()
		if done, err := s.Parse(answer, false); !done || err != nil {
			t.Fatal(err)
		}
		out = s.AppendTo(out[:0], answer, Reply{})
		var d Decoder
		k, _, err := d.Compact(work[:copy(work[:], body)])
		if err != nil || k != 5 || !d.Done() {
			t.Fatal(k, err)
		}
		out = AppendChunkSize(out[:0], k)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestEveryRefusalHasItsWords(t *testing.T) {
	for _, e := range []*Error{ErrHeadTooLarge, ErrHost, ErrChunkSize} {
		if e.Error() == "" || strings.HasSuffix(e.Error(), ".") {
			t.Errorf("%q", e.Error())
		}
	}
	if got := string(AppendChunkSize(nil, 255)); got != "ff\r\n" {
		t.Errorf("%q", got)
	}
}

func BenchmarkRequest(b *testing.B) {
	in := []byte("GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:128.0)\r\nAccept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate\r\nCookie: session=0123456789abcdef0123456789abcdef\r\nConnection: keep-alive\r\n\r\n")
	var r Request
	out := make([]byte, 0, 4096)
	b.SetBytes(int64(len(in)))
	b.ReportAllocs()
	for b.Loop() {
		r.Reset()
		if done, err := r.Parse(in); !done || err != nil {
			b.Fatal(fmt.Sprint(done, err))
		}
		out = r.AppendTo(out[:0], in)
	}
}
