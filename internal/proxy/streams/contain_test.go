package streams

import (
	"errors"
	"io"
	"net"
	"testing"

	"github.com/fairlead/fairlead/internal/proxy/h2"
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
