package streams

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"
	"golang.org/x/net/http2/hpack"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A peer speaks frames on one end of a pipe, and remembers what it is told.
type peer struct {
	t     *testing.T
	nc    net.Conn
	fr    *http2.Framer
	block bytes.Buffer
	enc   *hpack.Encoder

	mu   sync.Mutex
	told []string // guarded by mu
	most uint32   // of the WINDOW_UPDATEs of streams; likewise
	gone chan struct{}
}

func newPeer(t *testing.T, nc net.Conn) *peer {
	t.Helper()
	p := &peer{t: t, nc: nc, fr: http2.NewFramer(nc, nc), gone: make(chan struct{})}
	p.enc = hpack.NewEncoder(&p.block)
	return p
}

// listen reads frames until the other end is done.
func (p *peer) listen() {
	defer close(p.gone)
	for {
		f, err := p.fr.ReadFrame()
		if err != nil {
			return
		}
		s := f.Header().Type.String()
		switch f := f.(type) {
		case *http2.GoAwayFrame:
			s += " " + f.ErrCode.String()
		case *http2.RSTStreamFrame:
			s += " " + f.ErrCode.String()
		case *http2.WindowUpdateFrame:
			if f.StreamID > 0 {
				p.mu.Lock()
				p.most = max(p.most, f.Increment)
				p.mu.Unlock()
			}
			continue
		case *http2.SettingsFrame:
			if f.IsAck() {
				continue
			}
		case *http2.DataFrame:
			if len(f.Data()) > 100 {
				s += strings.Repeat("*", int(f.StreamID))
			}
		}
		p.mu.Lock()
		p.told = append(p.told, s)
		p.mu.Unlock()
	}
}

// was waits until nothing moves any more and returns what the peer was told since.
func (p *peer) was() []string {
	synctest.Wait()
	p.mu.Lock()
	defer p.mu.Unlock()
	told := p.told
	p.told = nil
	return told
}

func (p *peer) want(told ...string) {
	p.t.Helper()
	if got := p.was(); !slices.Equal(got, told) {
		p.t.Errorf("the peer was told %q, want %q", got, told)
	}
}

func (p *peer) check(err error) {
	p.t.Helper()
	if err != nil {
		p.t.Error(err)
	}
}

func (p *peer) headers(id uint32, end bool, list ...string) {
	p.block.Reset()
	for _, f := range list {
		k := strings.Index(f[1:], ":") + 1
		p.check(p.enc.WriteField(hpack.HeaderField{Name: f[:k], Value: f[k+1:]}))
	}
	p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: p.block.Bytes(), EndStream: end, EndHeaders: true}))
}

var aRequest = []string{":method:GET", ":scheme:http", ":path:/", ":authority:a"}

// inBubble runs a server on one end of a pipe, and f as its client on the other.
func inBubble(t *testing.T, o Options, handle func(*Stream), f func(p *peer, drain, cut context.CancelFunc)) (ended error) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		ctx, cut := context.WithCancel(t.Context())
		drain, stop := context.WithCancel(ctx)
		p := newPeer(t, theirs)
		var all sync.WaitGroup
		all.Go(p.listen)
		all.Go(func() { ended = Serve(ctx, drain, transport.New(ours, nil), o, handle) })
		f(p, stop, cut)
		cut()
		_ = theirs.Close()
		all.Wait()
	})
	return ended
}

func (p *peer) greet() {
	_, err := io.WriteString(p.nc, http2.ClientPreface)
	p.check(err)
	p.check(p.fr.WriteSettings())
	p.want("SETTINGS")
}

func TestSilentCallerIsLeft(t *testing.T) {
	err := inBubble(t, Options{}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.want("SETTINGS")
		time.Sleep(9 * time.Second)
		p.want()
		time.Sleep(3 * time.Second)
		p.want("GOAWAY ENHANCE_YOUR_CALM")
	})
	if !errors.Is(err, errSlow) {
		t.Error(err)
	}
}

func TestFrameThatDoesNotEnd(t *testing.T) {
	err := inBubble(t, Options{}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		time.Sleep(time.Hour)
		p.want()
		p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}))
		time.Sleep(9 * time.Second)
		p.want()
		time.Sleep(3 * time.Second)
		p.want("GOAWAY ENHANCE_YOUR_CALM")
	})
	if !errors.Is(err, errSlow) {
		t.Error(err)
	}
}

