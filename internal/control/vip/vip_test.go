package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/hostname"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// The ranges that Istio gives virtual addresses from.
var (
	wide4 = netip.MustParsePrefix("240.240.0.0/16")
	wide6 = netip.MustParsePrefix("2001:2::/48")
)

func pool(v4, v6 string) *Pool { return New(netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)) }

func TestAHostKeepsItsAddresses(t *testing.T) {
	p := pool(wide4.String(), wide6.String())
	a, err := p.Assign("db.corp", start)
	if err != nil {
		t.Fatal(err)
	}
	if !wide4.Contains(a.V4) || !wide6.Contains(a.V6) {
		t.Errorf("%v lies outside the ranges", a)
	}
	again, _ := p.Assign("db.corp", start)
	p.Release("db.corp", start)
	back, _ := p.Assign("db.corp", start.Add(time.Second))
	if again != a || back != a {
		t.Errorf("first %v, then %v, after a release %v", a, again, back)
	}
}

func TestPoolsAgreeWhateverTheOrder(t *testing.T) {
	there, back := pool(wide4.String(), wide6.String()), pool(wide4.String(), wide6.String())
	var hosts []hostname.Name
	for i := range 50 { // no two of them want the same place
		hosts = append(hosts, hostname.Name(fmt.Sprintf("host-%d.example", i)))
	}
	for i := range hosts {
		if _, err := there.Assign(hosts[i], start); err != nil {
			t.Fatal(err)
		}
		if _, err := back.Assign(hosts[len(hosts)-1-i], start); err != nil {
			t.Fatal(err)
		}
	}
	for _, h := range hosts {
		a, _ := there.Assign(h, start)
		b, _ := back.Assign(h, start)
		if a != b {
			t.Errorf("%s: %v and %v", h, a, b)
		}
	}
}

func TestAnAddressRestsBeforeAnotherHostHasIt(t *testing.T) {
	p := pool("240.0.0.0/30", "2001:2::/126") // room for two
	for _, h := range []hostname.Name{"a", "b"} {
		if _, err := p.Assign(h, start); err != nil {
			t.Fatal(err)
		}
	}
	p.Release("a", start)
	if _, err := p.Assign("c", start.Add(Quarantine-1)); !errors.Is(err, ErrExhausted) {
		t.Errorf("c got an address that rests: %v", err)
	}
	if _, err := p.Assign("c", start.Add(Quarantine)); err != nil {
		t.Errorf("c got none after the rest: %v", err)
	}
}

func TestRangesWithoutRoomGiveNothing(t *testing.T) {
	for _, r := range [][2]string{{"240.0.0.0/31", "2001:2::/48"}, {"240.0.0.0/16", "2001:2::/127"}, {"2001:2::/48", "2001:2::/48"}, {"240.0.0.0/16", "240.0.0.0/16"}} {
		if got, err := pool(r[0], r[1]).Assign("a", start); !errors.Is(err, ErrExhausted) {
			t.Errorf("a pool over %s and %s gave %v, %v", r[0], r[1], got, err)
		}
	}
}

// TestNoAddressStandsForTwoHosts is the promise, under any history.
func TestNoAddressStandsForTwoHosts(t *testing.T) {
	ranges := [][2]netip.Prefix{
		{netip.MustParsePrefix("240.0.0.0/28"), netip.MustParsePrefix("2001:2::/124")},
		{netip.MustParsePrefix("240.0.0.0/29"), netip.MustParsePrefix("2001:2::/124")},
		{netip.MustParsePrefix("240.0.0.16/28"), netip.MustParsePrefix("2001:2::/120")},
	}
	rapid.Check(t, func(t *rapid.T) {
		p := New(ranges[0][0], ranges[0][1])
		now := start
		owner, since := map[netip.Addr]hostname.Name{}, map[netip.Addr]time.Time{} // last owner, and when it gave it back
		held := map[hostname.Name]Pair{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)
			host := hostname.Name(fmt.Sprint("h", rapid.IntRange(0, 25).Draw(t, "host")))
			switch rapid.IntRange(0, 8).Draw(t, "do") {
			case 0:
				to := ranges[rapid.IntRange(0, len(ranges)-1).Draw(t, "range")]
				p.Use(to[0], to[1])
				continue
			case 1, 2, 3, 4:
				for _, a := range held[host].Addrs() {
					since[a] = now
				}
				delete(held, host)
				p.Release(host, now)
				continue
			}
			pair, err := p.Assign(host, now)
			if err != nil {
				if len(held) == 0 && len(since) < 6 {
					t.Fatalf("%v with nothing held", err)
				}
				continue
			}
			if before, ok := held[host]; ok && before != pair {
				t.Fatalf("%s moved from %v to %v", host, before, pair)
			}
			for other, its := range held {
				if other != host && (its.V4 == pair.V4 || its.V6 == pair.V6) {
					t.Fatalf("%s has %v and %s %v", other, its, host, pair)
				}
			}
			for _, a := range pair.Addrs() {
				if last, ok := owner[a]; ok && last != host && now.Before(since[a].Add(Quarantine)) {
					t.Fatalf("%v went from %s to %s too early", a, last, host)
				}
				owner[a] = host
			}
			held[host] = pair
		}
	})
}

