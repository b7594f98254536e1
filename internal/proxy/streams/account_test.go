package streams

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// hoard serves /hold by holding the request until it ends, and others as echo does.
func hoard(s *Stream) {
	if !bytes.HasPrefix(s.Head(), []byte("POST /hold")) {
		echo(s)
		return
	}
	cut := make(cutChannel)
	s.Tie(cut)
	<-cut
	s.Untie()
}

// TestFault65UnreadBodiesStayWithinTheAccount has many connections send on many
// streams what nobody reads, again and again, while one caller goes about its
// business.
func TestFault65UnreadBodiesStayWithinTheAccount(t *testing.T) {
	const conns, each, small = 10, 30, 8 << 20
	a := overload.NewAccount(small)
	srv := newServer(t, Options{Memory: &Memory{Account: a}}, hoard)
	ctx, stop := context.WithCancel(t.Context())
	var attack sync.WaitGroup
	var reset, other atomic.Int64
	var clients []*Client
	hold := block(t, "POST /hold HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	for range conns {
		cl := newClient(t, srv.addr, Options{})
		clients = append(clients, cl)
		for range each {
			attack.Go(func() {
				for ctx.Err() == nil {
					s, err := cl.Open(hold, h2.Start{})
					if err != nil {
						yield() // the settings are on their way
						continue
					}
					_, err = s.Send(nil, make([]byte, 256<<10), true)
					if err == nil {
						_, err = s.ReadHead(nil)
					}
					switch {
					case errors.Is(err, ResetError(h2.EnhanceYourCalm)):
						reset.Add(1)
					case ctx.Err() == nil:
						other.Add(1)
					}
					s.Close()
				}
			})
		}
	}
	most := int64(0)
	cl := newClient(t, srv.addr, Options{})
	for i := 0; i < 20 || reset.Load() < 500; i++ {
		most = max(most, a.Held())
		echoed(t, cl)
	}
	stop()
	for _, cl := range clients {
		_ = cl.Close() // wakes those that send
	}
	attack.Wait()
	bound := a.Limit() + (conns+1)*(reserve+slack)
	if most > bound || most < a.Limit()/2 {
		t.Errorf("%d KiB were held, %d KiB may be", most>>10, a.Limit()>>10)
	}
	t.Logf("at most %d KiB of %d KiB were held; %d streams were reset, %d ended otherwise", most>>10, a.Limit()>>10, reset.Load(), other.Load())
	_ = cl.Close()
	for end := time.Now().Add(10 * time.Second); a.Held() != 0; yield() {
		if time.Now().After(end) {
			t.Fatalf("%d bytes are held when all is done", a.Held())
		}
	}
}

