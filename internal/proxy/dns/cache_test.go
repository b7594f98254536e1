package dns

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// TestAForwardedAnswerLivesAsLongAsItSays asks twice, some time apart. The
// second reply says how often the name servers were asked, and what.
func TestAForwardedAnswerLivesAsLongAsItSays(t *testing.T) {
	const soa = "authority wild.org. 600 SOA a. b. 1 2 3 4 "
	tests := []struct {
		name, key string
		records   []string // nil: NXDOMAIN without a record
		after     time.Duration
		asked     int
		want      string
	}{
		{"at once", "a.wild.org. A", []string{"a.wild.org. 60 A 1.1.1.1"}, 0, 1, "NOERROR; a.wild.org. 60 IN A 1.1.1.1"},
		{"what is left is said", "a.wild.org. A", []string{"a.wild.org. 60 A 1.1.1.1"}, 45 * time.Second, 1, "NOERROR; a.wild.org. 15 IN A 1.1.1.1"},
		{"until the end", "a.wild.org. A", []string{"a.wild.org. 60 A 1.1.1.1"}, 60 * time.Second, 2, "NOERROR; a.wild.org. 60 IN A 1.1.1.1"},
		{"the smallest counts", "a.wild.org. A", []string{"a.wild.org. 5 CNAME b.wild.org.", "b.wild.org. 60 A 1.1.1.1"}, 4 * time.Second, 1, "NOERROR; a.wild.org. 1 IN CNAME b.wild.org.; b.wild.org. 56 IN A 1.1.1.1"},
		{"the smallest ends it", "a.wild.org. A", []string{"a.wild.org. 5 CNAME b.wild.org.", "b.wild.org. 60 A 1.1.1.1"}, 5 * time.Second, 2, "NOERROR; a.wild.org. 5 IN CNAME b.wild.org.; b.wild.org. 60 IN A 1.1.1.1"},
		{"fault 27: TTL 0", "a.wild.org. A", []string{"a.wild.org. 0 A 1.1.1.1"}, 0, 2, "NOERROR; a.wild.org. 0 IN A 1.1.1.1"},
		{"fault 27: TTL 2^31 is 0", "a.wild.org. A", []string{"a.wild.org. 2147483648 A 1.1.1.1"}, 0, 2, "NOERROR; a.wild.org. 0 IN A 1.1.1.1"},
		{"fault 27: TTL 2^31-1 is a day", "a.wild.org. A", []string{"a.wild.org. 2147483647 A 1.1.1.1"}, time.Hour - 1, 1, "NOERROR; a.wild.org. 82801 IN A 1.1.1.1"},
		{"an hour at most", "a.wild.org. A", []string{"a.wild.org. 86400 A 1.1.1.1"}, time.Hour, 2, "NOERROR; a.wild.org. 86400 IN A 1.1.1.1"},
		{"no record of the type, as the SOA says", "a.wild.org. AAAA", []string{soa + "7"}, 6 * time.Second, 1, "NOERROR; authority wild.org. 1 IN SOA"},
		{"no record of the type, no longer than the SOA says", "a.wild.org. AAAA", []string{soa + "7"}, 7 * time.Second, 2, "NOERROR; authority wild.org. 7 IN SOA"},
		{"no record of the type, 30 s at most", "a.wild.org. AAAA", []string{soa + "900"}, 30 * time.Second, 2, "NOERROR; authority wild.org. 600 IN SOA"},
		{"an alias to nothing is negative", "a.wild.org. AAAA", []string{"a.wild.org. 300 CNAME b.wild.org.", soa + "900"}, 30 * time.Second, 2, "NOERROR; a.wild.org. 300 IN CNAME b.wild.org.; authority wild.org. 600 IN SOA"},
		{"no such name", "a.wild.org. A", []string{"nxdomain", soa + "900"}, 29 * time.Second, 1, "NXDOMAIN; authority wild.org. 571 IN SOA"},
		{"no such name, 30 s at most", "a.wild.org. A", []string{"nxdomain", soa + "900"}, 30 * time.Second, 2, "NXDOMAIN; authority wild.org. 600 IN SOA"},
		{"without SOA nothing says for how long", "a.wild.org. A", nil, 0, 2, "NXDOMAIN"},
		{"SOA of another zone", "a.wild.org. A", []string{"nxdomain", "authority evil.net. 600 SOA a. b. 1 2 3 4 900"}, 0, 2, "NXDOMAIN"},
		{"a failure, at once", "a.wild.org. A", []string{"fail"}, time.Second - 1, 2, "SERVFAIL; EDE 22"},
		{"a failure, a second later", "a.wild.org. A", []string{"fail"}, time.Second, 4, "SERVFAIL; EDE 22"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := &world{zone: map[string][]string{}}
				if tt.records != nil {
					w.zone[tt.key] = tt.records
				}
				s := serverOf(w, declared(), mesh.RegistryOnly)
				name, qtype, _ := strings.Cut(tt.key, " ")
				first := ask(t, s, name, qtype, nil)
				time.Sleep(tt.after)
				got := ask(t, s, strings.ToUpper(name), qtype, nil)
				got = strings.ReplaceAll(got, strings.ToUpper(name), name)
				if got != tt.want {
					t.Errorf("got  %q\nwant %q", got, tt.want)
				}
				if len(w.asked) != tt.asked {
					t.Errorf("asked %d times, want %d", len(w.asked), tt.asked)
				}
				if rcode, _, _ := strings.Cut(got, ";"); !strings.HasPrefix(first, rcode) {
					t.Errorf("first %q, then %q", first, got)
				}
			})
		})
	}
}

