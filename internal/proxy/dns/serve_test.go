package dns

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// sockets are a packet connection and a listener on the same port, at addr.
// Another program may have the port that is free for the one, for the other.
func sockets(t *testing.T, network, addr string) (*net.UDPConn, net.Listener) {
	t.Helper()
	for range 100 {
		conn, err := net.ListenPacket(network, net.JoinHostPort(addr, "0"))
		if err != nil {
			t.Fatal(err)
		}
		udp := conn.(*net.UDPConn)
		port := udp.LocalAddr().(*net.UDPAddr).Port
		l, err := net.Listen(strings.Replace(network, "udp", "tcp", 1), net.JoinHostPort(addr, strconv.Itoa(port)))
		if err == nil {
			return udp, l
		}
		udp.Close()
	}
	t.Fatalf("no port of %s is free for %s and TCP", addr, network)
	return nil, nil
}

// run serves on fresh sockets and returns their ports. The test waits for
// Serve to return nil.
func run(t *testing.T, s *Server, network, addr string) (port uint16) {
	t.Helper()
	udp, l := sockets(t, network, addr)
	port = udp.LocalAddr().(*net.UDPAddr).AddrPort().Port()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, []*net.UDPConn{udp}, []net.Listener{l}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Serve: %v", err)
		}
	})
	return port
}

// TestRepliesComeFromTheAddressAsked asks wildcard sockets at several
// addresses. The client's socket is connected, so it hears no other source.
func TestRepliesComeFromTheAddressAsked(t *testing.T) {
	tests := []struct {
		network, listen string
		asked           []string
	}{
		{"udp4", "0.0.0.0", []string{"127.0.0.1", "127.0.0.53", "127.8.8.8"}},
		{"udp6", "::", []string{"::1"}},
		{"udp", "::", []string{"127.0.0.1", "127.0.0.53", "::1"}},
		{"udp4", "127.0.0.1", []string{"127.0.0.1"}},
	}
	for _, tt := range tests {
		t.Run(tt.network+" "+tt.listen, func(t *testing.T) {
			s := serverOf(&world{}, declared(), mesh.RegistryOnly)
			port := run(t, s, tt.network, tt.listen)
			for _, ip := range tt.asked {
				for _, network := range []string{"udp", "tcp"} {
					q := new(dns.Msg)
					q.SetQuestion("VIP.corp.", dns.TypeA)
					c := dns.Client{Net: network, Timeout: 5 * time.Second}
					reply, _, err := c.ExchangeContext(t.Context(), q, net.JoinHostPort(ip, fmt.Sprint(port)))
					if err != nil {
						t.Errorf("%s %s: %v", network, ip, err)
						continue
					}
					if len(reply.Answer) != 1 || reply.Question[0].Name != "VIP.corp." {
						t.Errorf("%s %s: %v", network, ip, reply)
					}
				}
			}
		})
	}
}

