package streams

import (
	"context"
	"net"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// goroutine is the number of the one that asks.
func goroutine(t *testing.T) int {
	t.Helper()
	b := make([]byte, 64)
	b = b[:runtime.Stack(b, false)]
	n, err := strconv.Atoi(strings.Fields(string(b))[1])
	if err != nil {
		t.Error(err)
	}
	return n
}

func TestOneGoroutineServesStreamAfterStream(t *testing.T) {
	seen := make(chan int, 100)
	cl := newBatcher(t, newServer(t, Options{}, func(s *Stream) {
		seen <- goroutine(t)
		hello(s)
	}).addr)
	cl.run(t, 1)
	first := <-seen
	again := false
	for range 50 { // it may be a moment late to park
		cl.run(t, 1)
		again = <-seen == first || again
	}
	if !again {
		t.Errorf("goroutine %d never served a second stream", first)
	}
}

// counts are those of a crew.
func (c *crew) counts() (workers, parked int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.workers, len(c.parked)
}

// crewRig is a crew with a connection, and a way to have n streams served at once.
func crewRig(c *crew) (serve func(n int)) {
	conn := new(conn)
	conn.mem = new(Memory)
	conn.flushed.L = &conn.mu
	release := make(chan struct{})
	conn.handle = func(*Stream) { <-release }
	ours, theirs := net.Pipe()
	conn.t = transport.New(ours, nil)
	_ = theirs.Close() // nothing is sent
	return func(n int) {
		for range n {
			s := newStream()
			s.conn, s.readable.L, s.writable.L = conn, &conn.mu, &conn.mu
			conn.work.Add(1)
			c.serve(s)
		}
		synctest.Wait()
		for range n {
			release <- struct{}{}
		}
		synctest.Wait()
	}
}

func TestACrewIsAsLargeAsItHasToBe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c crew
		want := func(what string, workers, parked int) {
			t.Helper()
			if w, p := c.counts(); w != workers || p != parked {
				t.Errorf("%s: %d at work or parked and %d parked, want %d and %d", what, w, p, workers, parked)
			}
		}
		c.join()
		serve := crewRig(&c)
		serve(8)
		want("after a crowd of 8", 8, 8)
		c.trim(time.Now())
		want("trimmed at once", 8, 8)
		serve(3)
		want("after 3 more", 8, 8)
		c.trim(time.Now())
		want("trimmed before its time", 8, 8)
		time.Sleep(longTick)
		c.trim(time.Now())
		synctest.Wait()
		want("trimmed", 3, 3)
		serve(maxParked + 5)
		want("after a crowd beyond what is kept", maxParked, maxParked)

		c.join()
		c.leave()
		want("while one connection is left", maxParked, maxParked)
		c.leave()
		want("after the last connection", 0, 0)
		serve(2)
		want("after a stream without a connection", 0, 0)
	})
}

func TestNoGoroutineOutlivesTheLastConnection(t *testing.T) {
	o := Options{Memory: new(Memory)}
	ctx, cancel := context.WithCancel(context.Background())
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	cl := newBatcher(t, l.Addr().String())
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- Serve(ctx, ctx, transport.New(nc, nil), o, hello) }()
	cl.run(t, 20)
	if w, _ := o.Memory.crew.counts(); w == 0 {
		t.Error("no goroutine is kept for the next stream")
	}
	cancel()
	<-ended // why it ended is not the question
	if w, _ := o.Memory.crew.counts(); w != 0 {
		t.Errorf("%d goroutines are left", w)
	}
}
