package transport

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// running returns a Sweeper that runs until the test ends.
func running(t *testing.T) *Sweeper {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	s := new(Sweeper)
	var wg sync.WaitGroup
	wg.Go(func() { s.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	synctest.Wait()
	return s
}

func adopted(s *Sweeper) (*Conn, net.Conn) {
	a, b := net.Pipe()
	c := New(a, nil)
	s.Adopt(c)
	return c, b
}

func TestSweeperClosesWhatIsNotRenewedInTime(t *testing.T) {
	for _, d := range []time.Duration{time.Millisecond, 150 * time.Millisecond, 5 * time.Second, 10 * time.Second, time.Hour} {
		t.Run(d.String(), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := running(t)
				c, _ := adopted(s)
				began := time.Now()
				c.SetTimeout(d)
				_, err := c.Read(make([]byte, 1))
				took := time.Since(began)
				if !errors.Is(err, os.ErrDeadlineExceeded) || !c.TimedOut() {
					t.Errorf("read: %v, timed out %v", err, c.TimedOut())
				}
				late := 200 * time.Millisecond
				if d >= longTimeout {
					late = 1200 * time.Millisecond
				}
				if took < d || took > d+late {
					t.Errorf("closed after %s, want between %s and %s", took, d, d+late)
				}
				if n := s.Len(); n != 0 {
					t.Errorf("%d connections still adopted", n)
				}
			})
		})
	}
}

func TestRenewingKeepsAConnOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := running(t)
		c, peer := adopted(s)
		for range 20 {
			c.SetTimeout(time.Second)
			time.Sleep(900 * time.Millisecond)
		}
		c.SetTimeout(0)
		time.Sleep(2 * time.Hour)
		if c.TimedOut() {
			t.Fatal("timed out although renewed")
		}
		go peer.Write([]byte("x"))
		if _, err := c.Read(make([]byte, 1)); err != nil {
			t.Error(err)
		}
		c.Close()
	})
}

func TestSweptWritesSayTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := running(t)
		c, _ := adopted(s)
		c.SetTimeout(time.Second)
		if _, err := c.Write([]byte("nobody reads")); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("write: %v", err)
		}
		if err := c.WaitReadable(); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Errorf("wait: %v", err)
		}
	})
}

// A stop of the process is no silence of the peer.
func TestSweeperDoesNotCountTimeItDidNotRun(t *testing.T) {
	var s Sweeper
	c, _ := adopted(&s)
	c.SetTimeout(5 * time.Second)
	s.sweep(s.clock.Add(int64(longTick)), true, nil) // what Run adds for a gap of any length
	if c.TimedOut() {
		t.Error("cut for a gap of ours")
	}
	c.Close()
}

// A sluggish stream takes its time to close, and whoever closes it with it.
type sluggish struct{ net.Conn }

func (s sluggish) Close() error {
	time.Sleep(5 * time.Second)
	return s.Conn.Close()
}

func TestFault66ASweeperTellsOfTheTimeItDidNotRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		var told []time.Duration
		s := &Sweeper{Stalled: func(d time.Duration) { told = append(told, d.Round(time.Second)) }}
		var wg sync.WaitGroup
		wg.Go(func() { s.Run(ctx) })
		time.Sleep(time.Minute) // of running
		a, b := net.Pipe()
		defer b.Close()
		c := New(sluggish{a}, nil)
		s.Adopt(c)
		c.SetTimeout(tick)
		time.Sleep(time.Minute)
		cancel()
		wg.Wait()
		if len(told) != 1 || told[0] != 5*time.Second {
			t.Errorf("told of %v, want 5s once", told)
		}
	})
}

func TestAdoptionAndRemovalInAnyOrder(t *testing.T) {
	var s Sweeper
	var conns []*Conn
	for range 5000 {
		c, peer := adopted(&s)
		peer.Close()
		conns = append(conns, c)
	}
	var wg sync.WaitGroup
	for part := range 4 {
		wg.Go(func() {
			for i := part; i < len(conns); i += 4 {
				if i%3 != 0 {
					conns[i].Close()
					conns[i].Close()
				}
			}
		})
	}
	wg.Wait()
	want := 0
	for i, c := range conns {
		if i%3 != 0 {
			continue
		}
		want++
		if got := c.shard.conns[c.place]; got != c {
			t.Fatal("a connection lost its place")
		}
	}
	if got := s.Len(); got != want {
		t.Errorf("%d adopted, want %d", got, want)
	}
	for _, c := range conns {
		c.Close()
	}
	if got := s.Len(); got != 0 {
		t.Errorf("%d adopted after all were closed", got)
	}
}

// The number is the budget of issue "HTTP": 6 KB for everything that an idle
// connection holds, of which a parked goroutine's stack is 2 to 4.
func TestAnIdleConnIsSmall(t *testing.T) {
	const n = 200
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	var s Sweeper
	var wg sync.WaitGroup
	ours, theirs := make([]*Conn, n), make([]net.Conn, n)
	for i := range n {
		if theirs[i], err = net.Dial("tcp", ln.Addr().String()); err != nil {
			t.Fatal(err)
		}
		c, err := ln.Accept()
		if err != nil {
			t.Fatal(err)
		}
		ours[i] = New(c, nil)
		s.Adopt(ours[i])
	}
	before := inUse()
	for _, c := range ours {
		wg.Go(func() { _ = c.WaitReadable() })
	}
	eventually(t, "all wait", func() bool { return runtime.NumGoroutine() >= n })
	time.Sleep(20 * time.Millisecond)
	per := (inUse() - before) / n
	t.Logf("%d bytes for each that waits, beside the sockets", per)
	if per > 6<<10 {
		t.Errorf("a waiting connection holds %d bytes, want at most 6144", per)
	}
	for i := range n {
		ours[i].Close()
		theirs[i].Close()
	}
	wg.Wait()
}

func inUse() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapInuse + m.StackInuse)
}

func BenchmarkSweep20000(b *testing.B) {
	var s Sweeper
	for range 20000 {
		c := New(nil, nil)
		s.Adopt(c)
		c.SetTimeout(time.Hour)
	}
	var late []*Conn
	for b.Loop() {
		late = s.sweep(s.clock.Load(), true, late)
	}
}
