package vip

import (
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/hostname"
)

var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func pool(v4, v6 string) *Pool { return New(netip.MustParsePrefix(v4), netip.MustParsePrefix(v6)) }

func TestAHostKeepsItsAddresses(t *testing.T) {
	p := pool(IPv4.String(), IPv6.String())
	a, err := p.Assign("db.corp", start)
	if err != nil {
		t.Fatal(err)
	}
	if !IPv4.Contains(a.V4) || !IPv6.Contains(a.V6) {
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
	there, back := pool(IPv4.String(), IPv6.String()), pool(IPv4.String(), IPv6.String())
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
	rapid.Check(t, func(t *rapid.T) {
		p := pool("240.0.0.0/28", "2001:2::/124")
		now := start
		owner, since := map[Pair]hostname.Name{}, map[Pair]time.Time{} // last owner, and when it gave it back
		held := map[hostname.Name]Pair{}
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			now = now.Add(time.Duration(rapid.IntRange(0, 20).Draw(t, "minutes")) * time.Minute)
			host := hostname.Name(fmt.Sprint("h", rapid.IntRange(0, 25).Draw(t, "host")))
			if rapid.Bool().Draw(t, "release") {
				if pair, ok := held[host]; ok {
					delete(held, host)
					since[pair] = now
				}
				p.Release(host, now)
				continue
			}
			pair, err := p.Assign(host, now)
			if err != nil {
				if len(held) == 0 && len(since) < 14 {
					t.Fatalf("%v with nothing held", err)
				}
				continue
			}
			if before, ok := held[host]; ok && before != pair {
				t.Fatalf("%s moved from %v to %v", host, before, pair)
			}
			for other, its := range held {
				if other != host && its == pair {
					t.Fatalf("%v stands for %s and %s", pair, other, host)
				}
			}
			if last, ok := owner[pair]; ok && last != host && now.Before(since[pair].Add(Quarantine)) {
				t.Fatalf("%v went from %s to %s too early", pair, last, host)
			}
			owner[pair], held[host] = host, pair
		}
	})
}