// TestFramesInHalves has each piece end within a frame, as pieces of a long body do.
func TestFramesInHalves(t *testing.T) {
	got := 0
	inBubble(t, Options{}, func(s *Stream) {
		b, err := io.ReadAll(s)
		if got = len(b); err != nil {
			t.Error(err)
		}
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		frame := []byte("\x00\x00\x04\x00\x00\x00\x00\x00\x01data")
		_, err := p.nc.Write(frame[:11])
		p.check(err)
		for range 60 {
			time.Sleep(time.Second)
			_, err := p.nc.Write(append(frame[11:13:13], frame[:11]...))
			p.check(err)
		}
		_, err = p.nc.Write(frame[11:])
		p.check(err)
		p.check(p.fr.WriteData(1, true, nil))
		p.want("RST_STREAM CANCEL") // there was no answer
	})
	if got != 61*4 {
		t.Errorf("%d bytes", got)
	}
}

// TestBlockThatDoesNotEnd sends CONTINUATION after CONTINUATION, slowly.
func TestBlockThatDoesNotEnd(t *testing.T) {
	err := inBubble(t, Options{}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1}))
		for range 9 {
			time.Sleep(time.Second)
			p.check(p.fr.WriteContinuation(1, false, nil))
		}
		time.Sleep(3 * time.Second)
		p.want("GOAWAY ENHANCE_YOUR_CALM")
	})
	if !errors.Is(err, errSlow) {
		t.Error(err)
	}
}

// TestCallerResetsWithoutAnError ends what its handler waits for all the same.
func TestCallerResetsWithoutAnError(t *testing.T) {
	inBubble(t, Options{}, func(s *Stream) {
		cut := make(cutChannel)
		s.Tie(cut)
		<-cut
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, true, aRequest...)
		synctest.Wait()
		p.check(p.fr.WriteRSTStream(1, http2.ErrCodeNo))
		p.want()
	})
}

// A cutChannel is closed when it is cut.
type cutChannel chan struct{}

func (c cutChannel) Cut() { close(c) }

func TestIdleConnectionEnds(t *testing.T) {
	err := inBubble(t, Options{IdleTimeout: time.Minute}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		time.Sleep(50 * time.Second)
		p.headers(1, true, aRequest...)
		p.want("HEADERS", "DATA")
		time.Sleep(58 * time.Second)
		p.want()
		time.Sleep(5 * time.Second)
		p.want("GOAWAY NO_ERROR", "PING", "GOAWAY NO_ERROR")
	})
	if err != nil {
		t.Error(err)
	}
}

func TestStreamTimesOut(t *testing.T) {
	var met error
	var after time.Duration
	inBubble(t, Options{}, func(s *Stream) {
		start := time.Now()
		s.SetTimeout(5 * time.Second)
		_, met = io.Copy(io.Discard, s)
		after = time.Since(start)
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		for range 4 { // what moves is not cut
			time.Sleep(4 * time.Second)
			p.check(p.fr.WriteData(1, false, []byte("x")))
		}
		p.want()
		time.Sleep(6 * time.Second)
		p.want("RST_STREAM CANCEL")
	})
	if !errors.Is(met, os.ErrDeadlineExceeded) || after < 21*time.Second || after > 21300*time.Millisecond {
		t.Errorf("%v after %v", met, after)
	}
}

func TestStreamHasADeadline(t *testing.T) {
	var met error
	var after time.Duration
	inBubble(t, Options{}, func(s *Stream) {
		start := time.Now()
		s.SetDeadline(start.Add(time.Hour))
		s.SetDeadline(start.Add(70 * time.Millisecond))
		var cut cutFlag
		s.Tie(&cut)
		_, met = s.Read(make([]byte, 1))
		after = time.Since(start)
		if s.Untie() || !cut.Load() {
			t.Error("what was tied was not cut")
		}
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		time.Sleep(time.Second)
		p.want("RST_STREAM CANCEL")
	})
	if !errors.Is(met, os.ErrDeadlineExceeded) || after != 70*time.Millisecond {
		t.Errorf("%v after %v", met, after)
	}
}

