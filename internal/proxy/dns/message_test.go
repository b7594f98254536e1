package dns

import (
	"fmt"
	"testing"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/mesh"
)

// wireOf packs a question for www.baidu.com, changed by f.
func wireOf(tb testing.TB, f func(*dns.Msg)) []byte {
	tb.Helper()
	q := new(dns.Msg)
	q.SetQuestion("www.baidu.com.", dns.TypeA)
	if f != nil {
		f(q)
	}
	wire, err := q.Pack()
	if err != nil {
		tb.Fatal(err)
	}
	return wire
}

// malformed are messages with the code of the reply, -1 for silence.
func malformed(tb testing.TB) map[string]struct {
	wire []byte
	want int
} {
	tb.Helper()
	opt := func() dns.RR {
		return &dns.OPT{Hdr: dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT, Class: 1232}}
	}
	rr, err := dns.NewRR("www.x. 60 A 1.1.1.1")
	if err != nil {
		tb.Fatal(err)
	}
	// A name that points at itself, where the question should be.
	circle := append(wireOf(tb, nil)[:12], 0xc0, 12, 0, 1, 0, 1)
	lies := wireOf(tb, nil)
	lies[5] = 9
	long := append(wireOf(tb, nil)[:12], make([]byte, 0, 400)...)
	for range 64 {
		long = append(long, 3, 'a', 'b', 'c')
	}
	long = append(long, 0, 0, 1, 0, 1)
	type m = struct {
		wire []byte
		want int
	}
	return map[string]m{
		"empty":                  {nil, -1},
		"half a header":          {make([]byte, 11), -1},
		"a reply":                {wireOf(tb, func(q *dns.Msg) { q.Response = true }), -1},
		"header alone":           {wireOf(tb, nil)[:12], dns.RcodeFormatError},
		"cut":                    {wireOf(tb, nil)[:20], dns.RcodeFormatError},
		"no question":            {wireOf(tb, func(q *dns.Msg) { q.Question = nil }), dns.RcodeFormatError},
		"two questions":          {wireOf(tb, func(q *dns.Msg) { q.Question = append(q.Question, q.Question[0]) }), dns.RcodeFormatError},
		"an answer in it":        {wireOf(tb, func(q *dns.Msg) { q.Answer = []dns.RR{rr} }), dns.RcodeFormatError},
		"authority in it":        {wireOf(tb, func(q *dns.Msg) { q.Ns = []dns.RR{rr} }), dns.RcodeFormatError},
		"much beside it":         {wireOf(tb, func(q *dns.Msg) { q.Extra = []dns.RR{rr, rr, rr} }), dns.RcodeFormatError},
		"two OPT records":        {wireOf(tb, func(q *dns.Msg) { q.Extra = []dns.RR{opt(), opt()} }), dns.RcodeFormatError},
		"EDNS version 1":         {wireOf(tb, func(q *dns.Msg) { q.SetEdns0(1232, false); q.IsEdns0().SetVersion(1) }), dns.RcodeBadVers},
		"a circle of pointers":   {circle, dns.RcodeFormatError},
		"counts that lie":        {lies, dns.RcodeFormatError},
		"a name of 257 bytes":    {long, dns.RcodeFormatError},
		"NOTIFY":                 {wireOf(tb, func(q *dns.Msg) { q.Opcode = dns.OpcodeNotify }), dns.RcodeNotImplemented},
		"UPDATE":                 {wireOf(tb, func(q *dns.Msg) { q.Opcode = dns.OpcodeUpdate }), dns.RcodeNotImplemented},
		"class CHAOS":            {wireOf(tb, func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassCHAOS }), dns.RcodeRefused},
		"class ANY":              {wireOf(tb, func(q *dns.Msg) { q.Question[0].Qclass = dns.ClassANY }), dns.RcodeRefused},
		"good, bytes left after": {append(wireOf(tb, nil), 1, 2, 3), dns.RcodeNameError},
	}
}

