package sniff

import (
	"crypto/tls"
	"encoding/binary"
	"net"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// hello is what crypto/tls says first with the given configuration.
func hello(t testing.TB, c *tls.Config) []byte {
	t.Helper()
	ours, theirs := net.Pipe()
	done := make(chan struct{})
	go func() {
		defer close(done)
		tls.Client(theirs, c).Handshake() // ends with the pipe
	}()
	b := make([]byte, 32<<10)
	n, err := ours.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	ours.Close()
	<-done
	return b[:n]
}

// split spreads the message of a hello over records of n bytes.
func split(hello []byte, n int) []byte {
	var out []byte
	for m := hello[recordHeader:]; len(m) > 0; {
		k := min(n, len(m))
		out = append(out, hello[0], hello[1], hello[2])
		out = binary.BigEndian.AppendUint16(out, uint16(k))
		out = append(out, m[:k]...)
		m = m[k:]
	}
	return out
}

func TestClientHello(t *testing.T) {
	protocols := []string{"h2", "http/1.1"}
	tests := []struct {
		name   string
		config *tls.Config
		want   Hello
	}{
		{"name and protocols", &tls.Config{ServerName: "www.Example.com", NextProtos: protocols}, Hello{"www.example.com", protocols}},
		{"address", &tls.Config{ServerName: "127.0.0.1"}, Hello{}},
		{"TLS 1.2", &tls.Config{ServerName: "a.b", MaxVersion: tls.VersionTLS12}, Hello{ServerName: "a.b"}},
		{"long", &tls.Config{ServerName: "a.b", NextProtos: manyProtocols()}, Hello{"a.b", manyProtocols()}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			test.config.InsecureSkipVerify = true
			whole := hello(t, test.config)
			for _, b := range [][]byte{whole, split(whole, 300), split(whole, (len(whole)+50)/50)} {
				for n := range b {
					if _, v := ClientHello(b[:n]); v != More {
						t.Fatalf("verdict %d after %d of %d bytes", v, n, len(b))
					}
				}
				got, v := ClientHello(append(b[:len(b):len(b)], "what follows"...))
				if diff := cmp.Diff(test.want, got); v != Yes || diff != "" {
					t.Errorf("verdict %d (-want +got):\n%s", v, diff)
				}
			}
		})
	}
}

func manyProtocols() []string {
	var p []string
	for i := range 60 {
		p = append(p, strings.Repeat("p", 200)+string(rune('0'+i%10)))
	}
	return p
}

func TestWhatIsNoClientHello(t *testing.T) {
	good := hello(t, &tls.Config{ServerName: "a.b", InsecureSkipVerify: true})
	change := func(at int, to byte) []byte {
		b := append([]byte(nil), good...)
		b[at] = to
		return b
	}
	for name, b := range map[string][]byte{
		"HTTP":                  []byte("GET / HTTP/1.1\r\n"),
		"SSH":                   []byte("SSH-2.0"),
		"an alert":              {21, 3, 1, 0, 2, 1, 0},
		"SSL 2":                 {0x80, 0x2e, 1, 0, 2},
		"another version":       {22, 4},
		"an empty record":       {22, 3, 1, 0, 0},
		"an over-long record":   {22, 3, 1, 0x40, 1},
		"a ServerHello":         change(5, 2),
		"a message over 16 KiB": change(7, 0x41),
		"a long session id":     change(43, 255),
		"one byte per record":   split(good, 1),
		"a record that ends it": append(append([]byte(nil), good[:100]...), 23, 3, 3, 0, 0)[:100],
	} {
		_, v := ClientHello(b)
		if name == "a record that ends it" {
			if v != More {
				t.Errorf("a beginning: verdict %d, want More", v)
			}
			continue
		}
		if v != No {
			t.Errorf("%s: verdict %d, want No", name, v)
		}
	}
}