func TestDeadlineIsTakenBack(t *testing.T) {
	inBubble(t, Options{}, func(s *Stream) {
		s.SetDeadline(time.Now().Add(time.Second))
		s.SetDeadline(time.Time{})
		hello(s)
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		time.Sleep(5 * time.Second)
		p.check(p.fr.WriteData(1, true, nil))
		p.want("HEADERS", "DATA")
	})
}

func TestDrainWarnsFirst(t *testing.T) {
	err := inBubble(t, Options{}, hello, func(p *peer, drain, _ context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		drain()
		p.want("GOAWAY NO_ERROR", "PING")
		p.headers(3, true, aRequest...) // on its way
		p.want("HEADERS", "DATA")
		time.Sleep(3 * time.Second) // the PING does not come back
		p.want("GOAWAY NO_ERROR")
		p.headers(5, true, aRequest...)
		p.want()
		p.check(p.fr.WriteData(1, true, nil))
		p.want("HEADERS", "DATA")
		time.Sleep(2 * time.Second)
		select {
		case <-p.gone:
		default:
			t.Error("the connection is still open")
		}
	})
	if err != nil {
		t.Error(err)
	}
}

func TestCutEndsEverything(t *testing.T) {
	var met error
	inBubble(t, Options{}, func(s *Stream) { _, met = s.Read(make([]byte, 1)) }, func(p *peer, _, cut context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		synctest.Wait()
		cut()
		<-p.gone
	})
	if met == nil || errors.Is(met, io.EOF) && !strings.Contains(met.Error(), "connection") {
		t.Errorf("met %v", met)
	}
}

func TestCallerThatReadsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var met error
		ended := make(chan struct{})
		ours, theirs := net.Pipe()
		var all sync.WaitGroup
		all.Go(func() {
			_ = Serve(t.Context(), t.Context(), transport.New(ours, nil), Options{WriteTimeout: time.Minute}, func(s *Stream) { // its end shows in met
				_, met = s.Send(h2.AppendStatus(nil, 200), make([]byte, 1<<20), true)
				close(ended)
			})
		})
		p := newPeer(t, theirs)
		_, err := io.WriteString(theirs, http2.ClientPreface)
		p.check(err)
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24}))
		p.headers(1, true, aRequest...)
		start := time.Now()
		<-ended
		if d := time.Since(start); d < time.Minute || d > 62*time.Second || met == nil {
			t.Errorf("%v after %v", met, d)
		}
		_ = theirs.Close()
		all.Wait()
	})
}

// withEndpoint runs a Client on one end of a pipe, and f with the endpoint on the other.
func withEndpoint(t *testing.T, o Options, f func(cl *Client, p *peer)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		p := newPeer(t, theirs)
		cl := NewClient(transport.New(ours, nil), o)
		var all sync.WaitGroup
		all.Go(func() { _ = cl.Run(t.Context()) }) // each test sees how streams end
		preface := make([]byte, len(http2.ClientPreface))
		if _, err := io.ReadFull(theirs, preface); err != nil || string(preface) != http2.ClientPreface {
			t.Errorf("%q, %v", preface, err)
		}
		all.Go(p.listen)
		p.check(p.fr.WriteSettings())
		p.want("SETTINGS")
		f(cl, p)
		_ = theirs.Close()
		all.Wait()
	})
}

