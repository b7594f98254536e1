package l7

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// goClient is a client of Go's that speaks one version of HTTP with the rig, on
// one connection while that will do.
func (r *rig) goClient(version int) *http.Client {
	r.t.Helper()
	var p http.Protocols
	p.SetUnencryptedHTTP2(version == 2)
	p.SetHTTP1(version == 1)
	t := &http.Transport{
		Protocols: &p,
		DialContext: func(ctx context.Context, network, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, network, r.ln.Addr().String())
		},
	}
	r.t.Cleanup(t.CloseIdleConnections)
	return &http.Client{Transport: t, Timeout: patience}
}

// do sends a request and reads its answer to the end.
func do(t testing.TB, c *http.Client, method, url string, body io.Reader) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequest(method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	res, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	got, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatalf("body after %d bytes: %v", len(got), err)
	}
	return res, string(got)
}

// A framer is one connection of HTTP/2 to the proxy, frame by frame.
type framer struct {
	*http2.Framer
	c   *client
	enc *hpack.Encoder
	buf bytes.Buffer
}

// frames opens a connection and settles it.
func (r *rig) frames() *framer {
	r.t.Helper()
	c := r.dial()
	return newFramer(c, func() { c.say(h2.Preface) })
}

func newFramer(c *client, greet func(), settings ...http2.Setting) *framer {
	c.t.Helper()
	f := &framer{Framer: http2.NewFramer(c, c.r), c: c}
	f.enc = hpack.NewEncoder(&f.buf)
	f.ReadMetaHeaders = hpack.NewDecoder(4096, nil)
	greet()
	f.must(f.WriteSettings(settings...))
	return f
}

// must is for what is written; see say.
func (f *framer) must(err error) {
	f.c.t.Helper()
	if err != nil && !gone(err) {
		f.c.t.Fatal(err)
	}
}

// block encodes fields, names and values in turn.
func (f *framer) block(fields ...string) []byte {
	f.buf.Reset()
	for i := 0; i < len(fields); i += 2 {
		f.must(f.enc.WriteField(hpack.HeaderField{Name: fields[i], Value: fields[i+1]}))
	}
	return f.buf.Bytes()
}

// head sends the head of a request or answer.
func (f *framer) head(id uint32, end bool, fields ...string) {
	f.c.t.Helper()
	f.must(f.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: f.block(fields...), EndStream: end, EndHeaders: true}))
}

// get sends a whole request for a path of x.example.
func (f *framer) get(id uint32, path string, more ...string) {
	f.c.t.Helper()
	f.head(id, true, append([]string{":method", "GET", ":scheme", "http", ":path", path, ":authority", "x.example"}, more...)...)
}

// next reads the next frame that says something about a stream or the end of
// the connection; settings and windows are seen to.
func (f *framer) next() http2.Frame {
	f.c.t.Helper()
	for {
		fr, err := f.ReadFrame()
		if err != nil {
			f.c.t.Fatal(err)
		}
		switch fr := fr.(type) {
		case *http2.SettingsFrame:
			if !fr.IsAck() {
				f.must(f.WriteSettingsAck())
			}
		case *http2.WindowUpdateFrame:
		case *http2.PingFrame:
			if !fr.IsAck() {
				f.must(f.WritePing(true, fr.Data))
			}
		default:
			return fr
		}
	}
}

// answer reads a whole answer on a stream: its head and trailer as lines, and its body.
func (f *framer) answer(id uint32) (head, body, trailer string) {
	f.c.t.Helper()
	for {
		switch fr := f.next().(type) {
		case *http2.MetaHeadersFrame:
			text := fields(fr)
			if head == "" {
				head = text
			} else {
				trailer = text
			}
			if fr.StreamEnded() {
				return head, body, trailer
			}
		case *http2.DataFrame:
			body += string(fr.Data())
			if fr.StreamEnded() {
				return head, body, trailer
			}
		default:
			f.c.t.Fatalf("stream %d: %v within an answer", id, fr)
		}
	}
}

func fields(fr *http2.MetaHeadersFrame) string {
	var text strings.Builder
	for _, h := range fr.Fields {
		text.WriteString(h.Name + ": " + h.Value + "\n")
	}
	return text.String()
}

// reset expects a stream to be reset, whatever came of it before, and returns the code.
func (f *framer) reset(id uint32) http2.ErrCode {
	f.c.t.Helper()
	for {
		if fr, ok := f.next().(*http2.RSTStreamFrame); ok && fr.StreamID == id {
			return fr.ErrCode
		}
	}
}

// goaway expects the connection to be given up, and returns the code.
func (f *framer) goaway() http2.ErrCode {
	f.c.t.Helper()
	for {
		if fr, ok := f.next().(*http2.GoAwayFrame); ok {
			return fr.ErrCode
		}
	}
}

// goEndpoint is a server of Go's that takes both versions of HTTP, in cleartext.
func goEndpoint(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var p http.Protocols
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	var wg sync.WaitGroup
	s := &http.Server{Handler: h, Protocols: &p, ReadHeaderTimeout: patience, ConnState: func(_ net.Conn, state http.ConnState) {
		switch state {
		case http.StateNew:
			wg.Add(1)
		case http.StateClosed:
			wg.Done()
		case http.StateActive, http.StateIdle, http.StateHijacked:
		}
	}}
	wg.Go(func() {
		if err := s.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			t.Error(err)
		}
	})
	t.Cleanup(func() { s.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// must is for what cannot fail.
func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
