package resolve

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"
)

// TestRecordOverTime scripts what queries find. Each line is the time of the
// query, what it found for A and AAAA ("1.2.3.4/ttl", "none", "fail"), and the
// record after it: state, addresses, wait until the next query, "changed" where
// a watch would hear of it.
func TestRecordOverTime(t *testing.T) {
	type step struct{ at, a, aaaa, want string }
	tests := map[string][]step{
		"fresh answers are asked for ahead of expiry": {
			{"0s", "1.1.1.1/100", "none", "fresh [1.1.1.1] 1m35s changed"},
			{"95s", "1.1.1.1/100", "none", "fresh [1.1.1.1] 1m35s"},
			{"190s", "2.2.2.2/10", "::2/100", "fresh [2.2.2.2 ::2] 9.5s changed"},
		},
		"TTL 0 is asked again after the refresh time, huge ones after a day": {
			{"0s", "1.1.1.1/0", "none", "fresh [1.1.1.1] 57s changed"},
			{"1m", "1.1.1.1/2147483647", "none", "fresh [1.1.1.1] 22h48m0s"},
			{"2m", "1.1.1.1/4294967295", "none", "fresh [1.1.1.1] 57s"},
			{"3m", "1.1.1.1/1", "none", "fresh [1.1.1.1] 1s"},
		},
		"failures keep the last good answer for a day": {
			{"0s", "1.1.1.1/60", "none", "fresh [1.1.1.1] 57s changed"},
			{"1m", "fail", "fail", "stale [1.1.1.1] 1s changed"},
			{"2m", "fail", "fail", "stale [1.1.1.1] 2s"},
			{"23h", "fail", "fail", "stale [1.1.1.1] 4s"},
			{"24h", "fail", "fail", "stale [] 8s changed"},
			{"25h", "1.1.1.1/60", "none", "fresh [1.1.1.1] 57s changed"},
		},
		"denials keep it for five minutes": {
			{"0s", "1.1.1.1/60", "none", "fresh [1.1.1.1] 57s changed"},
			{"1m", "none", "none", "stale [1.1.1.1] 1s changed"},
			{"5m58s", "none", "none", "stale [1.1.1.1] 2s"},
			{"5m59s", "none", "none", "stale [1.1.1.1] 1s"},
			{"6m", "none", "none", "negative [] 8s changed"},
			{"7m", "fail", "fail", "negative [] 16s changed"},
			{"8m", "1.1.1.1/60", "none", "fresh [1.1.1.1] 57s changed"},
		},
		"a failure does not stretch the grace": {
			{"0s", "1.1.1.1/60", "none", "fresh [1.1.1.1] 57s changed"},
			{"1m", "none", "none", "stale [1.1.1.1] 1s changed"},
			{"6m", "fail", "fail", "negative [] 2s changed"},
		},
		"never answered": {
			{"0s", "fail", "fail", "never [] 1s changed"},
			{"1s", "fail", "fail", "never [] 2s"},
			{"3s", "fail", "fail", "never [] 4s"},
			{"7s", "fail", "fail", "never [] 8s"},
			{"15s", "fail", "fail", "never [] 16s"},
			{"31s", "fail", "fail", "never [] 32s"},
			{"63s", "fail", "fail", "never [] 1m0s"},
			{"123s", "fail", "fail", "never [] 1m0s"},
			{"183s", "none", "none", "negative [] 1m0s changed"},
		},
		"one family fails": {
			{"0s", "1.1.1.1/60", "::1:1/60", "fresh [1.1.1.1 ::1:1] 57s changed"},
			{"1m", "1.1.1.2/60", "fail", "fresh [1.1.1.2 ::1:1] 1s changed"},
			{"24h30m", "1.1.1.2/60", "fail", "fresh [1.1.1.2] 2s changed"},
			{"24h31m", "1.1.1.2/60", "none", "fresh [1.1.1.2] 57s changed"},
		},
		"one family fails and the other is empty: nothing is known": {
			{"0s", "fail", "none", "never [] 1s changed"},
			{"1s", "1.1.1.1/60", "none", "fresh [1.1.1.1] 57s changed"},
			{"1m", "none", "fail", "stale [1.1.1.1] 1s changed"},
		},
		"order alone is no change": {
			{"0s", "1.1.1.1,1.1.1.2/60", "none", "fresh [1.1.1.1 1.1.1.2] 57s changed"},
			{"1m", "1.1.1.2,1.1.1.1/60", "none", "fresh [1.1.1.2 1.1.1.1] 57s"},
			{"2m", "1.1.1.2,1.1.1.3/60", "none", "fresh [1.1.1.2 1.1.1.3] 57s changed"},
		},
	}
	start := time.Unix(1e9, 0)
	for name, steps := range tests {
		t.Run(name, func(t *testing.T) {
			var r record
			for _, s := range steps {
				at, err := time.ParseDuration(s.at)
				if err != nil {
					t.Fatal(err)
				}
				now := start.Add(at)
				chance := 0.0
				changed := r.learn(found{findingOf(t, s.a), findingOf(t, s.aaaa)}, now, time.Minute, chance)
				got := fmt.Sprintf("%s %v %s", r.answer.State, r.answer.Addrs, r.next.Sub(now))
				if changed {
					got += " changed"
				}
				if got != s.want {
					t.Errorf("at %s: got %q, want %q (error: %v)", s.at, got, s.want, r.answer.Err)
				}
				if r.answer.Err == nil != (s.a != "fail" && s.aaaa != "fail" && (s.a != "none" || s.aaaa != "none")) {
					t.Errorf("at %s: error %v", s.at, r.answer.Err)
				}
			}
		})
	}
}

func findingOf(t *testing.T, s string) finding {
	t.Helper()
	switch s {
	case "fail":
		return finding{err: errors.New("answered SERVFAIL")}
	case "none":
		return finding{verdict: absent, err: errors.New("no address")}
	}
	list, seconds, _ := strings.Cut(s, "/")
	f := finding{verdict: present}
	for a := range strings.SplitSeq(list, ",") {
		f.addrs = append(f.addrs, netip.MustParseAddr(a))
	}
	var n uint32
	if _, err := fmt.Sscan(seconds, &n); err != nil {
		t.Fatal(err)
	}
	if n <= 1<<31-1 {
		f.ttl = time.Duration(n) * time.Second
	}
	return f
}

func TestAHugeAnswerIsCut(t *testing.T) {
	var f found
	for i := range MaxAddresses {
		f[0].addrs = append(f[0].addrs, netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}))
		f[1].addrs = append(f[1].addrs, netip.AddrFrom16([16]byte{15: byte(i)}))
	}
	f[0].verdict, f[1].verdict = present, present
	var r record
	r.learn(f, time.Unix(1e9, 0), time.Minute, 0)
	if got := len(r.answer.Addrs); got != MaxAddresses {
		t.Errorf("%d addresses, want %d", got, MaxAddresses)
	}
}
