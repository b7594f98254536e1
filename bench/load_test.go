package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// listen serves connections until the test ends.
func listen(t *testing.T, serve func(net.Listener) error) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(func() { _ = serve(l) })
	t.Cleanup(func() {
		_ = l.Close()
		wg.Wait()
	})
	return l.Addr().String()
}

// answering is an HTTP server of both versions that gives the same answer always.
func answering(t *testing.T, status, size int) string {
	t.Helper()
	s := &http.Server{
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			w.Header().Set("Content-Length", fmt.Sprint(size))
			w.WriteHeader(status)
			_, _ = io.WriteString(w, strings.Repeat("x", size))
		}),
		ReadHeaderTimeout: time.Minute,
		Protocols:         new(http.Protocols),
	}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	t.Cleanup(func() { _ = s.Close() })
	return listen(t, s.Serve)
}

// loads are all that ask for 1 KiB.
var loads = map[string]func(to string, requests int64) error{
	"h1": func(to string, requests int64) error {
		var left atomic.Int64
		left.Store(requests)
		return talk(to, &left)
	},
	"h2": func(to string, requests int64) error { return overH2(to, gets, requests) },
	"paced": func(to string, requests int64) error {
		p := &pacer{interval: 100 * time.Microsecond, total: int(requests), request: h1Request("")}
		if err := p.open(netip.MustParseAddrPort(to)); err != nil {
			return err
		}
		if err := p.run(); err != nil {
			return err
		}
		if len(p.took) != int(requests) {
			return fmt.Errorf("%d answers, want %d", len(p.took), requests)
		}
		return nil
	},
}

func overH2(to string, kind h2Kind, requests int64) error {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return err
	}
	var left atomic.Int64
	left.Store(requests)
	h := newH2Caller(c, kind)
	return errors.Join(h.greet(), h.talk(h2Streams, &left))
}

func TestLoadsAcceptTheBackendsAnswerAndNoOther(t *testing.T) {
	for name, load := range loads {
		for _, tt := range []struct {
			what         string
			status, size int
			good         bool
		}{
			{"the answer", 200, bodySize, true},
			{"a failure", 503, bodySize, false},
			{"a body too short", 200, bodySize - 1, false},
		} {
			t.Run(name+"/"+tt.what, func(t *testing.T) {
				err := load(answering(t, tt.status, tt.size), 300)
				if (err == nil) != tt.good {
					t.Errorf("error %v", err)
				}
			})
		}
	}
}

func TestLoadsFailWhereNobodyAnswers(t *testing.T) {
	to := listen(t, func(l net.Listener) error {
		return accept(l, func(c net.Conn) {
			_, _ = c.Read(make([]byte, 1))
		})
	})
	for name, load := range loads {
		if err := load(to, 10); err == nil {
			t.Errorf("%s: no error though every connection was ended", name)
		}
	}
}

func TestACallPassesTheGRPCProxy(t *testing.T) {
	back := listen(t, func(l net.Listener) error { return grpcBackend(l, "") })
	proxy := listen(t, func(l net.Listener) error { return grpcProxy(l, back) })
	for _, to := range []string{back, proxy} {
		if err := overH2(to, calls, 1000); err != nil {
			t.Error(err)
		}
	}
}

func TestACallThatFailsIsAnError(t *testing.T) {
	proxy := listen(t, func(l net.Listener) error { return grpcProxy(l, "127.0.0.1:1") }) // nobody there
	if err := overH2(proxy, calls, 1); err == nil || !strings.Contains(err.Error(), `grpc-status "14"`) {
		t.Errorf("error %v, want one with grpc-status 14, unavailable", err)
	}
}

func TestEveryChangeReachesTheSession(t *testing.T) {
	first, err := objects(20, httpPorts+", "+httpsPort)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Unix(0, 0)
	c, err := newChain(now, first)
	if err != nil {
		t.Fatal(err)
	}
	for i := range 4 {
		flip, err := changesOf(numbered(7, httpPorts, fmt.Sprintf("192.0.2.%d", 10+i)))
		if err != nil {
			t.Fatal(err)
		}
		if err := c.apply(now, flip[0]); err != nil {
			t.Fatal(err)
		}
		if err := c.apply(now, flip[0]); err == nil {
			t.Error("no error, though the second time nothing changed")
		}
	}
}
