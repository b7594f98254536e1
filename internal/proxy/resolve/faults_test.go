package resolve

import (
	"context"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/decision"
)

// follow watches www.x while the name server answers well, then in another way,
// and returns what the watch heard of the latter after some time.
func follow(t *testing.T, after string, wait time.Duration) string {
	t.Helper()
	z := &zone{says: map[string]string{"www.x. A": "1.1.1.1/60"}}
	r := resolver(t, z)
	var h heard
	defer r.Watch("www.x", h.on)()
	synctest.Wait()
	z.set("www.x. A", after)
	z.set("www.x. AAAA", after)
	time.Sleep(wait)
	synctest.Wait()
	return strings.TrimPrefix(h.String(), "fresh [1.1.1.1], ")
}

func TestFault23NameServersDownKeepTheLastGoodAnswer(t *testing.T) {
	for _, how := range []string{"servfail", "silent"} {
		synctest.Test(t, func(t *testing.T) {
			if got, want := follow(t, how, StaleCap-time.Minute), "stale [1.1.1.1]"; got != want {
				t.Errorf("%s: heard %q, want %q", how, got, want)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			if got, want := follow(t, how, StaleCap+5*time.Minute), "stale [1.1.1.1], stale []"; got != want {
				t.Errorf("%s, after the cap: heard %q, want %q", how, got, want)
			}
		})
	}
}

func TestFault24DenialsKeepTheLastGoodAnswerForAGrace(t *testing.T) {
	for _, how := range []string{"nxdomain", "none"} {
		synctest.Test(t, func(t *testing.T) {
			if got, want := follow(t, how, Grace), "stale [1.1.1.1]"; got != want {
				t.Errorf("%s: heard %q, want %q", how, got, want)
			}
		})
		synctest.Test(t, func(t *testing.T) {
			if got, want := follow(t, how, Grace+2*time.Minute), "stale [1.1.1.1], negative []"; got != want {
				t.Errorf("%s, after the grace: heard %q, want %q", how, got, want)
			}
		})
	}
}

func TestFault26AThousandAddressesAreCutAndCounted(t *testing.T) {
	exchange := func(_ context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
		reply := new(dns.Msg).SetReply(q)
		for i := range 1000 {
			if q.Question[0].Qtype == dns.TypeA {
				h := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeA, Class: dns.ClassINET, Ttl: 60}
				reply.Answer = append(reply.Answer, &dns.A{Hdr: h, A: []byte{10, 0, byte(i >> 8), byte(i)}})
			}
		}
		return reply, nil
	}
	r := New(Options{Servers: []netip.AddrPort{server}, exchange: exchange})
	defer r.Close()
	if a := r.Lookup(t.Context(), "www.x"); len(a.Addrs) != MaxAddresses || a.State != decision.Fresh {
		t.Errorf("%d addresses, %s", len(a.Addrs), a.State)
	}
	if r.Cut() != 1 {
		t.Errorf("%d answers counted as cut, want 1", r.Cut())
	}
}

// TestFault27 counts the questions of an hour.
func TestFault27TimesToLiveAreClampedAtBothEnds(t *testing.T) {
	for ttl, most := range map[uint32]int{0: 70, 1: 3700, 1 << 31: 70, 1<<31 - 1: 1, 1<<32 - 1: 70} {
		synctest.Test(t, func(t *testing.T) {
			z := &zone{says: map[string]string{"www.x. A": fmt.Sprintf("1.1.1.1/%d", ttl)}}
			r := resolver(t, z)
			var h heard
			defer r.Watch("www.x", h.on)()
			time.Sleep(time.Hour)
			synctest.Wait()
			if n := z.count("www.x. A"); n > most || h.String() != "fresh [1.1.1.1]" {
				t.Errorf("TTL %d: asked %d times, want %d at most; heard %q", ttl, n, most, h.String())
			}
		})
	}
}

func TestFault28AliasesAreFollowedEightTimes(t *testing.T) {
	for _, tt := range []struct {
		name    string
		records []string
		want    verdict
	}{
		{"loop", []string{"a.x. 60 CNAME b.x.", "b.x. 60 CNAME a.x."}, failed},
		{"loop with an address", []string{"a.x. 60 CNAME b.x.", "b.x. 60 CNAME a.x.", "b.x. 60 A 6.6.6.6"}, failed},
		{"a chain of fifty", aliases(50), failed},
		{"a chain of eight", aliases(8), present},
		{"to a name nobody declares", []string{"a.x. 60 CNAME undeclared.net.", "undeclared.net. 60 A 1.1.1.1"}, present},
	} {
		if f := read(message(t, "a.x.", dns.TypeA, 0, tt.records...)); f.verdict != tt.want || (f.err == nil) != (tt.want == present) {
			t.Errorf("%s: verdict %d, error %v", tt.name, f.verdict, f.err)
		}
	}
}

func TestFault29RecordsOfOtherNamesAreDropped(t *testing.T) {
	m := message(t, "a.x.", dns.TypeA, 0, "bank.y. 60 A 6.6.6.1", "x. 60 A 6.6.6.2", "a.x. 60 A 1.1.1.1", "b.a.x. 60 A 6.6.6.3")
	m.Extra = message(t, "a.x.", dns.TypeA, 0, "a.x. 60 A 6.6.6.4").Answer
	m.Ns = message(t, "a.x.", dns.TypeA, 0, "a.x. 60 A 6.6.6.5").Answer
	if f := read(m); fmt.Sprint(f.addrs) != "[1.1.1.1]" {
		t.Errorf("believed %v", f.addrs)
	}
}
