package l4

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/proxy/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// link returns the two ends of a TCP connection over loopback.
func link(tb testing.TB) (near, far *net.TCPConn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b.(*net.TCPConn)
}

// capture is link whose far end is accepted as callers are.
func capture(tb testing.TB) (near *net.TCPConn, far net.Conn) {
	tb.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		tb.Fatal(err)
	}
	lot, err := transport.NewLot()
	if err != nil {
		tb.Fatal(err)
	}
	var waking sync.WaitGroup
	waking.Go(lot.Run)
	tb.Cleanup(func() { lot.Close(); waking.Wait() })
	callers, err := transport.NewAcceptor(ln, lot)
	if err != nil {
		tb.Fatal(err)
	}
	defer callers.Close()
	a, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		tb.Fatal(err)
	}
	b, err := callers.Accept()
	if err != nil {
		tb.Fatal(err)
	}
	tb.Cleanup(func() { a.Close(); b.Close() })
	return a.(*net.TCPConn), b
}

// A running relay between a client and a server.
type running struct {
	client, server *net.TCPConn
	result         result
	done           chan struct{}
	stop           context.CancelFunc
}

func start(tb testing.TB, head string) *running {
	tb.Helper()
	client, down := capture(tb)
	up, server := link(tb)
	ctx, cancel := context.WithCancel(tb.Context())
	r := &running{client: client, server: server, done: make(chan struct{}), stop: cancel}
	go func() {
		defer close(r.done)
		r.result = relay(ctx, transport.New(down, []byte(head)), transport.New(up, nil), IdleTimeout)
	}()
	tb.Cleanup(func() { cancel(); <-r.done })
	return r
}

func (r *running) wait(t *testing.T) result {
	t.Helper()
	select {
	case <-r.done:
	case <-t.Context().Done():
		t.Fatal("the relay did not end")
	}
	return r.result
}

func TestBytesPassBothWaysUnchanged(t *testing.T) {
	const size = 20<<20 + 123
	r := start(t, "")
	var wg sync.WaitGroup
	pump := func(from, to *net.TCPConn, seed byte) {
		sum := make(chan [32]byte, 1)
		wg.Go(func() {
			h := sha256.New()
			source := io.LimitReader(rand.NewChaCha8([32]byte{seed}), size)
			if _, err := io.Copy(io.MultiWriter(from, h), source); err != nil {
				t.Error(err)
			}
			from.CloseWrite()
			sum <- [32]byte(h.Sum(nil))
		})
		wg.Go(func() {
			h := sha256.New()
			n, err := io.Copy(h, to)
			if err != nil || n != size {
				t.Errorf("%d bytes arrived, %v", n, err)
			}
			if got := [32]byte(h.Sum(nil)); got != <-sum {
				t.Error("the bytes that arrived are not those sent")
			}
		})
	}
	pump(r.client, r.server, 1)
	pump(r.server, r.client, 2)
	wg.Wait()
	if got := r.wait(t); got.there != size || got.back != size || got.err != nil {
		t.Errorf("relay = %+v, want %d bytes each way", got, size)
	}
}

func TestSmallPiecesPassAtOnce(t *testing.T) {
	r := start(t, "he")
	buf := make([]byte, 16)
	for _, msg := range []string{"he", "llo", "x"} {
		if msg != "he" { // what was read before the relay goes first
			r.client.Write([]byte(msg))
		}
		n, err := io.ReadFull(r.server, buf[:len(msg)])
		if err != nil || string(buf[:n]) != msg {
			t.Fatalf("server got %q, %v; want %q", buf[:n], err, msg)
		}
		r.server.Write([]byte("re:" + msg))
		n, err = io.ReadFull(r.client, buf[:len(msg)+3])
		if err != nil || string(buf[:n]) != "re:"+msg {
			t.Fatalf("client got %q, %v", buf[:n], err)
		}
	}
	r.client.Close()
	r.server.Close()
	if got := r.wait(t); got.there != 6 || got.back != 15 {
		t.Errorf("relay = %+v", got)
	}
}

func TestHalfCloseIsPassedOn(t *testing.T) {
	r := start(t, "")
	r.client.Write([]byte("question"))
	r.client.CloseWrite()
	if got, err := io.ReadAll(r.server); err != nil || string(got) != "question" {
		t.Fatalf("server read %q, %v", got, err)
	}
	r.server.Write([]byte("a late answer"))
	r.server.Close()
	if got, err := io.ReadAll(r.client); err != nil || string(got) != "a late answer" {
		t.Fatalf("client read %q, %v", got, err)
	}
	if got := r.wait(t); got.err != nil {
		t.Errorf("an orderly relay ended with %v", got.err)
	}
}

func TestAResetIsPassedOn(t *testing.T) {
	for _, far := range []bool{true, false} {
		r := start(t, "")
		one, other := r.client, r.server
		if far {
			one, other = other, one
		}
		other.Write([]byte("x")) // the relay is up once this has passed
		io.ReadFull(one, make([]byte, 1))
		one.SetLinger(0)
		one.Close()
		if _, err := other.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("far %v: the other end read %v, want a reset", far, err)
		}
		if got := r.wait(t); got.far != far || !errors.Is(got.err, syscall.ECONNRESET) {
			t.Errorf("far %v: relay = %+v", far, got)
		}
	}
}

func TestWhatTheServerSaidBeforeItLeftStillArrives(t *testing.T) {
	r := start(t, "")
	answer := bytes.Repeat([]byte("answer"), 50000)
	go func() {
		io.ReadFull(r.server, make([]byte, 1))
		r.server.Write(answer)
		r.server.Close() // with the rest of the question unread
	}()
	r.client.Write([]byte("q"))
	got, err := io.ReadAll(r.client)
	if !bytes.Equal(got, answer) {
		t.Errorf("client read %d bytes, %v; want %d", len(got), err, len(answer))
	}
	r.client.Close()
	r.wait(t)
}