// echoed has a body come back.
func echoed(t *testing.T, cl *Client) {
	t.Helper()
	s, err := cl.Open(block(t, "POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), h2.Start{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	body := strings.Repeat("0123456789", 3000)
	if _, err := s.Send(nil, []byte(body), true); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ReadHead(nil); err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(s); err != nil || string(got) != body {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(body), err)
	}
}

// TestALeanAccountShrinksTheWindowOfNewConnections fills a quarter of it.
func TestALeanAccountShrinksTheWindowOfNewConnections(t *testing.T) {
	for held, want := range map[int64]int{0: 1<<16 - 1, 64 << 20: h2.LeanWindow} {
		a := overload.NewAccount(0)
		a.Move(0, held)
		if cfg := (&Memory{Account: a}).windows(h2.Config{}); cfg.Window != want {
			t.Errorf("with %d MiB held a window of %d, want %d", held>>20, cfg.Window, want)
		}
	}
	for memory, want := range map[uint64]int{24 << 20: h2.LeanWindow, 64 << 20: 4 << 20 / h2.DefaultMaxStreams} {
		if cfg := (&Memory{Account: overload.NewAccount(memory)}).windows(h2.Config{}); cfg.Window != want || cfg.Growth > h2.DefaultGrowth {
			t.Errorf("of %d MiB a window of %d, want %d; growth %d", memory>>20, cfg.Window, want, cfg.Growth)
		}
	}
}

// TestTheLargestStreamOfALargeConnectionGoesFirst has another connection hold half
// of what is full, and this one more than its share of the rest, then less.
func TestTheLargestStreamOfALargeConnectionGoesFirst(t *testing.T) {
	a := overload.NewAccount(8 << 20) // 1 MiB is full
	_ = inBubble(t, Options{Memory: &Memory{Account: a}}, hoard, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		a.Move(0, 700<<10)
		defer a.Move(700<<10, 0)
		hold := []string{":method:POST", ":scheme:http", ":path:/hold", ":authority:a"}
		send := func(id uint32, kib int) {
			p.headers(id, false, hold...)
			for ; kib > 0; kib -= 16 {
				p.check(p.fr.WriteData(id, false, make([]byte, 16<<10)))
			}
		}
		for id := uint32(1); id < 40; id += 2 {
			send(id, 16)
		}
		p.want() // 320 KiB, with the others less than is full
		send(41, 16)
		send(43, 0)
		p.check(p.fr.WriteData(1, false, make([]byte, 16<<10)))
		p.want() // still less than its half of that
		a.Move(700<<10, 1300<<10)
		a.Move(0, 1)
		a.Move(0, 1)
		send(45, 0) // one of four, and its share 256 KiB
		got := p.was()
		if len(got) != 6 || got[0] != "RST_STREAM ENHANCE_YOUR_CALM" {
			t.Errorf("the peer was told %q", got)
		}
		p.check(p.fr.WriteData(1, false, make([]byte, 1))) // which was the largest
		p.check(p.fr.WriteRSTStream(43, http2.ErrCodeCancel))
		p.want()
		a.Move(1, 0)
		a.Move(1, 0)
		a.Move(1300<<10, 700<<10)
	})
	if a.Held() != 0 {
		t.Errorf("%d bytes are held", a.Held())
	}
}

// TestAtTheBrimLittleIsTaken has others hold all there is: what is small passes, a
// stream that is not read is reset by name, and no other one opened beside those.
func TestAtTheBrimLittleIsTaken(t *testing.T) {
	a := overload.NewAccount(0)
	var ends chan error
	_ = inBubble(t, Options{Memory: &Memory{Account: a}}, func(s *Stream) {
		time.Sleep(time.Second)
		short := s.Short()
		_, err := io.ReadAll(s)
		ends <- errors.Join(short, err)
	}, func(p *peer, _, _ context.CancelFunc) {
		ends = make(chan error, 1)
		p.greet()
		a.Move(0, a.Limit())
		defer a.Move(a.Limit(), 0)
		p.headers(1, false, aRequest...)
		p.check(p.fr.WriteData(1, true, []byte("data")))
		if err := <-ends; err != nil {
			t.Errorf("a small body: %v", err)
		}
		p.want("RST_STREAM CANCEL") // there was no answer
		for id := uint32(3); id < 7; id += 2 {
			p.headers(id, false, aRequest...)
			for range 3 {
				p.check(p.fr.WriteData(id, false, make([]byte, 16<<10)))
			}
		}
		p.want("RST_STREAM ENHANCE_YOUR_CALM")
		if err := <-ends; !errors.Is(err, ErrShort) || !strings.Contains(err.Error(), "262144 KiB may be") {
			t.Errorf("a body that is not read: %v", err)
		}
	})
}

// TestWhoTakesNothingIsLeftSoonerWhileMemoryIsShort does not read an answer.
func TestWhoTakesNothingIsLeftSoonerWhileMemoryIsShort(t *testing.T) {
	a := overload.NewAccount(1 << 20) // of a quarter, half is full: 128 KiB
	err := inBubble(t, Options{Memory: &Memory{Account: a}}, func(s *Stream) {
		_, _ = s.Send(h2.AppendStatus(nil, 200), make([]byte, 60<<10), true) // its end is the connection's
	}, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.check(p.nc.SetReadDeadline(time.Unix(1, 0))) // nobody listens any more
		<-p.gone
		p.headers(1, true, aRequest...)
		synctest.Wait()
		a.Move(0, 200<<10)
		defer a.Move(200<<10, 0)
		time.Sleep(9 * time.Second)
		p.check(p.fr.WritePing(false, [8]byte{}))
		time.Sleep(5 * time.Second)
		if p.fr.WritePing(false, [8]byte{}) == nil {
			t.Error("it is not left")
		}
	})
	if !errors.Is(err, ErrShort) {
		t.Errorf("ended: %v", err)
	}
}

