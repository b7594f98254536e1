package h2

import (
	"bytes"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/http2/hpack"

	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// fields reads "name=value | name=value"; in values \r, \n, \t, \0 and \x.. are
// as in Go, and a name may begin with a colon.
func fields(t testing.TB, s string) (list [][2]string) {
	t.Helper()
	for part := range strings.SplitSeq(s, " | ") {
		if part == "" {
			continue
		}
		un, err := strconv.Unquote(`"` + part + `"`)
		if err != nil {
			t.Fatalf("%q: %v", part, err)
		}
		name, value, _ := strings.Cut(un, "=")
		list = append(list, [2]string{name, value})
	}
	return list
}

// encode compresses fields as they are, good or bad.
func encode(e *hpack.Encoder, list [][2]string) {
	for _, f := range list {
		if err := e.WriteField(hpack.HeaderField{Name: f[0], Value: f[1]}); err != nil {
			panic(err) // a bytes.Buffer does not fail
		}
	}
}

func compressed(list [][2]string) []byte {
	var b bytes.Buffer
	encode(hpack.NewEncoder(&b), list)
	return b.Bytes()
}

func newDecoder() *decoder {
	d := new(decoder)
	d.init()
	return d
}

const get = ":method=GET | :scheme=http | :path=/ | :authority=a"

func TestRequestText(t *testing.T) {
	for _, tt := range []struct {
		name, fields string
		end          bool
		want         string
	}{
		{
			"plain", ":method=GET | :scheme=https | :path=/a?b=c | :authority=x.org:81 | accept=*/*", true,
			"GET /a?b=c HTTP/1.1\r\nhost: x.org:81\r\naccept: */*\r\n\r\n",
		},
		{
			"host instead of :authority", ":method=GET | :scheme=http | :path=/ | accept=b | host=h", true,
			"GET / HTTP/1.1\r\naccept: b\r\nhost: h\r\n\r\n",
		},
		{"host as :authority", get + " | host=A", true, "GET / HTTP/1.1\r\nhost: a\r\n\r\n"},
		{"cookies are joined", get + " | cookie=a=1 | x=y | cookie=b=2", true, "GET / HTTP/1.1\r\nhost: a\r\nx: y\r\ncookie: a=1; b=2\r\n\r\n"},
		{
			"body with length", ":method=POST | :scheme=http | :path=/ | :authority=a | content-length=5", false,
			"POST / HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\n",
		},
		{
			"body without", ":method=POST | :scheme=http | :path=/ | :authority=a | te=trailers", false,
			"POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n",
		},
		{"asterisk", ":method=OPTIONS | :scheme=http | :path=* | :authority=a", true, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n"},
		{"connect", ":method=CONNECT | :authority=a:1", false, "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\n\r\n"},
		{"connect without a body", ":method=CONNECT | :authority=a:1 | content-length=0 | x=y", false, "CONNECT a:1 HTTP/1.1\r\nhost: a:1\r\nx: y\r\n\r\n"},
		{
			"websocket", ":method=CONNECT | :protocol=websocket | :scheme=http | :path=/chat | :authority=a | sec-websocket-version=13 | sec-websocket-key=x", false,
			"GET /chat HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AQAAAAAAAAAVfEp/uXk3ng==\r\nsec-websocket-version: 13\r\n\r\n",
		},
		{
			"websocket in other letters", ":method=CONNECT | :protocol=WebSocket | :scheme=http | :path=/ | :authority=a | sec-websocket-key=x", false,
			"GET / HTTP/1.1\r\nhost: a\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: AQAAAAAAAAAVfEp/uXk3ng==\r\n\r\n",
		},
		{"no host, which h1 refuses", ":method=GET | :scheme=http | :path=/", true, "GET / HTTP/1.1\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDecoder()
			d.random = 1
			text, err := d.decode(requestBlock, compressed(fields(t, tt.fields)), tt.end, []byte("kept:"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff("kept:"+tt.want, string(text)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestResponseText(t *testing.T) {
	for _, tt := range []struct {
		name, fields, accept string
		end, head            bool
		want                 string
	}{
		{"with length", ":status=200 | content-length=3 | x=y", "", false, false, "HTTP/1.1 200 \r\ncontent-length: 3\r\nx: y\r\n\r\n"},
		{"without", ":status=404", "", false, false, "HTTP/1.1 404 \r\ntransfer-encoding: chunked\r\n\r\n"},
		{"trailers only", ":status=200 | grpc-status=5", "", true, false, "HTTP/1.1 200 \r\ngrpc-status: 5\r\ntransfer-encoding: chunked\r\n\r\n"},
		{"to HEAD", ":status=200 | content-length=3", "", true, true, "HTTP/1.1 200 \r\ncontent-length: 3\r\n\r\n"},
		{"204", ":status=204", "", true, false, "HTTP/1.1 204 \r\n\r\n"},
		{"304", ":status=304 | content-length=9", "", true, false, "HTTP/1.1 304 \r\ncontent-length: 9\r\n\r\n"},
		{"interim", ":status=103 | link=x", "", false, false, "HTTP/1.1 103 \r\nlink: x\r\n\r\n"},
		{
			"a cookie is a field like others", ":status=200 | cookie=x | cookie=y | content-length=0", "", true, false,
			"HTTP/1.1 200 \r\ncookie: x\r\ncookie: y\r\ncontent-length: 0\r\n\r\n",
		},
		{
			"websocket", ":status=200 | content-length=3 | sec-websocket-accept=x | x=y", "dGhlIHNhbXBsZSBub25jZQ==", false, false,
			"HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nx: y\r\n\r\n",
		},
		{"tunnel", ":status=200 | content-length=3 | x=y", "CONNECT", false, false, "HTTP/1.1 200 \r\nx: y\r\n\r\n"},
		{"tunnel that is half over", ":status=204 | content-length=3", "CONNECT", true, false, "HTTP/1.1 204 \r\n\r\n"},
		{"tunnel refused", ":status=403 | content-length=3", "CONNECT", false, false, "HTTP/1.1 403 \r\ncontent-length: 3\r\n\r\n"},
		{"websocket refused", ":status=403", "dGhlIHNhbXBsZSBub25jZQ==", true, false, "HTTP/1.1 403 \r\ntransfer-encoding: chunked\r\n\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDecoder()
			if d.toHEAD = tt.head; tt.accept == "CONNECT" {
				d.tunnel = true
			} else {
				d.accept = tt.accept
			}
			text, err := d.decode(responseBlock, compressed(fields(t, tt.fields)), tt.end, nil)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, string(text)); diff != "" {
				t.Error(diff)
			}
			var r h1.Response
			if done, err := r.Parse(text, tt.head); !done || err != nil || r.Len != len(text) {
				t.Errorf("h1 reads %d of %d bytes: %v, %v", r.Len, len(text), done, err)
			}
		})
	}
}

// What comes too late to mean anything is not passed on, and breaks nothing.
func TestTrailerText(t *testing.T) {
	text, err := newDecoder().decode(trailerBlock, compressed(fields(t, "grpc-status=0 | content-type=application/grpc | set-cookie=a | x=y | content-encoding=gzip | authorization=x")), true, nil)
	if want := "grpc-status: 0\r\nx: y\r\n"; err != nil || string(text) != want {
		t.Errorf("%q, %v; want %q", text, err, want)
	}
}

// TestRefusals reads testdata/blocks.bad: what must be refused, and why.
func TestRefusals(t *testing.T) {
	file, err := os.ReadFile("testdata/blocks.bad")
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]blockKind{"request": requestBlock, "response": responseBlock, "trailer": trailerBlock}
	n := 0
	var want string
	for line := range strings.Lines(string(file)) {
		line = strings.TrimSuffix(line, "\n")
		switch {
		case line == "" || line[0] == '#':
			continue
		case strings.HasSuffix(line, ":") && !strings.Contains(line, "="):
			want = strings.TrimSuffix(line, ":")
			continue
		}
		n++
		kind, list, _ := strings.Cut(line, " ")
		list, end := strings.CutPrefix(list, "end ")
		d := newDecoder()
		text, fault := d.decode(kinds[kind], compressed(fields(t, list)), end, nil)
		if fault == nil || fault.Error() != want {
			t.Errorf("%s: %v, want %q; text %q", line, fault, want, text)
		}
	}
	if n < 100 {
		t.Errorf("%d cases", n)
	}
}

func TestHeadsAreBounded(t *testing.T) {
	long := strings.Repeat("v", 8000)
	var many, heavy, crumbs string
	for range 101 {
		many += " | x=1"
	}
	for range 8 {
		heavy += " | x=" + long
		crumbs += " | cookie=" + long
	}
	for _, tt := range []struct {
		name, fields string
		want         *h1.Error
	}{
		{"fields", get + many, h1.ErrTooManyFields},
		{"bytes", get + heavy, h1.ErrHeadTooLarge},
		{"crumbs", get + crumbs, h1.ErrHeadTooLarge},
	} {
		t.Run(tt.name, func(t *testing.T) {
			d := newDecoder()
			text, err := d.decode(requestBlock, compressed(fields(t, tt.fields)), true, nil)
			if err != nil || d.large != tt.want || len(text) > MaxHead {
				t.Errorf("%v, %v, %d bytes of text", err, d.large, len(text))
			}
			if !bytes.HasPrefix(text, []byte("GET / HTTP/1.1\r\nhost: a\r\n")) {
				t.Errorf("text %.60q", text)
			}
			if _, err := d.decode(responseBlock, compressed(fields(t, strings.Replace(tt.fields, get, ":status=200", 1))), true, nil); err != ErrHeadLarge {
				t.Errorf("as an answer: %v", err)
			}
		})
	}
}

// TestFault41BombIsBounded repeats one large field of the table many thousand times.
func TestFault41BombIsBounded(t *testing.T) {
	b := compressed(append(fields(t, get), [2]string{"x", strings.Repeat("v", 3900)}))
	for range 16000 {
		b = append(b, 0x80|62)
	}
	d := newDecoder()
	text, err := d.decode(requestBlock, b, true, nil)
	if err != nil || d.large == nil || len(text) > MaxHead {
		t.Errorf("%v, %v, %d bytes of text", err, d.large, len(text))
	}
	if d.size > MaxHead+4<<10 {
		t.Errorf("%d bytes of fields were looked at", d.size)
	}
	if _, err := d.decode(requestBlock, compressed(fields(t, get)), true, nil); err != nil || d.large != nil || d.size == 0 {
		t.Errorf("the next head: %v, %v", err, d.large)
	}
}

// TestFieldsAfterAFaultAreNotLookedAt is the same with a fault before the bomb.
func TestFieldsAfterAFaultAreNotLookedAt(t *testing.T) {
	b := compressed(append(fields(t, get), [2]string{"UPPER", "1"}, [2]string{"x", strings.Repeat("v", 3900)}))
	d := newDecoder()
	if _, err := d.decode(requestBlock, b, true, nil); err != ErrName {
		t.Fatal(err)
	}
	size := d.size
	for range 1000 {
		b = append(b, 0x80|62)
	}
	if _, err := d.decode(requestBlock, b, true, nil); err != ErrName || d.size != size {
		t.Errorf("%v, %d bytes of fields were looked at, %d before the fault", err, d.size, size)
	}
}

func TestEncodeRequest(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{
			"plain", "GET /a HTTP/1.1\r\nHost: x\r\nAccept: */*\r\nConnection: X-Hop\r\nX-Hop: 1\r\nTE: gzip, Trailers\r\nUser-Agent: u\r\n\r\n",
			":method=GET | :scheme=http | :path=/a | :authority=x | accept=*/* | te=trailers | user-agent=u",
		},
		{
			"body", "PUT / HTTP/1.1\r\nHost: x\r\nContent-Type: t\r\nContent-Length: 007\r\nTrailer: a\r\nTE: gzip\r\n\r\n",
			":method=PUT | :scheme=http | :path=/ | :authority=x | content-type=t | content-length=7 | trailer=a",
		},
		{"chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n", ":method=POST | :scheme=http | :path=/ | :authority=x"},
		{"absolute", "GET http://y:80?q HTTP/1.1\r\nHost: Y\r\n\r\n", ":method=GET | :scheme=http | :path=/?q | :authority=y:80"},
		{"connect", "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", ":method=CONNECT | :authority=a:1"},
		{
			"websocket", "GET /c HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\nContent-Length: 0\r\nSec-WebSocket-Key: k\r\nSec-WebSocket-Version: 13\r\n\r\n",
			":method=CONNECT | :protocol=websocket | :scheme=http | :path=/c | :authority=x | sec-websocket-version=13",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r h1.Request
			if done, err := r.Parse([]byte(tt.text)); !done || err != nil {
				t.Fatal(done, err)
			}
			if diff := cmp.Diff(tt.want, list(t, AppendRequest(nil, &r, []byte(tt.text), "http"))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestEncodeResponse(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"plain", "HTTP/1.1 200 OK\r\nServer: u\r\nContent-Length: 3\r\nConnection: close\r\nKeep-Alive: 1\r\n\r\n", ":status=200 | server=u | content-length=3"},
		{"length anew", "HTTP/1.1 418 T\r\nContent-Length: 03\r\n\r\n", ":status=418 | content-length=3"},
		{"no length where there is no body", "HTTP/1.1 204 No\r\nContent-Length: 3\r\n\r\n", ":status=204"},
		{"cookies", "HTTP/1.1 500 E\r\nSet-Cookie: a\r\nSET-COOKIE: b\r\n\r\n", ":status=500 | set-cookie=a ! | set-cookie=b !"},
		{"websocket", "HTTP/1.1 101 S\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Accept: x\r\nX: y\r\n\r\n", ":status=200 | x=y"},
		{"long", "HTTP/1.1 304 N\r\nx: " + strings.Repeat("a", 300) + "\r\n\r\n", ":status=304 | x=" + strings.Repeat("a", 300)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var r h1.Response
			if done, err := r.Parse([]byte(tt.text), false); !done || err != nil {
				t.Fatal(done, err)
			}
			if diff := cmp.Diff(tt.want, list(t, AppendResponse(nil, &r, []byte(tt.text)))); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// list decompresses a block; "!" marks what nobody may keep in a table.
func list(t testing.TB, block []byte) string {
	t.Helper()
	var parts []string
	fs, err := hpack.NewDecoder(tableSize, nil).DecodeFull(block)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range fs {
		s := f.Name + "=" + f.Value
		if f.Sensitive {
			s += " !"
		}
		parts = append(parts, s)
	}
	return strings.Join(parts, " | ")
}

func TestTrailersAreMadeWithoutMemory(t *testing.T) {
	lines := []byte("grpc-status: 3\r\ngrpc-message: a message that is longer than what fits a buffer on the stack\r\nX-A-Name-Longer-Than-Any-That-Is-Known: x\r\n")
	block := make([]byte, 0, 512)
	if n := testing.AllocsPerRun(100, func() { AppendTrailer(block, lines) }); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func TestTrailersBothWays(t *testing.T) {
	text := "grpc-status: 0\r\ngrpc-message: \r\nx-bin: a b\r\n"
	block, ok := AppendTrailer([]byte("k"), []byte("Grpc-Status:0\r\ngrpc-message:\r\nX-Bin: a b \r\n"))
	if !ok || block[0] != 'k' {
		t.Fatalf("%q, %v", block, ok)
	}
	got, err := newDecoder().decode(trailerBlock, block[1:], true, nil)
	if err != nil || string(got) != text {
		t.Errorf("%q, %v", got, err)
	}
	for _, bad := range []string{"x", "x: y", "x: y\n", ": y\r\n", "a b: y\r\n", "x: a\x00\r\n", "Content-Length: 3\r\n", "Transfer-Encoding: chunked\r\n", "x: y\r\n\r\n", "Host: a\r\n", "PROXY-Authorization: a\r\n"} {
		if block, ok := AppendTrailer([]byte("k"), []byte(bad)); ok || string(block) != "k" {
			t.Errorf("%q was taken as %q", bad, block)
		}
	}
}
