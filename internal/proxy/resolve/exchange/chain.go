package exchange

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/miekg/dns"
)

// MaxChain is how many aliases are followed from a question.
const MaxChain = 8

// A Chain is the way from the name that was asked, over aliases, to the name
// that holds the records.
type Chain struct {
	Names []string      // canonical, with final dot, the question's first; at most MaxChain+1
	TTL   time.Duration // smallest of the aliases; MaxTTL if there are none
}

// MaxTTL is the longest time to live that DNS can say.
const MaxTTL = (1<<31 - 1) * time.Second

// Holds reports whether a record with that owner lies on the chain.
func (c Chain) Holds(owner string) bool { return slices.Contains(c.Names, dns.CanonicalName(owner)) }

// Last is the name that holds the records, with final dot.
func (c Chain) Last() string { return c.Names[len(c.Names)-1] }

// Follow follows the aliases inside the answer section from the question of m,
// which must have exactly one. It fails on a loop and on a chain of more than
// MaxChain.
func Follow(m *dns.Msg) (Chain, error) {
	aliases := map[string]*dns.CNAME{}
	for _, rr := range m.Answer {
		if c, ok := rr.(*dns.CNAME); ok && c.Hdr.Class == dns.ClassINET {
			owner := dns.CanonicalName(c.Hdr.Name)
			if aliases[owner] == nil {
				aliases[owner] = c
			}
		}
	}
	name := dns.CanonicalName(m.Question[0].Name)
	chain := Chain{Names: []string{name}, TTL: MaxTTL}
	if m.Question[0].Qtype == dns.TypeCNAME {
		return chain, nil
	}
	for {
		alias := aliases[name]
		if alias == nil {
			return chain, nil
		}
		name = dns.CanonicalName(alias.Target)
		switch {
		case slices.Contains(chain.Names, name):
			return Chain{}, errors.New("the answer's aliases (CNAME) run in a circle")
		case len(chain.Names) > MaxChain:
			return Chain{}, fmt.Errorf("the answer's chain of aliases (CNAME) is longer than %d", MaxChain)
		}
		chain.Names = append(chain.Names, name)
		chain.TTL = min(chain.TTL, TTL(alias.Hdr.Ttl))
	}
}

// TTL reads a time to live as RFC 2181 has it: one with the highest bit set
// is 0.
func TTL(seconds uint32) time.Duration {
	if seconds > 1<<31-1 {
		return 0
	}
	return time.Duration(seconds) * time.Second
}