// TestTheBeginningOfAFrameTakesLittle looks at what is kept of it.
func TestTheBeginningOfAFrameTakesLittle(t *testing.T) {
	c := newConn(transport.New(&net.TCPConn{}, nil), Options{})
	for n, want := range map[int]int{1: shortChunk, shortChunk: shortChunk, shortChunk + 1: longChunk, longChunk: longChunk, longChunk + 9: inSize} {
		c.unpark()
		c.filled = copy(c.in[:], bytes.Repeat([]byte{byte(n)}, n))
		c.park()
		held := 0
		if c.in != nil {
			held += len(c.in)
		}
		if c.rest != nil {
			held += len(c.rest.data)
		}
		if held != want || parked(n) != want {
			t.Errorf("%d bytes are kept in %d, and counted as %d; want %d", n, held, parked(n), want)
		}
		if c.unpark(); !bytes.Equal(c.in[:c.filled], bytes.Repeat([]byte{byte(n)}, n)) || c.rest != nil {
			t.Errorf("%d bytes came out otherwise than they went in", n)
		}
	}
}

// TestATrickleIsIdle has a caller always be within a frame, and ask for nothing.
func TestATrickleIsIdle(t *testing.T) {
	err := inBubble(t, Options{IdleTimeout: time.Minute}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		ping := []byte("\x00\x00\x08\x06\x01\x00\x00\x00\x00 no ping")
		_, err := p.nc.Write(ping[:1])
		p.check(err)
		for range 11 {
			time.Sleep(5 * time.Second)
			_, err := p.nc.Write(append(ping[1:], ping[0]))
			p.check(err)
		}
		p.want()
		time.Sleep(6 * time.Second)
		p.want("GOAWAY NO_ERROR", "PING", "GOAWAY NO_ERROR")
	})
	if err != nil {
		t.Error(err)
	}
}

// TestWhatHasArrivedIsReadThoughNothingCanBeSent has an endpoint say GOAWAY and
// close, of which the writer learns first.
func TestWhatHasArrivedIsReadThoughNothingCanBeSent(t *testing.T) {
	var said bytes.Buffer
	fr := http2.NewFramer(&said, nil)
	for _, err := range []error{
		fr.WriteSettings(), fr.WriteGoAway(1, http2.ErrCodeNo, nil),
		fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndStream: true, EndHeaders: true}),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	f := &closedEnd{said: &said, written: make(chan struct{})}
	cl := NewClient(transport.New(f, nil), Options{})
	req := block(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
	first, err := cl.Open(req, h2.Start{End: true})
	if err != nil {
		t.Fatal(err)
	}
	second, err := cl.Open(req, h2.Start{End: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := cl.Run(t.Context()); !errors.Is(err, errBroken) {
		t.Errorf("run: %v", err)
	}
	if h, err := first.ReadHead(nil); !bytes.HasPrefix(h, []byte("HTTP/1.1 200")) {
		t.Errorf("the first hears %q, %v", h, err)
	}
	if _, err := second.ReadHead(nil); !errors.Is(err, ErrRefused) {
		t.Errorf("the second hears %v", err)
	}
	if _, err := cl.Open(req, h2.Start{End: true}); !errors.Is(err, ErrRefused) {
		t.Errorf("a third one: %v", err)
	}
	first.Close()
	second.Close()
}

// TestAHeaderBlockThatIsNotWholeEndsWithItsConnection holds what came of it as long
// as the connection, and no longer.
func TestAHeaderBlockThatIsNotWholeEndsWithItsConnection(t *testing.T) {
	a := overload.NewAccount(8 << 20)
	_ = inBubble(t, Options{Memory: &Memory{Account: a}}, hello, func(p *peer, _, _ context.CancelFunc) {
		p.greet()
		p.check(p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: make([]byte, 16<<10)}))
		p.check(p.fr.WriteContinuation(1, false, make([]byte, 16<<10)))
		p.want()
		if a.Held() < 32<<10 {
			t.Errorf("%d bytes are held of a block of 32 KiB", a.Held())
		}
	})
	if a.Held() != 0 {
		t.Errorf("%d bytes are held by nobody", a.Held())
	}
}

