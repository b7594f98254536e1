package world

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"

	"github.com/miekg/dns"
)

// A DNS is the world's name server. What it answers may change at any time. It
// is safe for concurrent use.
type DNS struct {
	mu    sync.Mutex
	names map[string]answer         // guarded by mu; fully qualified
	asked map[string]map[uint16]int // guarded by mu
}

type answer struct {
	ttl   uint32
	rcode int
	addrs []netip.Addr
}

func newDNS(w *World) (*DNS, error) {
	d := &DNS{names: map[string]answer{}, asked: map[string]map[uint16]int{}}
	var pc net.PacketConn
	var l net.Listener
	err := w.InInternet(func() error {
		at := netip.AddrPortFrom(netip.MustParseAddr(NameServer), 53)
		udp, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(at))
		if err != nil {
			return fmt.Errorf("listen for questions: %w", err)
		}
		pc = udp
		tcp, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(at))
		if err != nil {
			return fmt.Errorf("listen for questions: %w", err)
		}
		l = tcp
		return nil
	})
	if err != nil {
		return nil, err
	}
	servers := []*dns.Server{{PacketConn: pc, Handler: d}, {Listener: l, Handler: d}}
	var serving sync.WaitGroup
	for _, s := range servers {
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		serving.Go(func() { _ = s.ActivateAndServe() }) // ends by Shutdown
		<-started
	}
	w.atClose(func() error {
		defer serving.Wait()
		return errors.Join(servers[0].Shutdown(), servers[1].Shutdown())
	})
	return d, nil
}

// Set makes name resolve to these addresses, v4 and v6 mixed, with a TTL in
// seconds. A family without addresses is answered NOERROR and empty.
func (d *DNS) Set(name string, ttl uint32, addrs ...netip.Addr) {
	d.put(name, answer{ttl: ttl, addrs: addrs})
}

// Fail makes every question for name end with this response code.
func (d *DNS) Fail(name string, rcode int) { d.put(name, answer{rcode: rcode}) }

// Forget makes name unknown: NXDOMAIN, as for any name never Set.
func (d *DNS) Forget(name string) { d.put(name, answer{rcode: dns.RcodeNameError}) }

func (d *DNS) put(name string, a answer) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.names[dns.CanonicalName(name)] = a
}

// Asked is how many questions for name have come, of any type.
func (d *DNS) Asked(name string) int {
	d.mu.Lock()
	defer d.mu.Unlock()
	n := 0
	for _, count := range d.asked[dns.CanonicalName(name)] {
		n += count
	}
	return n
}

// ServeDNS answers one question.
func (d *DNS) ServeDNS(out dns.ResponseWriter, q *dns.Msg) {
	r := new(dns.Msg)
	if len(q.Question) != 1 {
		_ = out.WriteMsg(r.SetRcode(q, dns.RcodeFormatError))
		return
	}
	name := dns.CanonicalName(q.Question[0].Name)
	kind := q.Question[0].Qtype
	d.mu.Lock()
	a, known := d.names[name]
	if d.asked[name] == nil {
		d.asked[name] = map[uint16]int{}
	}
	d.asked[name][kind]++
	d.mu.Unlock()
	if !known {
		a.rcode = dns.RcodeNameError
	}
	r.SetRcode(q, a.rcode)
	r.RecursionAvailable = true
	for _, addr := range a.addrs {
		h := dns.RR_Header{Name: q.Question[0].Name, Class: dns.ClassINET, Ttl: a.ttl}
		switch {
		case kind == dns.TypeA && addr.Is4():
			h.Rrtype = dns.TypeA
			r.Answer = append(r.Answer, &dns.A{Hdr: h, A: addr.AsSlice()})
		case kind == dns.TypeAAAA && addr.Is6():
			h.Rrtype = dns.TypeAAAA
			r.Answer = append(r.Answer, &dns.AAAA{Hdr: h, AAAA: addr.AsSlice()})
		}
	}
	_ = out.WriteMsg(r) // a caller that went away asks again
}