func TestEndpointGivesTheConnectionUp(t *testing.T) {
	changes := 0
	withEndpoint(t, Options{Changed: func() { changes++ }}, func(cl *Client, p *peer) {
		req := block(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		first, err := cl.Open(req, h2.Start{End: true})
		p.check(err)
		second, err := cl.Open(req, h2.Start{End: true})
		p.check(err)
		p.want("HEADERS", "HEADERS")
		p.check(p.fr.WriteGoAway(1, http2.ErrCodeNo, nil))
		if _, err := second.ReadHead(nil); !errors.Is(err, ErrRefused) {
			t.Errorf("the second met %v", err)
		}
		second.Close()
		if !cl.Done() || cl.Capacity() != 0 || changes == 0 {
			t.Error("more streams may be opened")
		}
		if _, err := cl.Open(req, h2.Start{}); !errors.Is(err, ErrCapacity) {
			t.Errorf("a third: %v", err)
		}
		p.headers(1, true, ":status:204")
		if h, err := first.ReadHead(nil); err != nil || string(h) != "HTTP/1.1 204 \r\n\r\n" {
			t.Errorf("the first met %q, %v", h, err)
		}
		first.Close()
		time.Sleep(2 * time.Second)
		<-p.gone
		if _, err := cl.Open(req, h2.Start{}); !errors.Is(err, ErrRefused) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestEndpointRefusesAStream(t *testing.T) {
	withEndpoint(t, Options{}, func(cl *Client, p *peer) {
		s, err := cl.Open(block(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), h2.Start{End: true})
		p.check(err)
		p.check(p.fr.WriteRSTStream(1, http2.ErrCodeRefusedStream))
		if _, err := s.ReadHead(nil); !errors.Is(err, ErrRefused) {
			t.Errorf("met %v", err)
		}
		s.Close()
	})
}

// TestWholeAnswerSurvivesAReset is RFC 9113 section 8.1: the endpoint answers and
// wants no more of the body.
func TestWholeAnswerSurvivesAReset(t *testing.T) {
	withEndpoint(t, Options{}, func(cl *Client, p *peer) {
		s, err := cl.Open(block(t, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), h2.Start{})
		p.check(err)
		var sent error
		var sending sync.WaitGroup
		sending.Go(func() { _, sent = s.Send(nil, make([]byte, 1<<20), true) })
		p.headers(1, false, ":status:413")
		p.check(p.fr.WriteData(1, true, []byte("no")))
		p.check(p.fr.WriteRSTStream(1, http2.ErrCodeNo))
		sending.Wait()
		if !errors.Is(sent, ErrStopped) {
			t.Errorf("sending met %v", sent)
		}
		if h, err := s.ReadHead(nil); err != nil || !strings.HasPrefix(string(h), "HTTP/1.1 413") {
			t.Errorf("%q, %v", h, err)
		}
		if b, err := io.ReadAll(s); string(b) != "no" || err != nil {
			t.Errorf("%q, %v", b, err)
		}
		s.Close()
	})
}

func TestWebSocketNeedsConsent(t *testing.T) {
	withEndpoint(t, Options{}, func(cl *Client, p *peer) {
		req := block(t, "GET / HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
		how := h2.Start{Accept: "dGhlIHNhbXBsZSBub25jZQ=="}
		if _, err := cl.Open(req, how); !errors.Is(err, h2.ErrNotConnecting) || cl.WebSockets(0) {
			t.Errorf("unasked: %v", err)
		}
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingEnableConnectProtocol, Val: 1}))
		synctest.Wait()
		s, err := cl.Open(req, how)
		p.check(err)
		p.headers(1, false, ":status:200")
		if h, err := s.ReadHead(nil); err != nil || !strings.Contains(string(h), "101") || !strings.Contains(string(h), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=") {
			t.Errorf("%q, %v", h, err)
		}
		s.Close()
		p.want("HEADERS", "RST_STREAM CANCEL")
	})
}

// TestTimeOfAnEarlierUse sees that a stream object does not bring its timeout
// along.
func TestTimeOfAnEarlierUse(t *testing.T) {
	first := true
	inBubble(t, Options{}, func(s *Stream) {
		if first {
			first = false
			s.SetTimeout(5 * time.Second)
		}
		hello(s)
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, true, aRequest...)
		p.want("HEADERS", "DATA")
		p.headers(3, false, aRequest...)
		time.Sleep(time.Hour)
		p.want()
	})
}

// TestWindowOpensWithSettings has a peer that allows nothing at first.
func TestWindowOpensWithSettings(t *testing.T) {
	inBubble(t, Options{}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 0}))
		p.headers(1, true, aRequest...)
		p.want("HEADERS")
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 3}))
		p.want("DATA")
		p.check(p.fr.WriteWindowUpdate(1, 1))
		p.want("DATA")
		p.check(p.fr.WriteWindowUpdate(1, 1))
		p.want("DATA")
		p.check(p.fr.WriteWindowUpdate(1, 1)) // late, for a stream that has ended
		p.want()
	})
}

