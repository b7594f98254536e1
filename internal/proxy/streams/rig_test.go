package streams

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A server serves HTTP/2 on loopback until the test ends.
type server struct {
	addr  string
	drain context.CancelFunc
}

func newServer(t testing.TB, o Options, handle func(*Stream)) *server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if o.Memory == nil {
		o.Memory = new(Memory)
	}
	ctx, cancel := context.WithCancel(context.Background())
	drain, stop := context.WithCancel(ctx)
	lot, err := transport.NewLot()
	if err != nil {
		t.Fatal(err)
	}
	callers, err := transport.NewAcceptor(l, lot)
	if err != nil {
		t.Fatal(err)
	}
	var conns, waking sync.WaitGroup
	waking.Go(lot.Run)
	conns.Go(func() {
		for {
			c, err := callers.Accept()
			if err != nil {
				return
			}
			conns.Go(func() { _ = Serve(ctx, drain, transport.New(c, nil), o, handle) }) // how it ends is the peer's to say
		}
	})
	t.Cleanup(func() {
		_ = callers.Close()
		cancel()
		conns.Wait()
		_ = lot.Close()
		waking.Wait()
	})
	return &server{l.Addr().String(), stop}
}

// hello reads the request and answers it with a short body.
func hello(s *Stream) {
	if _, err := io.Copy(io.Discard, s); err != nil {
		return
	}
	block := h2.AppendField(h2.AppendStatus(nil, 200), "content-type", "text/plain")
	_, _ = s.Send(block, []byte("hello"), true) // the caller may be gone
}

// echo sends the body back as it comes, and its trailer.
func echo(s *Stream) {
	if _, err := s.Send(h2.AppendStatus(nil, 200), nil, false); err != nil {
		return
	}
	buf := make([]byte, 20<<10)
	for {
		n, err := s.Read(buf)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return
		}
		if _, err := s.Send(nil, buf[:n], false); err != nil {
			return
		}
	}
	block, _ := h2.AppendTrailer(nil, s.Trailers())
	_, _ = s.Send(block, nil, true) // the caller may be gone
}

// newClient is a Client of a connection to addr.
func newClient(t testing.TB, addr string, o Options) *Client {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	cl := NewClient(transport.New(nc, nil), o)
	var running sync.WaitGroup
	running.Go(func() { _ = cl.Run(context.Background()) }) // likewise
	t.Cleanup(func() {
		if err := cl.Close(); err != nil && !errors.Is(err, net.ErrClosed) && !errors.Is(err, os.ErrClosed) {
			t.Error(err)
		}
		running.Wait()
	})
	return cl
}

// block makes the header block of a request from its text.
func block(t testing.TB, text string) []byte {
	t.Helper()
	var r h1.Request
	if done, err := r.Parse([]byte(text)); !done || err != nil {
		t.Fatalf("%q: %v, %v", text, done, err)
	}
	return h2.AppendRequest(nil, &r, []byte(text), "http")
}

// A cutFlag remembers that it was cut.
type cutFlag struct{ atomic.Bool }

func (f *cutFlag) Cut() { f.Store(true) }

// yield lets others run between two looks at a condition.
func yield() { time.Sleep(time.Millisecond) }
