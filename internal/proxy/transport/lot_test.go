package transport

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A sleeper tells when it is resumed.
type sleeper chan struct{}

func (s sleeper) Resume() { s <- struct{}{} }

func TestAConnRestsUntilSomethingComes(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for name, end := range map[string]func(ours *Conn, theirs net.Conn){
		"bytes":          func(_ *Conn, theirs net.Conn) { say(t, theirs, "x") },
		"the peer's end": func(_ *Conn, theirs net.Conn) { theirs.Close() },
		"a reset":        func(_ *Conn, theirs net.Conn) { theirs.(*net.TCPConn).SetLinger(0); theirs.Close() },
		"our close":      func(ours *Conn, _ net.Conn) { ours.Close() },
		"a cut":          func(ours *Conn, _ net.Conn) { ours.Cut() },
		"a timeout":      func(ours *Conn, _ net.Conn) { ours.expire(idle) },
		"a deadline":     func(ours *Conn, _ net.Conn) { ours.SetReadDeadline(time.Now()) },
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := taken(t, a, at)
			new(Sweeper).Adopt(ours)
			done := make(sleeper)
			if !ours.Rest(done) {
				t.Fatal("it does not rest")
			}
			time.Sleep(5 * time.Millisecond)
			select {
			case <-done:
				t.Fatal("it was resumed for nothing")
			default:
			}
			end(ours, theirs)
			<-done
		})
	}
}

func TestAConnDoesNotRestWhileThereIsSomethingToRead(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	ours, theirs := taken(t, a, at)
	new(Sweeper).Adopt(ours)
	say(t, theirs, "x")
	if err := ours.WaitReadable(); err != nil {
		t.Fatal(err)
	}
	done := make(sleeper)
	if ours.Rest(done) {
		t.Error("it rests before it was read")
	}
	b := make([]byte, 1)
	if _, err := ours.Read(b); err != nil {
		t.Fatal(err)
	}
	ours.Unread(b)
	if ours.Rest(done) {
		t.Error("it rests before what was given back was read")
	}
	if p, _ := ends(t, "tcp"); p.Rest(done) {
		t.Error("a Conn that no Acceptor accepted rests")
	}
}

// TestAConnDoesNotRestBeyondItsDeadline, as nothing there would tell of that.
func TestAConnDoesNotRestBeyondItsDeadline(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	ours, _ := taken(t, a, at)
	new(Sweeper).Adopt(ours)
	for _, by := range []time.Time{time.Now().Add(time.Hour), {}} {
		if err := ours.SetReadDeadline(by); err != nil {
			t.Fatal(err)
		}
		if rests := ours.Rest(make(sleeper, 1)); rests != by.IsZero() {
			t.Errorf("deadline %v: it rests: %v", by, rests)
		}
	}
}

// TestAnEventIsAwaitedWhereverASocketWaits has others take it to the poller.
func TestAnEventIsAwaitedWhereverASocketWaits(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for name, meanwhile := range map[string]func(*Conn) error{
		"nobody":         func(*Conn) error { return nil },
		"who looks":      func(c *Conn) error { c.Hung(); return nil },
		"who will write": func(c *Conn) error { return c.SetWriteDeadline(time.Now().Add(time.Hour)) },
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := taken(t, a, at)
			new(Sweeper).Adopt(ours)
			for range 2 * tooOften {
				var others sync.WaitGroup
				others.Go(func() {
					time.Sleep(time.Millisecond) // so that ours waits
					if err := meanwhile(ours); err != nil {
						t.Error(err)
					}
					time.Sleep(time.Millisecond)
					say(t, theirs, "x")
				})
				if err := ours.WaitEvent(); err != nil {
					t.Fatal(err)
				}
				if ours.Alive() {
					t.Error("the wait ended though nothing has come")
				}
				if n, err := ours.ReadNow(make([]byte, 2)); n != 1 || err != nil {
					t.Fatal(n, err)
				}
				others.Wait()
			}
		})
	}
}

