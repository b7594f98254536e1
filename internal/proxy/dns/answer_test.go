package dns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A world is a scripted upstream: what it answers, in lines of a zone.
type world struct {
	mu    sync.Mutex
	zone  map[string][]string // "www.x. A" -> records; "fail": an error; "panic"; "nxdomain" or absent: NXDOMAIN
	asked []string
	last  *dns.Msg
}

func (w *world) exchange(_ context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
	key := q.Question[0].Name + " " + dns.TypeToString[q.Question[0].Qtype]
	w.mu.Lock()
	defer w.mu.Unlock()
	w.asked = append(w.asked, key)
	w.last = q
	reply := new(dns.Msg).SetReply(q)
	records, ok := w.zone[key]
	if !ok {
		reply.Rcode = dns.RcodeNameError
	}
	for _, line := range records {
		if line == "panic" {
			panic("scripted")
		}
		if line == "nxdomain" {
			reply.Rcode = dns.RcodeNameError
			continue
		}
		if line == "fail" {
			return nil, errors.New("answered SERVFAIL")
		}
		section := &reply.Answer
		if after, ok := strings.CutPrefix(line, "authority "); ok {
			section, line = &reply.Ns, after
		}
		if after, ok := strings.CutPrefix(line, "additional "); ok {
			section, line = &reply.Extra, after
		}
		rr, err := dns.NewRR(line)
		if err != nil {
			return nil, err
		}
		*section = append(*section, rr)
	}
	return reply, nil
}

var (
	someServer = []netip.AddrPort{netip.MustParseAddrPort("127.0.0.1:53")}
	vip4       = netip.MustParseAddr("240.240.0.1")
	vip6       = netip.MustParseAddr("2001:2::1")
)

// declared is a configuration with a host without addresses, one with both
// families, one with v4 only, and a wildcard.
func declared() *config.Config {
	var c *config.Config
	return c.Apply(config.Delta{Names: []*config.Name{
		{Host: "www.baidu.com"},
		{Host: "vip.corp", Addresses: []netip.Addr{vip4, vip6}},
		{Host: "four.corp", Addresses: []netip.Addr{vip4}},
		{Host: "*.wild.org"},
	}})
}

func serverOf(w *world, c *config.Config, p mesh.OutboundPolicy) *Server {
	return New(Options{
		Servers:  someServer,
		Config:   func() *config.Config { return c },
		Policy:   func() mesh.OutboundPolicy { return p },
		Search:   []string{"svc.local"},
		exchange: w.exchange,
	})
}

// ask packs a question, has it answered and tells the reply in one line.
func ask(t *testing.T, s *Server, name, qtype string, change func(*dns.Msg)) string {
	t.Helper()
	q := new(dns.Msg)
	q.SetQuestion(name, dns.StringToType[qtype])
	q.SetEdns0(1232, false)
	if change != nil {
		change(q)
	}
	wire, err := q.Pack()
	if err != nil {
		t.Fatal(err)
	}
	return tell(t, q, s.respond(t.Context(), wire, false))
}

func tell(t *testing.T, q *dns.Msg, wire []byte) string {
	t.Helper()
	if wire == nil {
		return "silence"
	}
	reply := new(dns.Msg)
	if err := reply.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	if reply.Id != q.Id || !reply.Response {
		t.Errorf("header %+v", reply.MsgHdr)
	}
	if len(reply.Question) > 0 && reply.Question[0] != q.Question[0] {
		t.Errorf("question %v came back as %v", q.Question[0], reply.Question[0])
	}
	text := []string{dns.RcodeToString[reply.Rcode]}
	for _, rr := range reply.Answer {
		text = append(text, strings.Join(strings.Fields(rr.String()), " "))
	}
	for _, rr := range reply.Ns {
		text = append(text, "authority "+strings.Join(strings.Fields(rr.String())[:4], " "))
	}
	if opt := reply.IsEdns0(); opt != nil {
		if q.IsEdns0() == nil {
			t.Error("an OPT record for a client that sent none")
		}
		for _, o := range opt.Option {
			if ede, ok := o.(*dns.EDNS0_EDE); ok {
				text = append(text, fmt.Sprintf("EDE %d", ede.InfoCode))
			}
		}
	}
	return strings.Join(text, "; ")
}