// TestFault69ADrainAnswersQuestionsOnTheirWay ends Serve while callers are
// connected, of whom one has not asked yet.
func TestFault69ADrainAnswersQuestionsOnTheirWay(t *testing.T) {
	s := serverOf(&world{}, declared(), mesh.RegistryOnly)
	udp, l := sockets(t, "udp4", "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, []*net.UDPConn{udp}, []net.Listener{l}) }()
	ask := func(c *dns.Conn) {
		t.Helper()
		q := new(dns.Msg)
		q.SetQuestion("vip.corp.", dns.TypeA)
		if err := c.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		if reply, err := c.ReadMsg(); err != nil || len(reply.Answer) != 1 {
			t.Errorf("%v, %v", reply, err)
		}
	}
	var conns []*dns.Conn
	for range 2 {
		c, err := dns.DialTimeout("tcp", l.Addr().String(), 5*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		conns = append(conns, c)
	}
	ask(conns[1]) // the first, accepted before, has not asked yet
	cancel()
	// Longer than it takes to close what waits: there is nothing to see.
	time.Sleep(50 * time.Millisecond)
	for _, c := range conns {
		ask(c)
		ask(c)
		c.Close()
	}
	if err := <-done; err != nil {
		t.Error(err)
	}
}

// upstreamServer is a name server on loopback that gives 200 addresses for
// www.baidu.com, truncated where they do not fit.
func upstreamServer(t *testing.T) netip.AddrPort {
	t.Helper()
	handler := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		for i := range 200 {
			rr, err := dns.NewRR(fmt.Sprintf("%s 60 A 10.0.0.%d", q.Question[0].Name, i))
			if err != nil {
				t.Error(err)
			}
			m.Answer = append(m.Answer, rr)
		}
		if w.LocalAddr().Network() == "udp" {
			m.Truncate(512)
		}
		_ = w.WriteMsg(m)
	})
	conn, l := sockets(t, "udp4", "127.0.0.1")
	for _, s := range []*dns.Server{{PacketConn: conn, Handler: handler}, {Listener: l, Handler: handler}} {
		started, ended := make(chan struct{}), make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(ended); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	}
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

func TestForwardingOverTheNetwork(t *testing.T) {
	c := declared()
	s := New(Options{
		Servers: []netip.AddrPort{upstreamServer(t)},
		Config:  func() *config.Config { return c },
		Policy:  func() mesh.OutboundPolicy { return mesh.RegistryOnly },
	})
	port := run(t, s, "udp4", "127.0.0.1")
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	tests := []struct {
		network string
		edns    uint16
		whole   bool
	}{{"udp", 0, false}, {"udp", 4096, true}, {"tcp", 0, true}}
	for _, tt := range tests {
		q := new(dns.Msg)
		q.SetQuestion("www.baidu.com.", dns.TypeA)
		if tt.edns > 0 {
			q.SetEdns0(tt.edns, false)
		}
		client := dns.Client{Net: tt.network, Timeout: 5 * time.Second}
		reply, _, err := client.ExchangeContext(t.Context(), q, addr)
		if err != nil {
			t.Fatal(err)
		}
		if reply.Truncated == tt.whole || (len(reply.Answer) == 200) != tt.whole {
			t.Errorf("%s %d: truncated %t, %d records", tt.network, tt.edns, reply.Truncated, len(reply.Answer))
		}
	}
	if got := s.NameOf(netip.MustParseAddr("10.0.0.199")); got != "www.baidu.com" {
		t.Errorf("NameOf: %q", got)
	}
}

func TestManyQuestionsAtOnce(t *testing.T) {
	w := &world{zone: map[string][]string{"www.baidu.com. A": {"www.baidu.com. 60 A 1.1.1.1"}}}
	s := serverOf(w, declared(), mesh.RegistryOnly)
	addr := fmt.Sprintf("127.0.0.1:%d", run(t, s, "udp4", "127.0.0.1"))
	var wg sync.WaitGroup
	for i := range 20 {
		wg.Go(func() {
			network := []string{"udp", "tcp"}[i%2]
			client := dns.Client{Net: network, Timeout: 10 * time.Second}
			conn, err := client.DialContext(t.Context(), addr)
			if err != nil {
				t.Error(err)
				return
			}
			defer conn.Close()
			for j := range 50 {
				q := new(dns.Msg)
				q.SetQuestion([]string{"www.baidu.com.", "vip.corp.", "other.net."}[j%3], dns.TypeA)
				reply, _, err := client.ExchangeWithConnContext(t.Context(), q, conn)
				if err != nil {
					t.Errorf("%s: %v", network, err)
					return
				}
				if want := []int{0, 0, dns.RcodeRefused}[j%3]; reply.Rcode != want {
					t.Errorf("%s: %v", network, reply)
				}
			}
		})
	}
	wg.Wait()
	if s.Refused() != 20*16 {
		t.Errorf("refused %d, want %d", s.Refused(), 20*16)
	}
}

// A held upstream answers when it is let go.
type held struct {
	begun chan struct{}
	goOn  chan struct{}
}

func (h *held) exchange(_ context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
	h.begun <- struct{}{}
	<-h.goOn
	return new(dns.Msg).SetReply(q), nil
}

func heldServer(h *held) *Server {
	c := declared()
	return New(Options{
		Servers:  someServer,
		Config:   func() *config.Config { return c },
		Policy:   func() mesh.OutboundPolicy { return mesh.RegistryOnly },
		exchange: h.exchange,
	})
}

func TestTooManyQuestionsGetServfailAtOnce(t *testing.T) {
	h := &held{begun: make(chan struct{}, 2), goOn: make(chan struct{})}
	s := heldServer(h)
	s.slots = make(chan struct{}, 1)
	addr := fmt.Sprintf("127.0.0.1:%d", run(t, s, "udp4", "127.0.0.1"))
	defer close(h.goOn)
	question := func() (*dns.Conn, *dns.Msg) {
		conn, err := dns.Dial("udp", addr)
		if err != nil {
			t.Fatal(err)
		}
		q := new(dns.Msg)
		q.SetQuestion("www.baidu.com.", dns.TypeA)
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		return conn, q
	}
	first, _ := question()
	defer first.Close()
	<-h.begun
	for range 3 {
		second, q := question()
		reply, err := second.ReadMsg()
		if err != nil || reply.Rcode != dns.RcodeServerFailure || reply.Id != q.Id {
			t.Errorf("error %v, reply %v", err, reply)
		}
		second.Close()
	}
	if s.Shed() != 3 {
		t.Errorf("shed %d, want 3", s.Shed())
	}
}

func TestTheLastAnswersAreGivenBeforeServeReturns(t *testing.T) {
	h := &held{begun: make(chan struct{}, 4), goOn: make(chan struct{})}
	s := heldServer(h)
	conn, l := sockets(t, "udp4", "127.0.0.1")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, []*net.UDPConn{conn}, []net.Listener{l}) }()
	var clients []*dns.Conn
	for _, network := range []string{"udp", "tcp"} {
		c, err := dns.Dial(network, conn.LocalAddr().String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		q := new(dns.Msg)
		q.SetQuestion("www.baidu.com.", dns.TypeA)
		if err := c.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		<-h.begun
	}
	cancel()
	select {
	case err := <-done:
		t.Fatalf("Serve returned %v with answers outstanding", err)
	default:
	}
	close(h.goOn)
	if err := <-done; err != nil {
		t.Errorf("Serve: %v", err)
	}
	for _, c := range clients {
		if reply, err := c.ReadMsg(); err != nil || reply.Rcode != 0 {
			t.Errorf("error %v, reply %v", err, reply)
		}
	}
	if _, err := conn.WriteTo([]byte{1}, conn.LocalAddr()); err == nil {
		t.Error("the socket is still open")
	}
}