func TestWindowGrowsWhereTheReaderWaits(t *testing.T) {
	inBubble(t, Options{}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, false, aRequest...)
		for range 4 {
			p.check(p.fr.WriteData(1, false, make([]byte, 16<<10-1)))
			synctest.Wait()
		}
		p.want()
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.most < 65535 {
			t.Errorf("%d bytes given back at once", p.most)
		}
	})
}

// TestStreamsTakeTurns sends two long answers, and sees that neither waits for
// the end of the other.
func TestStreamsTakeTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		var all sync.WaitGroup
		all.Go(func() {
			_ = Serve(t.Context(), t.Context(), transport.New(ours, nil), Options{}, func(s *Stream) { // what counts is what arrives
				_, _ = s.Send(h2.AppendStatus(nil, 200), make([]byte, 1<<20), true) // likewise
			})
		})
		p := newPeer(t, theirs)
		_, err := io.WriteString(theirs, http2.ClientPreface)
		p.check(err)
		p.check(p.fr.WriteSettings(http2.Setting{ID: http2.SettingInitialWindowSize, Val: 1 << 24}))
		p.check(p.fr.WriteWindowUpdate(0, 1<<24))
		p.headers(1, true, aRequest...)
		p.headers(3, true, aRequest...)
		synctest.Wait() // both have begun
		all.Go(p.listen)
		told := p.was()
		turns := 0
		for i := 1; i < len(told); i++ {
			if strings.HasPrefix(told[i], "DATA") && strings.HasPrefix(told[i-1], "DATA") && told[i] != told[i-1] {
				turns++
			}
		}
		if turns < 20 {
			t.Errorf("%d turns: %q", turns, told)
		}
		_ = theirs.Close()
		all.Wait()
	})
}

// TestDroppedBodiesComeBack answers requests without reading what they brought.
// The window of the connection must not shrink by it.
func TestDroppedBodiesComeBack(t *testing.T) {
	inBubble(t, Options{MaxStreams: 1}, func(s *Stream) {
		for !s.filled(40_000) {
			time.Sleep(time.Millisecond)
		}
		_, _ = s.Send(h2.AppendStatus(nil, 200), nil, true) // what counts is the next one
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		for id := uint32(1); id < 200; id += 2 {
			p.headers(id, false, aRequest...)
			for range 4 {
				p.check(p.fr.WriteData(id, false, make([]byte, 10_000)))
			}
			time.Sleep(10 * time.Millisecond)
			p.want("HEADERS", "RST_STREAM NO_ERROR")
		}
	})
}

// filled reports whether so much has arrived that nobody read.
func (s *Stream) filled(n int) bool {
	s.conn.mu.Lock()
	defer s.conn.mu.Unlock()
	return s.body.n >= n
}

// TestASenderHasPatience sees that time runs only where a peer leaves no room.
func TestASenderHasPatience(t *testing.T) {
	var met error
	var after time.Duration
	inBubble(t, Options{}, func(s *Stream) {
		s.SetPatience(5 * time.Second)
		time.Sleep(time.Minute) // nothing moves, and nothing is sent
		if _, met = s.Send(h2.AppendStatus(nil, 200), make([]byte, 65535), false); met != nil {
			return // all of that fits the window
		}
		time.Sleep(time.Minute)
		start := time.Now() // a second before the peer makes room
		_, met = s.Send(nil, make([]byte, 3), true)
		after = time.Since(start)
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.headers(1, true, aRequest...)
		time.Sleep(2*time.Minute + time.Second)
		p.was() // a head, and as much data as the windows hold
		more := func() {
			p.check(p.fr.WriteWindowUpdate(0, 1))
			p.check(p.fr.WriteWindowUpdate(1, 1))
		}
		more()
		time.Sleep(4 * time.Second)
		p.want("DATA")
		more()
		time.Sleep(10 * time.Second)
		p.want("DATA", "RST_STREAM CANCEL")
	})
	if !errors.Is(met, os.ErrDeadlineExceeded) || after < 9*time.Second || after > 10300*time.Millisecond {
		t.Errorf("%v after %v", met, after)
	}
}
