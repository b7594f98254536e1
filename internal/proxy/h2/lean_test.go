package h2

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"testing"
)

// A lender is a server of which a test is the client, which counts with windows
// as RFC 9113 has it.
type lender struct {
	t     *testing.T
	c     Conn
	s     *Stream
	may   int // what the client may send on the stream
	whole int // … on the connection
	acked bool
}

func newLender(t *testing.T, cfg Config) *lender {
	t.Helper()
	l := &lender{t: t, may: defaultWindow, whole: defaultWindow}
	cfg.Server, cfg.Open = true, func() *Stream { l.s = new(Stream); return l.s }
	l.c.Init(cfg)
	l.take([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0))
	block := []byte{0x83, 0x86, 0x84, 0x41, 1, 'a'}
	l.take(append(appendFrame(nil, len(block), frameHeaders, flagEndHeaders, 1), block...))
	return l
}

func (l *lender) take(bs ...[]byte) {
	l.t.Helper()
	b := bytes.Join(bs, nil)
	for len(b) > 0 {
		_, used, err := l.c.Next(b)
		if err != nil {
			l.t.Fatal(err)
		}
		b = b[used:]
	}
}

// hear has the client look at what it was sent.
func (l *lender) hear() {
	b := l.c.Out
	for l.c.Out = nil; len(b) > 0; b = b[size(b):] {
		switch p := b[headerLen:size(b)]; {
		case frameType(b[3]) == frameWindowUpdate && b[8] == 1:
			l.may += int(binary.BigEndian.Uint32(p))
		case frameType(b[3]) == frameWindowUpdate:
			l.whole += int(binary.BigEndian.Uint32(p))
		case frameType(b[3]) == frameSettings && b[4] == 0 && !l.acked:
			for ; len(p) > 0; p = p[6:] {
				if binary.BigEndian.Uint16(p) == settingWindow {
					l.may += int(binary.BigEndian.Uint32(p[2:])) - defaultWindow
				}
			}
			l.acked = true
			l.take(appendFrame(nil, 0, frameSettings, flagAck, 0))
		}
	}
}

// send sends as much as the windows allow, and returns how much that was.
func (l *lender) send() (sent int) {
	l.t.Helper()
	for {
		n := min(l.may, l.whole, MaxFrame)
		if n <= 0 {
			return sent
		}
		l.take(append(appendFrame(nil, n, frameData, 0, 1), make([]byte, n)...))
		l.may, l.whole, sent = l.may-n, l.whole-n, sent+n
	}
}

// TestASmallWindowBindsOnceItIsKnown has a client fill the window it knows first.
func TestASmallWindowBindsOnceItIsKnown(t *testing.T) {
	l := newLender(t, Config{Window: 20_000})
	if n := l.send(); n != defaultWindow {
		t.Errorf("%d bytes before the settings were seen", n)
	}
	l.c.Consumed(l.s, 30_000, false) // less than would be given back of the large window
	l.hear()
	sent, read := defaultWindow, 30_000
	for range 20 {
		n := l.send()
		if sent += n; n > 0 && sent-read > 20_000 {
			t.Fatalf("%d bytes unread of a window of 20000", sent-read)
		}
		l.c.Consumed(l.s, min(10_000, sent-read), false)
		read += min(10_000, sent-read)
		l.hear()
	}
	if l.send(); l.may > 0 || l.s.got < 100_000 {
		t.Errorf("after %d bytes the client may send %d", l.s.got, l.may)
	}
	if l.c.Abort(l.s, Cancel); l.c.growth != DefaultGrowth {
		t.Errorf("growth %d", l.c.growth)
	}
}

// TestASmallWindowStopsNobody has a client send half of the window it knows, all of
// which is read before the client says that it knows better.
func TestASmallWindowStopsNobody(t *testing.T) {
	l := newLender(t, Config{Window: 20_000})
	l.may = 30_000
	l.c.Consumed(l.s, l.send(), false)
	l.may = defaultWindow - 30_000
	l.hear()
	l.hear()
	if l.may != 20_000 {
		t.Errorf("the client may send %d", l.may)
	}
}

