package streams

import (
	"bytes"
	"encoding/binary"
	"net"
	"runtime"
	"testing"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// A batcher is a client that sends requests in batches, one write each, and
// does little else, so that what is measured is the server.
type batcher struct {
	nc    net.Conn
	enc   *hpack.Encoder
	block bytes.Buffer
	out   []byte
	in    []byte
	next  uint32
}

func newBatcher(t testing.TB, addr string) *batcher {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = nc.Close() })
	b := &batcher{nc: nc, in: make([]byte, 64<<10), next: 1}
	b.enc = hpack.NewEncoder(&b.block)
	hello := []byte(http2.ClientPreface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x00\x04\x01\x00\x00\x00\x00")
	hello = append(hello, "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00"...) // our window
	if _, err := nc.Write(hello); err != nil {
		t.Fatal(err)
	}
	return b
}

var requestFields = []hpack.HeaderField{
	{Name: ":method", Value: "GET"},
	{Name: ":scheme", Value: "http"},
	{Name: ":path", Value: "/v1/items/17?full=yes"},
	{Name: ":authority", Value: "api.example.com"},
	{Name: "user-agent", Value: "h2load nghttp2/1.52.0"},
	{Name: "accept", Value: "*/*"},
	{Name: "x-request-id", Value: "6ba7b810-9dad-11d1-80b4-00c04fd430c8"},
}

// run sends n requests at once and reads their answers.
func (b *batcher) run(t testing.TB, n int) {
	t.Helper()
	b.out = b.out[:0]
	for range n {
		b.block.Reset()
		for _, f := range requestFields {
			if err := b.enc.WriteField(f); err != nil {
				t.Fatal(err)
			}
		}
		b.out = append(b.out, 0, byte(b.block.Len()>>8), byte(b.block.Len()), 1, 5)
		b.out = binary.BigEndian.AppendUint32(b.out, b.next)
		b.out = append(b.out, b.block.Bytes()...)
		if b.next += 2; b.next%(1<<13) < 2 {
			b.out = append(b.out, "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x00\x40\x00\x00"...)
		}
	}
	if _, err := b.nc.Write(b.out); err != nil {
		t.Fatal(err)
	}
	have := 0
	for ended := 0; ended < n; {
		k, err := b.nc.Read(b.in[have:])
		if err != nil {
			t.Fatal(err)
		}
		have += k
		p := b.in[:have]
		for len(p) >= 9 {
			size := 9 + int(p[0])<<16 + int(p[1])<<8 + int(p[2])
			if len(p) < size {
				break
			}
			if p[3] <= 1 && p[4]&1 != 0 {
				ended++
			}
			p = p[size:]
		}
		have = copy(b.in, p)
	}
}

// answerer answers each request with 1 KiB, as a proxy does that has parsed the
// answer of an endpoint.
func answerer(tb testing.TB) func(*Stream) {
	tb.Helper()
	body := bytes.Repeat([]byte("x"), 1024)
	text := []byte("HTTP/1.1 200 OK\r\nServer: u\r\nContent-Type: text/plain\r\nContent-Length: 1024\r\nDate: Sun, 22 Nov 2026 22:44:19 GMT\r\n\r\n")
	var resp h1.Response
	if done, err := resp.Parse(text, false); !done || err != nil {
		tb.Fatal(done, err)
	}
	type scratch struct {
		req   h1.Request
		block []byte
	}
	free := make(chan *scratch, 256)
	return func(s *Stream) {
		var x *scratch
		select {
		case x = <-free:
		default:
			x = new(scratch)
		}
		x.req.Reset()
		if done, err := x.req.Parse(s.Head()); !done || err != nil {
			s.Reset(h2.InternalError)
			return
		}
		x.block = h2.AppendResponse(x.block[:0], &resp, text)
		_, _ = s.Send(x.block, body, true) // the caller may be gone
		free <- x
	}
}

func BenchmarkServer16(b *testing.B) { benchmarkServer(b, 16) }
func BenchmarkServer1(b *testing.B)  { benchmarkServer(b, 1) }

func benchmarkServer(b *testing.B, streams int) {
	b.Helper()
	cl := newBatcher(b, newServer(b, Options{}, answerer(b)).addr)
	cl.run(b, streams)
	b.ReportAllocs()
	b.ResetTimer()
	for i := 0; i < b.N; i += streams {
		cl.run(b, streams)
	}
}

// BenchmarkBulk sends bodies through a server that sends them back.
func BenchmarkBulk(b *testing.B) {
	srv := newServer(b, Options{}, echo)
	cl := newClient(b, srv.addr, Options{})
	req := block(b, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	body := make([]byte, 1<<20)
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, got, _, err := exchange(cl, req, body, nil); err != nil || len(got) != len(body) {
			b.Fatal(len(got), err)
		}
	}
}

// TestRequestsAllocateNothing holds requests whose fields the peer's table knows
// to no allocation, on average.
func TestRequestsAllocateNothing(t *testing.T) {
	if raceEnabled {
		return // which makes pools forget
	}
	cl := newBatcher(t, newServer(t, Options{}, answerer(t)).addr)
	for range 20 {
		cl.run(t, 16)
	}
	if n := testing.AllocsPerRun(100, func() { cl.run(t, 16) }) / 16; n > 0.1 {
		t.Errorf("%.2f allocations per request", n)
	}
}

// TestIdleConnectionIsSmall measures what connections hold on which everything is done.
func TestIdleConnectionIsSmall(t *testing.T) {
	if raceEnabled {
		return // which makes everything larger
	}
	const conns = 200
	o := Options{Memory: new(Memory)}
	srv := newServer(t, o, answerer(t))
	clients := make([]*batcher, conns)
	newBatcher(t, srv.addr).run(t, 16) // so that what they share is there before
	before := inUse()
	for i := range clients {
		clients[i] = newBatcher(t, srv.addr)
		clients[i].run(t, 4)
		*clients[i] = batcher{nc: clients[i].nc}
	}
	ours := (inUse() - before) / conns
	// That is with the socket of the test's end.
	if t.Logf("%d bytes per connection", ours); ours > 10<<10 {
		t.Errorf("%d bytes per connection", ours)
	}
	runtime.KeepAlive(clients)
}

func inUse() uint64 {
	for range 4 { // each shrinks a stack by half
		runtime.GC()
	}
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapInuse + m.StackInuse
}