// TestWhatAnAnswerDependsOnKeepsItApart asks one name in ways that go out as
// different questions.
func TestWhatAnAnswerDependsOnKeepsItApart(t *testing.T) {
	w := &world{zone: map[string][]string{
		"a.wild.org. A":    {"a.wild.org. 60 A 1.1.1.1"},
		"a.wild.org. AAAA": {"a.wild.org. 60 AAAA 2606::1"},
	}}
	s := serverOf(w, declared(), mesh.RegistryOnly)
	variants := []func(*dns.Msg){
		nil,
		func(q *dns.Msg) { q.IsEdns0().SetDo() },
		func(q *dns.Msg) { q.CheckingDisabled = true },
		func(q *dns.Msg) { q.AuthenticatedData = true },
		func(q *dns.Msg) { q.RecursionDesired = false },
		func(q *dns.Msg) { q.Question[0].Qtype = dns.TypeAAAA },
	}
	for range 2 {
		for _, v := range variants {
			ask(t, s, "a.wild.org.", "A", v)
		}
	}
	if len(w.asked) != len(variants) {
		t.Errorf("asked %q, want %d questions", w.asked, len(variants))
	}
	// What only concerns the way back does not.
	ask(t, s, "A.wild.org.", "A", func(q *dns.Msg) { q.Extra = nil })
	ask(t, s, "a.wild.org.", "A", func(q *dns.Msg) { q.IsEdns0().SetUDPSize(4096) })
	if len(w.asked) != len(variants) {
		t.Errorf("asked again: %q", w.asked[len(variants):])
	}
}

