package peer

import (
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

type message struct{ ID int }

// channels returns the two ends of a pair.
func channels(t testing.TB) (a, b *Channel) {
	t.Helper()
	ours, file, err := Pair()
	if err != nil {
		t.Fatal(err)
	}
	theirs, err := FileConn(file)
	if err != nil {
		t.Fatal(err)
	}
	a, b = NewChannel(ours), NewChannel(theirs)
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}

func TestAChannelCarriesFilesAndRefusesTooMany(t *testing.T) {
	a, b := channels(t)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	for _, n := range []int{0, 6, MaxFiles} {
		files := make([]*os.File, n)
		for i := range files {
			files[i] = null
		}
		if err := a.Send(message{n}, files...); err != nil {
			t.Fatal(err)
		}
		var m message
		got, err := b.Receive(100, &m)
		if err != nil || len(got) != n || m.ID != n {
			t.Errorf("%d files: got %d, %+v, %v", n, len(got), m, err)
		}
		for _, f := range got {
			if flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFD, 0); err != nil || flags&unix.FD_CLOEXEC == 0 {
				t.Errorf("a file that came is inherited by what is executed: %#x, %v", flags, err)
			}
		}
		CloseAll(got)
	}
	tooMany := make([]*os.File, MaxFiles+1)
	fds := make([]int, len(tooMany))
	for i := range tooMany {
		tooMany[i], fds[i] = null, int(null.Fd())
	}
	if err := a.Send(message{}, tooMany...); err == nil {
		t.Error("too many files were sent")
	}
	// Whoever does not keep to that is found out, for the kernel cuts them short.
	if _, _, err := a.conn.WriteMsgUnix([]byte("\x00\x00\x00\x02"), unix.UnixRights(fds...), nil); err != nil {
		t.Fatal(err)
	}
	if _, err := a.conn.Write([]byte("{}")); err != nil {
		t.Fatal(err)
	}
	var m message
	if files, err := b.Receive(100, &m); err == nil || files != nil {
		t.Errorf("too many files: received %d, %v", len(files), err)
	}
}

func TestAChannelRefusesWhatIsCutShortOrTooLong(t *testing.T) {
	for _, tt := range []struct {
		name, said string
		end        error // or any but io.EOF
	}{
		{"nothing", "", io.EOF},
		{"half a length", "\x00\x00", io.ErrUnexpectedEOF},
		{"a length", "\x00\x00\x00\x08", io.ErrUnexpectedEOF},
		{"half a message", "\x00\x00\x00\x08{", io.ErrUnexpectedEOF},
		{"too long", "\x7f\x00\x00\x00{}", nil},
		{"no JSON", "\x00\x00\x00\x01x", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			a, b := channels(t)
			if _, err := io.WriteString(a.conn, tt.said); err != nil {
				t.Fatal(err)
			}
			a.Close()
			var m message
			_, err := b.Receive(100, &m)
			if err == nil || tt.end != nil && !errors.Is(err, tt.end) || tt.end == nil && errors.Is(err, io.EOF) {
				t.Errorf("got %v, want %v", err, tt.end)
			}
		})
	}
	a, _ := channels(t)
	if err := a.Send(strings.Repeat("x", MaxFrame)); err == nil {
		t.Error("a message over the bound was sent")
	}
}

func TestOnlyAUnixSocketIsAChannel(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	c, err := net.Dial("tcp", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	tcp, err := c.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range []*os.File{tcp, null} {
		if _, err := FileConn(f); err == nil {
			t.Errorf("%s became a channel", f.Name())
		}
		if err := f.Close(); !errors.Is(err, os.ErrClosed) {
			t.Errorf("%s was left open", f.Name())
		}
	}
}

// FuzzChannel feeds a channel what a hostile process might say.
func FuzzChannel(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x02{}"))
	f.Add([]byte("\xff\xff\xff\xff{}"))
	f.Add([]byte("\x00\x00\x00\x08{\"ID\":1}\x00"))
	f.Fuzz(func(t *testing.T, said []byte) {
		a, b := channels(t)
		said = said[:min(len(said), 1000)]
		_, err := a.conn.Write(said)
		if err := errors.Join(err, a.Close()); err != nil {
			t.Fatal(err)
		}
		for range len(said) + 1 { // a message has four bytes at least
			var m message
			if _, err := b.Receive(1000, &m); err != nil {
				return
			}
		}
		t.Error("more messages than bytes")
	})
}