func TestFault31MalformedMessages(t *testing.T) {
	for name, tt := range malformed(t) {
		t.Run(name, func(t *testing.T) {
			got := serverOf(&world{}, declared(), mesh.RegistryOnly).respond(t.Context(), tt.wire, false)
			if got == nil {
				if tt.want != -1 {
					t.Errorf("silence, want %s", dns.RcodeToString[tt.want])
				}
				return
			}
			reply := new(dns.Msg)
			if err := reply.Unpack(got); err != nil {
				t.Fatal(err)
			}
			if reply.Rcode != tt.want || !reply.Response || [2]byte(got[:2]) != [2]byte(tt.wire[:2]) {
				t.Errorf("got %v, want %s", reply, dns.RcodeToString[tt.want])
			}
		})
	}
}

func TestAReplyFitsItsClient(t *testing.T) {
	var records []string
	for i := range 250 {
		records = append(records, fmt.Sprintf("www.baidu.com. 60 A 10.0.0.%d", i))
	}
	w := &world{zone: map[string][]string{"www.baidu.com. A": records}}
	tests := []struct {
		name   string
		edns   uint16 // 0: none
		stream bool
		size   int
		whole  bool
	}{
		{"no EDNS", 0, false, 512, false},
		{"EDNS 100", 100, false, 512, false},
		{"EDNS 1232", 1232, false, 1232, false},
		{"EDNS 65535", 65535, false, 4096, true},
		{"TCP", 0, true, 65535, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			wire := wireOf(t, func(q *dns.Msg) {
				if tt.edns > 0 {
					q.SetEdns0(tt.edns, false)
				}
			})
			got := serverOf(w, declared(), mesh.AllowAny).respond(t.Context(), wire, tt.stream)
			reply := new(dns.Msg)
			if err := reply.Unpack(got); err != nil {
				t.Fatal(err)
			}
			if len(got) > tt.size || reply.Truncated == tt.whole || (len(reply.Answer) == len(records)) != tt.whole {
				t.Errorf("%d bytes, %d records, truncated %t", len(got), len(reply.Answer), reply.Truncated)
			}
		})
	}
}

func FuzzRespond(f *testing.F) {
	for _, m := range malformed(f) {
		f.Add(m.wire, false)
	}
	f.Add(wireOf(f, func(q *dns.Msg) { q.Question[0].Name = "vip.corp."; q.SetEdns0(512, true) }), true)
	f.Add(wireOf(f, func(q *dns.Msg) { q.Question[0].Name = "1.0.0.127.in-addr.arpa."; q.Question[0].Qtype = dns.TypePTR }), false)
	f.Add(wireOf(f, func(q *dns.Msg) { q.Question[0].Name = `\000.x\.y.wild.org.`; q.Question[0].Qtype = dns.TypeHTTPS }), false)
	f.Add(wireOf(f, func(q *dns.Msg) { q.Question[0].Name = `B\195\156\195.\227\128\130.wild.org.` }), false)
	f.Add(wireOf(f, func(q *dns.Msg) {
		q.Question[0].Name = "_8443._https.vip.corp.svc.local."
		q.Question[0].Qtype = dns.TypeSVCB
	}), false)
	w := &world{zone: map[string][]string{"www.baidu.com. A": {"www.baidu.com. 60 A 1.1.1.1"}}}
	s := serverOf(w, declared(), mesh.RegistryOnly)
	f.Fuzz(func(t *testing.T, wire []byte, stream bool) {
		got := s.respond(t.Context(), wire, stream)
		if got == nil {
			return
		}
		reply := new(dns.Msg)
		if err := reply.Unpack(got); err != nil {
			t.Fatalf("reply cannot be read: %v", err)
		}
		if !reply.Response || [2]byte(got[:2]) != [2]byte(wire[:2]) || !stream && len(got) > maxDatagram {
			t.Errorf("reply %v", reply)
		}
	})
}