// TestTheCacheStandsInForNameServersOnly changes what is declared, and the
// policy, between questions whose answers are cached.
func TestTheCacheStandsInForNameServersOnly(t *testing.T) {
	w := &world{zone: map[string][]string{"a.wild.org. A": {"a.wild.org. 60 A 1.1.1.1"}, "other.net. A": {"other.net. 60 A 2.2.2.2"}}}
	var state *config.Config
	policy := mesh.AllowAny
	s := New(Options{
		Servers: someServer, exchange: w.exchange,
		Config: func() *config.Config { return state },
		Policy: func() mesh.OutboundPolicy { return policy },
	})
	steps := []struct {
		name   string
		change func()
		wild   string
		other  string
	}{
		{"open", func() { state = declared() }, "NOERROR; a.wild.org. 60 IN A 1.1.1.1", "NOERROR; other.net. 60 IN A 2.2.2.2"},
		{"closed", func() { policy = mesh.RegistryOnly }, "NOERROR; a.wild.org. 60 IN A 1.1.1.1", "REFUSED; EDE 15"},
		{"no longer declared", func() { state = state.Apply(config.Delta{RemovedNames: []string{"*.wild.org"}}) }, "REFUSED; EDE 15", "REFUSED; EDE 15"},
		{"declared with an address", func() {
			state = state.Apply(config.Delta{Names: []*config.Name{{Host: "*.wild.org", Addresses: []netip.Addr{vip4}}, {Host: "other.net", Addresses: []netip.Addr{vip6}}}})
		}, "NOERROR; a.wild.org. 30 IN A 240.240.0.1", "NOERROR"},
		{"no configuration", func() { state = nil }, "SERVFAIL; EDE 14", "SERVFAIL; EDE 14"},
		{"as at first", func() { state, policy = declared(), mesh.AllowAny }, "NOERROR; a.wild.org. 60 IN A 1.1.1.1", "NOERROR; other.net. 60 IN A 2.2.2.2"},
	}
	for _, step := range steps {
		step.change()
		if got := ask(t, s, "a.wild.org.", "A", nil); got != step.wild {
			t.Errorf("%s: a.wild.org: got %q, want %q", step.name, got, step.wild)
		}
		if got := ask(t, s, "other.net.", "A", nil); got != step.other {
			t.Errorf("%s: other.net: got %q, want %q", step.name, got, step.other)
		}
	}
	if len(w.asked) != 2 {
		t.Errorf("asked %q, want each once", w.asked)
	}
}

func TestTheSameQuestionAtOnceIsAskedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &held{begun: make(chan struct{}, 100), goOn: make(chan struct{})}
		s := heldServer(h)
		var wg sync.WaitGroup
		for i := range 50 {
			wg.Go(func() {
				if got := ask(t, s, []string{"www.baidu.com.", "WWW.baidu.com."}[i%2], "A", nil); got != "NOERROR" {
					t.Errorf("got %q", got)
				}
			})
		}
		wg.Go(func() { ask(t, s, "www.baidu.com.", "AAAA", nil) })
		synctest.Wait()
		if len(h.begun) != 2 {
			t.Errorf("asked %d times, want once for each type", len(h.begun))
		}
		close(h.goOn)
		wg.Wait()
		if len(s.flights.by) != 0 {
			t.Errorf("%d look-ups are still said to be under way", len(s.flights.by))
		}
	})
}

func TestALookUpThatPanicsLeavesNobodyWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var fs flights
		goOn := make(chan struct{})
		var recovered atomic.Bool
		go func() {
			defer func() { recovered.Store(recover() != nil) }()
			fs.do(subject{name: "a."}, func() *finding { <-goOn; panic("scripted") })
		}()
		synctest.Wait()
		waited := make(chan *finding, 1)
		go func() { waited <- fs.do(subject{name: "a."}, func() *finding { return nil }) }()
		synctest.Wait()
		close(goOn)
		if f := <-waited; f == nil || !errors.Is(f.err, errFault) {
			t.Errorf("who waited found %v", f)
		}
		synctest.Wait()
		if !recovered.Load() {
			t.Error("the panic did not reach who counts it")
		}
		again := &finding{}
		if fs.do(subject{name: "a."}, func() *finding { return again }) != again {
			t.Error("the next look does not happen")
		}
	})
}

