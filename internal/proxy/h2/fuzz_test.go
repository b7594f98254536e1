package h2

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// FuzzRequestBlock builds a block from names and values, separated by \xff, and
// holds its text to what the block says: h1 reads exactly one head, and as many
// fields as came in, or refuses it.
func FuzzRequestBlock(f *testing.F) {
	seed := func(list string) {
		b := []byte(strings.NewReplacer("=", "\xff", " | ", "\xff").Replace(list))
		f.Add(b, true)
		f.Add(b, false)
	}
	seed(get)
	seed(get + " | cookie=a | cookie=b | host=a")
	seed(":method=POST | :scheme=http | :path=/ | :authority=a | content-length=0 | te=trailers")
	seed(":method=CONNECT | :authority=a:1")
	seed(":method=CONNECT | :protocol=websocket | :scheme=http | :path=/ | :authority=a")
	for _, protocol := range []string{"h2c", "H2C", "WebSocket", "connect-udp", "websocket, h2c"} {
		seed(":method=CONNECT | :protocol=" + protocol + " | :scheme=http | :path=/ | :authority=a")
	}
	seed(get + " | x=a\r\nb: c")
	f.Fuzz(func(t *testing.T, b []byte, end bool) {
		parts := strings.Split(string(b), "\xff")
		var list [][2]string
		own, cookies, host := 0, 0, false
		for len(parts) >= 2 && len(list) < 90 {
			name := parts[0]
			list = append(list, [2]string{name, parts[1]})
			switch {
			case strings.HasPrefix(name, ":"):
			case name == "cookie":
				cookies = 1
			case name == "host":
				host = true
			default:
				own++
			}
			parts = parts[2:]
		}
		d := newDecoder()
		text, err := d.decode(requestBlock, compressed(list), end, nil)
		if err != nil || d.large != nil {
			return
		}
		checkOneHead(t, d, text, own+cookies, host)
	})
}

func checkOneHead(t *testing.T, d *decoder, text []byte, want int, host bool) {
	t.Helper()
	if n := bytes.Count(text, []byte("\r\n\r\n")); n != 1 || !bytes.HasSuffix(text, []byte("\r\n\r\n")) || len(text) > MaxHead+200 {
		t.Fatalf("%d heads in %q", n, text)
	}
	var r h1.Request
	done, err := r.Parse(text)
	if err != nil {
		return // an authority that is none, a body where there is none: h1's to say
	}
	if !done || r.Len != len(text) {
		t.Fatalf("h1 reads %d of %d bytes of %q", r.Len, len(text), text)
	}
	got := 0
	for i := range r.N() {
		switch f := r.Field(i); f.Kind {
		case h1.Host:
			host = false
		case h1.TransferEncoding, h1.Connection, h1.UpgradeTo:
		default:
			got++
		}
	}
	if !d.end && !r.Connect && r.Framing == h1.NoBody && r.Upgrade != h1.WebSocket {
		t.Fatalf("what comes on the stream would follow a head that announces nothing: %q", text)
	}
	if tunnel := d.seen&sawProtocol != 0; tunnel != (r.Upgrade == h1.WebSocket) || tunnel && string(r.Method.In(text)) != "GET" {
		t.Fatalf("protocol %q became %q", d.protocol, text)
	} else if tunnel {
		return // some fields are made here
	}
	if got != want || host {
		t.Fatalf("%d fields became %d: %q", want, got, text)
	}
	if path := string(r.Path.In(text)); !r.Connect && path != d.path {
		t.Fatalf("path %q became %q", d.path, path)
	}
	if a := string(r.Authority.In(text)); a != d.authority {
		t.Fatalf("authority %q became %q", d.authority, a)
	}
	again, fault := newDecoder().decode(requestBlock, AppendRequest(nil, &r, text, d.scheme), d.end, nil)
	if fault != nil || len(again) != len(text) {
		t.Fatalf("%q was sent on as %q: %v", text, again, fault)
	}
}

