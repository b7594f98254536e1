package resolve

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/miekg/dns"
)

// message makes the answer to a question from lines of a zone.
func message(tb testing.TB, name string, qtype uint16, rcode int, records ...string) *dns.Msg {
	tb.Helper()
	m := new(dns.Msg)
	m.SetQuestion(name, qtype)
	m.Response, m.Rcode = true, rcode
	for _, line := range records {
		rr, err := dns.NewRR(line)
		if err != nil {
			tb.Fatal(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	return m
}

func TestReadTakesOnlyTheChain(t *testing.T) {
	tests := []struct {
		name    string
		rcode   int
		records []string
		want    string // addresses, or part of the error
		ttl     int
	}{
		{"plain", 0, []string{"a.x. 60 A 1.1.1.1", "a.x. 30 A 1.1.1.2"}, "1.1.1.1 1.1.1.2", 30},
		{"other case", 0, []string{"A.x. 60 A 1.1.1.1"}, "1.1.1.1", 60},
		{"duplicates", 0, []string{"a.x. 60 A 1.1.1.1", "a.x. 60 A 1.1.1.1"}, "1.1.1.1", 60},
		{"foreign record", 0, []string{"a.x. 60 A 1.1.1.1", "bank.y. 60 A 6.6.6.6"}, "1.1.1.1", 60},
		{"wrong type", 0, []string{"a.x. 60 AAAA ::6", "a.x. 60 A 1.1.1.1"}, "1.1.1.1", 60},
		{"alias, smallest TTL", 0, []string{"a.x. 5 CNAME b.x.", "b.x. 60 A 1.1.1.1"}, "1.1.1.1", 5},
		{"alias, any order", 0, []string{"c.x. 60 A 1.1.1.1", "b.x. 60 CNAME c.x.", "a.x. 50 CNAME b.x."}, "1.1.1.1", 50},
		{"address beside the alias", 0, []string{"a.x. 60 CNAME b.x.", "a.x. 60 A 6.6.6.6", "b.x. 60 A 1.1.1.1"}, "1.1.1.1", 60},
		{"alias to nowhere", 0, []string{"a.x. 60 CNAME b.x."}, "a.x has no address (NODATA)", 0},
		{"no such name", dns.RcodeNameError, nil, "a.x does not exist (NXDOMAIN)", 0},
		{"circle", 0, []string{"a.x. 60 CNAME b.x.", "b.x. 60 CNAME a.x."}, "run in a circle", 0},
		{"itself", 0, []string{"a.x. 60 CNAME a.x."}, "run in a circle", 0},
		{"eight aliases", 0, aliases(8), "1.1.1.1", 60},
		{"nine aliases", 0, aliases(9), "longer than 8", 0},
		{"fifty aliases", 0, aliases(50), "longer than 8", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := read(message(t, "a.x.", dns.TypeA, tt.rcode, tt.records...))
			var got []string
			for _, a := range f.addrs {
				got = append(got, a.String())
			}
			if f.err != nil {
				if !strings.Contains(f.err.Error(), tt.want) || f.verdict == present {
					t.Fatalf("error %q, want %q", f.err, tt.want)
				}
				return
			}
			if strings.Join(got, " ") != tt.want || int(f.ttl.Seconds()) != tt.ttl {
				t.Errorf("got %v for %s, want %s for %d s", got, f.ttl, tt.want, tt.ttl)
			}
		})
	}
}

// aliases are n aliases from a.x. and an address.
func aliases(n int) (lines []string) {
	name := func(i int) string { return "a" + strings.Repeat("a", i) + ".x." }
	for i := range n {
		lines = append(lines, name(i)+" 60 CNAME "+name(i+1))
	}
	return append(lines, name(n)+" 60 A 1.1.1.1")
}

func TestCandidates(t *testing.T) {
	search := []string{"default.svc", "corp"}
	tests := map[string][]string{
		"www.baidu.com": {"www.baidu.com."},
		"db":            {"db.default.svc.", "db.corp.", "db."},
		"db.":           {"db."},
		"db.corp":       {"db.corp."},
	}
	for host, want := range tests {
		if diff := cmp.Diff(want, candidates(host, search)); diff != "" {
			t.Errorf("candidates(%q): -want +got\n%s", host, diff)
		}
	}
}

func FuzzRead(f *testing.F) {
	for _, m := range []*dns.Msg{
		message(f, "a.x.", dns.TypeA, 0, "a.x. 60 A 1.1.1.1"),
		message(f, "a.x.", dns.TypeAAAA, 0, "a.x. 60 CNAME b.x.", "b.x. 60 AAAA ::1"),
		message(f, "a.x.", dns.TypeA, dns.RcodeNameError, "a.x. 60 CNAME a.x."),
	} {
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
	}
	f.Fuzz(func(t *testing.T, wire []byte) {
		m := new(dns.Msg)
		if m.Unpack(wire) != nil || len(m.Question) != 1 {
			return
		}
		got := read(m)
		if len(got.addrs) > MaxAddresses || (got.verdict == present) != (got.err == nil) || (got.verdict == present) != (len(got.addrs) > 0) {
			t.Errorf("verdict %d, %d addresses, error %v", got.verdict, len(got.addrs), got.err)
		}
	})
}
