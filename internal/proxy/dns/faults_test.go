package dns

import (
	"context"
	"net"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// closedTo is a server in closed mode that asks one upstream.
func closedTo(upstream netip.AddrPort, ex exchange.Func) *Server {
	return New(Options{
		Servers:  []netip.AddrPort{upstream},
		Config:   declared,
		Policy:   func() mesh.OutboundPolicy { return mesh.RegistryOnly },
		exchange: ex,
	})
}

// TestFault23 asks while the name servers are silent or slow; a declared host
// with addresses needs none.
func TestFault23AQuestionIsAnsweredWithinTwoSeconds(t *testing.T) {
	for how, delay := range map[string]time.Duration{"silent": time.Hour, "10 s slow": 10 * time.Second} {
		t.Run(how, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := closedTo(someServer[0], func(ctx context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
					timer := time.NewTimer(delay)
					defer timer.Stop()
					select {
					case <-timer.C:
						return new(dns.Msg).SetReply(q), nil
					case <-ctx.Done():
						return nil, ctx.Err()
					}
				})
				begun := time.Now()
				got := ask(t, s, "www.baidu.com.", "A", nil)
				if took := time.Since(begun); got != "SERVFAIL; EDE 22" || took > 2*time.Second {
					t.Errorf("%q after %s", got, took)
				}
				begun = time.Now()
				got = ask(t, s, "vip.corp.", "A", nil)
				if took := time.Since(begun); got != "NOERROR; vip.corp. 30 IN A 240.240.0.1" || took > 0 {
					t.Errorf("a host with an address: %q after %s", got, took)
				}
			})
		})
	}
}

// TestFault25 has a name server that truncates over UDP and refuses TCP.
func TestFault25ATruncatedAnswerWithoutTCPIsSERVFAIL(t *testing.T) {
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	started, ended := make(chan struct{}), make(chan struct{})
	u := &dns.Server{PacketConn: conn, NotifyStartedFunc: func() { close(started) }, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg).SetReply(q)
		m.Truncated = true
		_ = w.WriteMsg(m)
	})}
	go func() { defer close(ended); _ = u.ActivateAndServe() }()
	<-started
	defer func() { _ = u.Shutdown(); <-ended }()
	s := closedTo(conn.LocalAddr().(*net.UDPAddr).AddrPort(), nil)
	if got := ask(t, s, "www.baidu.com.", "A", nil); got != "SERVFAIL; EDE 22" {
		t.Errorf("got %q", got)
	}
}

// TestFault26 forwards an answer that only just fits a message.
func TestFault26AnAnswerOf64KiBIsPassedOn(t *testing.T) {
	const n = 4000
	s := closedTo(someServer[0], func(_ context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
		m := new(dns.Msg).SetReply(q)
		for i := range n {
			h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
			m.Answer = append(m.Answer, &dns.A{Hdr: h, A: []byte{10, 0, byte(i >> 8), byte(i)}})
		}
		return m, nil
	})
	for _, stream := range []bool{true, false} {
		wire := s.respond(t.Context(), wireOf(t, nil), stream)
		m := new(dns.Msg)
		if err := m.Unpack(wire); err != nil {
			t.Fatal(err)
		}
		if m.Truncated == stream || (len(m.Answer) == n) != stream {
			t.Errorf("stream %t: %d records in %d bytes, truncated %t", stream, len(m.Answer), len(wire), m.Truncated)
		}
	}
}

// TestFault28 forwards aliases, in closed mode.
func TestFault28AliasesOfAForwardedAnswer(t *testing.T) {
	var long []string
	for i := range 50 {
		long = append(long, strings.Repeat("c", i+1)+".wild.org. 60 CNAME "+strings.Repeat("c", i+2)+".wild.org.")
	}
	for _, tt := range []struct {
		name    string
		records []string
		want    string
	}{
		{"loop", []string{"c.wild.org. 60 CNAME d.net.", "d.net. 60 CNAME c.wild.org."}, "SERVFAIL; EDE 22"},
		{"a chain of fifty", long, "SERVFAIL; EDE 22"},
		{"to a name nobody declares", []string{"c.wild.org. 60 CNAME d.net.", "d.net. 60 A 1.1.1.1"}, "NOERROR; c.wild.org. 60 IN CNAME d.net.; d.net. 60 IN A 1.1.1.1"},
	} {
		s := serverOf(&world{zone: map[string][]string{"c.wild.org. A": tt.records}}, declared(), mesh.RegistryOnly)
		if got := ask(t, s, "c.wild.org.", "A", nil); got != tt.want {
			t.Errorf("%s: got %q, want %q", tt.name, got, tt.want)
		}
		// The name of the alias becomes no name that may be asked for.
		if got := ask(t, s, "d.net.", "A", nil); got != "REFUSED; EDE 15" {
			t.Errorf("%s: the alias's name: %q", tt.name, got)
		}
	}
}

