package transport

import (
	"bytes"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"
)

// answering says an answer to whatever it is asked.
func answering(t *testing.T, c net.Conn, answer string) {
	t.Helper()
	b := make([]byte, 1<<10)
	if _, err := c.Read(b); err != nil {
		t.Error(err)
		return
	}
	say(t, c, answer)
}

// ask asks, and reads the first of the answer into b.
func ask(c *Conn, question, b []byte, kept bool) (wrote, n int, err error) {
	wrote, err = c.Ask(question, kept)
	for n == 0 && err == nil {
		if n, err = c.ReadNow(b); n == 0 && err == nil {
			err = c.WaitEvent()
		}
	}
	return wrote, n, err
}

func TestAskWritesAndReads(t *testing.T) {
	for _, kind := range kinds {
		for _, kept := range []bool{false, true} {
			c, theirs := ends(t, kind)
			answered := make(chan struct{})
			go func() { defer close(answered); answering(t, theirs, "answer") }()
			b := make([]byte, 100)
			wrote, n, err := ask(c, []byte("question"), b, kept)
			if wrote != 8 || err != nil || n == 0 || !strings.HasPrefix("answer", string(b[:n])) {
				t.Errorf("%s, kept %v: %d %q %v", kind, kept, wrote, b[:n], err)
			}
			if rest, err := io.ReadAll(io.LimitReader(c, int64(6-n))); string(b[:n])+string(rest) != "answer" {
				t.Errorf("%s, kept %v: then %q %v", kind, kept, rest, err)
			}
			<-answered
		}
	}
}

func TestAKeptConnIsNotAskedUnlessItsPeerIsQuiet(t *testing.T) {
	for name, spoil := range map[string]func(*Conn, net.Conn){
		"said something":      func(_ *Conn, c net.Conn) { say(t, c, "unasked") },
		"ended its direction": func(_ *Conn, c net.Conn) { _ = c.(*net.TCPConn).CloseWrite() },
		"closed":              func(_ *Conn, c net.Conn) { c.Close() },
		"reset":               func(_ *Conn, c net.Conn) { _ = c.(*net.TCPConn).SetLinger(0); c.Close() },
		"something back":      func(c *Conn, _ net.Conn) { c.Unread([]byte("x")) },
	} {
		c, theirs := ends(t, "tcp")
		spoil(c, theirs)
		eventually(t, name, func() bool { return !c.Alive() })
		wrote, err := c.Ask([]byte("question"), true)
		if wrote != 0 || !errors.Is(err, ErrStale) {
			t.Errorf("%s: wrote %d, %v", name, wrote, err)
		}
	}
}

// A peer that speaks before it is asked, on a Conn that is not kept, is heard, though
// the poller has told that already.
func TestAskHearsWhatWasSaidBefore(t *testing.T) {
	c, theirs := ends(t, "tcp")
	heard := make(chan error, 1)
	go func() { heard <- c.WaitEvent() }()
	say(t, theirs, "early")
	if err := <-heard; err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 100)
	if _, n, err := ask(c, []byte("question"), b, false); err != nil || string(b[:n]) != "early" {
		t.Errorf("%q %v", b[:n], err)
	}
}

func TestAskEndsWithThePeer(t *testing.T) {
	for name, tt := range map[string]struct {
		end  func(*Conn, *net.TCPConn)
		want error
	}{
		"an end":    {func(_ *Conn, c *net.TCPConn) { c.Close() }, io.EOF},
		"a reset":   {func(_ *Conn, c *net.TCPConn) { _ = c.SetLinger(0); c.Close() }, syscall.ECONNRESET},
		"our close": {func(c *Conn, _ *net.TCPConn) { c.Close() }, net.ErrClosed},
		"a drop":    {func(c *Conn, _ *net.TCPConn) { c.Drop() }, net.ErrClosed},
		"a timeout": {func(c *Conn, _ *net.TCPConn) { _ = c.SetReadDeadline(time.Unix(1, 0)) }, os.ErrDeadlineExceeded},
	} {
		c, theirs := ends(t, "tcp")
		go func() {
			if _, err := io.ReadFull(theirs, make([]byte, 8)); err != nil {
				t.Error(err)
			}
			tt.end(c, theirs.(*net.TCPConn))
		}()
		wrote, n, err := ask(c, []byte("question"), make([]byte, 100), true)
		if wrote != 8 || n != 0 || !errors.Is(err, tt.want) {
			t.Errorf("%s: wrote %d, read %d, %v", name, wrote, n, err)
		}
	}
}

func TestAskOfAClosedConnSendsNothing(t *testing.T) {
	c, _ := ends(t, "tcp")
	c.Close()
	if wrote, err := c.Ask([]byte("question"), true); wrote != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("wrote %d, %v", wrote, err)
	}
}