// TestHostsKeepTheirAddressesWhenTheRangeChanges and no address comes to stand
// for two hosts, also where the old range and the new one overlap.
func TestHostsKeepTheirAddressesWhenTheRangeChanges(t *testing.T) {
	small4, small6 := netip.MustParsePrefix("240.0.0.0/29"), netip.MustParsePrefix("2001:2::/125") // room for six
	for name, next := range map[string][2]netip.Prefix{
		"elsewhere":      {netip.MustParsePrefix("240.1.0.0/24"), netip.MustParsePrefix("2001:2:0:1::/120")},
		"wider":          {netip.MustParsePrefix("240.0.0.0/24"), netip.MustParsePrefix("2001:2::/120")},
		"one moves":      {netip.MustParsePrefix("240.1.0.0/24"), netip.MustParsePrefix("2001:2::/120")},
		"one is shifted": {netip.MustParsePrefix("240.0.0.0/28"), netip.MustParsePrefix("2001:2::/112")},
	} {
		t.Run(name, func(t *testing.T) {
			p := New(small4, small6)
			owner := map[netip.Addr]hostname.Name{}
			pairs := map[hostname.Name]Pair{}
			add := func(host hostname.Name, at time.Time) error {
				pair, err := p.Assign(host, at)
				if err != nil {
					return err
				}
				if had, ok := pairs[host]; ok && had != pair {
					t.Errorf("%s moved from %v to %v", host, had, pair)
				}
				pairs[host] = pair
				for _, a := range pair.Addrs() {
					if o := owner[a]; o != "" && o != host {
						t.Errorf("%v stands for %s and %s", a, o, host)
					}
					owner[a] = host
				}
				return nil
			}
			for i := range 6 {
				if err := add(hostname.Name(fmt.Sprint("old", i)), start); err != nil {
					t.Fatal(err)
				}
			}
			if err := add("new0", start); !errors.Is(err, ErrExhausted) {
				t.Fatalf("a seventh host of six: %v", err)
			}
			p.Release("old5", start)
			p.Use(next[0], next[1])
			for i := range 6 {
				if err := add(hostname.Name(fmt.Sprint("new", i)), start); err != nil {
					t.Fatal(err)
				}
				if pair := pairs[hostname.Name(fmt.Sprint("new", i))]; !next[0].Contains(pair.V4) || !next[1].Contains(pair.V6) {
					t.Errorf("a new host has %v, outside the new ranges", pair)
				}
			}
			for i := range 6 { // the last one rested and is back
				if err := add(hostname.Name(fmt.Sprint("old", i)), start.Add(time.Minute)); err != nil {
					t.Fatal(err)
				}
			}
			for i := range 6 {
				p.Release(hostname.Name(fmt.Sprint("old", i)), start)
			}
			if _, err := p.Assign("late", start.Add(Quarantine)); err != nil || len(p.before) != 0 || len(p.hosts) != 7 {
				t.Errorf("%v; %d earlier ranges and %d hosts are remembered, want none and 7", err, len(p.before), len(p.hosts))
			}
		})
	}
}

