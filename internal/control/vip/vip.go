// Package vip gives hosts virtual addresses: addresses that exist nowhere and
// stand for one host each, so that a connection to one says by its destination
// which host is meant. It is pure: time comes in as an argument.
package vip

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/hostname"
)

// Quarantine is how long an address that was given back goes to no other host:
// longer than any answer of the DNS server may be cached, and than a client
// that holds on to an address is likely to stay idle.
const Quarantine = 30 * time.Minute

// A Pair is the virtual addresses of one host.
type Pair struct{ V4, V6 netip.Addr }

// Addrs lists the addresses, IPv4 first.
func (p Pair) Addrs() []netip.Addr { return []netip.Addr{p.V4, p.V6} }

// ErrExhausted means that every address of the range is in use or was until
// lately.
var ErrExhausted = errors.New("the range of virtual addresses is used up")

// A Pool hands out the pairs of its two ranges; the n-th address of one goes
// with the n-th of the other. Where a host's pair lies follows from its name, so
// that pools which know the same hosts agree, but for the rare pairs of hosts
// that want the same place: of those, who comes first has it.
// A Pool is not safe for concurrent use.
type Pool struct {
	now    *area   // where new pairs come from
	before []*area // earlier ranges, as long as a pair of theirs is in use or rests
	hosts  map[hostname.Name]*lease

	reserved map[netip.Prefix]int // how often each was
	lengths  map[int]int          // how many of them have that length
}

// An area is two ranges and what is taken of them.
type area struct {
	v4, v6 netip.Prefix
	size   uint32
	leases map[uint32]*lease // by place
	full   time.Time         // until then every place is known to be taken; zero: nothing is known
}

// A lease is a pair in use, or resting.
type lease struct {
	host  hostname.Name
	in    *area
	place uint32
	until time.Time // when it has rested; zero: in use
}

// never is later than any rest ends.
var never = time.Unix(1<<40, 0)

// New returns a pool over an IPv4 and an IPv6 range; the smaller one bounds it.
// The first and the last address of a range are left out: some stacks take them
// for something else. Ranges of other families or without room make a pool that
// is used up from the start.
func New(v4, v6 netip.Prefix) *Pool {
	return &Pool{now: newArea(v4, v6), hosts: map[hostname.Name]*lease{}, reserved: map[netip.Prefix]int{}, lengths: map[int]int{}}
}

// Reserve keeps the addresses of a prefix that lies within a range from being
// handed out, until Free was called as often. A host that has one keeps it. A
// prefix as wide as the range reserves nothing: somebody would have to yield.
func (p *Pool) Reserve(at netip.Prefix) {
	at = at.Masked()
	if p.reserved[at]++; p.reserved[at] == 1 {
		p.lengths[at.Bits()]++
	}
}

// Free takes one Reserve back.
func (p *Pool) Free(at netip.Prefix) {
	at = at.Masked()
	switch p.reserved[at] {
	case 0:
		return
	case 1:
		delete(p.reserved, at)
		if p.lengths[at.Bits()]--; p.lengths[at.Bits()] == 0 {
			delete(p.lengths, at.Bits())
		}
		p.now.full = time.Time{}
	default:
		p.reserved[at]--
	}
}

// Holder returns the host that has an address, or "".
func (p *Pool) Holder(x netip.Addr) hostname.Name {
	for _, a := range append([]*area{p.now}, p.before...) {
		if l := a.at(x); l != nil && l.until.IsZero() {
			return l.host
		}
	}
	return ""
}

// reservedFrom returns how many places of an area, from the n-th on, are reserved.
func (p *Pool) reservedFrom(a *area, n uint32) uint32 {
	if len(p.lengths) == 0 { // nearly always
		return 0
	}
	var most uint32
	pair := a.pair(n)
	count := func(x netip.Addr, of netip.Prefix) {
		for bits := range p.lengths {
			if bits <= of.Bits() || bits > x.BitLen() {
				continue
			}
			if at, err := x.Prefix(bits); err != nil || p.reserved[at] == 0 {
				continue
			}
			low, size := x.As16(), uint32(1)<<min(x.BitLen()-bits, 31)
			most = max(most, size-binary.BigEndian.Uint32(low[12:])%size)
		}
	}
	count(pair.V4, a.v4)
	count(pair.V6, a.v6)
	return most
}

func newArea(v4, v6 netip.Prefix) *area {
	a := &area{v4: v4.Masked(), v6: v6.Masked(), leases: map[uint32]*lease{}}
	if v4.Addr().Is4() && v6.Addr().Is6() {
		if room := min(32-v4.Bits(), 128-v6.Bits(), 24); room >= 2 {
			a.size = uint32(1)<<room - 2
		}
	}
	return a
}

// Size is how many hosts the pool has room for.
func (p *Pool) Size() int { return int(p.now.size) }

