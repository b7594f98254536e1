package dns

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// forward replies to q with what the name servers say about its subject, now or
// while an earlier answer of theirs lives.
func (s *Server) forward(ctx context.Context, q *dns.Msg, about subject) *dns.Msg {
	f := s.cache.get(about, time.Now())
	if f == nil {
		f = s.flights.do(about, func() *finding {
			f := s.lookUp(ctx, about)
			s.cache.put(about, f)
			return f
		})
	}
	reply, err := f.reply(q, time.Now())
	if err == nil {
		return reply
	}
	s.notes.unanswered(canonical(q.Question[0].Name), dns.Type(about.qtype).String(), err)
	return say(q, dns.RcodeServerFailure, dns.ExtendedErrorCodeNoReachableAuthority, err.Error())
}

// lookUp asks the name servers the workload's question and nothing more: the
// name in lower case, none of the client's EDNS options. Letter case and options
// could carry data to whoever serves the name.
func (s *Server) lookUp(ctx context.Context, about subject) *finding {
	ctx, cancel := context.WithTimeout(ctx, totalTime)
	defer cancel()
	ask := about.message()
	found, err := s.upstream.Ask(ctx, ask)
	if err == nil {
		if found, err = clean(ask, found); err == nil {
			return findingOf(found, time.Now())
		}
	}
	f := failedFinding(err, time.Now())
	if errors.Is(err, exchange.ErrNoServer) {
		f.life = 0
	}
	return f
}

// clean makes the answer to ask out of what was found: records of the chain
// from the question, and those of a zone above it that say why there are none,
// their times to live in bounds. Everything else is dropped: nobody asked for it.
func clean(ask, found *dns.Msg) (*dns.Msg, error) {
	chain, err := exchange.Follow(found)
	if err != nil {
		return nil, err
	}
	answer := new(dns.Msg).SetReply(ask)
	answer.Rcode = found.Rcode
	answer.AuthenticatedData = found.AuthenticatedData
	for _, rr := range found.Answer {
		head := rr.Header()
		if head.Class == dns.ClassINET && (chain.Holds(head.Name) || head.Rrtype == dns.TypeDNAME && above(head.Name, chain)) {
			answer.Answer = append(answer.Answer, rr)
		}
	}
	zones := zonesOf(found.Ns, chain)
	for _, rr := range found.Ns {
		within := func(zone string) bool { return dns.IsSubDomain(zone, rr.Header().Name) }
		switch rr.Header().Rrtype {
		case dns.TypeSOA:
			if above(rr.Header().Name, chain) {
				answer.Ns = append(answer.Ns, rr)
			}
		case dns.TypeNSEC, dns.TypeNSEC3, dns.TypeRRSIG:
			if slices.ContainsFunc(zones, within) {
				answer.Ns = append(answer.Ns, rr)
			}
		}
	}
	clampTTL(answer)
	// Names that stand in the message already shrink to pointers at them.
	answer.Compress = true
	return answer, nil
}

// zonesOf are the zones above the chain that records name as theirs.
func zonesOf(records []dns.RR, chain exchange.Chain) (zones []string) {
	for _, rr := range records {
		zone := ""
		switch rr := rr.(type) {
		case *dns.SOA:
			zone = rr.Hdr.Name
		case *dns.RRSIG:
			zone = rr.SignerName
		}
		if zone != "" && above(zone, chain) && !slices.Contains(zones, zone) {
			zones = append(zones, zone)
		}
	}
	return zones
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

// errFault is what those are told who waited for a look-up that panicked.
var errFault = errors.New("the proxy failed at the answer, a fault of its own")

// flights are the look-ups under way. The same question asked meanwhile waits
// for their end. The zero flights are ready.
type flights struct {
	mu sync.Mutex // guards the variable below
	by map[subject]*flight
}

type flight struct {
	done  chan struct{} // closed at the end
	found *finding      // set before
}

// do returns what look finds, or what a look that is under way for the same
// subject finds. A look must bound itself.
func (fs *flights) do(s subject, look func() *finding) *finding {
	fs.mu.Lock()
	if f, ok := fs.by[s]; ok {
		fs.mu.Unlock()
		<-f.done
		return f.found
	}
	f := &flight{done: make(chan struct{}), found: &finding{err: errFault}}
	if fs.by == nil {
		fs.by = map[subject]*flight{}
	}
	fs.by[s] = f
	fs.mu.Unlock()

	defer func() {
		fs.mu.Lock()
		delete(fs.by, s)
		fs.mu.Unlock()
		close(f.done)
	}()
	f.found = look()
	return f.found
}