// An answer that the server ended in order stays whole, though the upload met
// the reset that followed: the server does not read it.
func TestAnAnswerIsWholeWhoseServerReadsNoMore(t *testing.T) {
	for _, piece := range []int{1 << 10, 256 << 10} { // copied, spliced
		for range 20 {
			r := start(t, "")
			client := transport.New(r.client, nil)
			uploaded := make(chan struct{})
			go func() {
				defer close(uploaded)
				for b := make([]byte, piece); ; {
					if _, err := client.Write(b); err != nil {
						return
					}
				}
			}()
			io.ReadFull(r.server, make([]byte, piece))
			r.server.Write([]byte("all of it"))
			r.server.CloseWrite()
			got, err := io.ReadAll(client)
			if string(got) != "all of it" || err != nil {
				t.Fatalf("in pieces of %d: the client read %q, %v", piece, got, err)
			}
			r.server.Close() // with some of the upload unread: a reset
			<-uploaded
			r.wait(t)
		}
	}
}

func TestAnEndIsToldFromATear(t *testing.T) {
	for _, orderly := range []bool{true, false} {
		server, near := link(t)
		other, far := link(t)
		other.Close()
		src, dst := transport.New(near, nil), transport.New(far, nil)
		h := newHalf(&pair{a: dst, b: src, whole: true, err: syscall.EPIPE, far: true}, dst, src)
		near.Write([]byte("never read"))
		server.Write([]byte("hello"))
		if n, err := io.ReadFull(src, make([]byte, 5)); err != nil {
			t.Fatal(n, err)
		}
		h.moved = 5
		if orderly {
			server.CloseWrite()
			if _, err := src.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Fatal(err)
			}
		}
		server.SetLinger(0)
		server.Close()
		for !src.Hung() {
			runtime.Gosched()
		}
		if h.torn() == orderly {
			t.Errorf("ended in order %v: torn %v", orderly, !orderly)
		}
		src.Close()
		dst.Close()
	}
}

// An upload that meets the reset of the server must not make the torn download
// look whole: whichever direction hears of the reset, the client is reset.
func TestATornDownloadIsSeenTornWhileUploading(t *testing.T) {
	for _, piece := range []int{1 << 10, 256 << 10} { // copied, spliced
		for range 50 {
			r := start(t, "")
			client := transport.New(r.client, nil) // tells a reset from an end, too
			uploaded := make(chan struct{})
			go func() {
				defer close(uploaded)
				for b := make([]byte, piece); ; {
					if _, err := client.Write(b); err != nil {
						return
					}
				}
			}()
			io.ReadFull(r.server, make([]byte, piece)) // the relay is up
			r.server.Write([]byte("half of it"))
			r.server.SetLinger(0)
			r.server.Close()
			if got, err := io.ReadAll(client); !errors.Is(err, syscall.ECONNRESET) {
				t.Fatalf("in pieces of %d: the client read %q, %v; want a reset", piece, got, err)
			}
			<-uploaded
			if got := r.wait(t); !got.far || got.err == nil {
				t.Fatalf("relay = %+v", got)
			}
		}
	}
}

func TestCancelResetsBothEnds(t *testing.T) {
	r := start(t, "")
	r.stop()
	for _, c := range []*net.TCPConn{r.client, r.server} {
		if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
			t.Errorf("read %v, want a reset", err)
		}
	}
	if got := r.wait(t); !errors.Is(got.err, context.Canceled) {
		t.Errorf("relay = %+v", got)
	}
}

// TestIdleIsMeasuredOverBothDirections sends one byte now and then one way only:
// the relay must live on, and end only once both are silent.
func TestIdleIsMeasuredOverBothDirections(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, down := net.Pipe()
		up, server := net.Pipe()
		var sweeper transport.Sweeper
		ctx, cancel := context.WithCancel(t.Context())
		go sweeper.Run(ctx)
		a, b := transport.New(down, nil), transport.New(up, nil)
		sweeper.Adopt(a)
		sweeper.Adopt(b)
		done := make(chan result)
		go func() { done <- relay(ctx, a, b, time.Minute) }()
		for range 10 {
			time.Sleep(50 * time.Second)
			client.Write([]byte("."))
			server.Read(make([]byte, 1))
		}
		began := time.Now()
		got := <-done
		if !errors.Is(got.err, os.ErrDeadlineExceeded) || got.there != 10 {
			t.Errorf("relay = %+v, want 10 bytes and a timeout", got)
		}
		if d := time.Since(began); d < 55*time.Second || d > 70*time.Second {
			t.Errorf("ended %v after the last byte, want about a minute", d)
		}
		cancel()
	})
}

func TestSilenceHoldsNoPipe(t *testing.T) {
	before := descriptors(t)
	const relays = 20
	var all []*running
	for range relays {
		r := start(t, "")
		go r.client.Write(make([]byte, 1<<20))
		if _, err := io.ReadFull(r.server, make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	// Four sockets each; pipes may be kept, but not two per direction.
	if got := descriptors(t) - before; got > 4*relays+2*sparePipes {
		t.Errorf("%d descriptors for %d silent relays", got, relays)
	}
	for _, r := range all {
		r.stop()
		<-r.done
	}
}

func descriptors(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}

func BenchmarkBulk(b *testing.B) {
	r := start(b, "")
	chunk := make([]byte, 1<<20)
	go func() {
		for {
			if _, err := r.client.Write(chunk); err != nil {
				return
			}
		}
	}()
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := io.ReadFull(r.server, chunk); err != nil {
			b.Fatal(err)
		}
	}
	r.stop()
	<-r.done
}