// TestFault29 has records in every section that nobody asked for.
func TestFault29OutOfBailiwickRecordsAreDropped(t *testing.T) {
	const soa = "SOA a. b. 1 2 3 4 60"
	w := &world{zone: map[string][]string{
		"a.wild.org. A": {
			"a.wild.org. 60 A 1.1.1.1", "bank.net. 60 A 6.6.6.1", "wild.org. 60 A 6.6.6.2", "b.a.wild.org. 60 A 6.6.6.3",
			"authority wild.org. 60 NS ns.evil.net.", "authority bank.net. 60 " + soa, "additional a.wild.org. 60 A 6.6.6.4",
		},
		"b.wild.org. AAAA": {
			"nxdomain", "authority wild.org. 60 " + soa, "authority wild.org. 60 RRSIG SOA 8 2 60 20300101000000 20200101000000 1 wild.org. AAAA",
			"authority z.wild.org. 60 NSEC zz.wild.org. A", "authority bank.net. 60 NSEC z.bank.net. A",
			"authority bank.net. 60 RRSIG NSEC 8 2 60 20300101000000 20200101000000 1 bank.net. AAAA",
		},
		"bank.net. A": {"bank.net. 60 A 2.2.2.2"},
	}}
	s := serverOf(w, declared(), mesh.AllowAny)
	for _, round := range []string{"asked", "cached"} {
		if got, want := ask(t, s, "a.wild.org.", "A", nil), "NOERROR; a.wild.org. 60 IN A 1.1.1.1"; got != want {
			t.Errorf("%s: got %q, want %q", round, got, want)
		}
		want := "NXDOMAIN; authority wild.org. 60 IN SOA; authority wild.org. 60 IN RRSIG; authority z.wild.org. 60 IN NSEC"
		if got := ask(t, s, "b.wild.org.", "AAAA", nil); got != want {
			t.Errorf("%s: got %q, want %q", round, got, want)
		}
	}
	// Nothing of it answers another question.
	if got, want := ask(t, s, "bank.net.", "A", nil), "NOERROR; bank.net. 60 IN A 2.2.2.2"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got := s.NameOf(netip.MustParseAddr("6.6.6.1")); got != "" {
		t.Errorf("6.6.6.1 is remembered as %q", got)
	}
}

// TestSERVFAILBeforeTheFirstTableIsNotKept: what a workload asks before the first table
// arrives is answered SERVFAIL, at once, and asked again successfully after it.
func TestSERVFAILBeforeTheFirstTableIsNotKept(t *testing.T) {
	var state *config.Config
	w := &world{zone: map[string][]string{"a.wild.org. A": {"a.wild.org. 60 A 1.1.1.1"}}}
	s := New(Options{
		Servers: someServer, exchange: w.exchange,
		Config: func() *config.Config { return state },
		Policy: func() mesh.OutboundPolicy { return mesh.RegistryOnly },
	})
	for _, name := range []string{"a.wild.org.", "vip.corp.", "other.net."} {
		if got := ask(t, s, name, "A", nil); got != "SERVFAIL; EDE 14" || len(w.asked) > 0 {
			t.Errorf("%s: got %q, forwarded %q", name, got, w.asked)
		}
	}
	state = declared()
	for name, want := range map[string]string{"a.wild.org.": "NOERROR; a.wild.org. 60 IN A 1.1.1.1", "vip.corp.": "NOERROR; vip.corp. 30 IN A 240.240.0.1"} {
		if got := ask(t, s, name, "A", nil); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}
