package cluster

import (
	"context"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// silent is an endpoint that settles HTTP/2 and answers nothing. It counts its connections.
func silent(t *testing.T) (to config.Endpoint, conns *atomic.Int32) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conns = new(atomic.Int32)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			conns.Add(1)
			wg.Go(func() {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, len(h2.Preface))); err != nil {
					return
				}
				f := http2.NewFramer(c, c)
				for err := f.WriteSettings(); err == nil; {
					_, err = f.ReadFrame()
				}
			})
		}
	})
	t.Cleanup(func() { ln.Close(); wg.Wait() })
	return config.Endpoint{Host: "127.0.0.1", Port: ln.Addr().(*net.TCPAddr).AddrPort().Port(), Weight: 1}, conns
}

func TestManyJoinByOneDial(t *testing.T) {
	w := newWorld(t)
	to, conns := silent(t)
	w.apply(clusters(inlined(config.StaticSet, to)))
	e, _ := w.pick()
	var wg sync.WaitGroup
	var used atomic.Int32
	for range 50 {
		wg.Go(func() {
			p, err := e.Join(t.Context())
			if err != nil {
				t.Error(err)
				return
			}
			if p.Used {
				used.Add(1)
			}
			if !p.Local.IsValid() {
				t.Error("no local address")
			}
			s, err := p.Open(h2.AppendField(nil, "x", "y"), h2.Start{End: true})
			if err != nil {
				t.Error(err)
				return
			}
			s.Close()
			p.Leave() // once more does nothing
		})
	}
	wg.Wait()
	if conns.Load() != 1 || used.Load() != 49 || e.state(1).Idle != 1 {
		t.Errorf("%d connections, %d used before, %d kept", conns.Load(), used.Load(), e.state(1).Idle)
	}
	w.apply(config.Delta{RemovedClusters: []string{"x"}})
	w.bury()
	eventually(t, "the connection ends with the cluster", func() bool { return e.state(1).Idle == 0 })
}

func TestJoinTellsWhyItFailed(t *testing.T) {
	t.Run("refused", func(t *testing.T) {
		w := newWorld(t)
		w.apply(clusters(inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: closedPort(t), Weight: 1})))
		e, _ := w.pick()
		if _, err := e.Join(t.Context()); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Error(err)
		}
	})
	t.Run("no time left", func(t *testing.T) {
		w := newWorld(t)
		c := inlined(config.StaticSet, config.Endpoint{Host: "127.0.0.1", Port: fullPort(t), Weight: 1})
		c.ConnectTimeout = time.Hour
		w.apply(clusters(c))
		e, _ := w.pick()
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
		defer cancel()
		_, err := e.Join(ctx)
		if want := "connect to " + e.String() + ": timed out: the exchange had no time left"; !errors.Is(err, context.DeadlineExceeded) || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	})
	t.Run("the proxy ends", func(t *testing.T) {
		w := newWorld(t)
		to, _ := silent(t)
		w.apply(clusters(inlined(config.StaticSet, to)))
		e, _ := w.pick()
		p, err := e.Join(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		s, err := p.Open(h2.AppendField(nil, "x", "y"), h2.Start{End: true})
		if err != nil {
			t.Fatal(err)
		}
		w.Close()
		if _, err := s.ReadHead(nil); err == nil {
			t.Error("a stream outlives the proxy")
		}
		s.Close()
		if _, err := e.Join(t.Context()); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}
