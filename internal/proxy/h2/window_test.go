package h2

import (
	"encoding/binary"
	"strings"
	"testing"
)

// TestConnectionWindowComesBack lets data come to nothing in every way, and sees
// that the window of the connection is whole again in the end.
func TestConnectionWindowComesBack(t *testing.T) {
	p := &player{t: t, out: nil}
	p.start(true, 3)
	c := p.c
	send := func(line string) *Stream {
		t.Helper()
		w, rest := args(line)
		flags := map[string]int{}
		id := uint32(0)
		for i, x := range w[1:] {
			if i == 0 {
				id = uint32(p.int(x))
				continue
			}
			for k := range map[string]bool{"end": true, "pad": true, "n": true} {
				if v, ok := cutPrefix(x, k+"="); ok {
					flags[k] = p.int(v)
				} else if x == k {
					flags[k] = 1
				}
			}
		}
		b := p.peer(w, flags, id, rest)
		var last *Stream
		for {
			ev, used, err := c.Next(b)
			if err != nil {
				t.Fatal(err)
			}
			b = b[used:]
			if ev.Kind == None {
				return last
			}
			if ev.Stream != nil {
				last = ev.Stream
			}
			if ev.Kind == Data {
				last.Owner = len(ev.Data)
			}
		}
	}
	whole := func(what string) {
		t.Helper()
		if c.recv+c.credit != c.target || c.growth != DefaultGrowth {
			t.Errorf("%s: window %d of %d, growth %d", what, c.recv+c.credit, c.target, c.growth)
		}
	}
	post := ":method=POST | :scheme=http | :path=/ | :authority=a"
	if _, _, err := c.Next([]byte(Preface)); err != nil {
		t.Fatal(err)
	}
	send("settings 0")

	s := send("headers 1: " + post)
	send("data 1 n=1000 pad=255")
	c.Consumed(s, 1000, false)
	whole("padding")
	c.Abort(s, Cancel)
	c.Release(s)
	send("data 1 n=5000 pad=3")
	whole("data after a reset")

	s = send("headers 3: " + post + " | content-length=5")
	send("data 3 n=6000")
	c.Release(s)
	whole("too much data")

	s = send("headers 5: " + post)
	for range 4 {
		send("data 5 n=16000")
	}
	c.Consumed(s, 64000, true)
	if c.growth == DefaultGrowth {
		t.Error("the window of a stream did not grow")
	}
	send("data 5 n=100 end")
	c.Headers(s, []byte{0x88}, true)
	c.Consumed(s, 100, true)
	c.Release(s)
	whole("a stream that ended")

	s = send("headers 7 end: " + post)
	c.Headers(s, []byte{0x88}, true)
	c.Release(s)
	send("data 7 n=700")
	whole("data after the end")
}

func cutPrefix(s, prefix string) (string, bool) {
	if len(s) > len(prefix) && s[:len(prefix)] == prefix {
		return s[len(prefix):], true
	}
	return s, false
}

// TestFloodForgetsNoStream resets streams, and breaks them, until the connection
// ends, and sees that the driver was told of each that is not open any more.
func TestFloodForgetsNoStream(t *testing.T) {
	for _, frame := range [][]byte{appendReset(nil, 1, Cancel), appendWindowUpdate(nil, 1, 0)} {
		var c Conn
		c.Init(Config{Server: true, Open: func() *Stream { return new(Stream) }})
		b := append([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0)...)
		request := compressed(fields(t, get))
		for id := uint32(1); id < 10_000; id += 2 {
			b = appendFrame(b, len(request), frameHeaders, flagEndHeaders, id)
			b = append(b, request...)
			b = append(b, frame...)
			binary.BigEndian.PutUint32(b[len(b)-len(frame)+5:], id)
		}
		for {
			ev, used, err := c.Next(b)
			b = b[used:]
			if err != nil {
				if err != ErrFlood {
					t.Error(err)
				}
				break
			}
			if ev.Kind == Failed {
				c.Release(ev.Stream)
			}
		}
		if c.live != 1 || len(c.streams) != 1 {
			t.Errorf("%d streams are known to the driver, %d are open", c.live, len(c.streams))
		}
	}
}

// TestPeerMayMeasureThePath has a peer that answers each piece of data with a
// PING, as gRPC does to find out how large its window should be.
func TestPeerMayMeasureThePath(t *testing.T) {
	var c Conn
	c.Init(Config{Server: true, Open: func() *Stream { return new(Stream) }})
	request := compressed(fields(t, get))
	b := append([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0)...)
	b = append(appendFrame(b, len(request), frameHeaders, flagEndHeaders, 1), request...)
	ev, _, err := c.Next(b)
	if err != nil || ev.Kind != Opened {
		t.Fatal(ev, err)
	}
	c.Headers(ev.Stream, []byte{0x88}, false)
	for i := range 5000 {
		c.Out = c.Out[:0]
		c.Data(ev.Stream, []byte("0123456789"), false)
		if _, _, err := c.Next(appendPing(nil, false, []byte("01234567"))); err != nil {
			t.Fatalf("PING %d: %v", i, err)
		}
	}
}

// TestInterimAnswersAreBounded sends few interim answers, but large ones.
func TestInterimAnswersAreBounded(t *testing.T) {
	var c Conn
	c.Init(Config{})
	s := new(Stream)
	c.Start(s, []byte{0x82}, Start{})
	b := appendFrame(nil, 0, frameSettings, 0, 0)
	head := AppendField(AppendStatus(nil, 103), "link", strings.Repeat("x", 15_000))
	for range 20 {
		b = append(appendFrame(b, len(head), frameHeaders, flagEndHeaders, 1), head...)
	}
	for {
		ev, used, err := c.Next(b)
		if err != nil || ev.Kind == None {
			t.Fatal(ev, err)
		}
		if b = b[used:]; ev.Kind == Failed {
			if ev.Err != ErrManyInterim || len(s.Text) > 2*MaxHead {
				t.Errorf("%v with %d bytes of text", ev.Err, len(s.Text))
			}
			return
		}
	}
}
