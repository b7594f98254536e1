package transport

import (
	"errors"
	"io"
	"net"
	"syscall"
	"testing"
	"time"
)

// How a stream ended is told by its reads, whoever heard of it first.
func TestAWriteThatMeetsTheResetDoesNotMakeItAnEnd(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func(theirs *net.TCPConn)
		want  error
	}{
		"reset": {func(theirs *net.TCPConn) { theirs.SetLinger(0); theirs.Close() }, syscall.ECONNRESET},
		"end":   {func(theirs *net.TCPConn) { theirs.Close() }, io.EOF},
	} {
		t.Run(name, func(t *testing.T) {
			c, theirs := accepted(t, "tcp", "127.0.0.1:0")
			say(t, theirs, "part")
			tt.leave(theirs.(*net.TCPConn))
			eventually(t, "a write fails", func() bool {
				_, err := c.Write([]byte("x"))
				return err != nil
			})
			got := make([]byte, 8)
			if n, err := c.Read(got); string(got[:n]) != "part" {
				t.Fatalf("read %q, %v", got[:n], err)
			}
			if n, err := c.Read(got); n != 0 || !errors.Is(err, tt.want) {
				t.Errorf("read %q, %v; want %v", got[:n], err, tt.want)
			}
		})
	}
}

// dropped is a Conn that is dropped when it is cut.
type dropped struct{ *Conn }

func (d dropped) Cut() { d.Drop() }

func TestATieEndsWithThePeer(t *testing.T) {
	for name, tt := range map[string]struct {
		leave func(theirs *net.TCPConn)
		after time.Duration // of the tie
		gone  bool
	}{
		"reset":              {func(theirs *net.TCPConn) { theirs.SetLinger(0); theirs.Close() }, time.Second, true},
		"reset, a young tie": {func(theirs *net.TCPConn) { theirs.SetLinger(0); theirs.Close() }, time.Second / 2, false},
		"half-close":         {func(theirs *net.TCPConn) { theirs.CloseWrite() }, time.Hour, false},
		"nothing":            {func(*net.TCPConn) {}, time.Hour, false},
	} {
		t.Run(name, func(t *testing.T) {
			var s Sweeper
			down, caller := accepted(t, "tcp", "127.0.0.1:0")
			down.leave()
			s.Adopt(down)
			up, endpoint := accepted(t, "tcp", "127.0.0.1:0")
			down.Tie(dropped{up}, nil)
			tt.leave(caller.(*net.TCPConn))
			look := func() bool {
				lookAtTied(int64(tt.after), down.shard.tied(int64(tt.after), nil))
				return down.PeerGone()
			}
			if tt.gone {
				eventually(t, "the caller is missed", look)
			} else if caller.SetReadDeadline(time.Now()); look() {
				t.Error("the caller is missed")
			}
			if down.Untie() == tt.gone {
				t.Errorf("Untie says the tie holds: %v", !tt.gone)
			}
			wait := 20 * time.Millisecond // for nothing
			if tt.gone {
				wait = time.Minute
			}
			endpoint.SetReadDeadline(time.Now().Add(wait))
			if _, err := endpoint.Read(make([]byte, 1)); errors.Is(err, io.EOF) != tt.gone {
				t.Errorf("the endpoint reads %v", err)
			}
		})
	}
}

// waiting says that the peer waits, or not.
type waiting bool

func (a *waiting) Waits() bool { return bool(*a) }

// TestAnEndIsAFarewellAfterAWhile plays looks at a caller that ended its direction.
func TestAnEndIsAFarewellAfterAWhile(t *testing.T) {
	type look struct {
		at    time.Duration
		waits bool
		gone  bool
	}
	for name, tt := range map[string]struct {
		ends  bool
		looks []look
	}{
		"it waits":                 {true, []look{{time.Second, true, false}, {6*time.Second - 1, true, false}, {6 * time.Second, true, true}}},
		"its request is read late": {true, []look{{time.Second, false, false}, {time.Minute, true, false}, {65 * time.Second, true, true}}},
		"it is told something":     {true, []look{{time.Second, true, false}, {5 * time.Second, true, false}, {time.Hour, false, false}}},
		"it ended nothing":         {false, []look{{time.Second, true, false}, {time.Hour, true, false}}},
	} {
		t.Run(name, func(t *testing.T) {
			var s Sweeper
			down, caller := accepted(t, "tcp", "127.0.0.1:0")
			down.leave()
			s.Adopt(down)
			up, endpoint := accepted(t, "tcp", "127.0.0.1:0")
			if say(t, caller, "more"); tt.ends { // which is not read: another request
				caller.(*net.TCPConn).CloseWrite()
				eventually(t, "the end is there", func() bool { _, ended := down.ends(); return ended })
			}
			var a waiting
			down.Tie(dropped{up}, &a)
			gone := false
			for _, l := range tt.looks {
				a = waiting(l.waits)
				lookAtTied(int64(l.at), down.shard.tied(int64(l.at), nil))
				if gone = down.PeerGone(); gone != l.gone {
					t.Fatalf("after %s gone: %v", l.at, gone)
				}
			}
			if down.Untie() == gone {
				t.Errorf("Untie says the tie holds: %v", gone)
			}
			if !gone {
				return
			}
			endpoint.SetReadDeadline(time.Now().Add(time.Minute))
			if _, err := endpoint.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("the endpoint reads %v", err)
			}
		})
	}
}

// TestEachTieGivesTimeAnew has a caller that sent two requests and its end at once.
func TestEachTieGivesTimeAnew(t *testing.T) {
	var s Sweeper
	down, caller := accepted(t, "tcp", "127.0.0.1:0")
	down.leave()
	s.Adopt(down)
	up, _ := accepted(t, "tcp", "127.0.0.1:0")
	caller.(*net.TCPConn).CloseWrite()
	eventually(t, "the end is there", func() bool { _, ended := down.ends(); return ended })
	waits := waiting(true)
	for range 3 {
		down.Tie(dropped{up}, &waits)
		for range 2 {
			now := s.clock.Add(int64(4 * time.Second))
			lookAtTied(now, down.shard.tied(now, nil))
		}
		if !down.Untie() {
			t.Fatal("missed too early")
		}
	}
}

func TestCutEndsBothEnds(t *testing.T) {
	down, caller := accepted(t, "tcp", "127.0.0.1:0")
	up, endpoint := accepted(t, "tcp", "127.0.0.1:0")
	down.Tie(dropped{up}, nil)
	down.Cut()
	if _, err := caller.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the caller reads %v", err)
	}
	if _, err := endpoint.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("the endpoint reads %v", err)
	}
	if down.Untie() || down.PeerGone() {
		t.Error("a cut is taken for the caller's doing")
	}
}
