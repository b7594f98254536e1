package cli

import (
	"errors"
	"io"
	"os"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/creack/pty"
)

// TestLongWorkSaysSoOnATerminal reads what was written once all is over: the
// terminal holds that much.
func TestLongWorkSaysSoOnATerminal(t *testing.T) {
	ours, theirs, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	defer ours.Close()
	synctest.Test(t, func(t *testing.T) {
		done := progress(Env{Err: theirs}, "thinking of nothing")
		time.Sleep(quietFor - time.Millisecond)
		done() // in time: not a word
		done = progress(Env{Err: theirs}, "reading")
		time.Sleep(2*time.Second + time.Millisecond)
		done()
	})
	if err := theirs.Close(); err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(ours)
	if err != nil && !errors.Is(err, syscall.EIO) { // how a terminal ends
		t.Fatal(err)
	}
	said := string(text)
	if !strings.HasPrefix(said, "\r\x1b[Kfairlead: reading: 1 s\r") || !strings.HasSuffix(said, "fairlead: reading: 2 s\r\x1b[K") {
		t.Errorf("got %q, want the seconds, and the line taken away at the end", said)
	}
}

func TestProgressIsForTerminalsOnly(t *testing.T) {
	f, err := os.Create(t.TempDir() + "/err")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	synctest.Test(t, func(t *testing.T) {
		done := progress(Env{Err: f}, "reading")
		time.Sleep(time.Minute)
		done()
	})
	if info, err := f.Stat(); err != nil || info.Size() != 0 {
		t.Errorf("%v bytes in a file, %v", info.Size(), err)
	}
}
