package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/decision"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A zone is a scripted name server: what it answers by name and type.
type zone struct {
	mu    sync.Mutex
	says  map[string]string // "www.x. A" -> "1.1.1.1/60", "none", "nxdomain", "servfail", "silent", "panic", "questionless"; absent: "none"
	asked []string
}

func (z *zone) set(key, what string) {
	z.mu.Lock()
	defer z.mu.Unlock()
	z.says[key] = what
}

func (z *zone) count(key string) (n int) {
	z.mu.Lock()
	defer z.mu.Unlock()
	for _, k := range z.asked {
		if k == key {
			n++
		}
	}
	return n
}

func (z *zone) exchange(ctx context.Context, q *dns.Msg, _ netip.AddrPort) (*dns.Msg, error) {
	key := q.Question[0].Name + " " + dns.TypeToString[q.Question[0].Qtype]
	z.mu.Lock()
	z.asked = append(z.asked, key)
	what := z.says[key]
	z.mu.Unlock()
	reply := new(dns.Msg)
	reply.SetReply(q)
	switch what {
	case "", "none":
	case "nxdomain":
		reply.Rcode = dns.RcodeNameError
	case "servfail":
		reply.Rcode = dns.RcodeServerFailure
	case "panic":
		panic("scripted")
	case "questionless": // no exchange of ours returns such a thing
		reply.Question = nil
	case "silent":
		<-ctx.Done()
		return nil, ctx.Err()
	default:
		addr, ttl, _ := strings.Cut(what, "/")
		rr, err := dns.NewRR(fmt.Sprintf("%s %s %s %s", q.Question[0].Name, ttl, dns.TypeToString[q.Question[0].Qtype], addr))
		if err != nil {
			return nil, err
		}
		reply.Answer = append(reply.Answer, rr)
	}
	return reply, nil
}

var server = netip.MustParseAddrPort("127.0.0.1:53")

func resolver(t *testing.T, z *zone) *Resolver {
	t.Helper()
	r := New(Options{
		Servers: []netip.AddrPort{server}, Search: []string{"corp"}, exchange: z.exchange,
		Hosts: map[string][]netip.Addr{"db.hosts": {netip.MustParseAddr("10.9.9.9")}},
	})
	t.Cleanup(r.Close)
	return r
}

// heard records the answers a watch was given.
type heard struct {
	mu  sync.Mutex
	all []string
}

func (h *heard) on(a Answer) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, fmt.Sprintf("%s %v", a.State, a.Addrs))
}

func (h *heard) String() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return strings.Join(h.all, ", ")
}

func TestAWatchFollowsAName(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: map[string]string{"www.x. A": "1.1.1.1/100"}}
		r := resolver(t, z)
		var h heard
		stop := r.Watch("www.x", h.on)
		wait := func(d time.Duration, want string) {
			t.Helper()
			time.Sleep(d)
			synctest.Wait()
			if h.String() != want {
				t.Fatalf("heard %q, want %q", h.String(), want)
			}
		}
		want := "fresh [1.1.1.1]"
		wait(0, want)
		wait(10*time.Minute, want)
		if n := z.count("www.x. A"); n < 6 || n > 8 {
			t.Errorf("asked %d times in 10 min for a TTL of 100 s", n)
		}

		z.set("www.x. A", "servfail")
		want += ", stale [1.1.1.1]"
		wait(10*time.Minute, want)
		z.set("www.x. A", "2.2.2.2/100")
		want += ", fresh [2.2.2.2]"
		wait(61*time.Second, want)

		z.set("www.x. A", "nxdomain")
		z.set("www.x. AAAA", "nxdomain")
		want += ", stale [2.2.2.2]"
		wait(3*time.Minute, want)
		want += ", negative []"
		wait(6*time.Minute, want)

		stop()
		z.set("www.x. A", "3.3.3.3/100")
		before := z.count("www.x. A")
		wait(time.Hour, want)
		if n := z.count("www.x. A"); n != before {
			t.Errorf("asked %d times after stop", n-before)
		}
	})
}

func TestALateServerIsNoticedSoon(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: map[string]string{"www.x. A": "servfail", "www.x. AAAA": "servfail"}}
		r := resolver(t, z)
		var h heard
		defer r.Watch("www.x", h.on)()
		time.Sleep(2500 * time.Millisecond)
		z.set("www.x. A", "1.1.1.1/100")
		z.set("www.x. AAAA", "none")
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if want := "never [], fresh [1.1.1.1]"; h.String() != want {
			t.Errorf("heard %q, want %q", h.String(), want)
		}
	})
}

func TestManyAskersMakeOneQuestion(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: map[string]string{"www.x. A": "1.1.1.1/100"}}
		r := resolver(t, z)
		var hs [10]heard
		for i := range hs {
			defer r.Watch("WWW.x", hs[i].on)()
		}
		for range 10 {
			if a := r.Lookup(t.Context(), "www.x"); a.State != decision.Fresh || len(a.Addrs) != 1 {
				t.Errorf("lookup: %+v", a)
			}
		}
		synctest.Wait()
		for i := range hs {
			if hs[i].String() != "fresh [1.1.1.1]" {
				t.Errorf("watch %d heard %q", i, hs[i].String())
			}
		}
		if n := z.count("www.x. A"); n != 1 {
			t.Errorf("asked %d times, want once", n)
		}
	})
}

func TestALateFamilyIsNotWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: map[string]string{"www.x. A": "1.1.1.1/100", "www.x. AAAA": "silent"}}
		r := resolver(t, z)
		begun := time.Now()
		a := r.Lookup(t.Context(), "www.x")
		if took := time.Since(begun); took != lag {
			t.Errorf("took %s, want %s", took, lag)
		}
		if a.State != decision.Fresh || !slices.Equal(a.Addrs, []netip.Addr{netip.MustParseAddr("1.1.1.1")}) ||
			a.Err == nil || !strings.Contains(a.Err.Error(), "asking for AAAA: name server 127.0.0.1:53 gave no answer in time") {
			t.Errorf("got %+v", a)
		}
	})
}

func TestSilenceIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		z := &zone{says: map[string]string{"www.x. A": "silent", "www.x. AAAA": "silent"}}
		r := resolver(t, z)
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if a := r.Lookup(ctx, "www.x"); a.State != decision.Never || !errors.Is(a.Err, context.DeadlineExceeded) || time.Since(begun) != time.Second {
			t.Errorf("with a deadline of 1 s: %+v after %s", a, time.Since(begun))
		}
		if a := r.Lookup(t.Context(), "www.x"); a.State != decision.Never || a.Err == nil || time.Since(begun) != totalTime {
			t.Errorf("without: %+v after %s, want never after %s", a, time.Since(begun), totalTime)
		}
	})
}

func TestNamesThatNeedNoServer(t *testing.T) {
	z := &zone{says: map[string]string{}}
	r := resolver(t, z)
	tests := map[string]string{
		"10.1.2.3":        "fresh [10.1.2.3]",
		"::ffff:10.1.2.3": "fresh [10.1.2.3]",
		"2001:db8::1":     "fresh [2001:db8::1]",
		"db.hosts":        "fresh [10.9.9.9]",
		"DB.hosts.":       "fresh [10.9.9.9]",
		"localhost":       "fresh [127.0.0.1 ::1]",
		"a.localhost":     "fresh [127.0.0.1 ::1]",
		"*.x":             "negative []",
		"a b":             "negative []",
		"":                "negative []",
	}
	for host, want := range tests {
		a := r.Lookup(t.Context(), host)
		if got := fmt.Sprintf("%s %v", a.State, a.Addrs); got != want {
			t.Errorf("%q: %s, want %s", host, got, want)
		}
		first := make(chan Answer, 1)
		stop := r.Watch(host, func(a Answer) { first <- a })
		if a := <-first; fmt.Sprintf("%s %v", a.State, a.Addrs) != want {
			t.Errorf("watch %q: %v", host, a)
		}
		stop()
	}
	if len(z.asked) != 0 {
		t.Errorf("asked %q", z.asked)
	}
}

func TestASingleLabelGoesThroughTheSearchList(t *testing.T) {
	z := &zone{says: map[string]string{"db.corp. A": "1.1.1.1/60", "web. A": "2.2.2.2/60", "web.corp. A": "nxdomain", "web.corp. AAAA": "nxdomain"}}
	r := resolver(t, z)
	for host, want := range map[string]string{"db": "[1.1.1.1]", "web": "[2.2.2.2]", "db.": "[]"} {
		if got := fmt.Sprint(r.Lookup(t.Context(), host).Addrs); got != want {
			t.Errorf("%q: %s, want %s", host, got, want)
		}
	}
}

func TestNamesNobodyWatchesAreForgotten(t *testing.T) {
	r := resolver(t, &zone{says: map[string]string{}})
	defer r.Watch("kept.x", func(Answer) {})()
	for i := range maxLoose + 100 {
		r.Lookup(t.Context(), fmt.Sprintf("n%d.x", i))
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.names) > maxLoose+1 || len(r.loose) > maxLoose || r.names["kept.x"] == nil {
		t.Errorf("%d names, %d of them loose", len(r.names), len(r.loose))
	}
}

func TestAfterCloseNothingIsCalled(t *testing.T) {
	z := &zone{says: map[string]string{"www.x. A": "silent", "www.x. AAAA": "silent"}}
	r := resolver(t, z)
	stop := r.Watch("www.x", func(Answer) { t.Error("called") })
	r.Close()
	stop()
	r.Watch("www.x", func(Answer) { t.Error("called") })()
	if a := r.Lookup(t.Context(), "www.x"); !errors.Is(a.Err, ErrClosed) {
		t.Errorf("lookup: %+v", a)
	}
}

func TestWatchesComeAndGo(t *testing.T) {
	z := &zone{says: map[string]string{"a.x. A": "1.1.1.1/1", "b.x. A": "servfail"}}
	r := resolver(t, z)
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() {
			for j := range 50 {
				var mu sync.Mutex
				over := false
				stop := r.Watch([]string{"a.x", "b.x", "c.x"}[(i+j)%3], func(Answer) {
					mu.Lock()
					defer mu.Unlock()
					if over {
						t.Error("called after stop")
					}
				})
				r.Lookup(t.Context(), "a.x")
				stop()
				mu.Lock()
				over = true
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

// A fault of our own in what a server sent costs that answer.
func TestAPanicIsAnAnswerLost(t *testing.T) {
	for _, how := range []string{"panic", "questionless"} {
		r := resolver(t, &zone{says: map[string]string{"a.test. A": how, "a.test. AAAA": how, "b.test. A": "10.0.0.1/60"}})
		a := r.Lookup(t.Context(), "a.test")
		if len(a.Addrs) > 0 || a.Err == nil || !strings.Contains(a.Err.Error(), "a fault of") {
			t.Errorf("%s: %+v", how, a)
		}
		if r.Panics() < 2 {
			t.Errorf("%s: %d counted, want one for each family at least", how, r.Panics())
		}
		if b := r.Lookup(t.Context(), "b.test"); len(b.Addrs) != 1 {
			t.Errorf("%s: the next name: %+v", how, b)
		}
	}
}
