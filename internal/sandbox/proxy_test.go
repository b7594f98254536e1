package sandbox

import (
	"errors"
	"net"
	"os"
	"sync"
	"testing"

	"github.com/miekg/dns"
)

// A fakeProxy tells every connection where it wanted to go, and answers every
// question with 192.0.2.7.
type fakeProxy struct {
	closers []func() error
	tasks   sync.WaitGroup
}

// startProxy serves the sandbox's sockets until the test ends or stop.
func startProxy(t testing.TB, s *Sandbox) *fakeProxy {
	t.Helper()
	p := &fakeProxy{}
	t.Cleanup(p.stop)
	sockets := s.Sockets()
	for _, f := range sockets.TCP {
		l := listener(t, f)
		p.closers = append(p.closers, l.Close)
		p.tasks.Go(func() { tellDestinations(l) })
	}
	for _, f := range sockets.DNSStreams {
		p.answer(t, &dns.Server{Listener: listener(t, f), Handler: dns.HandlerFunc(answerAll)})
	}
	for _, f := range sockets.DNSPackets {
		c, err := net.FilePacketConn(f)
		if err != nil {
			t.Fatal(err)
		}
		p.answer(t, &dns.Server{PacketConn: c, Handler: dns.HandlerFunc(answerAll)})
	}
	return p
}

func (p *fakeProxy) answer(t testing.TB, s *dns.Server) {
	t.Helper()
	up := make(chan struct{})
	s.NotifyStartedFunc = func() { close(up) }
	p.tasks.Go(func() { _ = s.ActivateAndServe() })
	<-up
	p.closers = append(p.closers, s.Shutdown)
}

func (p *fakeProxy) stop() {
	for _, c := range p.closers {
		_ = c()
	}
	p.closers = nil
	p.tasks.Wait()
}

func listener(t testing.TB, f *os.File) net.Listener {
	t.Helper()
	l, err := net.FileListener(f)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func tellDestinations(l net.Listener) {
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			_, _ = c.Write([]byte("you asked for " + c.LocalAddr().String()))
			_ = c.Close()
		}
	}
}

func answerAll(w dns.ResponseWriter, q *dns.Msg) {
	m := new(dns.Msg).SetReply(q)
	m.Answer = append(m.Answer, &dns.A{
		Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 1},
		A:   net.IPv4(192, 0, 2, 7),
	})
	_ = w.WriteMsg(m)
}