func TestWhatBecomesOfAQuestion(t *testing.T) {
	zone := map[string][]string{
		"www.baidu.com. A":          {"www.baidu.com. 60 CNAME www.a.shifen.com.", "www.a.shifen.com. 60 A 110.242.68.3"},
		"www.baidu.com. AAAA":       {"authority shifen.com. 60 SOA a. b. 1 2 3 4 5", "authority baidu.com. 60 SOA a. b. 1 2 3 4 5"},
		"www.baidu.com. TXT":        {"fail"},
		"a.wild.org. A":             {"a.wild.org. 60 A 1.1.1.1", "bank.y. 60 A 6.6.6.6", "additional bank.z. 60 A 6.6.6.7", "authority y. 60 SOA a. b. 1 2 3 4 5"},
		"vip.corp. TXT":             {"vip.corp. 60 TXT hello"},
		"loop.wild.org. A":          {"loop.wild.org. 60 CNAME b.x.", "b.x. 60 CNAME loop.wild.org."},
		"other.net. A":              {"other.net. 60 A 2.2.2.2"},
		"9.9.9.9.in-addr.arpa. PTR": {"9.9.9.9.in-addr.arpa. 60 PTR dns.quad."},
	}
	const blocked = "REFUSED; EDE 15"
	const unsupported = "REFUSED; EDE 21"
	tests := []struct {
		name, qtype string
		closed      string // in REGISTRY_ONLY
		open        string // in ALLOW_ANY; empty: the same
		forwarded   string // "no", "always", "open": in ALLOW_ANY only
	}{
		{"www.baidu.com.", "A", "NOERROR; www.baidu.com. 60 IN CNAME www.a.shifen.com.; www.a.shifen.com. 60 IN A 110.242.68.3", "", "always"},
		{"WwW.bAiDu.cOm.", "A", "NOERROR; WwW.bAiDu.cOm. 60 IN CNAME www.a.shifen.com.; www.a.shifen.com. 60 IN A 110.242.68.3", "", "always"},
		{"www.baidu.com.", "AAAA", "NOERROR; authority baidu.com. 5 IN SOA", "", "always"},
		{"www.baidu.com.", "TXT", "SERVFAIL; EDE 22", "", "always"},
		{"www.baidu.com.", "MX", "NXDOMAIN", "", "always"},
		{"a.wild.org.", "A", "NOERROR; a.wild.org. 60 IN A 1.1.1.1", "", "always"},
		{"wild.org.", "A", blocked, "NXDOMAIN", "open"},
		{"loop.wild.org.", "A", "SERVFAIL; EDE 22", "", "always"},
		{`x\.wild.org.`, "A", blocked, "NXDOMAIN", "open"},
		{`*.wild.org.`, "A", blocked, "NXDOMAIN", "open"},
		{`\000\255.wild.org.`, "A", blocked, "NXDOMAIN", "open"},

		{"vip.corp.", "A", "NOERROR; vip.corp. 30 IN A 240.240.0.1", "", "no"},
		{"VIP.corp.", "AAAA", "NOERROR; VIP.corp. 30 IN AAAA 2001:2::1", "", "no"},
		{"four.corp.", "AAAA", "NOERROR", "", "no"},
		{"vip.corp.", "HTTPS", "NOERROR", "", "no"},
		{"vip.corp.", "SVCB", "NOERROR", "", "no"},
		{"vip.corp.", "ANY", "NOERROR", "", "no"},
		{"vip.corp.", "CNAME", "NOERROR", "", "no"},
		{"four.corp.", "TXT", "NOERROR", "", "always"},
		{"_8443._https.vip.corp.", "HTTPS", "NOERROR", "", "no"},
		{"_8443._https.www.baidu.com.", "HTTPS", "NOERROR", "NXDOMAIN", "open"},
		{"vip.corp.svc.local.", "A", "NOERROR; vip.corp.svc.local. 30 IN CNAME vip.corp.; vip.corp. 30 IN A 240.240.0.1", "", "no"},
		{"four.corp.svc.local.", "AAAA", "NOERROR; four.corp.svc.local. 30 IN CNAME four.corp.", "", "no"},
		{"www.baidu.com.svc.local.", "A", "NXDOMAIN; EDE 15", "NXDOMAIN", "open"},
		{"vip.corp.", "TXT", `NOERROR; vip.corp. 60 IN TXT "hello"`, "", "always"},

		{"other.net.", "A", blocked, "NOERROR; other.net. 60 IN A 2.2.2.2", "open"},
		{"secret-data.evil.net.", "TXT", blocked, "NXDOMAIN", "open"},
		{".", "NS", blocked, "NXDOMAIN", "open"},
		{"9.9.9.9.in-addr.arpa.", "PTR", blocked, "NOERROR; 9.9.9.9.in-addr.arpa. 60 IN PTR dns.quad.", "open"},

		{"www.baidu.com.default.svc.cluster.local.", "A", "NXDOMAIN; EDE 15", "NXDOMAIN", "open"},
		{"a.wild.org.corp.", "AAAA", "NXDOMAIN; EDE 15", "NXDOMAIN", "open"},
		{"db.svc.local.", "A", "NXDOMAIN; EDE 15", "NXDOMAIN", "open"},
		{"www.baidu.com.1.2.3.4.5.6.7.8.9.", "A", blocked, "NXDOMAIN", "open"},

		{"localhost.", "A", "NOERROR; localhost. 30 IN A 127.0.0.1", "", "no"},
		{"x.localhost.", "AAAA", "NOERROR; x.localhost. 30 IN AAAA ::1", "", "no"},
		{"localhost.", "MX", "NOERROR", "", "no"},
		{"1.0.0.127.in-addr.arpa.", "PTR", "NOERROR; 1.0.0.127.in-addr.arpa. 30 IN PTR localhost.", "", "no"},
		{"1" + strings.Repeat(".0", 31) + ".ip6.arpa.", "PTR", "NOERROR; 1" + strings.Repeat(".0", 31) + ".ip6.arpa. 30 IN PTR localhost.", "", "no"},

		{"www.baidu.com.", "ANY", unsupported, "", "no"},
		{"www.baidu.com.", "AXFR", unsupported, "", "no"},
	}
	for _, policy := range []mesh.OutboundPolicy{mesh.RegistryOnly, mesh.AllowAny} {
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/%s/%s", policy, tt.name, tt.qtype), func(t *testing.T) {
				w := &world{zone: zone}
				s := serverOf(w, declared(), policy)
				want, forwarded := tt.closed, tt.forwarded == "always"
				if policy == mesh.AllowAny {
					forwarded = tt.forwarded != "no"
					if tt.open != "" {
						want = tt.open
					}
				}
				if got := ask(t, s, tt.name, tt.qtype, nil); got != want {
					t.Errorf("got  %q\nwant %q", got, want)
				}
				if (len(w.asked) > 0) != forwarded {
					t.Errorf("forwarded %q, want it: %t", w.asked, forwarded)
				}
				if w.last != nil && w.last.Question[0].Name != strings.ToLower(tt.name) {
					t.Errorf("forwarded as %q", w.last.Question[0].Name)
				}
			})
		}
	}
}

