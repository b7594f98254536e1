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
			down.Tie(dropped{up})
			tt.leave(caller.(*net.TCPConn))
			look := func() bool {
				lookAtTied(down.shard.tied(int64(tt.after), nil))
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

func TestCutEndsBothEnds(t *testing.T) {
	down, caller := accepted(t, "tcp", "127.0.0.1:0")
	up, endpoint := accepted(t, "tcp", "127.0.0.1:0")
	down.Tie(dropped{up})
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
