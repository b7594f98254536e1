package resolve

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// lag is how long one family is waited for once the other has addresses.
const lag = 500 * time.Millisecond

// canonical is the key of a name. A final dot stays: it says that the name is
// absolute.
func canonical(host string) string { return strings.ToLower(host) }

// fixed answers what needs no question: addresses, localhost, names in Hosts,
// and what is no name at all.
func (r *Resolver) fixed(host string) (Answer, bool) {
	bare := strings.TrimSuffix(host, ".")
	if addr, err := netip.ParseAddr(host); err == nil {
		return forever(addr.Unmap()), true
	}
	if addrs := r.opts.Hosts[bare]; len(addrs) > 0 {
		return forever(addrs[:min(len(addrs), MaxAddresses)]...), true
	}
	if bare == "localhost" || strings.HasSuffix(bare, ".localhost") {
		return forever(netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()), true
	}
	name, err := hostname.Parse(host)
	if err == nil && name.IsWildcard() {
		err = errors.New("a wildcard stands for many names")
	}
	if err != nil {
		return Answer{State: decision.Negative, Err: fmt.Errorf("%q cannot be looked up: %w", host, err)}, true
	}
	return Answer{}, false
}

func forever(addrs ...netip.Addr) Answer {
	return Answer{Addrs: addrs, State: decision.Fresh, TTL: MaxTTL, Local: true}
}

// query asks for both families of host, within totalTime.
func (r *Resolver) query(ctx context.Context, host string) found {
	ctx, cancel := context.WithTimeout(ctx, totalTime)
	defer cancel()
	var f found
	for _, full := range candidates(host, r.opts.Search) {
		f = r.families(ctx, full)
		if f[0].verdict != absent || f[1].verdict != absent {
			break
		}
	}
	return f
}

// candidates are the absolute names that host may mean, in order.
func candidates(host string, search []string) []string {
	full := dns.Fqdn(host)
	if strings.Contains(host, ".") {
		return []string{full}
	}
	all := make([]string, 0, len(search)+1)
	for _, domain := range search {
		if longer := full + dns.Fqdn(domain); len(longer) <= hostname.MaxLength+1 {
			all = append(all, longer)
		}
	}
	return append(all, full)
}

// families asks for A and AAAA in parallel.
func (r *Resolver) families(ctx context.Context, full string) found {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	type arrival struct {
		family int
		finding
	}
	arrivals := make(chan arrival, 2)
	for family, qtype := range [2]uint16{dns.TypeA, dns.TypeAAAA} {
		r.wg.Go(func() { arrivals <- arrival{family, r.family(ctx, full, qtype)} })
	}
	first := <-arrivals
	var f found
	f[first.family] = first.finding
	if first.verdict == present {
		timer := time.AfterFunc(lag, cancel)
		defer timer.Stop()
	}
	second := <-arrivals
	f[second.family] = second.finding
	return f
}

// family asks for one type of address. An answer that cannot be read, whatever
// the fault, is none.
func (r *Resolver) family(ctx context.Context, full string, qtype uint16) (f finding) {
	defer func() {
		if p := recover(); p != nil {
			r.panics.Add(1)
			f = finding{err: fmt.Errorf("%s: the proxy failed at the answer, a fault of its own: %v", strings.TrimSuffix(full, "."), p)}
		}
	}()
	q := new(dns.Msg)
	q.SetQuestion(full, qtype)
	q.SetEdns0(exchange.UDPSize, false)
	reply, err := r.client.Ask(ctx, q)
	if err != nil {
		return finding{err: err}
	}
	f = read(reply)
	if f.cut {
		r.cut.Add(1)
	}
	return f
}

// read takes the addresses out of a usable answer.
func read(m *dns.Msg) finding {
	name := strings.TrimSuffix(m.Question[0].Name, ".")
	chain, err := exchange.Follow(m)
	if err != nil {
		return finding{err: fmt.Errorf("%s: %w", name, err)}
	}
	f := finding{verdict: absent, ttl: chain.TTL}
	seen := map[netip.Addr]bool{}
	for _, rr := range m.Answer {
		addr, ok := address(rr, m.Question[0].Qtype)
		if !ok || dns.CanonicalName(rr.Header().Name) != chain.Last() {
			continue
		}
		f.ttl = min(f.ttl, exchange.TTL(rr.Header().Ttl))
		switch {
		case seen[addr]:
		case len(f.addrs) == MaxAddresses:
			f.cut = true
		default:
			seen[addr] = true
			f.addrs = append(f.addrs, addr)
		}
	}
	switch {
	case len(f.addrs) > 0:
		f.verdict = present
	case m.Rcode == dns.RcodeNameError:
		f.err = fmt.Errorf("%s does not exist (NXDOMAIN)", name)
	default:
		f.err = fmt.Errorf("%s has no address (NODATA)", name)
	}
	return f
}

// address is the address in a record of the type asked for.
func address(rr dns.RR, qtype uint16) (netip.Addr, bool) {
	switch rr := rr.(type) {
	case *dns.A:
		addr, ok := netip.AddrFromSlice(rr.A.To4())
		return addr, ok && qtype == dns.TypeA && rr.Hdr.Class == dns.ClassINET
	case *dns.AAAA:
		addr, ok := netip.AddrFromSlice(rr.AAAA.To16())
		return addr.Unmap(), ok && qtype == dns.TypeAAAA && rr.Hdr.Class == dns.ClassINET
	}
	return netip.Addr{}, false
}
