package h1

import (
	"bytes"
	"errors"
	"strings"
	"testing"
)

// pieces calls parse with ever longer beginnings of b until it is done or
// fails; cuts says where they end.
func pieces(b, cuts []byte, parse func([]byte) (bool, error)) (done bool, err error) {
	n := 0
	for _, c := range cuts {
		if n += 1 + int(c); n >= len(b) {
			break
		}
		if done, err = parse(b[:n:n]); done || err != nil {
			return done, err
		}
	}
	return parse(b)
}

func FuzzRequestHead(f *testing.F) {
	for _, bad := range refusals(f, "requests.bad") {
		f.Add([]byte(bad.bytes), []byte{3, 0, 1})
	}
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\n\r\nrest"), []byte{0, 0, 0})
	f.Add([]byte("POST http://a:80?x HTTP/1.1\r\nHost: A\r\nContent-Length: 007\r\nConnection: x\r\nX: y\r\n\r\n"), []byte{})
	f.Add([]byte("GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"), []byte{20})
	f.Add([]byte("POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nHost: [::1]\r\nExpect: 100-continue\r\n\r\n"), []byte{255})
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		var once, slow Request
		done, err := once.Parse(b)
		slowDone, slowErr := pieces(b, cuts, slow.Parse)
		if done != slowDone || !errors.Is(err, slowErr) {
			t.Fatalf("at once %v, %v; in pieces %v, %v", done, err, slowDone, slowErr)
		}
		if !done || err != nil || once.Connect {
			return
		}
		if once.Len != slow.Len || once.Len > len(b) {
			t.Fatalf("length %d and %d of %d", once.Len, slow.Len, len(b))
		}
		out := once.AppendTo(nil, b)
		var again Request
		if done, err := again.Parse(out); !done || err != nil || again.Len != len(out) {
			t.Fatalf("%q was sent on as %q: %v, %v", b, out, done, err)
		}
		framing := once.Framing
		if framing == NoBody && anticipatesBody(once.Method.In(b)) {
			framing = Length // of none
		}
		if again.Framing != framing || again.Length != once.Length || again.Upgrade != once.Upgrade || again.Minor != 1 ||
			!bytes.Equal(again.Authority.In(out), once.Authority.In(b)) || !bytes.Equal(again.Method.In(out), once.Method.In(b)) {
			t.Fatalf("%q means another thing than %q", out, b)
		}
		path := string(once.Path.In(b))
		if path == "" || path[0] == '?' {
			path = "/" + path
		}
		if string(again.Path.In(out)) != path || again.Target != again.Path || !strings.HasSuffix(string(once.Target.In(b)), string(once.Path.In(b))) {
			t.Fatalf("%q asks for %q; %q was asked for", out, again.Target.In(out), path)
		}
		if twice := again.AppendTo(nil, out); !bytes.Equal(twice, out) {
			t.Fatalf("%q became %q", out, twice)
		}
	})
}

func FuzzResponseHead(f *testing.F) {
	for _, bad := range refusals(f, "responses.bad") {
		f.Add([]byte(bad.bytes), []byte{3, 0, 1}, false)
	}
	f.Add([]byte("HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: x\r\nX: y\r\n\r\nok"), []byte{0, 9}, true)
	f.Add([]byte("HTTP/1.0 200\r\nContent-Length: 02\r\n\r\n"), []byte{}, false)
	f.Add([]byte("HTTP/1.1 304 Not Modified\r\nTransfer-Encoding: chunked\r\n\r\n"), []byte{}, false)
	f.Fuzz(func(t *testing.T, b, cuts []byte, toHEAD bool) {
		var once, slow Response
		done, err := once.Parse(b, toHEAD)
		slowDone, slowErr := pieces(b, cuts, func(p []byte) (bool, error) { return slow.Parse(p, toHEAD) })
		if done != slowDone || !errors.Is(err, slowErr) {
			t.Fatalf("at once %v, %v; in pieces %v, %v", done, err, slowDone, slowErr)
		}
		if !done || err != nil {
			return
		}
		how := Reply{Chunked: once.Framing == Chunked, WebSocket: once.Upgrade == WebSocket}
		out := once.AppendTo(nil, b, how)
		var again Response
		if done, err := again.Parse(out, toHEAD); !done || err != nil || again.Len != len(out) {
			t.Fatalf("%q was sent on as %q: %v, %v", b, out, done, err)
		}
		if again.Status != once.Status || again.Framing != once.Framing || again.Framing == Length && again.Length != once.Length {
			t.Fatalf("%q means another thing than %q", out, b)
		}
		if twice := again.AppendTo(nil, out, how); !bytes.Equal(twice, out) {
			t.Fatalf("%q became %q", out, twice)
		}
	})
}

func FuzzChunked(f *testing.F) {
	for _, bad := range refusals(f, "chunks.bad") {
		f.Add([]byte(bad.bytes), []byte{0, 1})
	}
	f.Add([]byte("5\r\nhello\r\n00A;a=\"b\\\"\";c\r\n0123456789\r\n0\r\nT: x\r\n\r\nrest"), []byte{2, 0, 7, 1, 1, 0, 0, 30})
	f.Fuzz(func(t *testing.T, b, cuts []byte) {
		var once Decoder
		whole := bytes.Clone(b)
		n, used, err := once.Compact(whole)
		data := whole[:n]

		var slow Decoder
		var slowData []byte
		var slowErr error
		slowUsed := 0
		for rest := b; len(rest) > 0 && !slow.Done(); {
			k := len(rest)
			if len(cuts) > 0 {
				k, cuts = min(k, 1+int(cuts[0])), cuts[1:]
			}
			piece := bytes.Clone(rest[:k])
			m, u, err := slow.Compact(piece)
			slowData = append(slowData, piece[:m]...)
			slowUsed += u
			if slowErr = err; err != nil {
				break
			}
			rest = rest[k:]
		}
		if !bytes.Equal(data, slowData) || err == nil && used != slowUsed || !errors.Is(err, slowErr) || once.Done() != slow.Done() {
			t.Fatalf("at once %q, %d, %v, %v; in pieces %q, %d, %v, %v", data, used, err, once.Done(), slowData, slowUsed, slowErr, slow.Done())
		}
		if err != nil || !once.Done() {
			return
		}
		var coded []byte
		if n > 0 {
			coded = append(append(AppendChunkSize(nil, n), data...), "\r\n"...)
		}
		coded = append(coded, LastChunk...)
		var again Decoder
		if m, u, err := again.Compact(coded); err != nil || u != len(coded) || !again.Done() || !bytes.Equal(coded[:m], data) {
			t.Fatalf("%q coded anew: %v", data, err)
		}
	})
}