// TestNothingIsHeldAfterAConnectionWhereverItEnds cuts what a client says: within its
// preface, frames, header blocks and bodies.
func TestNothingIsHeldAfterAConnectionWhereverItEnds(t *testing.T) {
	var said bytes.Buffer
	said.WriteString(http2.ClientPreface)
	fr := http2.NewFramer(&said, nil)
	head := []byte{0x83, 0x86, 0x84, 0x41, 1, 'a'}
	err := fr.WriteSettings()
	for id := uint32(1); id < 9; id += 2 {
		err = errors.Join(err,
			fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: head[:3]}),
			fr.WriteContinuation(id, true, head[3:]),
			fr.WriteData(id, false, make([]byte, 3000)))
	}
	if err = errors.Join(err, fr.WriteRSTStream(3, http2.ErrCodeCancel), fr.WriteData(1, true, make([]byte, 20))); err != nil {
		t.Fatal(err)
	}
	all := said.Bytes()
	for name, handle := range map[string]func(*Stream){
		"read": func(s *Stream) { _, _ = io.Copy(io.Discard, s) },
		"unread": func(s *Stream) {
			cut := make(cutChannel)
			s.Tie(cut)
			<-cut
			s.Untie()
		},
	} {
		a := overload.NewAccount(8 << 20)
		for cut := 0; cut <= len(all); cut += 97 {
			ours, theirs := net.Pipe()
			var served sync.WaitGroup
			served.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
			served.Go(func() {
				_ = Serve(t.Context(), t.Context(), transport.New(ours, nil), Options{Memory: &Memory{Account: a}}, handle)
			})
			if _, err := theirs.Write(all[:cut]); err != nil {
				t.Fatal(err)
			}
			_ = theirs.Close()
			served.Wait()
			if a.Held() != 0 {
				t.Fatalf("%s, cut at %d of %d: %d bytes are held", name, cut, len(all), a.Held())
			}
		}
	}
}

// TestNothingIsHeldAfterAnEndpointThatEndedWithinABlock closes its streams before it
// goes, or after.
func TestNothingIsHeldAfterAnEndpointThatEndedWithinABlock(t *testing.T) {
	for _, early := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			a := overload.NewAccount(8 << 20)
			ours, theirs := net.Pipe()
			cl := NewClient(transport.New(ours, nil), Options{Memory: &Memory{Account: a}})
			var all sync.WaitGroup
			all.Go(func() { _, _ = io.Copy(io.Discard, theirs) })
			all.Go(func() { _ = cl.Run(t.Context()) })
			var open []*Stream
			for range 3 {
				s, err := cl.Open(block(t, "GET / HTTP/1.1\r\nHost: x\r\n\r\n"), h2.Start{End: true})
				if err != nil {
					t.Fatal(err)
				}
				open = append(open, s)
			}
			closeAll := func() {
				for _, s := range open {
					s.Close()
				}
			}
			fr := http2.NewFramer(theirs, nil)
			if err := errors.Join(fr.WriteSettings(),
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 1, BlockFragment: []byte{0x88}, EndHeaders: true}),
				fr.WriteData(1, false, make([]byte, 16000)),
				fr.WriteHeaders(http2.HeadersFrameParam{StreamID: 3, BlockFragment: make([]byte, 10_000)}),
			); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			if early {
				closeAll()
			}
			_ = theirs.Close()
			all.Wait()
			if !early {
				closeAll()
			}
			synctest.Wait()
			if a.Held() != 0 {
				t.Errorf("closed early: %v; %d bytes are held", early, a.Held())
			}
		})
	}
}
