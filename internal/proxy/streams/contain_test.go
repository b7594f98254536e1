package streams

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A faulty connection panics when it is read first.
type faulty struct {
	net.Conn
	now chan struct{}
}

func (f *faulty) Read([]byte) (int, error) {
	if _, first := <-f.now; first {
		panic("a fault")
	}
	return 0, io.EOF
}

func (f *faulty) Write(p []byte) (int, error) { return len(p), nil }

func TestAPanicCostsOneConnection(t *testing.T) {
	ours, theirs := net.Pipe()
	defer theirs.Close()
	f := &faulty{ours, make(chan struct{})}
	cl := NewClient(transport.New(f, nil), Options{})
	s, err := cl.Open([]byte{0x82}, h2.Start{End: true})
	if err != nil {
		t.Fatal(err)
	}
	go func() { f.now <- struct{}{}; close(f.now) }()
	var panicked *PanicError
	if err := cl.Run(t.Context()); !errors.As(err, &panicked) || panicked.Value != "a fault" || len(panicked.Stack) == 0 {
		t.Errorf("run: %v", err)
	}
	if _, err := s.ReadHead(nil); !errors.As(err, &panicked) {
		t.Errorf("a stream: %v", err)
	}
	if s.Close(); !errors.As(cl.Err(), &panicked) || !cl.Done() {
		t.Errorf("afterwards: %v, done %v", cl.Err(), cl.Done())
	}
}

// A sharp Cutter panics when it is cut.
type sharp struct{}

func (sharp) Cut() { panic("a fault") }

// A stiff connection panics when it is written to after its first frames.
type stiff struct {
	net.Conn
	writes int
}

func (f *stiff) Write(p []byte) (int, error) {
	if f.writes++; f.writes > 1 {
		panic("a fault")
	}
	return f.Conn.Write(p)
}

// TestAPanicBesideTheReaderCostsOneConnection has each goroutine of a connection
// panic that is not its reader's, and sees that streams end, all goroutines do, and
// the account has back what was held.
func TestAPanicBesideTheReaderCostsOneConnection(t *testing.T) {
	wait := func(s *Stream) { _, _ = io.ReadAll(s) }
	for name, tt := range map[string]struct {
		conn    func(net.Conn) net.Conn
		options Options
		handle  func(*Stream)
		drain   bool
		silent  bool
	}{
		"the writer": {conn: func(c net.Conn) net.Conn { return &stiff{Conn: c} }, handle: hello},
		"the clock's cut": {handle: func(s *Stream) {
			s.Tie(sharp{})
			s.SetTimeout(time.Second)
			wait(s)
		}},
		"a deadline's cut": {handle: func(s *Stream) {
			s.Tie(sharp{})
			s.SetDeadline(time.Now().Add(time.Second))
			wait(s)
		}},
		"a handler": {handle: func(*Stream) { panic("a fault") }},
		"the clock": {handle: wait, silent: true, options: Options{Changed: func() { panic("a fault") }}},
		"a drain":   {handle: wait, drain: true, options: Options{Changed: func() { panic("a fault") }}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a := overload.NewAccount(0)
				tt.options.Memory = &Memory{Account: a}
				ours, theirs := net.Pipe()
				end := ours
				if tt.conn != nil {
					end = tt.conn(ours)
				}
				drain, stop := context.WithCancel(t.Context())
				defer stop()
				var all sync.WaitGroup
				var ended error
				all.Go(func() { ended = Serve(t.Context(), drain, transport.New(end, nil), tt.options, tt.handle) })
				p := newPeer(t, theirs)
				all.Go(p.listen)
				if !tt.silent {
					p.greet()
					// It may be gone.
					_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x83, 0x86, 0x84, 0x41, 1, 'a'}, EndHeaders: true})
					_ = p.fr.WriteData(1, false, make([]byte, 16<<10))
					_ = p.fr.WriteData(1, false, make([]byte, 16<<10))
				}
				synctest.Wait()
				if tt.drain {
					stop()
				}
				time.Sleep(12 * time.Second)
				<-p.gone
				_ = theirs.Close()
				all.Wait()
				var panicked *PanicError
				if !errors.As(ended, &panicked) || panicked.Value != "a fault" || len(panicked.Stack) == 0 {
					t.Errorf("served: %v", ended)
				}
				if a.Held() != 0 {
					t.Errorf("%d bytes are held", a.Held())
				}
			})
		})
	}
}
