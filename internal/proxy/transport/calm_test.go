package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"testing"
	"time"
)

// poll makes the poller know s.
func (s *Socket) poll() (*polled, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.pollLocked()
}

// calm looks for what is idle in all shards.
func (s *Sweeper) calm() {
	for i := range s.shards {
		calm(s.shards[i].calm(nil))
	}
}

// An echo is an owner of a Conn: it rests, or waits, reads and answers.
type echo struct {
	*Conn
	over chan error
}

func (e *echo) Resume() {
	b := make([]byte, 1<<10)
	for {
		e.SetTimeout(time.Hour)
		if e.Rest(e) {
			return
		}
		err := e.WaitEvent()
		for n := 1; err == nil && n > 0; {
			if n, err = e.ReadNow(b); n > 0 {
				_, err = e.Write(b[:n])
			}
		}
		if err != nil {
			e.Close()
			e.over <- err
			return
		}
	}
}

// rests reports whether nothing of e is left but what rests.
func (e *echo) rests() bool {
	s := e.Conn.Conn.(*Socket)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.resting != nil
}

func (e *echo) await(t *testing.T, what string, is func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !is(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what)
		}
	}
}

// echoing is an echo that was busy, so that its goroutine waits.
func echoing(t *testing.T, a *Acceptor, at string, s *Sweeper) (*echo, net.Conn) {
	t.Helper()
	ours, theirs := taken(t, a, at)
	s.Adopt(ours)
	e := &echo{ours, make(chan error, 1)}
	e.Resume()
	e.busy(t, theirs)
	return e, theirs
}

func (e *echo) busy(t *testing.T, theirs net.Conn) {
	t.Helper()
	e.await(t, "it rests ever again", func() bool {
		e.asks(t, theirs)
		return e.stays()
	})
}

// stays reports whether e rests no more.
func (e *echo) stays() bool { return e.Conn.Conn.(*Socket).staying.Load() }

// polled makes the poller know e.
func (e *echo) polled(t *testing.T, theirs net.Conn) {
	t.Helper()
	for _, at := range []time.Time{time.Now().Add(time.Hour), {}} {
		if err := e.SetWriteDeadline(at); err != nil {
			t.Fatal(err)
		}
	}
	e.asks(t, theirs)
	e.await(t, "it is not polled", func() bool { return e.stays() && e.Conn.Conn.(*Socket).polled.Load() != nil })
}

func (e *echo) asks(t *testing.T, theirs net.Conn) {
	t.Helper()
	say(t, theirs, "ping")
	b := make([]byte, 4)
	if _, err := io.ReadFull(theirs, b); err != nil || string(b) != "ping" {
		t.Fatalf("read %q, %v", b, err)
	}
}

// TestWhatWasBusyRestsOnceItIsIdle again and again, and ends as others do.
func TestWhatWasBusyRestsOnceItIsIdle(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for name, tt := range map[string]struct {
		end  func(ours *Conn, theirs net.Conn)
		want error
	}{
		"the peer's end": {func(_ *Conn, theirs net.Conn) { theirs.Close() }, io.EOF},
		"our close":      {func(ours *Conn, _ net.Conn) { ours.Close() }, net.ErrClosed},
		"a cut":          {func(ours *Conn, _ net.Conn) { ours.Cut() }, net.ErrClosed},
		"a timeout":      {func(ours *Conn, _ net.Conn) { ours.expire(idle) }, os.ErrDeadlineExceeded},
	} {
		t.Run(name, func(t *testing.T) {
			var s Sweeper
			e, theirs := echoing(t, a, at, &s)
			for round := range 6 {
				if round%2 == 1 {
					e.polled(t, theirs)
				}
				s.calm()
				s.clock.Add(longAgain)
				e.asks(t, theirs)
				e.await(t, "it does not wait for more", func() bool { return e.deadline.Load() == s.clock.Load()+int64(time.Hour+tick) })
				s.calm() // not idle since
				if !e.stays() {
					t.Fatal("it may rest though it was busy")
				}
				s.calm()
				e.await(t, "its goroutine does not end", e.rests)
				s.clock.Add(longAgain)
				e.busy(t, theirs)
			}
			s.calm()
			s.calm()
			e.await(t, "its goroutine does not end", e.rests)
			tt.end(e.Conn, theirs)
			if err := <-e.over; !errors.Is(err, tt.want) {
				t.Errorf("it ended with %v, want %v", err, tt.want)
			}
			if _, err := theirs.Read(make([]byte, 1)); err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("the peer reads %v", err)
			}
		})
	}
}

// TestNothingIsLostWhereASocketLeavesThePoller has it do so at any time.
func TestNothingIsLostWhereASocketLeavesThePoller(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	var s Sweeper
	e, theirs := echoing(t, a, at, &s)
	done := make(chan struct{})
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				s := e.Conn.Conn.(*Socket)
				_, _ = s.poll()
				s.staying.Store(true)
				s.calm()
				e.Hung()
				time.Sleep(10 * time.Microsecond)
			}
		}
	})
	sent := bytes.Repeat([]byte("0123456789abcde"), 1<<16)
	wg.Go(func() {
		for b := sent; len(b) > 0; {
			n := min(1+len(b)%777, len(b))
			if _, err := theirs.Write(b[:n]); err != nil {
				t.Error(err)
			}
			b = b[n:]
		}
	})
	got := make([]byte, len(sent))
	if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, sent) {
		t.Errorf("what came back differs: %v", err)
	}
	theirs.Close()
	if err := <-e.over; !errors.Is(err, io.EOF) {
		t.Error(err)
	}
	close(done)
	wg.Wait()
}

// TestASocketThatLeavesThePollerIsClosedOnce, and for good.
func TestASocketThatLeavesThePollerIsClosedOnce(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	var s Sweeper
	for range 200 {
		e, theirs := echoing(t, a, at, &s)
		e.polled(t, theirs)
		var wg sync.WaitGroup
		wg.Go(e.Conn.Conn.(*Socket).calm)
		wg.Go(func() { e.Close() })
		wg.Wait()
		if err := <-e.over; !errors.Is(err, net.ErrClosed) {
			t.Fatal(err)
		}
		if n, err := theirs.Read(make([]byte, 1)); n != 0 || err != io.EOF {
			t.Fatalf("the peer reads %d, %v", n, err)
		}
		theirs.Close()
	}
}

// TestASocketWithADeadlineStaysWhereThatIsKept has those of the poller.
func TestASocketWithADeadlineStaysWhereThatIsKept(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for name, set := range map[string]func(*Conn, time.Time) error{
		"reads":  (*Conn).SetReadDeadline,
		"writes": (*Conn).SetWriteDeadline,
		"both":   (*Conn).SetDeadline,
	} {
		t.Run(name, func(t *testing.T) {
			var s Sweeper
			e, _ := echoing(t, a, at, &s)
			for _, at := range []time.Time{time.Now().Add(time.Hour), {}} {
				if err := set(e.Conn, at); err != nil {
					t.Fatal(err)
				}
				e.Conn.Conn.(*Socket).calm()
				if left := !e.stays(); left != at.IsZero() {
					t.Errorf("deadline %v: it left: %v", at, left)
				}
			}
			e.Close()
			<-e.over
		})
	}
}
