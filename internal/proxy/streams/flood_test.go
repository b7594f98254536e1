package streams

import (
	"io"
	"net"
	"sync/atomic"
	"testing"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// TestFault42RapidReset opens and resets streams as fast as it can (CVE-2023-44487).
func TestFault42RapidReset(t *testing.T) {
	var running, most atomic.Int64
	srv := newServer(t, Options{}, func(s *Stream) {
		if n := running.Add(1); n > most.Load() {
			most.Store(n)
		}
		defer running.Add(-1)
		var cut cutFlag
		s.Tie(&cut)
		for s.Untie() { // until it is reset
			s.Tie(&cut)
			yield()
		}
	})
	nc, err := net.Dial("tcp", srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = nc.Close() }()
	p := newPeer(t, nc)
	go p.listen()
	p.check(func() error { _, err := io.WriteString(nc, http2.ClientPreface); return err }())
	p.check(p.fr.WriteSettings())
	for id := uint32(1); id < 10_000; id += 2 {
		p.block.Reset()
		p.headersQuietly(id)
		if p.fr.WriteRSTStream(id, http2.ErrCodeCancel) != nil {
			break // it has had enough
		}
	}
	<-p.gone
	p.mu.Lock()
	defer p.mu.Unlock()
	if last := p.told[len(p.told)-1]; last != "GOAWAY ENHANCE_YOUR_CALM" {
		t.Errorf("the last word was %s", last)
	}
	if n := most.Load(); n > 2*h2.DefaultMaxStreams {
		t.Errorf("%d handlers at once", n)
	}
}

// headersQuietly sends a request to a server that may have gone.
func (p *peer) headersQuietly(id uint32) {
	_ = p.fr.WriteHeaders(http2.HeadersFrameParam{StreamID: id, BlockFragment: []byte{0x82, 0x86, 0x84, 0x41, 1, 'a'}, EndStream: true, EndHeaders: true}) // likewise
}