func TestTheCacheIsBoundedAndKeepsTheLatestUsed(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit, bytes = 5, 4 * (answerOverhead + 1 + 100)
		c := newCache(limit, bytes)
		now := time.Unix(1e9, 0)
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			s := subject{name: rapid.StringMatching("[a-i]").Draw(t, "name")}
			if rapid.Bool().Draw(t, "get") {
				c.get(s, now)
				continue
			}
			f := &finding{wire: make([]byte, rapid.IntRange(0, 2*bytes).Draw(t, "size")), at: now, life: time.Duration(rapid.IntRange(0, 3).Draw(t, "life")) * time.Second}
			c.put(s, f)
			if got := c.get(s, now); (got == f) != (f.life > 0 && answerOverhead+1+len(f.wire) <= bytes) {
				t.Fatalf("put %d bytes for %s, got %v", len(f.wire), f.life, got)
			}
			now = now.Add(time.Duration(rapid.IntRange(0, 1).Draw(t, "wait")) * time.Second)
			size := 0
			for e := c.order.Front(); e != nil; e = e.Next() {
				size += e.Value.(keptFinding).cost()
			}
			if c.order.Len() > limit || size > bytes || size != c.size || len(c.bySubject) != c.order.Len() {
				t.Fatalf("%d answers of %d bytes, %d counted", c.order.Len(), size, c.size)
			}
		}
	})
	c := newCache(2, 1<<20)
	now := time.Unix(1e9, 0)
	keep := func(name string) { c.put(subject{name: name}, &finding{at: now, life: time.Minute}) }
	keep("a.")
	keep("b.")
	c.get(subject{name: "a."}, now)
	keep("c.")
	if c.get(subject{name: "a."}, now) == nil || c.get(subject{name: "b."}, now) != nil {
		t.Error("the one used last went, not the one used longest ago")
	}
}

// TestAWorkloadCannotFillTheMemory asks for many names with long answers.
func TestAWorkloadCannotFillTheMemory(t *testing.T) {
	s := New(Options{
		Servers: someServer,
		Config:  declared,
		Policy:  func() mesh.OutboundPolicy { return mesh.RegistryOnly },
		exchange: func(_ context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
			reply := new(dns.Msg).SetReply(q)
			for range 200 {
				rr := &dns.TXT{Hdr: dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeTXT, Class: dns.ClassINET, Ttl: 600}, Txt: []string{strings.Repeat("x", 200)}}
				reply.Answer = append(reply.Answer, rr)
			}
			return reply, nil
		},
	})
	for i := range 200 {
		ask(t, s, fmt.Sprintf("n%d.wild.org.", i), "TXT", nil)
	}
	if n := s.cache.order.Len(); s.cache.size > maxAnswerBytes || n == 0 || n == 200 {
		t.Errorf("%d bytes in %d answers are kept", s.cache.size, n)
	}
}

// FuzzAnswer takes any bytes for a name server's answer, now and from the cache.
func FuzzAnswer(f *testing.F) {
	add := func(name string, records ...string) {
		q := new(dns.Msg).SetQuestion(name, dns.TypeA)
		w := &world{zone: map[string][]string{name + " A": records}}
		m, err := w.exchange(f.Context(), q, someServer[0])
		if err != nil {
			f.Fatal(err)
		}
		wire, err := m.Pack()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(wire)
		f.Add(wire[:len(wire)-3])
	}
	add("a.wild.org.", "a.wild.org. 60 A 1.1.1.1", "authority wild.org. 60 SOA a. b. 1 2 3 4 60")
	add("a.wild.org.", "a.wild.org. 4294967295 CNAME b.wild.org.", "b.wild.org. 0 A 1.1.1.1")
	add("a.wild.org.", "wild.org. 60 DNAME x.net.", "a.wild.org. 60 CNAME a.x.net.")
	f.Fuzz(func(t *testing.T, wire []byte) {
		found := new(dns.Msg)
		if found.Unpack(wire) != nil || len(found.Question) != 1 {
			return
		}
		about := subjectOf(found)
		answer, err := clean(about.message(), found)
		if err != nil {
			return
		}
		now := time.Unix(1e9, 0)
		got := findingOf(answer, now)
		if got.life < 0 || got.life > maxLife {
			t.Fatalf("lives for %s", got.life)
		}
		for _, age := range []time.Duration{0, got.life / 2} {
			reply, err := got.reply(found, now.Add(age))
			if err != nil {
				continue
			}
			for _, rr := range append(reply.Answer, reply.Ns...) {
				if rr.Header().Ttl > uint32(maxTTL/time.Second) {
					t.Errorf("a time to live of %d", rr.Header().Ttl)
				}
			}
			if len(reply.Answer)+len(reply.Ns) > len(found.Answer)+len(found.Ns) || len(reply.Extra) > 0 {
				t.Errorf("%d and %d records out of %v", len(reply.Answer), len(reply.Ns), found)
			}
		}
	})
}
