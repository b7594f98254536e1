package streams

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// inClear is HTTP/2 by prior knowledge and nothing else.
func inClear() *http.Protocols {
	p := new(http.Protocols)
	p.SetUnencryptedHTTP2(true)
	return p
}

// goClient is Go's client, on connections of its own.
func goClient(t testing.TB) *http.Client {
	t.Helper()
	tr := &http.Transport{Protocols: inClear()}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// goServer is Go's server; 0 streams stands for its own limit.
func goServer(t testing.TB, h http.HandlerFunc, streams int) (addr string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: h, Protocols: inClear(), HTTP2: &http.HTTP2Config{MaxConcurrentStreams: streams}, ReadHeaderTimeout: time.Minute}
	var serving sync.WaitGroup
	serving.Go(func() { _ = s.Serve(l) }) // until it is closed
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		serving.Wait()
	})
	return l.Addr().String()
}

// noise is n bytes that no two seeds share.
func noise(seed byte, n int) []byte {
	b := make([]byte, 0, n+32)
	for sum := sha256.Sum256([]byte{seed}); len(b) < n; sum = sha256.Sum256(sum[:]) {
		b = append(b, sum[:]...)
	}
	return b[:n]
}

func TestServerSpeaksWithGo(t *testing.T) {
	srv := newServer(t, Options{}, echo)
	client := goClient(t)
	for _, n := range []int{0, 1, 5000, 100_000, 10 << 20} {
		want := noise(1, n)
		req, err := http.NewRequest("POST", "http://"+srv.addr+"/echo", io.MultiReader(bytes.NewReader(want)))
		if err != nil {
			t.Fatal(err)
		}
		req.Trailer = http.Header{"X-Sum": {"a, b"}}
		resp, err := client.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(resp.Body)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%d bytes came back as %d: %v", n, len(got), err)
		}
		if s := resp.Trailer.Get("X-Sum"); s != "a, b" {
			t.Errorf("trailer %q", s)
		}
		if err := resp.Body.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestServerTakesAHundredStreamsAtOnce(t *testing.T) {
	var all sync.WaitGroup
	all.Add(h2.DefaultMaxStreams)
	srv := newServer(t, Options{}, func(s *Stream) {
		all.Done()
		all.Wait() // every stream is there before the first answer
		echo(s)
	})
	client := goClient(t)
	var wg sync.WaitGroup
	for i := range h2.DefaultMaxStreams {
		wg.Go(func() {
			want := noise(byte(i), 200_000)
			resp, err := client.Post("http://"+srv.addr, "", bytes.NewReader(want))
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = resp.Body.Close() }()
			if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
}

// TestStarvedStreamStopsNoOther leaves answers and requests unread while others
// go through on the same connection.
func TestStarvedStreamStopsNoOther(t *testing.T) {
	release := make(chan struct{})
	srv := newServer(t, Options{}, func(s *Stream) {
		if bytes.Contains(s.Head(), []byte("/stuck")) {
			<-release // reads nothing
			return
		}
		echo(s)
	})
	client := goClient(t)
	var stuck sync.WaitGroup
	for range 40 {
		stuck.Go(func() {
			resp, err := client.Post("http://"+srv.addr+"/stuck", "", bytes.NewReader(noise(0, 1<<20)))
			if err == nil {
				_ = resp.Body.Close()
			}
		})
	}
	unread, err := client.Post("http://"+srv.addr+"/unread", "", bytes.NewReader(noise(9, 5<<20)))
	if err != nil {
		t.Fatal(err)
	}
	want := noise(2, 3<<20)
	resp, err := client.Post("http://"+srv.addr+"/", "", bytes.NewReader(want))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(resp.Body); err != nil || !bytes.Equal(got, want) {
		t.Errorf("%d bytes, %v", len(got), err)
	}
	_ = resp.Body.Close()
	_ = unread.Body.Close()
	close(release)
	stuck.Wait()
}

func TestCallerResets(t *testing.T) {
	began, ended := make(chan struct{}), make(chan error, 1)
	srv := newServer(t, Options{}, func(s *Stream) {
		var cut cutFlag
		s.Tie(&cut)
		close(began)
		_, err := s.Read(make([]byte, 1))
		if s.Untie() || !cut.Load() {
			err = errors.New("what was tied was not cut")
		}
		ended <- err
	})
	ctx, cancel := context.WithCancel(context.Background())
	body, feed := io.Pipe()
	req, err := http.NewRequestWithContext(ctx, "POST", "http://"+srv.addr, body)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-began
		cancel()
	}()
	if resp, err := goClient(t).Do(req); !errors.Is(err, context.Canceled) {
		t.Errorf("%v, %v", resp, err)
	}
	_ = feed.Close()
	if err := <-ended; !errors.Is(err, ResetError(h2.Cancel)) {
		t.Errorf("the handler met %v", err)
	}
}

func TestAnswerBeforeTheRequestIsRead(t *testing.T) {
	srv := newServer(t, Options{}, func(s *Stream) {
		_, _ = s.Send(h2.AppendStatus(nil, 413), []byte("too large"), true) // checked by what the caller gets
	})
	resp, err := goClient(t).Post("http://"+srv.addr, "", bytes.NewReader(make([]byte, 5<<20)))
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); resp.StatusCode != 413 || string(b) != "too large" || err != nil {
		t.Errorf("%d %q %v", resp.StatusCode, b, err)
	}
	_ = resp.Body.Close()
}

func TestServerDrains(t *testing.T) {
	began := make(chan struct{})
	finish := make(chan struct{})
	srv := newServer(t, Options{}, func(s *Stream) {
		close(began)
		<-finish
		hello(s)
	})
	go func() {
		<-began
		srv.drain()
		close(finish)
	}()
	resp, err := goClient(t).Get("http://" + srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(resp.Body); string(b) != "hello" || err != nil {
		t.Errorf("%q %v", b, err)
	}
	_ = resp.Body.Close()
}

// exchange sends one request and returns the head of the answer, its body and its trailers.
func exchange(cl *Client, block, body, trailer []byte) (head string, answer []byte, trailers string, err error) {
	s, err := cl.Open(block, h2.Start{})
	if err != nil {
		return "", nil, "", err
	}
	defer s.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	sending.Go(func() {
		if _, err := s.Send(nil, body, len(trailer) == 0); err != nil {
			return // the reader meets it, too
		}
		if len(trailer) > 0 {
			_, _ = s.Send(trailer, nil, true) // likewise
		} else if len(body) == 0 {
			_, _ = s.Send(nil, nil, true) // likewise
		}
	})
	h, err := s.ReadHead(nil)
	if err != nil {
		return "", nil, "", err
	}
	answer, err = io.ReadAll(s)
	return string(h), answer, string(s.Trailers()), err
}

func TestClientSpeaksWithGo(t *testing.T) {
	addr := goServer(t, func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(200)
		_ = http.NewResponseController(w).EnableFullDuplex()
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
		w.Header().Set("X-Sum", r.Trailer.Get("X-In"))
	}, 0)
	cl := newClient(t, addr, Options{})
	req := block(t, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nTrailer: x-in\r\n\r\n")
	trailer, _ := h2.AppendTrailer(nil, []byte("x-in: 7\r\n"))
	for _, n := range []int{0, 1, 70_000, 10 << 20} {
		want := noise(3, n)
		head, got, trailers, err := exchange(cl, req, want, trailer)
		if err != nil || !bytes.Equal(got, want) || trailers != "x-sum: 7\r\n" {
			t.Errorf("%d bytes came back as %d, with trailer %q: %v", n, len(got), trailers, err)
		}
		var resp h1.Response
		if done, err := resp.Parse([]byte(head), false); !done || err != nil || resp.Status != 200 || resp.Framing == h1.UntilClose {
			t.Errorf("%q: %v", head, err)
		}
	}
}

func TestClientCarriesAHundredStreams(t *testing.T) {
	addr := goServer(t, func(w http.ResponseWriter, r *http.Request) {
		if _, err := io.Copy(w, r.Body); err != nil {
			t.Error(err)
		}
	}, 0)
	cl := newClient(t, addr, Options{})
	req := block(t, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	var wg sync.WaitGroup
	for i := range h2.DefaultMaxStreams {
		wg.Go(func() {
			want := noise(byte(i), 200_000)
			if _, got, _, err := exchange(cl, req, want, nil); err != nil || !bytes.Equal(got, want) {
				t.Errorf("stream %d: %d bytes, %v", i, len(got), err)
			}
		})
	}
	wg.Wait()
	if n := cl.Streams(); n != 0 {
		t.Errorf("%d streams left", n)
	}
}

func TestEndpointResets(t *testing.T) {
	addr := goServer(t, func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }, 0)
	cl := newClient(t, addr, Options{})
	_, _, _, err := exchange(cl, block(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), nil, nil)
	if !errors.Is(err, ResetError(h2.InternalError)) {
		t.Errorf("met %v", err)
	}
}

func TestClientKeepsToTheLimit(t *testing.T) {
	release := make(chan struct{})
	addr := goServer(t, func(http.ResponseWriter, *http.Request) { <-release }, 3)
	cl := newClient(t, addr, Options{})
	req := block(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	first, err := cl.Open(req, h2.Start{End: true})
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		defer first.Close()
		if h, err := first.ReadHead(nil); err != nil || !strings.HasPrefix(string(h), "HTTP/1.1 200") {
			t.Errorf("%q, %v", h, err)
		}
	})
	for cl.Capacity() != 2 { // until the settings came
		yield()
	}
	for range 2 {
		s, err := cl.Open(req, h2.Start{End: true})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
	}
	if _, err := cl.Open(req, h2.Start{End: true}); !errors.Is(err, ErrCapacity) {
		t.Errorf("a fourth stream: %v", err)
	}
	close(release)
	wg.Wait()
}

func TestGoCancelsAndServerGoesOn(t *testing.T) {
	srv := newServer(t, Options{}, echo)
	client := goClient(t)
	var wg sync.WaitGroup
	for i := range 50 {
		wg.Go(func() {
			ctx, cancel := context.WithCancel(context.Background())
			body, feed := io.Pipe()
			req, err := http.NewRequestWithContext(ctx, "POST", fmt.Sprintf("http://%s/%d", srv.addr, i), body)
			if err != nil {
				t.Error(err)
			}
			resp, err := client.Do(req)
			if err != nil {
				t.Error(err)
			}
			_, _ = feed.Write([]byte("x"))
			cancel()
			_ = feed.Close()
			_ = resp.Body.Close()
		})
	}
	wg.Wait()
	resp, err := client.Get("http://" + srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
}