// TestALeanConnectionInvitesLittleAndStopsNobody reads all that comes, always.
func TestALeanConnectionInvitesLittleAndStopsNobody(t *testing.T) {
	l := newLender(t, Config{})
	l.hear()
	for range 8 { // until the window has grown
		l.c.Consumed(l.s, l.send(), true)
		l.hear()
	}
	if l.may < 2*defaultWindow {
		t.Fatalf("a window of %d did not grow", l.may)
	}
	l.c.Lean = true
	most := 0
	for i := range 100 {
		n := l.send()
		if n == 0 {
			t.Fatalf("the client waits, and all that came was read")
		}
		if i > 0 {
			most = max(most, n)
		}
		l.c.Consumed(l.s, n, true)
		l.hear()
	}
	if most > LeanWindow || l.c.growth != DefaultGrowth+defaultWindow-LeanWindow {
		t.Errorf("%d bytes at once; growth %d", most, l.c.growth)
	}
	l.c.Lean = false
	for range 8 {
		l.c.Consumed(l.s, l.send(), true)
		l.hear()
	}
	if l.may < 2*defaultWindow {
		t.Errorf("a window of %d does not grow again", l.may)
	}
	if l.c.Abort(l.s, Cancel); l.c.growth != DefaultGrowth {
		t.Errorf("growth %d", l.c.growth)
	}
}

// TestALeanConnectionStopsNobodyBeforeItsSettingsAreKnown has memory become short
// before the client says that it knows the window, and reads all that comes.
func TestALeanConnectionStopsNobodyBeforeItsSettingsAreKnown(t *testing.T) {
	for _, first := range []int{8000, 20_000, 40_000} {
		l := newLender(t, Config{Window: LeanWindow})
		l.c.Lean = true
		l.may = first
		l.c.Consumed(l.s, l.send(), true)
		l.may = defaultWindow - first
		l.hear()
		l.hear() // what the ACK made us say
		for i := range 50 {
			n := l.send()
			if n == 0 {
				t.Errorf("first %d: the client waits in round %d (it may send %d, target %d, credit %d), and all that came was read", first, i, l.may, l.s.target, l.s.credit)
				break
			}
			l.c.Consumed(l.s, n, true)
			l.hear()
		}
	}
}

// TestNobodyIsStuckWhateverTheWindows draws windows, when memory is short and when
// the client heeds the settings: once all that came was read, it may send.
func TestNobodyIsStuckWhateverTheWindows(t *testing.T) {
	for seed := range uint64(2000) {
		r := rand.New(rand.NewPCG(seed, 1))
		l := newLender(t, Config{Window: []int{0, LeanWindow, 20_000, 41_943}[r.IntN(4)]})
		unread := 0
		for range 60 {
			switch r.IntN(5) {
			case 0:
				l.c.Lean = r.IntN(2) == 0
			case 1:
				l.hear()
			case 2, 3:
				if n := min(l.may, l.whole); n > 0 {
					n = 1 + r.IntN(n)
					rest := l.may - n
					l.may = n
					unread += l.send()
					l.may += rest
				}
			case 4:
				if unread > 0 {
					n := 1 + r.IntN(unread)
					l.c.Consumed(l.s, n, r.IntN(2) == 0)
					unread -= n
				}
			}
		}
		l.c.Consumed(l.s, unread, true)
		l.hear()
		l.hear() // what the ACK made us say
		if l.may <= 0 || l.whole <= 0 {
			t.Errorf("seed %d: window %d, lean %v: the client may send %d, and %d on the connection; target %d, credit %d", seed, l.c.cfg.Window, l.c.Lean, l.may, l.whole, l.s.target, l.s.credit)
		}
		if l.c.Abort(l.s, Cancel); l.c.growth != DefaultGrowth {
			t.Errorf("seed %d: growth %d", seed, l.c.growth)
		}
		if t.Failed() {
			return
		}
	}
}