func TestASocketThatFailsEndsServe(t *testing.T) {
	s := serverOf(&world{}, declared(), mesh.RegistryOnly)
	bad, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	good, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	bad.Close()
	err = s.Serve(t.Context(), []*net.UDPConn{good.(*net.UDPConn), bad.(*net.UDPConn)}, nil)
	if err == nil || !strings.Contains(err.Error(), "read DNS questions on 127.0.0.1") {
		t.Errorf("Serve: %v", err)
	}
}

func TestStreamsArePipelinedAndBounded(t *testing.T) {
	s := serverOf(&world{}, declared(), mesh.RegistryOnly)
	addr := fmt.Sprintf("127.0.0.1:%d", run(t, s, "udp4", "127.0.0.1"))
	conn, err := dns.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	ids := map[uint16]bool{}
	for i := range 100 {
		q := new(dns.Msg)
		q.SetQuestion("vip.corp.", dns.TypeA)
		q.Id = uint16(i)
		if err := conn.WriteMsg(q); err != nil {
			t.Fatal(err)
		}
	}
	for range 100 {
		reply, err := conn.ReadMsg()
		if err != nil {
			t.Fatal(err)
		}
		ids[reply.Id] = true
	}
	if len(ids) != 100 {
		t.Errorf("%d replies of 100", len(ids))
	}

	var others []net.Conn
	for range maxConns + 10 {
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		others = append(others, c)
	}
	last := others[len(others)-1]
	if _, err := last.Read(make([]byte, 1)); err == nil {
		t.Error("a connection over the bound was not closed")
	}
	if s.Shed() != 11 {
		t.Errorf("shed %d connections, want 11", s.Shed())
	}
}

// TestUDPSizeIsWhatBothAskFor ties the two ends: what we ask upstream for is
// what we say we take.
func TestUDPSizeIsWhatBothAskFor(t *testing.T) {
	s := serverOf(&world{}, declared(), mesh.RegistryOnly)
	reply := new(dns.Msg)
	if err := reply.Unpack(s.respond(t.Context(), wireOf(t, func(q *dns.Msg) { q.SetEdns0(4096, true) }), false)); err != nil {
		t.Fatal(err)
	}
	if opt := reply.IsEdns0(); opt == nil || opt.UDPSize() != exchange.UDPSize || !opt.Do() {
		t.Errorf("OPT %v", opt)
	}
}
