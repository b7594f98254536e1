package resolve

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// A verdict is how the question for one family ended.
type verdict uint8

const (
	failed  verdict = iota // no usable answer
	absent                 // the name exists and has no such address, or does not exist
	present                // addresses
)

// A finding is what one query found for one family.
type finding struct {
	verdict verdict
	addrs   []netip.Addr
	ttl     time.Duration
	cut     bool  // there were more than MaxAddresses
	err     error // nil if present
}

// found is a finding for each family: v4, v6.
type found [2]finding

// A record is what is known of one name over time. It is pure: the time and
// the chance come in. The zero record knows nothing.
type record struct {
	answer   Answer
	next     time.Time // when to ask again
	kept     [2]kept   // last good addresses of each family
	answered bool      // a server has said something of the name
	failures int       // queries in a row that did not find all
	absent   time.Time // since when servers say there is no address; zero: they do not
}

type kept struct {
	addrs []netip.Addr
	at    time.Time
}

// learn takes in what a query found at now and reports whether the answer is
// another than before. Chance, in [0,1), spreads the queries of many names.
func (r *record) learn(f found, now time.Time, refresh time.Duration, chance float64) (changed bool) {
	before, first := r.answer, r.answer.Asked.IsZero()
	good := f[0].verdict == present || f[1].verdict == present
	gone := !good && f[0].verdict != failed && f[1].verdict != failed
	r.answered = r.answered || good || gone
	r.answer = Answer{Asked: now, Err: f.err()}

	if r.answer.Err == nil {
		r.failures = 0
	} else {
		r.failures++
	}
	wait := retry(r.failures, refresh, chance)
	switch {
	case good:
		r.absent = time.Time{}
		r.keep(f, now)
		ttl := f.ttl(refresh)
		r.answer.State, r.answer.TTL, r.answer.Addrs = decision.Fresh, ttl, r.addresses(now)
		ahead := max(MinTTL, ttl-time.Duration(float64(ttl)*(0.05+0.05*chance)))
		if r.failures == 0 {
			wait = ahead
		} else {
			wait = min(wait, ahead)
		}
	case gone:
		if r.absent.IsZero() {
			r.absent = now
		}
		wait = r.fallBack(now, wait)
	default:
		wait = r.fallBack(now, wait)
	}
	r.next = now.Add(wait)
	return first || !same(before, r.answer)
}

// fallBack answers with what was kept, if it may be, and returns how long to
// wait at most.
func (r *record) fallBack(now time.Time, wait time.Duration) time.Duration {
	last := r.addresses(now)
	switch {
	case !r.answered:
		r.answer.State = decision.Never
	case len(r.kept[0].addrs)+len(r.kept[1].addrs) == 0:
		r.answer.State = decision.Negative
	case !r.absent.IsZero() && now.Sub(r.absent) >= Grace:
		r.kept = [2]kept{}
		r.answer.State = decision.Negative
	case len(last) == 0:
		r.answer.State = decision.Stale
		r.answer.Err = fmt.Errorf("%w; the last good answer is older than %s and is not used any more", r.answer.Err, StaleCap)
	case !r.absent.IsZero():
		r.answer.State, r.answer.Addrs = decision.Stale, last
		r.answer.Err = fmt.Errorf("%w; the last good answer is kept for %s", r.answer.Err, Grace)
		wait = min(wait, Grace-now.Sub(r.absent))
	default:
		r.answer.State, r.answer.Addrs = decision.Stale, last
		r.answer.Err = fmt.Errorf("%w; the last good answer is kept", r.answer.Err)
	}
	return wait
}

// keep remembers the addresses found. A family that failed keeps what it had.
func (r *record) keep(f found, now time.Time) {
	for i, x := range f {
		if x.verdict != failed {
			r.kept[i] = kept{x.addrs, now}
		}
	}
}

// addresses are those kept that are not too old, v4 first.
func (r *record) addresses(now time.Time) []netip.Addr {
	var all []netip.Addr
	for _, k := range r.kept {
		if now.Sub(k.at) < StaleCap {
			all = append(all, k.addrs...)
		}
	}
	return all[:min(len(all), MaxAddresses)]
}

// err is why not everything was found; nil if there is an address and neither
// family failed.
func (f found) err() error {
	four, six := f[0], f[1]
	switch {
	case four.verdict == failed && six.verdict == failed && four.err.Error() == six.err.Error():
		return four.err
	case four.verdict == failed:
		return fmt.Errorf("asking for A: %w", four.err)
	case six.verdict == failed:
		return fmt.Errorf("asking for AAAA: %w", six.err)
	case four.verdict == present || six.verdict == present:
		return nil
	}
	return four.err
}

// ttl is the smallest of what was found, in bounds; refresh for a TTL of 0.
func (f found) ttl(refresh time.Duration) time.Duration {
	ttl := MaxTTL
	for _, x := range f {
		if x.verdict == present {
			ttl = min(ttl, x.ttl)
		}
	}
	if ttl <= 0 {
		return refresh
	}
	return max(ttl, MinTTL)
}

// retry is how long to wait after so many failures in a row: 1 s, 2 s, 4 s …
// up to refresh, spread by a tenth.
func retry(failures int, refresh time.Duration, chance float64) time.Duration {
	wait := min(refresh, time.Second<<min(max(failures-1, 0), 20))
	return wait - time.Duration(float64(wait)*0.1*chance)
}

// same reports whether a watch need not hear of b after a. Order alone is no
// change: servers rotate their answers.
func same(a, b Answer) bool {
	if a.State != b.State || len(a.Addrs) != len(b.Addrs) || text(a.Err) != text(b.Err) {
		return false
	}
	if slices.Equal(a.Addrs, b.Addrs) {
		return true
	}
	x, y := slices.Clone(a.Addrs), slices.Clone(b.Addrs)
	slices.SortFunc(x, netip.Addr.Compare)
	slices.SortFunc(y, netip.Addr.Compare)
	return slices.Equal(x, y)
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}
