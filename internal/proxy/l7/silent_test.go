package l7

import (
	"io"
	"net/http"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// TestASilentBodyHoldsNoBuffer has conversations that fell silent.
func TestASilentBodyHoldsNoBuffer(t *testing.T) {
	for _, version := range []int{1, 2} {
		t.Run("HTTP/"+strconv.Itoa(version), func(t *testing.T) { silent(t, version) })
	}
}

func silent(t *testing.T, version int) {
	t.Helper()
	if raceEnabled {
		t.Log("pools forget under the race detector; counted without it")
		return
	}
	const conversations = 30
	r, c := across(t, version, version, func(w http.ResponseWriter, req *http.Request) {
		w.WriteHeader(200)
		_ = http.NewResponseController(w).EnableFullDuplex()
		b := make([]byte, 10)
		for {
			n, err := req.Body.Read(b)
			w.Write(b[:n])
			http.NewResponseController(w).Flush()
			if err != nil {
				return
			}
		}
	})
	var made atomic.Int64
	r.server.buffers.New = func() any {
		made.Add(1)
		return new(buffer)
	}
	one := make([]byte, 1)
	for range conversations {
		body, say := io.Pipe()
		req := must(http.NewRequest("POST", "http://x.example/", body))
		go say.Write([]byte("a"))
		res, err := c.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		defer res.Body.Close()
		defer say.Close()
		for range 3 { // each through a buffer that is free again
			if _, err := io.ReadFull(res.Body, one); err != nil {
				t.Fatal(err)
			}
			go say.Write([]byte("b"))
		}
		if _, err := io.ReadFull(res.Body, one); err != nil {
			t.Fatal(err)
		}
	}
	if n := made.Load(); n > conversations/2 {
		t.Errorf("%d buffers were made for %d conversations", n, conversations)
	}
}

// TestABodyIsAwaitedUntilThereIsMore has who waits for it woken for nothing, as what
// looks for idle connections does.
func TestABodyIsAwaitedUntilThereIsMore(t *testing.T) {
	r := prepareRig(t)
	ready := make(chan bool)
	r.listen(t, func(down *transport.Conn) {
		defer down.Close()
		c := &h1Caller{conn: &conn{down: down}}
		over, woken := make(chan struct{}), make(chan struct{})
		go func() {
			defer close(woken)
			for {
				select {
				case <-over:
					return
				default:
					_ = down.SetReadDeadline(time.Time{})
					time.Sleep(100 * time.Microsecond)
				}
			}
		}()
		for range 10 {
			c.wait()
			ready <- c.ready()
			_, _ = down.Read(make([]byte, 1))
		}
		close(over)
		<-woken
	})
	c := r.dial()
	for range 10 {
		time.Sleep(5 * time.Millisecond) // so that it waits
		c.say("x")
		if !<-ready {
			t.Error("the wait ended though there is nothing")
		}
	}
}
