package l7

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// httpEndpoint is an endpoint by the standard library.
func httpEndpoint(t testing.TB, h http.HandlerFunc) netip.AddrPort {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return netip.MustParseAddrPort(s.Listener.Addr().String())
}

// noise yields n bytes that depend on seed alone.
func noise(seed uint64, n int64) io.Reader {
	return io.LimitReader(rand.NewChaCha8([32]byte{byte(seed), byte(seed >> 8)}), n)
}

func digest(r io.Reader) (string, int64, error) {
	h := sha256.New()
	n, err := io.Copy(h, r)
	return fmt.Sprintf("%x", h.Sum(nil)[:8]), n, err
}

// ragged returns reads of random sizes.
type ragged struct {
	r   io.Reader
	rng *rand.Rand
}

func (r ragged) Read(p []byte) (int, error) {
	return r.r.Read(p[:min(len(p), 1+r.rng.IntN(40000))])
}

func TestBodiesOfAnySizePassBothWaysUnchanged(t *testing.T) {
	up := httpEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		if req.ContentLength >= 0 {
			w.Header().Set("Content-Length", fmt.Sprint(req.ContentLength))
		}
		http.NewResponseController(w).EnableFullDuplex()
		b := make([]byte, 50000)
		for seed := uint64(len(b)); ; seed++ { // writes of changing size become chunks
			n, err := req.Body.Read(b[:1+seed*7919%uint64(len(b))])
			if w.Write(b[:n]); err != nil {
				return
			}
			http.NewResponseController(w).Flush()
		}
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
	client := &http.Client{Transport: &http.Transport{Proxy: func(*http.Request) (*url.URL, error) { return url.Parse("http://" + r.ln.Addr().String()) }}}
	defer client.CloseIdleConnections()
	sizes := []int64{0, 1, 1000, 8191, 8192, 16384, 65535, 65536, 65537, 1 << 20, 3<<20 + 17}
	for i, size := range sizes {
		for _, sized := range []bool{true, false} {
			seed := uint64(i)
			body := ragged{noise(seed, size), rand.New(rand.NewPCG(seed, 2))}
			req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://x.example/", body)
			if err != nil {
				t.Fatal(err)
			}
			if sized {
				req.ContentLength = size
				if size == 0 {
					req.Body = http.NoBody
				}
			}
			res, err := client.Do(req)
			if err != nil {
				t.Fatal(err)
			}
			got, n, err := digest(res.Body)
			res.Body.Close()
			want, _, _ := digest(noise(seed, size))
			if err != nil || got != want {
				t.Errorf("%d bytes, sized %v: %d bytes came back, digest %s, want %s, %v", size, sized, n, got, want, err)
			}
			if rec := r.record(); rec.Received != size || rec.Sent != size || rec.Flags != 0 || rec.Status != 200 {
				t.Errorf("%d bytes, sized %v: record says %d received, %d sent, %s, %d", size, sized, rec.Received, rec.Sent, rec.Flags, rec.Status)
			}
		}
	}
}

func TestChunksAreMadeAnew(t *testing.T) {
	rng := rand.New(rand.NewPCG(3, 4))
	for range 20 {
		data := make([]byte, rng.IntN(200000))
		io.ReadFull(noise(rng.Uint64(), int64(len(data))), data)
		sent, back := chunked(rng, data), chunked(rng, data)
		theirs := rand.New(rand.NewPCG(rng.Uint64(), 5)) // both sides write at once
		r := one(t, func(c *client) {
			req, err := http.ReadRequest(c.r)
			if err != nil {
				c.t.Fatal(err)
				return
			}
			got, err := io.ReadAll(req.Body)
			if err != nil || !bytes.Equal(got, data) {
				c.t.Fatalf("%d bytes came, want %d; %v", len(got), len(data), err)
			}
			c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
			writeRagged(c, back, theirs)
			c.hear(get)
			c.say(ok)
		})
		c := r.dial()
		c.say("POST / HTTP/1.1\r\nHost: x.example\r\nTransfer-Encoding: chunked\r\n\r\n")
		writeRagged(c, sent+get, rng) // the next request comes with the last bytes
		res, body := c.answer("POST")
		if body != string(data) || res.StatusCode != 200 || res.Close {
			t.Fatalf("%v: %d bytes came back, want %d", res, len(body), len(data))
		}
		c.hear(ok)
	}
}

func chunked(rng *rand.Rand, data []byte) string {
	var b strings.Builder
	for len(data) > 0 {
		n := min(len(data), 1+rng.IntN(1<<rng.IntN(17)))
		fmt.Fprintf(&b, []string{"%x\r\n", "0%X\r\n", "%x;name=value\r\n", "%X;a=\"b \\\" c\";d\r\n"}[rng.IntN(4)], n)
		b.Write(data[:n])
		b.WriteString("\r\n")
		data = data[n:]
	}
	b.WriteString([]string{"0\r\n\r\n", "000;x\r\nTrailer: value\r\nother: \r\n\r\n"}[rng.IntN(2)])
	return b.String()
}

