package streams

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// raw is a frame as it is sent.
func raw(kind http2.FrameType, flags http2.Flags, id uint32, payload ...byte) []byte {
	n := len(payload)
	head := []byte{byte(n >> 16), byte(n >> 8), byte(n), byte(kind), byte(flags)}
	return append(binary.BigEndian.AppendUint32(head, id), payload...)
}

// The attacks of fault 42: what is sent first, then the frames of one turn.
var attacks = []struct {
	name  string
	first func() []byte
	turn  func(i uint32) []byte
}{
	{"rapid reset", nil, func(i uint32) []byte {
		return append(raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders|http2.FlagHeadersEndStream, 2*i+1, 0x82, 0x86, 0x84, 0x41, 1, 'a'), raw(http2.FrameRSTStream, 0, 2*i+1, 0, 0, 0, 8)...)
	}},
	{"empty CONTINUATION", func() []byte { return raw(http2.FrameHeaders, 0, 1, 0x82) }, func(uint32) []byte { return raw(http2.FrameContinuation, 0, 1) }},
	{"CONTINUATION", func() []byte { return raw(http2.FrameHeaders, 0, 1, 0x82) }, func(uint32) []byte {
		return raw(http2.FrameContinuation, 0, 1, bytes.Repeat([]byte{0x40, 1, 'a', 1, 'b'}, 200)...)
	}},
	{"SETTINGS", nil, func(uint32) []byte { return raw(http2.FrameSettings, 0, 0) }},
	{"PING", nil, func(uint32) []byte { return raw(http2.FramePing, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8) }},
	{"window change", hundred, func(i uint32) []byte {
		return raw(http2.FrameSettings, 0, 0, 0, 4, 0, 0, byte(i), 0)
	}},
	{"many window changes", hundred, func(uint32) []byte {
		return raw(http2.FrameSettings, 0, 0, bytes.Repeat([]byte{0, 4, 0, 0, 1, 0, 0, 4, 0, 0, 2, 0}, 1300)...)
	}},
	{"empty DATA", hundred, func(uint32) []byte { return raw(http2.FrameData, 0, 1) }},
	{"WINDOW_UPDATE", hundred, func(uint32) []byte { return raw(http2.FrameWindowUpdate, 0, 1, 0, 0, 0, 1) }},
	{"PRIORITY", nil, func(uint32) []byte { return raw(http2.FramePriority, 0, 3, 0, 0, 0, 1, 1) }},
}

// hundred opens a hundred streams.
func hundred() (b []byte) {
	for i := range uint32(h2.DefaultMaxStreams) {
		b = append(b, raw(http2.FrameHeaders, http2.FlagHeadersEndHeaders, 2*i+1, 0x83, 0x86, 0x84, 0x41, 1, 'a')...)
	}
	return b
}

// most is how many turns of an attack are sent: as many as one that costs least is
// allowed, twice.
const most = 4000

// TestFault42FloodsEndSoon makes each attack from ten connections, one after the
// other, and tells how much CPU time it costs us for what it costs the attacker,
// who is spared everything: its frames were made before.
func TestFault42FloodsEndSoon(t *testing.T) {
	for _, attack := range attacks {
		t.Run(strings.ReplaceAll(attack.name, " ", "_"), func(t *testing.T) {
			srv := newServer(t, Options{}, func(s *Stream) { _, _ = io.ReadAll(s) })
			b := append([]byte(http2.ClientPreface), raw(http2.FrameSettings, 0, 0)...)
			if attack.first != nil {
				b = append(b, attack.first()...)
			}
			for i := uint32(0); i < most && len(b) < 1<<20; i++ {
				b = append(b, attack.turn(i)...)
			}
			var theirs time.Duration
			before := cpu(t, unix.RUSAGE_SELF)
			for range 10 {
				theirs += flood(t, srv.addr, b)
			}
			all := cpu(t, unix.RUSAGE_SELF) - before
			t.Logf("%d KiB: the attacker %v, we %v for a connection, 1:%d", len(b)>>10, theirs/10, (all-theirs)/10, (all-theirs)/max(theirs, 1))
		})
	}
}

// flood sends b, and sees that the connection is ended for it. It returns the CPU
// time of the thread that did.
func flood(t *testing.T, addr string, b []byte) time.Duration {
	t.Helper()
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	before := cpu(t, unix.RUSAGE_THREAD)
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	_, _ = nc.Write(b) // it may be ended before all is sent
	spent := cpu(t, unix.RUSAGE_THREAD) - before
	if err := nc.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	last := ""
	for fr := http2.NewFramer(nil, nc); ; {
		f, err := fr.ReadFrame()
		if g, is := f.(*http2.GoAwayFrame); is && err == nil {
			last = g.ErrCode.String()
		}
		if err != nil {
			break
		}
	}
	if last != "" && last != "ENHANCE_YOUR_CALM" { // it may have been lost in a reset
		t.Errorf("GOAWAY %s", last)
	}
	return spent
}

// cpu is the time that a thread, or the process, has had.
func cpu(t *testing.T, who int) time.Duration {
	t.Helper()
	var r unix.Rusage
	if err := unix.Getrusage(who, &r); err != nil {
		t.Fatal(err)
	}
	return time.Duration(r.Utime.Nano() + r.Stime.Nano())
}
