package dns

import (
	"context"
	"strings"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// forward asks the upstream the client's question and nothing more: the name in
// lower case, none of the client's EDNS options. Letter case and options could
// carry data to whoever serves the name.
func (s *Server) forward(ctx context.Context, q *dns.Msg) *dns.Msg {
	ctx, cancel := context.WithTimeout(ctx, totalTime)
	defer cancel()
	question := q.Question[0]
	ask := new(dns.Msg)
	ask.SetQuestion(strings.ToLower(question.Name), question.Qtype)
	ask.RecursionDesired = q.RecursionDesired
	ask.CheckingDisabled = q.CheckingDisabled
	ask.AuthenticatedData = q.AuthenticatedData
	opt := q.IsEdns0()
	ask.SetEdns0(exchange.UDPSize, opt != nil && opt.Do())

	found, err := s.upstream.Ask(ctx, ask)
	if err == nil {
		var reply *dns.Msg
		if reply, err = clean(q, found); err == nil {
			return reply
		}
	}
	s.notes.unanswered(canonical(question.Name), dns.Type(question.Qtype).String(), err)
	return say(q, dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority, err.Error())
}

// clean makes the reply to q out of what was found: records of the chain from
// the question, and those of a zone above it that say why there are none.
// Everything else is dropped: nobody asked for it.
func clean(q, found *dns.Msg) (*dns.Msg, error) {
	chain, err := exchange.Follow(found)
	if err != nil {
		return nil, err
	}
	reply := empty(q)
	reply.Rcode = found.Rcode
	reply.AuthenticatedData = found.AuthenticatedData
	asked := q.Question[0].Name
	for _, rr := range found.Answer {
		head := rr.Header()
		if head.Class != dns.ClassINET || !chain.Holds(head.Name) && (head.Rrtype != dns.TypeDNAME || !above(head.Name, chain)) {
			continue
		}
		if strings.EqualFold(head.Name, asked) {
			head.Name = asked
		}
		reply.Answer = append(reply.Answer, rr)
	}
	for _, rr := range found.Ns {
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			if above(rr.Header().Name, chain) {
				reply.Ns = append(reply.Ns, rr)
			}
		case dns.TypeNSEC, dns.TypeNSEC3, dns.TypeRRSIG:
			reply.Ns = append(reply.Ns, rr)
		}
	}
	return reply, nil
}

// above reports whether owner is a name of the chain or a zone above one.
func above(owner string, chain exchange.Chain) bool {
	for _, name := range chain.Names {
		if dns.IsSubDomain(owner, name) {
			return true
		}
	}
	return false
}
