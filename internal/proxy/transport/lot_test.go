package transport

import (
	"net"
	"testing"
	"time"
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

// TestWhatRestsForShortIsPolled has a Conn wait again and again: in a row, and
// with long rests.
func TestWhatRestsForShortIsPolled(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for _, long := range []bool{false, true} {
		ours, theirs := taken(t, a, at)
		var s Sweeper
		s.Adopt(ours)
		rested := 0
		for range 2 * tooOften {
			done := make(sleeper)
			rests := ours.Rest(done)
			if long {
				s.clock.Add(longAgain)
			}
			if !rests {
				go func() { time.Sleep(time.Millisecond); say(t, theirs, "x") }()
				if err := ours.WaitReadable(); err != nil {
					t.Fatal(err)
				}
			} else {
				rested++
				say(t, theirs, "x")
				<-done
			}
			if _, err := ours.Read(make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
		}
		want := tooOften
		if long {
			want = 2 * tooOften
		}
		if polled := !ours.CanRest(); rested != want || polled == long {
			t.Errorf("long %v: rested %d times, polled %v", long, rested, polled)
		}
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
	for fd, s := range l.parked {
		if s != nil {
			t.Errorf("descriptor %d is not forgotten", fd)
		}
	}
}