func TestWithoutEDNSThereIsNoOPTRecord(t *testing.T) {
	s := serverOf(&world{}, declared(), mesh.RegistryOnly)
	plain := func(q *dns.Msg) { q.Extra = nil }
	for name, want := range map[string]string{"vip.corp.": "NOERROR; vip.corp. 30 IN A 240.240.0.1", "other.net.": "REFUSED"} {
		if got := ask(t, s, name, "A", plain); got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestBeforeTheFirstConfiguration(t *testing.T) {
	w := &world{}
	for _, policy := range []mesh.OutboundPolicy{mesh.RegistryOnly, mesh.AllowAny} {
		s := serverOf(w, nil, policy)
		if got := ask(t, s, "www.baidu.com.", "A", nil); got != "SERVFAIL; EDE 14" || len(w.asked) > 0 {
			t.Errorf("got %q, forwarded %q", got, w.asked)
		}
		if got := ask(t, s, "localhost.", "A", nil); got != "NOERROR; localhost. 30 IN A 127.0.0.1" {
			t.Errorf("got %q", got)
		}
	}
}

func TestOptionsOfTheClientStayHere(t *testing.T) {
	w := &world{zone: map[string][]string{"www.baidu.com. A": {"www.baidu.com. 60 A 1.1.1.1"}}}
	s := serverOf(w, declared(), mesh.RegistryOnly)
	ask(t, s, "www.baidu.com.", "A", func(q *dns.Msg) {
		q.Extra = nil
		q.SetEdns0(4096, true)
		q.IsEdns0().Option = []dns.EDNS0{&dns.EDNS0_COOKIE{Code: dns.EDNS0COOKIE, Cookie: "0011223344556677"}, &dns.EDNS0_LOCAL{Code: 65001, Data: []byte("secret")}}
	})
	opt := w.last.IsEdns0()
	if opt == nil || len(opt.Option) != 0 || !opt.Do() || len(w.last.Extra) != 1 || len(w.last.Answer)+len(w.last.Ns) != 0 {
		t.Errorf("sent on: %v", w.last)
	}
}

func TestRefusalsAreCountedAndLogged(t *testing.T) {
	var log bytes.Buffer
	c := declared()
	s := New(Options{
		Servers: someServer,
		Config:  func() *config.Config { return c },
		Policy:  func() mesh.OutboundPolicy { return mesh.RegistryOnly },
		Log:     slog.New(slog.NewJSONHandler(&log, nil)),
	})
	for range 5 {
		ask(t, s, "secret.evil.net.", "TXT", nil)
	}
	ask(t, s, `\010\027[31mred.evil.net.`, "A", nil)
	ask(t, s, "www.baidu.com.default.svc.", "A", nil)
	if s.Refused() != 6 {
		t.Errorf("refused %d, want 6", s.Refused())
	}
	got := log.String()
	if strings.Count(got, "\n") != 2 || strings.Count(got, `"name":"secret.evil.net"`) != 1 || strings.Contains(got, "\x1b") || !strings.Contains(got, "no ServiceEntry declares") {
		t.Errorf("log:\n%s", got)
	}
}

func TestNoServersIsSaid(t *testing.T) {
	var log bytes.Buffer
	c := declared()
	s := New(Options{
		Config: func() *config.Config { return c },
		Policy: func() mesh.OutboundPolicy { return mesh.AllowAny },
		Log:    slog.New(slog.NewJSONHandler(&log, nil)),
	})
	for range 3 {
		if got := ask(t, s, "www.baidu.com.", "A", nil); got != "SERVFAIL; EDE 22" {
			t.Errorf("got %q", got)
		}
	}
	if got := log.String(); strings.Count(got, "\n") != 1 || !strings.Contains(got, "no name server is known") {
		t.Errorf("log:\n%s", got)
	}
}

func TestNamesOfAddresses(t *testing.T) {
	w := &world{zone: map[string][]string{
		"www.baidu.com. A":          {"www.baidu.com. 5 CNAME cdn.net.", "cdn.net. 5 A 1.1.1.1"},
		"a.wild.org. AAAA":          {"a.wild.org. 60 AAAA 2606::1"},
		"1.1.1.1.in-addr.arpa. PTR": {"1.1.1.1.in-addr.arpa. 60 PTR one.one."},
	}}
	s := serverOf(w, declared(), mesh.RegistryOnly)
	open := serverOf(w, declared(), mesh.AllowAny)
	for _, x := range []*Server{s, open} {
		ask(t, x, "WWW.baidu.com.", "A", nil)
		ask(t, x, "a.wild.org.", "AAAA", nil)
		ask(t, x, "four.corp.", "A", nil)
		ask(t, x, "vip.corp.", "A", nil)
	}
	got := map[string]string{}
	for _, a := range []string{"1.1.1.1", "::ffff:1.1.1.1", "2606::1", "240.240.0.1", "9.9.9.9"} {
		got[a] = s.NameOf(netip.MustParseAddr(a))
	}
	want := map[string]string{"1.1.1.1": "www.baidu.com", "::ffff:1.1.1.1": "www.baidu.com", "2606::1": "a.wild.org", "240.240.0.1": "vip.corp", "9.9.9.9": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if got := ask(t, s, "1.1.1.1.in-addr.arpa.", "PTR", nil); got != "NOERROR; 1.1.1.1.in-addr.arpa. 30 IN PTR www.baidu.com." {
		t.Errorf("PTR when closed: %q", got)
	}
	if got := ask(t, open, "1.1.1.1.in-addr.arpa.", "PTR", nil); got != "NOERROR; 1.1.1.1.in-addr.arpa. 60 IN PTR one.one." {
		t.Errorf("PTR when open: %q", got)
	}
	if got := ask(t, open, "1.0.240.240.in-addr.arpa.", "PTR", nil); got != "NOERROR; 1.0.240.240.in-addr.arpa. 30 IN PTR vip.corp." {
		t.Errorf("PTR of a declared address: %q", got)
	}
}

// A fault of our own in what a workload or a server sent costs one question.
func TestAPanicIsAnsweredAndCounted(t *testing.T) {
	s := serverOf(&world{zone: map[string][]string{"www.baidu.com. A": {"panic"}}}, declared(), mesh.RegistryOnly)
	if got := ask(t, s, "www.baidu.com.", "A", nil); !strings.HasPrefix(got, "SERVFAIL") {
		t.Errorf("over an answer: %s", got)
	}
	if got := s.Panics(); got == 0 {
		t.Error("not counted")
	}

	var log bytes.Buffer
	c := declared()
	broken := true
	s = New(Options{
		Config: func() *config.Config {
			if broken {
				panic("no state")
			}
			return c
		},
		Policy: func() mesh.OutboundPolicy { return mesh.RegistryOnly },
		Log:    slog.New(slog.NewTextHandler(&log, nil)),
	})
	if got := ask(t, s, "four.corp.", "A", nil); got != "SERVFAIL" {
		t.Errorf("over a question: %s, want SERVFAIL and nothing more", got)
	}
	if got := s.Panics(); got != 1 {
		t.Errorf("%d counted, want 1", got)
	}
	if !strings.Contains(log.String(), "no state") || !strings.Contains(log.String(), "answer_test.go") {
		t.Errorf("the log says neither what nor where: %s", log.String())
	}
	broken = false
	if got := ask(t, s, "four.corp.", "A", nil); !strings.Contains(got, vip4.String()) {
		t.Errorf("the next question: %s", got)
	}
	if unread([]byte("too short")) != nil || unread([]byte{1, 2, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0}) != nil {
		t.Error("a reply to what is no question")
	}
}