func writeRagged(w io.Writer, s string, rng *rand.Rand) {
	for len(s) > 0 {
		n := min(len(s), 1+rng.IntN(1<<rng.IntN(16)))
		if _, err := io.WriteString(w, s[:n]); err != nil {
			return
		}
		s = s[n:]
	}
}

// 64 MiB pass both ways at once while the proxy's memory stays where it was.
func TestStreamingIsBoundedInMemory(t *testing.T) {
	const size = 64 << 20
	up := httpEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Content-Length", fmt.Sprint(size))
		io.CopyBuffer(struct{ io.Writer }{w}, req.Body, make([]byte, 32<<10))
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
	c := r.dial()
	fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: x.example\r\nContent-Length: %d\r\n\r\n", size)
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	var wg sync.WaitGroup
	wg.Go(func() { io.Copy(struct{ io.Writer }{c}, noise(7, size)) })
	res, err := http.ReadResponse(c.r, nil)
	if err != nil {
		t.Fatal(err)
	}
	got, n, err := digest(res.Body)
	wg.Wait()
	runtime.ReadMemStats(&after)
	if want, _, _ := digest(noise(7, size)); got != want || err != nil {
		t.Errorf("%d bytes, digest %s, want %s, %v", n, got, want, err)
	}
	if grown := int64(after.TotalAlloc - before.TotalAlloc); grown > 4<<20 {
		t.Errorf("%d bytes were allocated to pass %d", grown, size)
	}
}

// The 1 KiB request of the benchmarks.
const (
	page    = "GET /index.html HTTP/1.1\r\nHost: x.example\r\nUser-Agent: curl/8.0\r\nAccept: */*\r\nX-Request-Id: 0123456789abcdef\r\n\r\n"
	kibHead = "HTTP/1.1 200 OK\r\nServer: s\r\nDate: Sun, 06 Nov 1994 08:49:37 GMT\r\nContent-Type: text/html\r\nContent-Length: 1024\r\n\r\n"
)

// pages is an endpoint that answers any number of callers without allocating.
func pages(t testing.TB) netip.AddrPort {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	answer := []byte(kibHead + strings.Repeat("x", 1024))
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			wg.Go(func() {
				defer c.Close()
				for b := make([]byte, 4096); ; {
					if n, err := c.Read(b); err != nil || n == 0 {
						return
					}
					if _, err := c.Write(answer); err != nil {
						return
					}
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return ln.Addr().(*net.TCPAddr).AddrPort()
}

// quietLog keeps nothing.
type quietLog struct{}

func (quietLog) Add(*decision.Record) {}

func TestAPlainRequestAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; counted without it")
		return
	}
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{pages(t)}})
	r.server.log = quietLog{}
	c := r.dial()
	request, answer := []byte(page), make([]byte, len(kibHead)+1024)
	n := testing.AllocsPerRun(2000, func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := io.ReadFull(c.TCPConn, answer); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0.1 {
		t.Errorf("%v allocations per request", n)
	}
}

func BenchmarkGet1KiB(b *testing.B) {
	up := pages(b)
	b.Run("fairlead", func(b *testing.B) {
		r := newRig(b, entry{host: "x.example", endpoints: []netip.AddrPort{up}})
		r.server.log = quietLog{}
		load(b, r.ln.Addr().String())
	})
	b.Run("reverseproxy", func(b *testing.B) {
		target, err := url.Parse("http://" + up.String())
		if err != nil {
			b.Fatal(err)
		}
		tr := &http.Transport{MaxIdleConnsPerHost: 64}
		defer tr.CloseIdleConnections()
		p := httputil.NewSingleHostReverseProxy(target)
		p.Transport = tr
		s := httptest.NewServer(p)
		defer s.Close()
		load(b, s.Listener.Addr().String())
	})
	b.Run("direct", func(b *testing.B) { load(b, up.String()) })
}

// load measures requests on a few connections at once; besides the time of
// the clock it reports the CPU time of the process, endpoint and caller included.
func load(b *testing.B, addr string) {
	b.Helper()
	const callers = 8
	before := cpu(b)
	var wg sync.WaitGroup
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ReportAllocs()
	b.ResetTimer()
	for range callers {
		c := dial(b, addr)
		c.SetDeadline(time.Now().Add(time.Minute))
		wg.Go(func() {
			defer c.Close()
			request, answer := []byte(page), make([]byte, 4096)
			for left.Add(-1) >= 0 {
				if _, err := c.Write(request); err != nil {
					b.Error(err)
					return
				}
				for got := 0; got < len(kibHead)+1024; {
					n, err := c.TCPConn.Read(answer)
					if err != nil {
						b.Error(err)
						return
					}
					got += n
				}
			}
		})
	}
	wg.Wait()
	b.ReportMetric(float64((cpu(b)-before).Nanoseconds())/float64(b.N), "cpu-ns/op")
}

func cpu(t testing.TB) time.Duration {
	t.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		t.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