// Use lets new pairs come from other ranges. Hosts keep the pairs they have, and
// get back those that rest; until they have rested, none of their addresses goes
// to another host, also where the ranges overlap.
func (p *Pool) Use(v4, v6 netip.Prefix) {
	next := newArea(v4, v6)
	if next.v4 == p.now.v4 && next.v6 == p.now.v6 {
		return
	}
	at := slices.IndexFunc(p.before, func(a *area) bool { return a.v4 == next.v4 && a.v6 == next.v6 })
	if at >= 0 {
		next = p.before[at]
		p.before = slices.Delete(p.before, at, at+1)
	}
	next.full = time.Time{}
	p.before = append(p.before, p.now)
	p.now = next
}

// Exhausted reports whether it is known that Assign would have no pair for a host
// that has none.
func (p *Pool) Exhausted(now time.Time) bool { return p.now.size == 0 || now.Before(p.now.full) }

// Assign returns the pair of a host, which keeps it until Release. The error is
// ErrExhausted.
func (p *Pool) Assign(host hostname.Name, now time.Time) (Pair, error) {
	if l := p.hosts[host]; l != nil {
		if l.until.IsZero() || (now.Before(l.until) || l.in == p.now && !p.taken(l.place, nil, now).After(now)) && p.reservedFrom(l.in, l.place) == 0 {
			l.until = time.Time{}
			return l.in.pair(l.place), nil
		}
		p.drop(l)
	}
	p.forget(now)
	place, ok := p.place(host, now)
	if !ok {
		return Pair{}, ErrExhausted
	}
	if last := p.now.leases[place]; last != nil {
		p.drop(last)
	}
	l := &lease{host: host, in: p.now, place: place}
	p.hosts[host], p.now.leases[place] = l, l
	return l.in.pair(place), nil
}

// Release gives a host's pair back. It rests before another host can have it;
// the same host gets it again at once.
func (p *Pool) Release(host hostname.Name, now time.Time) {
	l := p.hosts[host]
	if l == nil || !l.until.IsZero() {
		return
	}
	l.until = now.Add(Quarantine)
	if p.now.full.After(l.until) {
		p.now.full = l.until
	}
}

func (p *Pool) drop(l *lease) {
	delete(l.in.leases, l.place)
	delete(p.hosts, l.host)
}

// forget lets go of the earlier ranges whose last pair has rested.
func (p *Pool) forget(now time.Time) {
	p.before = slices.DeleteFunc(p.before, func(a *area) bool {
		for _, l := range a.leases {
			if l.until.IsZero() || now.Before(l.until) {
				return false
			}
		}
		for _, l := range a.leases {
			delete(p.hosts, l.host)
		}
		return true
	})
}

// place finds the first free place from where the host's name points to.
func (p *Pool) place(host hostname.Name, now time.Time) (uint32, bool) {
	a := p.now
	if p.Exhausted(now) {
		return 0, false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(host)) // it never fails
	first := uint32(h.Sum64() % uint64(a.size))
	rested, found, soonest := uint32(0), false, never
	for i := uint32(0); i < a.size; i++ {
		n := (first + i) % a.size
		if skip := p.reservedFrom(a, n); skip > 0 {
			i += min(skip, a.size-n) - 1
			continue
		}
		l := a.leases[n]
		until := p.taken(n, l, now)
		switch {
		case until.After(now):
			if until.Before(soonest) {
				soonest = until
			}
		case l == nil && found:
			return rested, true // beyond an untouched place nothing else was looked for
		case l == nil:
			return n, true
		case !found:
			rested, found = n, true
		}
	}
	if !found {
		a.full = soonest
	}
	return rested, found
}

// taken says until when a place of the current ranges is not to be had: for
// itself, or since one of its addresses is part of an earlier pair.
func (p *Pool) taken(n uint32, l *lease, now time.Time) time.Time {
	until := l.end()
	if len(p.before) == 0 || until.After(now) {
		return until
	}
	pair := p.now.pair(n)
	for _, a := range p.before {
		for _, x := range pair.Addrs() {
			if end := a.at(x).end(); end.After(until) {
				until = end
			}
		}
	}
	return until
}

// end is when a lease has rested: never while it is in use, and long ago if
// there is none.
func (l *lease) end() time.Time {
	switch {
	case l == nil:
		return time.Time{}
	case l.until.IsZero():
		return never
	}
	return l.until
}

// at returns the lease that an address is part of, or nil.
func (a *area) at(x netip.Addr) *lease {
	of := a.v4
	if x.Is6() {
		of = a.v6
	}
	if !of.Contains(x) {
		return nil
	}
	here, base := x.As16(), of.Addr().As16()
	if !bytes.Equal(here[:12], base[:12]) {
		return nil // of a range so wide no more than its beginning is used
	}
	return a.leases[binary.BigEndian.Uint32(here[12:])-binary.BigEndian.Uint32(base[12:])-1]
}

// pair is the n-th of both ranges.
func (a *area) pair(n uint32) Pair {
	v4 := a.v4.Addr().As4()
	binary.BigEndian.PutUint32(v4[:], binary.BigEndian.Uint32(v4[:])+n+1)
	v6 := a.v6.Addr().As16()
	binary.BigEndian.PutUint32(v6[12:], binary.BigEndian.Uint32(v6[12:])+n+1)
	return Pair{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
}