func TestHTTP(t *testing.T) {
	tests := []struct {
		in   string
		want string
		v    Verdict
	}{
		{"GET / HTTP/1.1\r\n", "http/1.1", Yes},
		{"GET / HTTP/1.1\n", "http/1.1", Yes}, // the codec will refuse it and say why
		{"get /x?y HTTP/1.0\r\nHost: a", "http/1.0", Yes},
		{"M-SEARCH * HTTP/1.1\r\n", "http/1.1", Yes},
		{"GET /\xc3\xa9 HTTP/1.1\r\n", "http/1.1", Yes},
		{preface, "h2c", Yes},
		{preface + "more", "h2c", Yes},
		{"", "", More},
		{"G", "", More},
		{"GET", "", More},
		{"GET ", HTTP11, More},
		{"GET / HTTP/1.1", HTTP11, More},
		{"P", "", More},
		{"PR", "", More},
		{"PRI ", H2C, More},
		{"PRI * HTTP/2.0\r\n", H2C, More},
		{"POST / HTTP/1.1", HTTP11, More},
		{preface[:len(preface)-1], H2C, More},
		{"PRI / HTTP/1.1\r\n", "http/1.1", Yes},
		{"\r\n", "", No},
		{"\n", "", No},
		{"\x16\x03", "", No},
		{" GET", "", No},
		{"\x00", "", No},
		{"*1\r\n", "", No},
		{"GET\x00", "", No},
		{"GET\r\n", "", No},
		{"EHLO me\r\n", "", No},
		{"GET / HTTP/2.0\r\n", "", No},
		{"GET /\r\n", "", No},
		{"GET  HTTP/1.1\r\n", "", No},
		{"GET /\x01", "", No},
		{"USER a b c\r\n", "", No},
		{"SSH-2.0-x\r\n", "", No},
		{strings.Repeat("A", maxMethod+1), "", No},
		{"PRI * HTTP/2.0\r\n\r\nXX", "", No},
		{"GET /" + strings.Repeat("a", MaxLine), "", No},
		{"GET /a b HTTP/1.1\r\n", "", No},
		{"hi", "", Unlikely},
		{"get", "", Unlikely},
		{"GETS", "", Unlikely},
		{"PROPFIND /", "", Unlikely},
		{"PROPFIND / HTTP/1", "", Unlikely},
		{"PROPFIND / HTTP/1.", HTTP11, More},
		{"PROPFIND / HTTP/1.0\r", HTTP11, More},
		{"PROPFIND / HTTP/1.1\r\n", HTTP11, Yes},
		{"hello world", "", No},
		{"get a", "", No},
		{"GET a", "", No}, // of Redis
		{"GET h", HTTP11, More},
		{"GET http:/x", "", No},
		{"GET http:// ", HTTP11, More},
		{"GET HTTP://a/ HTTP/1.1\r\n", HTTP11, Yes},
		{"GET https://a HTTP/1.1\r\n", HTTP11, Yes},
		{"GET http HTTP/1.1\r\n", "", No},
		{"OPTIONS *", HTTP11, More},
		{"OPTIONS * HTTP/1.1\r\n", HTTP11, Yes},
		{"OPTIONS *a", "", No},
		{"CONNECT a.b:443", HTTP11, More},
		{"CONNECT [::1]:443 HTTP/1.1\r\n", HTTP11, Yes},
		{"CONNECT {\"", "", No}, // of NATS
		{"GET /a b", "", No},
		{"GET / HTTP/1.2", "", No},
		{"GET / HTTP/1.1x", "", No},
		{"GET / HTTP/1.1\rx", "", No},
		{"GET / HTTP/1.0", HTTP11, More},
	}
	for _, test := range tests {
		if got, v := HTTP([]byte(test.in)); got != test.want || v != test.v {
			t.Errorf("%.40q: %q, %d; want %q, %d", test.in, got, v, test.want, test.v)
		}
	}
}

func TestMeans(t *testing.T) {
	for in, want := range map[string]Verdict{
		"":                                      More,
		"G":                                     More,
		"GET ":                                  Yes,
		"GET  / HTTP/1.1\r\n":                   Yes,
		"GET /a b HTTP/1.1\r\n":                 Yes,
		"GET / HTTP/1.2\r\n":                    Yes,
		"GET / HTTP/2.0\r\n":                    Yes,
		"GET /\r\n":                             Yes,
		"GET foo\r\n":                           Yes,
		"get /":                                 Yes,
		"G@T / ":                                More,
		"G@T / HTTP/":                           Yes,
		"PRI * HTTP/2.0\r\n\r\nXX":              Yes,
		"hello world":                           More,
		"hello world\r\n":                       No,
		"hello world\nGET / HTTP/1.1":           No,
		"EHLO me\r\n":                           No,
		"SSH-2.0-OpenSSH_9.6 x\r\n":             No,
		"PING\r\n":                              No,
		"*1\r\n":                                No,
		" GET":                                  No,
		"\x16\x03\x01":                          No,
		"a \x00 HTTP/1.1":                       No,
		"a \x00":                                No,
		"G\xc3\xa9T ":                           No,
		strings.Repeat("A", maxMethod+1):        No,
		"a " + strings.Repeat("b", MaxLine):     No,
		"a " + strings.Repeat("b", MaxLine-100): More,
	} {
		if got := Means([]byte(in)); got != want {
			t.Errorf("%.40q: %d, want %d", in, got, want)
		}
	}
}

