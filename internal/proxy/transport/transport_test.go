package transport

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// kinds are the streams that a Conn treats each its own way.
var kinds = []string{"tcp", "unix", "pipe"}

// ends makes both ends of a stream.
func ends(t *testing.T, kind string) (ours *Conn, theirs net.Conn) {
	t.Helper()
	switch kind {
	case "tcp":
		return accepted(t, "tcp", "127.0.0.1:0")
	case "unix":
		return accepted(t, "unix", filepath.Join(t.TempDir(), "s"))
	}
	a, b := net.Pipe()
	ours = New(a, nil)
	t.Cleanup(func() { ours.Close(); b.Close() })
	return ours, b
}

func accepted(t *testing.T, network, address string) (*Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	theirs, err := net.Dial(network, ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	c, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ours := New(c, nil)
	t.Cleanup(func() { ours.Close(); theirs.Close() })
	return ours, theirs
}

func say(t *testing.T, c net.Conn, s string) {
	t.Helper()
	if _, err := io.WriteString(c, s); err != nil {
		t.Error(err)
	}
}

func TestReadDeliversWhatWasGivenBackFirst(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			ours, theirs := ends(t, kind)
			c := New(ours.Conn, []byte("head "))
			go func() { say(t, theirs, "tail"); theirs.Close() }()
			first := make([]byte, 2)
			if _, err := io.ReadFull(c, first); err != nil {
				t.Fatal(err)
			}
			c.Unread([]byte("HE"))
			got, err := io.ReadAll(c)
			if err != nil || string(got) != "HEad tail" {
				t.Errorf("read %q, %v; want %q", got, err, "HEad tail")
			}
		})
	}
}

func TestTakeBufferedForgetsTheBytes(t *testing.T) {
	ours, theirs := accepted(t, "tcp", "127.0.0.1:0")
	c := New(ours.Conn, []byte("head"))
	if got := c.TakeBuffered(); string(got) != "head" {
		t.Errorf("took %q", got)
	}
	if got := c.TakeBuffered(); len(got) != 0 {
		t.Errorf("took %q twice", got)
	}
	say(t, theirs, "x")
	b := make([]byte, 8)
	if n, err := c.Read(b); err != nil || string(b[:n]) != "x" {
		t.Errorf("read %q, %v", b[:n], err)
	}
}

func TestWaitReadableWaitsAndLosesNothing(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c, theirs := ends(t, kind)
			for _, word := range []string{"one", "two", "three"} {
				waited := make(chan error, 1)
				go func() { waited <- c.WaitReadable() }()
				select {
				case err := <-waited:
					t.Fatalf("returned with nothing to read: %v", err)
				case <-time.After(5 * time.Millisecond):
				}
				go say(t, theirs, word)
				if err := <-waited; err != nil {
					t.Fatal(err)
				}
				got := make([]byte, len(word))
				if _, err := io.ReadFull(c, got); err != nil || string(got) != word {
					t.Fatalf("read %q, %v; want %q", got, err, word)
				}
			}
		})
	}
}

// The poller reports changes only: what came before the wait must be seen too.
func TestWaitReadableSeesWhatCameBefore(t *testing.T) {
	c, theirs := accepted(t, "tcp", "127.0.0.1:0")
	say(t, theirs, "abc")
	var b [1]byte
	for range 3 {
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b[:]); err != nil {
			t.Fatal(err)
		}
	}
}

func TestWaitReadableEndsWithThePeer(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c, theirs := ends(t, kind)
			theirs.Close()
			if err := c.WaitReadable(); err != nil {
				t.Fatalf("the end of the peer is for Read to tell, got %v", err)
			}
			if _, err := c.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("read: %v, want EOF", err)
			}
		})
	}
}

func TestWaitReadableEndsWithClose(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c, _ := ends(t, kind)
			waited := make(chan error, 1)
			go func() { waited <- c.WaitReadable() }()
			c.Close()
			if err := <-waited; err == nil {
				t.Error("waiting on a closed Conn succeeded")
			}
			if c.TimedOut() {
				t.Error("a closed Conn did not time out")
			}
		})
	}
}

func TestAliveMeansSilentAndOpen(t *testing.T) {
	for _, kind := range []string{"tcp", "unix"} {
		t.Run(kind, func(t *testing.T) {
			c, theirs := ends(t, kind)
			if !c.Alive() {
				t.Error("a fresh connection is not alive")
			}
			say(t, theirs, "unasked")
			eventually(t, "bytes arrive", func() bool { return !c.Alive() })

			c, theirs = ends(t, kind)
			theirs.Close()
			eventually(t, "the end arrives", func() bool { return !c.Alive() })

			c, _ = ends(t, kind)
			c.Close()
			if c.Alive() {
				t.Error("a closed connection is alive")
			}
		})
	}
	if New(nil, []byte("x")).Alive() {
		t.Error("a connection with unread bytes is alive")
	}
}