func TestALotForgetsWhatItCannotWatch(t *testing.T) {
	f, err := os.CreateTemp(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	l := lot(t)
	fd := int(f.Fd()) // of a file, which epoll refuses
	s := newSocket(fd, netip.AddrPort{}, l)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.enlistLocked() || s.listed {
		t.Error("a file is watched")
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.socks[fd] != nil {
		t.Error("it is not forgotten")
	}
}

// TestWhatRestsForShortRestsNoMore has a Conn wait again and again: in a row, and
// with long rests.
func TestWhatRestsForShortRestsNoMore(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for _, long := range []bool{false, true} {
		ours, theirs := taken(t, a, at)
		var s Sweeper
		s.Adopt(ours)
		rested := 0
		b := make([]byte, 8)
		for range 2 * tooOften {
			done := make(sleeper)
			rests := ours.Rest(done)
			if long {
				s.clock.Add(longAgain)
			}
			if rests {
				rested++
				say(t, theirs, "x")
				<-done
			} else {
				go func() { time.Sleep(time.Millisecond); say(t, theirs, "x") }()
				if err := ours.WaitEvent(); err != nil {
					t.Fatal(err)
				}
			}
			if n, err := ours.ReadNow(b); n != 1 || err != nil {
				t.Fatal(n, err)
			}
		}
		want := tooOften
		if long {
			want = 2 * tooOften
		}
		if stays := !ours.CanRest(); rested != want || stays == long {
			t.Errorf("long %v: rested %d times, stays %v", long, rested, stays)
		}
	}
}

// TestAWaitWithoutALookMissesNothing that is left of what the Lot told of.
func TestAWaitWithoutALookMissesNothing(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	arrived := func(t *testing.T, c *Conn, is func(*unix.TCPInfo) bool) {
		t.Helper()
		for end := time.Now().Add(time.Minute); ; time.Sleep(time.Millisecond) {
			if info, ok := c.tcpInfo(); ok && is(info) {
				return
			}
			if time.Now().After(end) {
				t.Fatal("it does not arrive")
			}
		}
	}
	for name, tt := range map[string]struct {
		send func(t *testing.T, ours *Conn, theirs net.Conn)
		want string
		end  error
	}{
		"data and an end": {func(t *testing.T, ours *Conn, theirs net.Conn) {
			t.Helper()
			say(t, theirs, "ab")
			theirs.Close()
			arrived(t, ours, func(i *unix.TCPInfo) bool { return i.State == unix.BPF_TCP_CLOSE_WAIT })
		}, "ab", io.EOF},
		"more than there is room for": {func(t *testing.T, _ *Conn, theirs net.Conn) { t.Helper(); say(t, theirs, "abcdefg") }, "abcdefg", nil},
		"data behind urgent data": {func(t *testing.T, ours *Conn, theirs net.Conn) {
			t.Helper()
			say(t, theirs, "ab")
			raw, err := theirs.(*net.TCPConn).SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			err = errors.Join(err, raw.Control(func(fd uintptr) { err = unix.Sendto(int(fd), []byte("!"), unix.MSG_OOB, nil) }))
			if err != nil {
				t.Fatal(err)
			}
			say(t, theirs, "cd")
			arrived(t, ours, func(i *unix.TCPInfo) bool { return i.Bytes_received >= 6 })
		}, "abcd", nil},
		"what was only looked at": {func(t *testing.T, ours *Conn, theirs net.Conn) {
			t.Helper()
			say(t, theirs, "a")
			if err := ours.WaitReadable(); err != nil || ours.Alive() {
				t.Error("nothing came", err)
			}
		}, "a", nil},
		"what a Read left": {func(t *testing.T, ours *Conn, theirs net.Conn) {
			t.Helper()
			say(t, theirs, "xyza")
			if _, err := io.ReadFull(ours, make([]byte, 3)); err != nil {
				t.Error(err)
			}
		}, "a", nil},
	} {
		t.Run(name, func(t *testing.T) {
			ours, theirs := taken(t, a, at)
			new(Sweeper).Adopt(ours)
			done := make(sleeper)
			if !ours.Rest(done) {
				t.Fatal("it does not rest")
			}
			say(t, theirs, "x")
			<-done
			b := make([]byte, 4)
			if n, err := ours.ReadNow(b); n != 1 || err != nil {
				t.Fatal(n, err)
			}
			tt.send(t, ours, theirs)
			if err := ours.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
				t.Fatal(err)
			}
			var got []byte
			var err error
			for err == nil && (len(got) < len(tt.want) || tt.end != nil) {
				if err = ours.WaitEvent(); err == nil {
					var n int
					n, err = ours.ReadNow(b)
					got = append(got, b[:n]...)
				}
			}
			if string(got) != tt.want || !errors.Is(err, tt.end) {
				t.Errorf("read %q, %v, want %q, %v", got, err, tt.want, tt.end)
			}
		})
	}
}

// TestALotHoldsManyAndForgetsThem wakes more at once than one look finds.
func TestALotHoldsManyAndForgetsThem(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().String()
	l := lot(t)
	a, err := NewAcceptor(ln, l)
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	const many = 3*64 + 1
	done := make(sleeper, many)
	var ours []*Conn
	var theirs []net.Conn
	for range many {
		c, far := taken(t, a, at)
		new(Sweeper).Adopt(c)
		if !c.Rest(done) {
			t.Fatal("it does not rest")
		}
		ours, theirs = append(ours, c), append(theirs, far)
	}
	for _, c := range theirs {
		say(t, c, "x")
	}
	for range many {
		<-done
	}
	for _, c := range ours {
		c.Close()
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for fd, s := range l.socks {
		if s != nil {
			t.Errorf("descriptor %d is not forgotten", fd)
		}
	}
}
