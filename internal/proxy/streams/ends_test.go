package streams

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// TestCallersGoodbyeEndsNoRequest has a client say GOAWAY with last stream 0, as
// those do that take no pushed streams, while it waits for an answer.
func TestCallersGoodbyeEndsNoRequest(t *testing.T) {
	serve := func(s *Stream) {
		time.Sleep(time.Second)
		hello(s)
	}
	_ = inBubble(t, Options{}, serve, func(p *peer, _, _ context.CancelFunc) { // its end is the peer's
		p.greet()
		p.headers(1, true, aRequest...)
		p.check(p.fr.WriteGoAway(0, http2.ErrCodeNo, nil))
		p.want()
		time.Sleep(2 * time.Second)
		p.want("HEADERS", "DATA")
	})
}

func TestWholeAnswerSurvivesTheConnection(t *testing.T) {
	for name, end := range map[string]func(p *peer){
		"end":            func(p *peer) { _ = p.nc.Close() }, // of a pipe, which never fails
		"goaway and end": func(p *peer) { p.check(p.fr.WriteGoAway(0, http2.ErrCodeNo, nil)); _ = p.nc.Close() },
		"cancel":         func(p *peer) { p.check(p.fr.WriteRSTStream(1, http2.ErrCodeCancel)) },
	} {
		t.Run(name, func(t *testing.T) {
			withEndpoint(t, Options{}, func(cl *Client, p *peer) {
				s, err := cl.Open(block(t, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"), h2.Start{})
				p.check(err)
				p.headers(1, false, ":status:413", "content-length:2")
				p.check(p.fr.WriteData(1, true, []byte("no")))
				end(p)
				p.was()
				if h, err := s.ReadHead(nil); err != nil || !strings.HasPrefix(string(h), "HTTP/1.1 413") {
					t.Errorf("%q, %v", h, err)
				}
				if b, err := io.ReadAll(s); string(b) != "no" || err != nil {
					t.Errorf("%q, %v", b, err)
				}
				if _, err := s.Send(nil, []byte("more"), false); err == nil {
					t.Error("more could be sent")
				}
				s.Close()
			})
		})
	}
}

// TestHeadsOfASlowReaderWait has a caller ask a hundred times for answers with
// large heads and read nothing for a while: it did nothing wrong.
func TestHeadsOfASlowReaderWait(t *testing.T) {
	head := h2.AppendField(h2.AppendStatus(nil, 200), "x-large", strings.Repeat("v", 8<<10))
	srv := newServer(t, Options{}, func(s *Stream) {
		_, _ = s.Send(head, nil, true) // the test sees what arrives
	})
	nc, err := net.Dial("tcp", srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	if err := nc.(*net.TCPConn).SetReadBuffer(4 << 10); err != nil {
		t.Fatal(err)
	}
	p := newPeer(t, nc)
	p.check(func() error { _, err := io.WriteString(nc, http2.ClientPreface); return err }())
	p.check(p.fr.WriteSettings())
	for i := range uint32(100) {
		p.headersQuietly(2*i + 1)
	}
	time.Sleep(300 * time.Millisecond) // in which the heads come together
	answers := 0
	for answers < 100 {
		f, err := p.fr.ReadFrame()
		if err != nil {
			t.Fatalf("after %d answers: %v", answers, err)
		}
		if g, ok := f.(*http2.GoAwayFrame); ok {
			t.Fatalf("after %d answers: GOAWAY %s", answers, g.ErrCode)
		}
		if f.Header().Type == http2.FrameContinuation || f.Header().Type == http2.FrameHeaders && f.Header().Flags.Has(http2.FlagHeadersEndHeaders) {
			answers++
		}
	}
}

// TestNothingBeginsAfterTheEnd ends a connection while the reader holds a request
// that was read and not looked at.
func TestNothingBeginsAfterTheEnd(t *testing.T) {
	ours, theirs := net.Pipe()
	c := newConn(transport.New(ours, nil), Options{})
	begun := false
	c.handle = func(*Stream) { begun = true }
	c.start(h2.Config{Server: true, Open: c.accept, Random: func() uint64 { return 1 }})
	c.in, c.filled = c.mem.in(), 0
	c.filled += copy(c.in[:], http2.ClientPreface)
	c.filled += copy(c.in[c.filled:], []byte{0, 0, 0, 4, 0, 0, 0, 0, 0, 0, 0, 6, 1, 5, 0, 0, 0, 1, 0x82, 0x86, 0x84, 0x41, 1, 'a'})
	c.lock()
	c.fail(errUnsent)
	c.unlock()
	if err := c.digest(); !errors.Is(err, errUnsent) {
		t.Errorf("digest: %v", err)
	}
	_ = theirs.Close()
	c.work.Wait()
	c.timer.Stop()
	if begun || c.core.Live() > 0 {
		t.Error("a stream began")
	}
}
