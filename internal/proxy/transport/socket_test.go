package transport

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// lot is one that runs until the test ends.
func lot(t *testing.T) *Lot {
	t.Helper()
	l, err := NewLot()
	if err != nil {
		t.Fatal(err)
	}
	var wg sync.WaitGroup
	wg.Go(l.Run)
	t.Cleanup(func() { l.Close(); wg.Wait() })
	return l
}

// acceptor listens, and accepts as the proxy does.
func acceptor(t *testing.T, address string) (a *Acceptor, at string) {
	t.Helper()
	ln, err := net.Listen("tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	at = ln.Addr().String()
	if a, err = NewAcceptor(ln, lot(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close() })
	return a, at
}

// taken is a connection as an Acceptor accepts it.
func taken(t *testing.T, a *Acceptor, at string) (ours *Conn, theirs net.Conn) {
	t.Helper()
	theirs, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	c, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours = New(c, nil)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func TestAnAcceptedSocketKnowsItsAddressesAndIsSetUp(t *testing.T) {
	for _, address := range []string{"127.0.0.1:0", "[::1]:0", ":0"} {
		a, at := acceptor(t, address)
		ours, theirs := taken(t, a, at)
		far := func(a net.Addr) netip.AddrPort {
			ap := a.(*net.TCPAddr).AddrPort()
			return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())
		}
		if got, want := ours.Peer(), far(theirs.LocalAddr()); got != want {
			t.Errorf("peer %s, want %s", got, want)
		}
		if got, want := ours.Local(), far(theirs.RemoteAddr()); got != want {
			t.Errorf("local %s, want %s", got, want)
		}
		if got, want := ours.RemoteAddr().String(), ours.Peer().String(); got != want {
			t.Errorf("remote address %s, want %s", got, want)
		}
		raw, _ := ours.Raw()
		for _, o := range []struct{ level, name, want int }{
			{unix.IPPROTO_TCP, unix.TCP_NODELAY, 1},
			{unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1},
			{unix.IPPROTO_TCP, unix.TCP_KEEPIDLE, callerIdle},
			{unix.IPPROTO_TCP, unix.TCP_KEEPINTVL, callerInterval},
			{unix.IPPROTO_TCP, unix.TCP_KEEPCNT, callerCount},
		} {
			var got, flags int
			var err error
			cerr := raw.Control(func(fd uintptr) {
				got, err = unix.GetsockoptInt(int(fd), o.level, o.name)
				flags, _ = unix.FcntlInt(fd, unix.F_GETFD, 0)
			})
			if got != o.want || err != nil || cerr != nil {
				t.Errorf("option %d: %d, want %d (%v, %v)", o.name, got, o.want, err, cerr)
			}
			if flags&unix.FD_CLOEXEC == 0 {
				t.Error("the socket is inherited by what is executed")
			}
		}
	}
}

func TestASocketWaitsToReadAndToWrite(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	ours, theirs := taken(t, a, at)
	const size = 32 << 20 // more than both buffers hold
	var wg sync.WaitGroup
	wg.Go(func() {
		time.Sleep(10 * time.Millisecond) // so that ours waits
		say(t, theirs, "ping")
		if n, err := io.Copy(io.Discard, theirs); n != size || err != nil {
			t.Errorf("%d bytes, %v", n, err)
		}
	})
	if b := make([]byte, 4); ours.WaitReadable() != nil {
		t.Error("the wait ended")
	} else if _, err := io.ReadFull(ours, b); err != nil || string(b) != "ping" {
		t.Errorf("read %q, %v", b, err)
	}
	if n, err := ours.Write(make([]byte, size)); n != size || err != nil {
		t.Errorf("wrote %d, %v", n, err)
	}
	if err := ours.CloseWrite(); err != nil {
		t.Error(err)
	}
	wg.Wait()
}

// TestASocketEndsAsOthersDo ends sockets that have waited and sockets that have
// not, before and while they are waited for.
func TestASocketEndsAsOthersDo(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for name, tt := range map[string]struct {
		end  func(ours *Conn, theirs net.Conn)
		want error
	}{
		"closed":    {func(ours *Conn, _ net.Conn) { ours.Close() }, net.ErrClosed},
		"reset":     {func(ours *Conn, _ net.Conn) { ours.Reset() }, net.ErrClosed},
		"deadline":  {func(ours *Conn, _ net.Conn) { ours.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
		"peer ends": {func(_ *Conn, theirs net.Conn) { theirs.Close() }, io.EOF},
		"peer resets": {
			func(_ *Conn, theirs net.Conn) { theirs.(*net.TCPConn).SetLinger(0); theirs.Close() },
			syscall.ECONNRESET,
		},
	} {
		for _, how := range []string{"at once", "while waiting", "after a wait"} {
			t.Run(name+" "+how, func(t *testing.T) {
				ours, theirs := taken(t, a, at)
				b := make([]byte, 1)
				var err error
				switch how {
				case "at once":
					tt.end(ours, theirs)
					_, err = ours.Read(b)
				case "while waiting":
					done := make(chan error)
					go func() { _, err := ours.Read(b); done <- err }()
					time.Sleep(time.Millisecond)
					tt.end(ours, theirs)
					err = <-done
				case "after a wait":
					go func() { time.Sleep(time.Millisecond); say(t, theirs, "x") }()
					if _, err = ours.Read(b); err != nil {
						t.Fatal(err)
					}
					tt.end(ours, theirs)
					_, err = ours.Read(b)
				}
				if !errors.Is(err, tt.want) {
					t.Errorf("read: %v, want %v", err, tt.want)
				}
				if tt.want == net.ErrClosed && !errors.Is(ours.Close(), net.ErrClosed) {
					t.Error("it closes twice")
				}
			})
		}
	}
}

// TestAClosedAcceptorWakesAccept does so, whatever it accepts from.
func TestAClosedAcceptorWakesAccept(t *testing.T) {
	for _, network := range []string{"tcp", "unix"} {
		address := "127.0.0.1:0"
		if network == "unix" {
			address = t.TempDir() + "/s"
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		a, err := NewAcceptor(ln, lot(t))
		if err != nil {
			t.Fatal(err)
		}
		done := make(chan error)
		go func() { _, err := a.Accept(); done <- err }()
		time.Sleep(time.Millisecond)
		a.Close()
		if err := <-done; !errors.Is(err, net.ErrClosed) {
			t.Errorf("%s: %v", network, err)
		}
		if _, err := net.Dial(network, ln.Addr().String()); err == nil {
			t.Errorf("%s: it still listens", network)
		}
	}
}

// TestASocketLingersForNothing in Close: it resets, or leaves the rest to the system.
func TestASocketLingersForNothing(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	for sec, want := range map[int]error{-1: io.EOF, 0: syscall.ECONNRESET, 60: io.EOF} {
		ours, theirs := taken(t, a, at)
		s := ours.Conn.(*Socket)
		if err := errors.Join(s.SetLinger(0), s.SetLinger(sec)); err != nil {
			t.Error(err)
		}
		raw, _ := ours.Raw()
		var l *unix.Linger
		var err error
		cerr := raw.Control(func(fd uintptr) { l, err = unix.GetsockoptLinger(int(fd), unix.SOL_SOCKET, unix.SO_LINGER) })
		if err = errors.Join(err, cerr); err != nil || l.Onoff != 0 && l.Linger != 0 {
			t.Errorf("linger %d: %+v, %v", sec, l, err)
		}
		s.Close()
		if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, want) {
			t.Errorf("linger %d: the peer reads %v, want %v", sec, err, want)
		}
	}
}

// TestAResetBeforeItIsAcceptedLeavesItsAddresses: they say what to record.
func TestAResetBeforeItIsAcceptedLeavesItsAddresses(t *testing.T) {
	a, at := acceptor(t, "127.0.0.1:0")
	c, err := net.Dial("tcp", at)
	if err != nil {
		t.Fatal(err)
	}
	from := c.LocalAddr().String()
	c.(*net.TCPConn).SetLinger(0)
	c.Close()
	time.Sleep(5 * time.Millisecond)
	got, err := a.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours := New(got, nil)
	defer ours.Close()
	if ours.Local().String() != at || ours.Peer().String() != from {
		t.Errorf("from %s to %s, want %s to %s", ours.Peer(), ours.Local(), from, at)
	}
}
