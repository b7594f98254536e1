package dns

import (
	"context"
	"net/netip"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// declaredTTL is how long an answer with declared addresses may be used.
const declaredTTL = 30 * time.Second

// respond returns the wire form of the reply to a message, nil where silence
// is right. It takes any bytes.
func (s *Server) respond(ctx context.Context, wire []byte, stream bool) (out []byte) {
	defer s.survive(wire, &out)
	q, reply := open(wire)
	if q == nil {
		if reply == nil {
			return nil
		}
		b, err := reply.Pack()
		if err != nil {
			return nil
		}
		return b
	}
	return seal(q, s.answer(ctx, q), stream)
}

// overloaded is respond where there is no room to find out more.
func (s *Server) overloaded(wire []byte) (out []byte) {
	defer s.survive(wire, &out)
	q, _ := open(wire)
	if q == nil {
		return nil
	}
	return bare(q, dns.RcodeServerFailure)
}

// survive, deferred, turns a panic over a message into the reply to it: what a
// workload or a server sends must not end the proxy, whatever it is.
func (s *Server) survive(wire []byte, out *[]byte) {
	if p := recover(); p != nil {
		s.panics.Add(1)
		s.notes.failed(p, debug.Stack())
		*out = unread(wire)
	}
}

// answer decides what becomes of a question.
func (s *Server) answer(ctx context.Context, q *dns.Msg) *dns.Msg {
	if reply := unsupported(q); reply != nil {
		return reply
	}
	name, foreign := canonical(q.Question[0].Name), false
	if host, ok := international(name); ok {
		name, foreign = host, true
	}
	if reply := loopback(q, name); reply != nil {
		return reply
	}
	c := s.config()
	if c == nil {
		return say(q, dns.RcodeServerFailure, dns.ExtendedErrorCodeNotReady, "the proxy has no configuration yet")
	}
	declared := find(c, name)
	if isShort(declared, name) {
		name, foreign = declared.Host, true
	}
	if declared != nil && len(declared.Addresses) > 0 {
		if reply := fromDeclared(q, declared.Addresses); reply != nil {
			s.remember(reply, name, true)
			return reply
		}
	}
	closed := s.policy() == mesh.RegistryOnly
	if declared == nil {
		if reply := s.searched(q, c, name); reply != nil {
			return reply
		}
		if reply := ofService(q, c, name, closed); reply != nil {
			return reply
		}
	}
	if q.Question[0].Qtype == dns.TypeANY {
		return meta(q)
	}
	if reply := s.ownName(q, c, name, closed); reply != nil {
		return reply
	}
	if declared == nil && closed {
		return s.refuse(q, c, name)
	}
	about := subjectOf(q)
	if declared != nil && foreign {
		about.name = dns.Fqdn(name) // the form that zones are written in
	}
	reply := s.forward(ctx, q, about)
	if declared != nil && len(declared.Addresses) > 0 && reply.Rcode == dns.RcodeNameError {
		// The real zone need not know the host. That it does not exist would hold
		// for all types (RFC 8020), the addresses given here included.
		reply.Rcode, reply.AuthenticatedData = dns.RcodeSuccess, false
	}
	s.remember(reply, name, false)
	return reply
}

// searched answers for a declared host with addresses that has a domain of the
// search list behind it: as an alias of the host, so that the resolver in the
// workload is done with its list. Nil for any other name and type.
func (s *Server) searched(q *dns.Msg, c *config.Config, name string) *dns.Msg {
	for _, domain := range s.search {
		host, ok := strings.CutSuffix(name, domain)
		if !ok {
			continue
		}
		declared := find(c, host)
		if declared == nil || len(declared.Addresses) == 0 {
			continue
		}
		reply := fromDeclared(q, declared.Addresses)
		if reply == nil {
			return nil
		}
		if isShort(declared, host) {
			host = declared.Host
		}
		for _, rr := range reply.Answer {
			rr.Header().Name = dns.Fqdn(host)
		}
		s.remember(reply, host, true)
		header := dns.RR_Header{Name: q.Question[0].Name, Rrtype: dns.TypeCNAME, Class: dns.ClassINET, Ttl: uint32(declaredTTL / time.Second)}
		reply.Answer = append([]dns.RR{&dns.CNAME{Hdr: header, Target: dns.Fqdn(host)}}, reply.Answer...)
		return reply
	}
	return nil
}

// ofService answers for the names below a declared host under which HTTPS and
// SVCB records of its other ports and protocols stand (_8443._https.host): with
// nothing, as the host itself is answered. Nil where the real zone may be asked.
func ofService(q *dns.Msg, c *config.Config, name string, closed bool) *dns.Msg {
	if t := q.Question[0].Qtype; t != dns.TypeHTTPS && t != dns.TypeSVCB || !strings.HasPrefix(name, "_") {
		return nil
	}
	for strings.HasPrefix(name, "_") {
		_, name, _ = strings.Cut(name, ".")
	}
	declared := find(c, name)
	if declared == nil || !closed && len(declared.Addresses) == 0 {
		return nil
	}
	return empty(q)
}

// find returns what declares name. A name that cannot be the name of a host is
// declared by nothing: with dots inside its labels it would seem to fall under
// a wildcard that it does not.
func find(c *config.Config, name string) *config.Name {
	host, err := hostname.Parse(name)
	if err != nil || host.IsWildcard() || host.String() != name {
		return nil
	}
	return c.Name(name)
}

// isShort reports whether it is by a short name that a name declares what is
// called so.
func isShort(declared *config.Name, name string) bool {
	return declared != nil && declared.Host != name && slices.Contains(declared.Short, name)
}

// unsupported replies to questions that are none about a host; nil otherwise.
func unsupported(q *dns.Msg) *dns.Msg {
	if opt := q.IsEdns0(); opt != nil && opt.Version() != 0 {
		return say(q, dns.RcodeBadVers, dns.ExtendedErrorCodeNotSupported, "only version 0 of EDNS is spoken here")
	}
	question := q.Question[0]
	if question.Qclass != dns.ClassINET {
		return say(q, dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, "only class IN is served here")
	}
	// 128 to 255 are the meta types: ANY, transfers, keys and signatures.
	// Only ANY has an answer, and only for hosts whose addresses are ours.
	if t := question.Qtype; t == dns.TypeNone || t == dns.TypeOPT || t >= 128 && t < dns.TypeANY {
		return meta(q)
	}
	return nil
}

func meta(q *dns.Msg) *dns.Msg {
	return say(q, dns.RcodeRefused, dns.ExtendedErrorCodeNotSupported, "questions of this type are not answered here; ask for the types wanted, one by one")
}

var (
	loopback4 = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	loopback6 = netip.IPv6Loopback()
)

// loopback answers for localhost and the names of its addresses; nil for any
// other name.
func loopback(q *dns.Msg, name string) *dns.Msg {
	if name == "localhost" || strings.HasSuffix(name, ".localhost") {
		if reply := fromDeclared(q, []netip.Addr{loopback4, loopback6}); reply != nil {
			return reply
		}
		return empty(q)
	}
	if addr, ok := reverse(name); ok && addr.IsLoopback() {
		return pointer(q, "localhost")
	}
	return nil
}

// fromDeclared answers for addresses that are known here; nil for a type that
// the real zone may be asked for.
func fromDeclared(q *dns.Msg, addrs []netip.Addr) *dns.Msg {
	question := q.Question[0]
	switch question.Qtype {
	case dns.TypeA, dns.TypeAAAA, dns.TypeCNAME, dns.TypeHTTPS, dns.TypeSVCB, dns.TypeANY:
	default:
		return nil
	}
	reply := empty(q)
	reply.Authoritative = true
	header := dns.RR_Header{Name: question.Name, Rrtype: question.Qtype, Class: dns.ClassINET, Ttl: uint32(declaredTTL / time.Second)}
	for _, addr := range addrs {
		switch addr = addr.Unmap(); {
		case question.Qtype == dns.TypeA && addr.Is4():
			reply.Answer = append(reply.Answer, &dns.A{Hdr: header, A: addr.AsSlice()})
		case question.Qtype == dns.TypeAAAA && addr.Is6():
			reply.Answer = append(reply.Answer, &dns.AAAA{Hdr: header, AAAA: addr.AsSlice()})
		}
	}
	return reply
}

// ownName answers the question for the name of an address from what was
// answered before: always in closed mode, else for declared addresses, which
// the real zone knows nothing of.
func (s *Server) ownName(q *dns.Msg, c *config.Config, name string, closed bool) *dns.Msg {
	addr, ok := reverse(name)
	if !ok {
		return nil
	}
	if n := c.VirtualName(addr); n != nil && !strings.HasPrefix(n.Host, "*") {
		return pointer(q, n.Host)
	}
	own, declared := s.memory.nameOf(addr, time.Now())
	if own == "" || !declared && !closed {
		return nil
	}
	return pointer(q, own)
}

// pointer answers PTR with name and other types with nothing.
func pointer(q *dns.Msg, name string) *dns.Msg {
	reply := empty(q)
	reply.Authoritative = true
	question := q.Question[0]
	if question.Qtype == dns.TypePTR {
		header := dns.RR_Header{Name: question.Name, Rrtype: dns.TypePTR, Class: dns.ClassINET, Ttl: uint32(declaredTTL / time.Second)}
		reply.Answer = []dns.RR{&dns.PTR{Hdr: header, Ptr: dns.Fqdn(name)}}
	}
	return reply
}

// refuse replies for a name that nothing declares.
func (s *Server) refuse(q *dns.Msg, c *config.Config, name string) *dns.Msg {
	const why = "no ServiceEntry declares this host"
	if expands(c, name) {
		return say(q, dns.RcodeNameError, dns.ExtendedErrorCodeBlocked, why)
	}
	total := s.refused.Add(1)
	s.notes.refused(name, dns.Type(q.Question[0].Qtype).String(), total)
	for _, domain := range s.search {
		if strings.HasSuffix(name, domain) {
			return say(q, dns.RcodeNameError, dns.ExtendedErrorCodeBlocked, why)
		}
	}
	return say(q, dns.RcodeRefused, dns.ExtendedErrorCodeBlocked, why)
}

// expands reports whether name is a declared name with a search domain of at
// most eight labels after it.
func expands(c *config.Config, name string) bool {
	for range 8 {
		i := strings.LastIndexByte(name, '.')
		if i < 0 {
			return false
		}
		name = name[:i]
		if n := find(c, name); n != nil && !isShort(n, name) {
			return true
		}
	}
	return false
}

// remember keeps which addresses the workload is told for name.
func (s *Server) remember(reply *dns.Msg, name string, declared bool) {
	now := time.Now()
	for _, rr := range reply.Answer {
		var ip []byte
		switch rr := rr.(type) {
		case *dns.A:
			ip = rr.A
		case *dns.AAAA:
			ip = rr.AAAA
		}
		if addr, ok := netip.AddrFromSlice(ip); ok {
			s.memory.put(addr, name, declared, time.Duration(rr.Header().Ttl)*time.Second, now)
		}
	}
}
