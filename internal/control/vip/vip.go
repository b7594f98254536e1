// Package vip gives hosts virtual addresses: addresses that exist nowhere and
// stand for one host each, so that a connection to one says by its destination
// which host is meant. It is pure: time comes in as an argument.
package vip

import (
	"encoding/binary"
	"errors"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/hostname"
)

// The ranges that Istio gives virtual addresses from.
var (
	IPv4 = netip.MustParsePrefix("240.240.0.0/16")
	IPv6 = netip.MustParsePrefix("2001:2::/48")
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
	v4, v6 netip.Prefix
	size   uint32
	hosts  map[hostname.Name]uint32
	slots  map[uint32]slot
}

// A slot is a pair in use, or resting.
type slot struct {
	host  hostname.Name
	until time.Time // zero: in use
}

// New returns a pool over an IPv4 and an IPv6 range; the smaller one bounds it.
// The first and the last address of a range are left out: some stacks take them
// for something else. Ranges of other families or without room make a pool that
// is used up from the start.
func New(v4, v6 netip.Prefix) *Pool {
	p := &Pool{v4: v4.Masked(), v6: v6.Masked(), hosts: map[hostname.Name]uint32{}, slots: map[uint32]slot{}}
	if v4.Addr().Is4() && v6.Addr().Is6() {
		if room := min(32-v4.Bits(), 128-v6.Bits(), 24); room >= 2 {
			p.size = uint32(1)<<room - 2
		}
	}
	return p
}

// Assign returns the pair of a host, which keeps it until Release. The error is
// ErrExhausted.
func (p *Pool) Assign(host hostname.Name, now time.Time) (Pair, error) {
	if n, ok := p.hosts[host]; ok {
		return p.pair(n), nil
	}
	n, ok := p.place(host, now)
	if !ok {
		return Pair{}, ErrExhausted
	}
	p.hosts[host] = n
	p.slots[n] = slot{host: host}
	return p.pair(n), nil
}

// Release gives a host's pair back. It rests before another host can have it;
// the same host gets it again at once.
func (p *Pool) Release(host hostname.Name, now time.Time) {
	n, ok := p.hosts[host]
	if !ok {
		return
	}
	delete(p.hosts, host)
	p.slots[n] = slot{host: host, until: now.Add(Quarantine)}
}

// place finds the place of a host: where it rests, or the first free one from
// where its name points to.
func (p *Pool) place(host hostname.Name, now time.Time) (uint32, bool) {
	if p.size == 0 {
		return 0, false
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(host)) // it never fails
	first := uint32(h.Sum64() % uint64(p.size))
	free, found := uint32(0), false
	for i := range p.size {
		n := (first + i) % p.size
		s, taken := p.slots[n]
		switch {
		case !taken && found:
			return free, true
		case !taken:
			return n, true // beyond an untouched place the host cannot rest
		case s.host == host:
			return n, true
		case !found && !s.until.IsZero() && !now.Before(s.until):
			free, found = n, true
		}
	}
	return free, found
}

// pair is the n-th of both ranges.
func (p *Pool) pair(n uint32) Pair {
	v4 := p.v4.Addr().As4()
	binary.BigEndian.PutUint32(v4[:], binary.BigEndian.Uint32(v4[:])+n+1)
	v6 := p.v6.Addr().As16()
	binary.BigEndian.PutUint32(v6[12:], binary.BigEndian.Uint32(v6[12:])+n+1)
	return Pair{netip.AddrFrom4(v4), netip.AddrFrom16(v6)}
}