func TestResetSendsRST(t *testing.T) {
	c, theirs := accepted(t, "tcp", "127.0.0.1:0")
	if err := c.Reset(); err != nil {
		t.Fatal(err)
	}
	if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("peer read: %v, want connection reset", err)
	}
}

func TestCloseWriteEndsOneDirection(t *testing.T) {
	for _, kind := range []string{"tcp", "unix"} {
		t.Run(kind, func(t *testing.T) {
			c, theirs := ends(t, kind)
			if err := c.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			if _, err := theirs.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
				t.Errorf("peer read: %v, want EOF", err)
			}
			say(t, theirs, "still")
			b := make([]byte, 5)
			if _, err := io.ReadFull(c, b); err != nil || string(b) != "still" {
				t.Errorf("read %q, %v", b, err)
			}
		})
	}
}

func TestAddressesAreUnmapped(t *testing.T) {
	ln, err := net.Listen("tcp", "[::]:0") // takes IPv4 as mapped IPv6
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	port := ln.Addr().(*net.TCPAddr).AddrPort().Port()
	peer, err := net.Dial("tcp4", netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port).String())
	if err != nil {
		t.Fatal(err)
	}
	defer peer.Close()
	accepted, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	c := New(accepted, nil)
	defer c.Close()
	if want := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), port); c.Local() != want {
		t.Errorf("local %s, want %s", c.Local(), want)
	}
	if want := peer.LocalAddr().(*net.TCPAddr).AddrPort(); c.Peer() != want {
		t.Errorf("peer %s, want %s", c.Peer(), want)
	}
	u, _ := ends(t, "unix")
	if u.Peer().IsValid() || u.Local().IsValid() {
		t.Error("a unix socket has an IP address")
	}
}

func TestSocketsHaveADescriptor(t *testing.T) {
	for kind, want := range map[string]bool{"tcp": true, "unix": true, "pipe": false} {
		c, _ := ends(t, kind)
		if _, got := c.Raw(); got != want {
			t.Errorf("%s: Raw() = %v", kind, got)
		}
	}
}

func TestUnadoptedConnsTimeOutByDeadline(t *testing.T) {
	for _, kind := range kinds {
		t.Run(kind, func(t *testing.T) {
			c, _ := ends(t, kind)
			c.SetTimeout(time.Millisecond)
			_, err := c.Read(make([]byte, 1))
			if !errors.Is(err, os.ErrDeadlineExceeded) || !c.TimedOut() {
				t.Errorf("read: %v, timed out %v", err, c.TimedOut())
			}
		})
	}
}

func TestWaitingAndLookingAllocateNothing(t *testing.T) {
	c, theirs := accepted(t, "tcp", "127.0.0.1:0")
	var s Sweeper
	c.leave()
	s.Adopt(c)
	b := []byte("x")
	if n := testing.AllocsPerRun(100, func() {
		c.SetTimeout(time.Minute)
		if !c.Alive() {
			t.Fatal("not alive")
		}
		if _, err := theirs.Write(b); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
		c.SetTimeout(0)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: not within a minute", what)
		}
	}
}

func BenchmarkSetTimeout(b *testing.B) {
	var s Sweeper
	c := New(nil, nil)
	s.Adopt(c)
	for b.Loop() {
		c.SetTimeout(time.Minute)
	}
}

func BenchmarkAlive(b *testing.B) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer ln.Close()
	conn, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	c := New(conn, nil)
	b.ReportAllocs()
	for b.Loop() {
		if !c.Alive() {
			b.Fatal("not alive")
		}
	}
}

// A wake-up for bytes that were read meanwhile must not end the wait: whoever
// waits has given up his buffer and his timeout for it.
func TestWaitReadableIsExact(t *testing.T) {
	const rounds = 2000
	c, theirs := accepted(t, "tcp", "127.0.0.1:0")
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 1)
		for range rounds {
			if _, err := theirs.Write(b); err != nil {
				t.Error(err)
				return
			}
			if _, err := theirs.Read(b); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	b := make([]byte, 1)
	for range rounds {
		if err := c.WaitReadable(); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Now().Add(time.Minute)); err != nil {
			t.Fatal(err)
		}
		if c.Alive() {
			t.Fatal("woken with nothing to read")
		}
		if _, err := c.Read(b); err != nil {
			t.Fatal(err)
		}
		if err := c.SetReadDeadline(time.Time{}); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(b); err != nil {
			t.Fatal(err)
		}
	}
	<-done
}