// TestANarrowerRangeIsFree where what was given away lies beside it: the two
// differ in their upper halves alone.
func TestANarrowerRangeIsFree(t *testing.T) {
	p := pool("240.0.0.0/29", "2001:2::/48") // room for six
	for i := range p.Size() {
		if _, err := p.Assign(hostname.Name(fmt.Sprint("old", i)), start); err != nil {
			t.Fatal(err)
		}
	}
	p.Use(netip.MustParsePrefix("240.1.0.0/29"), netip.MustParsePrefix("2001:2:0:1::/64"))
	for i := range p.Size() {
		if pair, err := p.Assign(hostname.Name(fmt.Sprint("new", i)), start); err != nil {
			t.Errorf("new host %d has %v, %v", i, pair, err)
		}
	}
	if !p.Exhausted(start) {
		if _, err := p.Assign("more", start); err == nil || !p.Exhausted(start) {
			t.Errorf("a seventh host of six: %v", err)
		}
	}
	p.Release("new0", start)
	if !p.Exhausted(start.Add(Quarantine-1)) || p.Exhausted(start.Add(Quarantine)) {
		t.Error("it is not known when the first place is free again")
	}
}

// TestAFullPoolSaysSoAtOnce however often it is asked.
func TestAFullPoolSaysSoAtOnce(t *testing.T) {
	p := pool("240.240.0.0/16", "2001:2::/48")
	for i := range p.Size() {
		p.now.leases[uint32(i)] = &lease{host: "h", in: p.now, place: uint32(i)}
	}
	p.hosts["h"] = p.now.leases[0]
	for i := range 10_000 { // each would look at 65,534 places
		if _, err := p.Assign(hostname.Name(fmt.Sprint(i)), start); !errors.Is(err, ErrExhausted) {
			t.Fatal(err)
		}
	}
	p.Release("h", start)
	if _, err := p.Assign("new", start.Add(Quarantine)); err != nil {
		t.Errorf("after one was given back: %v", err)
	}
}

// TestReservedAddressesGoToNoHost in no family, until they are free again.
func TestReservedAddressesGoToNoHost(t *testing.T) {
	p := pool("10.0.0.0/28", "fd00::/124")
	for _, at := range []string{"10.0.0.4/30", "10.0.0.9/32", "fd00::a/128", "10.0.0.0/8", "fd00::/124", "10.9.0.0/24"} {
		p.Reserve(netip.MustParsePrefix(at))
	}
	got := map[string]bool{}
	for i := 0; ; i++ {
		pair, err := p.Assign(hostname.Name(fmt.Sprintf("host-%d.example", i)), start)
		if err != nil {
			break
		}
		got[pair.V4.String()] = true
	}
	if diff := cmp.Diff(map[string]bool{"10.0.0.1": true, "10.0.0.2": true, "10.0.0.3": true, "10.0.0.8": true, "10.0.0.11": true, "10.0.0.12": true, "10.0.0.13": true, "10.0.0.14": true}, got); diff != "" {
		t.Errorf("given away (-want +got):\n%s", diff)
	}
	p.Reserve(netip.MustParsePrefix("10.0.0.9/32"))
	for i, at := range []string{"10.0.0.9/32", "10.0.0.9/32"} {
		if _, err := p.Assign("more.example", start); err == nil {
			t.Errorf("an address goes after Free was called %d times, of 2", i)
		}
		p.Free(netip.MustParsePrefix(at))
	}
	if pair, err := p.Assign("more.example", start); err != nil || pair.V4.String() != "10.0.0.9" {
		t.Errorf("the address that is free again: %v, %v", pair, err)
	}
}

func TestAHostKeepsAnAddressThatIsReservedLater(t *testing.T) {
	p := pool("10.0.0.0/24", "fd00::/120")
	a, _ := p.Assign("a.example", start)
	at := netip.PrefixFrom(a.V4, 32)
	p.Reserve(at)
	if again, _ := p.Assign("a.example", start); again != a || p.Holder(a.V4) != "a.example" {
		t.Errorf("it has %v, held by %q, after %v", again, p.Holder(a.V4), a)
	}
	p.Release("a.example", start)
	if again, _ := p.Assign("a.example", start); again == a || p.Holder(a.V4) != "" {
		t.Errorf("given back, it gets %v again; held by %q", again, p.Holder(a.V4))
	}
}