func TestHTTPServer(t *testing.T) {
	for in, want := range map[string]bool{
		"HTTP/1.1 408 Request Timeout\r\n":                     true,
		"HTTP/1.0 408 Request Time-out\r\n":                    true,
		"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00": true, // Go's gRPC sends this at once
		"\x00\x00\x00\x04\x00\x00\x00\x00\x00":                 true,
		"\x00\x00\x00\x04\x01\x00\x00\x00\x00":                 false, // an acknowledgement of nothing
		"\x00\x00\x05\x04\x00\x00\x00\x00\x00":                 false,
		"\x00\x00\x00\x04\x00\x00\x00\x00\x01":                 false,
		"\x00\x00\x00\x04":                                     false,
		"\xff\x00\x00\x04\x00\x00\x00\x00\x00":                 false,
		"\x4a\x00\x00\x00\x0a8.0.36\x00":                       false, // MySQL
		"SSH-2.0-OpenSSH_9.6\r\n":                              false,
		"220 mail.example ESMTP\r\n":                           false,
		"HTTP":                                                 false,
		"":                                                     false,
	} {
		if got := HTTPServer([]byte(in)); got != want {
			t.Errorf("%q: %v", in, got)
		}
	}
}

func FuzzClientHello(f *testing.F) {
	for _, c := range []*tls.Config{
		{ServerName: "www.example.com", NextProtos: []string{"h2", "http/1.1"}},
		{ServerName: "a", MaxVersion: tls.VersionTLS12},
		{InsecureSkipVerify: true},
	} {
		b := hello(f, c)
		f.Add(b)
		f.Add(split(b, 100))
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, v := ClientHello(b)
		if v != Yes && (h.ServerName != "" || h.Protocols != nil) {
			t.Fatalf("verdict %d with %+v", v, h)
		}
		if len(h.Protocols) > maxProtocolOffers || len(h.ServerName) > 253 || h.ServerName != strings.ToLower(h.ServerName) {
			t.Fatalf("%+v", h)
		}
		// What fewer bytes decided, more do not change; and nothing big is waited for.
		for _, n := range []int{len(b) / 2, len(b) - 1} {
			if n < 0 {
				continue
			}
			early, ev := ClientHello(b[:n])
			if ev != More && (ev != v || !cmp.Equal(early, h)) {
				t.Fatalf("%d of %d bytes: %d, then %d", n, len(b), ev, v)
			}
		}
		if v == More && len(b) > MaxHello+maxRecords*recordHeader {
			t.Fatalf("more than %d bytes wanted", len(b))
		}
	})
}

func FuzzHTTP(f *testing.F) {
	for _, s := range []string{"GET / HTTP/1.1\r\n", preface, "PRI * HTTP/1.1\r\n", "\x16\x03\x01", "GET /a b HTTP/1.0\r\n"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		p, v := HTTP(b)
		if v == Yes && p == "" || v == No && p != "" || v == Unlikely && p != "" {
			t.Fatalf("%q, %d", p, v)
		}
		for n := range min(len(b), 200) {
			if ep, ev := HTTP(b[:n]); (ev == Yes || ev == No) && (ev != v || ep != p) {
				t.Fatalf("%d of %d bytes: %d, then %d", n, len(b), ev, v)
			}
			if em := Means(b[:n]); em != More && em != Means(b) {
				t.Fatalf("%d of %d bytes: means %d, then %d", n, len(b), em, Means(b))
			}
		}
		if (v == More || v == Unlikely || Means(b) == More) && len(b) > MaxLine+maxMethod {
			t.Fatalf("more than %d bytes wanted", len(b))
		}
	})
}