func TestAQuestionLargerThanTheWindowGoesOutWhole(t *testing.T) {
	c, theirs := ends(t, "tcp")
	question := bytes.Repeat([]byte("0123456789abcdef"), 1<<20)
	go func() {
		got := make([]byte, len(question))
		if _, err := io.ReadFull(theirs, got); err != nil || !bytes.Equal(got, question) {
			t.Errorf("the question came changed, or not whole: %v", err)
		}
		say(t, theirs, "answer")
	}()
	b := make([]byte, 100)
	wrote, n, err := ask(c, question, b, true)
	if wrote != len(question) || err != nil || string(b[:n]) != "answer" {
		t.Errorf("wrote %d, %q %v", wrote, b[:n], err)
	}
}

// No answer is missed, however it falls between the write and the wait: at once,
// late, in pieces, or with the end of the stream in one segment. All share the
// processor with others that do the same.
func TestNoAnswerIsMissed(t *testing.T) {
	const conns, rounds = 8, 400
	done := make(chan struct{}, conns)
	for range conns {
		c, theirs := ends(t, "tcp")
		go func() {
			b := make([]byte, 100)
			for i := 0; ; i++ {
				n, err := theirs.Read(b)
				if err != nil {
					return
				}
				if i%3 == 1 {
					time.Sleep(time.Duration(i%50) * time.Microsecond)
				}
				if string(b[:n]) == "last" {
					say(t, theirs, "answer") // and its end follows at once
					theirs.Close()
					return
				}
				if i%3 == 2 { // in pieces
					say(t, theirs, "ans")
					say(t, theirs, "wer")
					continue
				}
				say(t, theirs, "answer")
			}
		}()
		go func() {
			defer func() { done <- struct{}{} }()
			_ = c.SetReadDeadline(time.Now().Add(20 * time.Second)) // what is missed fails then
			b := make([]byte, 100)
			for i := range rounds {
				question := "next"
				if i == rounds-1 {
					question = "last"
				}
				_, n, err := ask(c, []byte(question), b, true)
				for got := string(b[:n]); err == nil && !strings.HasSuffix(got, "wer"); got += string(b[:n]) {
					n, err = c.Read(b)
				}
				if err != nil {
					t.Errorf("question %d: %v", i, err)
					return
				}
			}
			if n, err := c.Read(b); n != 0 || err != io.EOF {
				t.Errorf("after the last answer: %d %v", n, err)
			}
		}()
	}
	for range conns {
		<-done
	}
}

// A wait with WaitEvent and ReadNow misses nothing and spins on nothing: two
// requests in one segment, one while the last is being served, and data with the end.
func TestWaitEventMissesNothing(t *testing.T) {
	const rounds = 2000
	c, theirs := ends(t, "tcp")
	_ = c.SetReadDeadline(time.Now().Add(20 * time.Second))
	go func() {
		b := make([]byte, 10)
		for i := range rounds {
			say(t, theirs, "ab"[:1+i%2])
			if i%3 == 0 {
				continue // the next one follows at once
			}
			if _, err := theirs.Read(b); err != nil {
				t.Error(err)
				return
			}
		}
		_ = theirs.(*net.TCPConn).CloseWrite()
	}()
	want, got, idle := rounds/2*3, 0, 0
	b := make([]byte, 10)
	for {
		if err := c.WaitEvent(); err != nil {
			t.Fatalf("after %d bytes of %d: %v", got, want, err)
		}
		n, err := c.ReadNow(b)
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if got += n; n == 0 {
			idle++
			continue
		}
		if _, err := c.Write([]byte("k")); err != nil {
			t.Fatal(err)
		}
	}
	if got != want || idle > rounds {
		t.Errorf("read %d bytes of %d, woken %d times for nothing", got, want, idle)
	}
}

func TestReadNowDoesNotWait(t *testing.T) {
	c, theirs := ends(t, "tcp")
	b := make([]byte, 10)
	if n, err := c.ReadNow(b); n != 0 || err != nil {
		t.Errorf("of a quiet peer: %d %v", n, err)
	}
	c.Unread([]byte("back"))
	if n, err := c.ReadNow(b); string(b[:n]) != "back" || err != nil {
		t.Errorf("given back: %q %v", b[:n], err)
	}
	theirs.Close()
	eventually(t, "the end", func() bool { return !c.Alive() })
	if n, err := c.ReadNow(b); n != 0 || err != io.EOF {
		t.Errorf("of a peer that ended: %d %v", n, err)
	}
	c.Close()
	if n, err := c.ReadNow(b); n != 0 || !errors.Is(err, net.ErrClosed) {
		t.Errorf("of a closed Conn: %d %v", n, err)
	}
}

func TestAskingAllocatesNothing(t *testing.T) {
	c, theirs := ends(t, "tcp")
	go func() { _, _ = io.Copy(theirs, theirs) }()
	b := make([]byte, 10)
	question := []byte("q")
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := ask(c, question, b, true); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Write(question); err != nil {
			t.Fatal(err)
		}
		for n := 0; n == 0; {
			if err := c.WaitEvent(); err != nil {
				t.Fatal(err)
			}
			var err error
			if n, err = c.ReadNow(b); err != nil {
				t.Fatal(err)
			}
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}