// FuzzResponseBlock is FuzzRequestBlock for answers.
func FuzzResponseBlock(f *testing.F) {
	f.Add([]byte(":status\xff200\xffcontent-length\xff3"), false, false, false)
	f.Add([]byte(":status\xff304\xffx\xffy"), true, true, false)
	f.Add([]byte(":status\xff200\xffx\xffa\r\n"), true, false, true)
	f.Fuzz(func(t *testing.T, b []byte, end, head, websocket bool) {
		parts := strings.Split(string(b), "\xff")
		var list [][2]string
		for len(parts) >= 2 && len(list) < 90 {
			list = append(list, [2]string{parts[0], parts[1]})
			parts = parts[2:]
		}
		d := newDecoder()
		d.toHEAD = head
		if websocket {
			d.accept = "k"
		}
		text, err := d.decode(responseBlock, compressed(list), end, nil)
		if err != nil {
			return
		}
		var r h1.Response
		done, perr := r.Parse(text, head)
		if perr != nil {
			t.Fatalf("h1 refuses %q: %v", text, perr)
		}
		if !done || r.Len != len(text) || bytes.Count(text, []byte("\r\n\r\n")) != 1 {
			t.Fatalf("h1 reads %d of %d bytes of %q", r.Len, len(text), text)
		}
		if r.Framing == h1.UntilClose && r.Status >= 200 {
			t.Fatalf("%q ends with the connection", text)
		}
	})
}

// FuzzBlock decompresses anything, twice with one table.
func FuzzBlock(f *testing.F) {
	f.Add(compressed(fields(f, get+" | x=y")), []byte{0xbe})
	f.Add([]byte{0x3f, 0xe1, 0x1f, 0x20}, []byte{0x80})
	f.Fuzz(func(t *testing.T, a, b []byte) {
		if len(a)+len(b) > maxBlock {
			return
		}
		d := newDecoder()
		if _, err := d.decode(requestBlock, a, true, nil); err != nil && err.Conn {
			return
		}
		text, err := d.decode(requestBlock, b, true, nil)
		if err == nil && d.large == nil && bytes.Count(text, []byte("\r\n\r\n")) != 1 {
			t.Fatalf("not one head: %q", text)
		}
	})
}

// FuzzConn gives a connection in either role any bytes, at once and in pieces:
// both ways it must say the same.
func FuzzConn(f *testing.F) {
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	f.Add([]byte(settings+"\x00\x00\x05\x01\x05\x00\x00\x00\x01\x82\x86\x84\x41\x00"), true, uint8(3))
	f.Add([]byte(settings+"\x00\x00\x01\x01\x04\x00\x00\x00\x01\x88"+"\x00\x00\x02\x00\x01\x00\x00\x00\x01hi"), false, uint8(1))
	f.Add([]byte(settings+"\x00\x00\x08\x06\x00\x00\x00\x00\x0001234567"+"\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x00\x00\x01"), true, uint8(9))
	f.Add([]byte(settings+"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08"), false, uint8(200))
	f.Fuzz(func(t *testing.T, b []byte, server bool, step uint8) {
		if server {
			b = append([]byte(Preface), b...)
		}
		once, onceOut := feed(t, b, server, len(b))
		pieces, piecesOut := feed(t, b, server, int(step)+1)
		if once != pieces || onceOut != piecesOut {
			t.Fatalf("at once:\n%s\nin pieces:\n%s", once, pieces)
		}
	})
}

// feed gives b to a connection, step bytes at a time, and returns what came of it.
func feed(t *testing.T, b []byte, server bool, step int) (events, out string) {
	t.Helper()
	var c Conn
	c.Init(Config{Server: server, Open: func() *Stream { return new(Stream) }})
	if !server {
		for range 3 {
			c.Start(new(Stream), []byte{0x82}, Start{})
		}
	}
	var log strings.Builder
	var have []byte
	for len(b) > 0 {
		n := min(step, len(b))
		have, b = append(have, b[:n]...), b[n:]
		for {
			ev, used, err := c.Next(have)
			if used > len(have) {
				t.Fatalf("%d of %d bytes used", used, len(have))
			}
			have = have[used:]
			if err != nil {
				return log.String() + err.Error(), string(c.Out)
			}
			if ev.Kind == None {
				break
			}
			log.WriteByte('0' + byte(ev.Kind))
			log.Write(ev.Data)
			if s := ev.Stream; s != nil {
				log.Write(s.Text)
				if ev.Kind == Data {
					c.Consumed(s, len(ev.Data), true)
				}
				if !s.Open() {
					c.Release(s)
				}
			}
		}
	}
	if c.live < len(c.streams) || c.recv < 0 || c.recv > c.target || len(c.block) > maxBlock {
		t.Fatalf("%d live, %d open, window %d of %d, block %d", c.live, len(c.streams), c.recv, c.target, len(c.block))
	}
	return log.String(), string(c.Out)
}
