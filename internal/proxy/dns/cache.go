package dns

import (
	"container/list"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// The bounds of what is kept of name servers' answers.
const (
	maxAnswers     = 4096
	maxAnswerBytes = 4 << 20
	answerOverhead = 256 // bytes of bookkeeping for one answer, about

	maxLife     = time.Hour        // of an answer with records
	maxNegative = 30 * time.Second // of one that says there are none
	failureLife = time.Second      // of no answer: a burst of questions causes one try
	maxTTL      = 24 * time.Hour   // that a workload is told
)

// A subject is a question as it is forwarded: all that its answer depends on.
// The class is IN.
type subject struct {
	name  string // lower case, final dot
	qtype uint16
	// The header bits and the OPT bit that go out with it.
	recurse, authentic, unchecked, dnssec bool
}

func subjectOf(q *dns.Msg) subject {
	opt := q.IsEdns0()
	return subject{
		name:      strings.ToLower(q.Question[0].Name),
		qtype:     q.Question[0].Qtype,
		recurse:   q.RecursionDesired,
		authentic: q.AuthenticatedData,
		unchecked: q.CheckingDisabled,
		dnssec:    opt != nil && opt.Do(),
	}
}

// message is the question for a name server.
func (s subject) message() *dns.Msg {
	m := new(dns.Msg).SetQuestion(s.name, s.qtype)
	m.RecursionDesired = s.recurse
	m.AuthenticatedData = s.authentic
	m.CheckingDisabled = s.unchecked
	return m.SetEdns0(exchange.UDPSize, s.dnssec)
}

// A finding is what the name servers said about a subject, or why they said
// nothing. It is immutable.
type finding struct {
	wire []byte // the cleaned answer
	err  error  // nil if there is one
	at   time.Time
	life time.Duration // how long it answers others than those who waited for it
}

// findingOf makes a finding of a cleaned answer, found at now.
func findingOf(m *dns.Msg, now time.Time) *finding {
	life := lifeOf(m)
	wire, err := m.Pack()
	if err != nil {
		return failedFinding(fmt.Errorf("the answer cannot be written: %w", err), now)
	}
	return &finding{wire: wire, at: now, life: life}
}

func failedFinding(err error, now time.Time) *finding {
	return &finding{err: err, at: now, life: failureLife}
}

// reply makes the reply to q, whose subject the finding is about. Times to live
// are what is left of them at now.
func (f *finding) reply(q *dns.Msg, now time.Time) (*dns.Msg, error) {
	if f.err != nil {
		return nil, f.err
	}
	m := new(dns.Msg)
	if err := m.Unpack(f.wire); err != nil {
		return nil, fmt.Errorf("the answer cannot be read: %w", err)
	}
	reply := empty(q)
	reply.Rcode, reply.AuthenticatedData = m.Rcode, m.AuthenticatedData
	reply.Answer, reply.Ns = m.Answer, m.Ns
	age := uint32(max(0, now.Sub(f.at)) / time.Second) //nolint:gosec // an hour at most
	asked, about := q.Question[0].Name, m.Question[0].Name
	for _, rr := range slices.Concat(reply.Answer, reply.Ns) {
		head := rr.Header()
		head.Ttl -= min(head.Ttl, age)
		if strings.EqualFold(head.Name, about) {
			head.Name = asked
		}
	}
	return reply, nil
}

// lifeOf is how long a cleaned answer may be used: the smallest time to live in
// it. One that says there are no records lives for 30 s at most, and not at all
// without the SOA record that says how long (RFC 2308).
func lifeOf(m *dns.Msg) time.Duration {
	life, sure := maxLife, false
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		life = min(life, exchange.TTL(rr.Header().Ttl))
		sure = sure || rr.Header().Rrtype == dns.TypeSOA
	}
	chain, err := exchange.Follow(m)
	if err != nil {
		return 0
	}
	qtype := m.Question[0].Qtype
	positive := m.Rcode == dns.RcodeSuccess && slices.ContainsFunc(m.Answer, func(rr dns.RR) bool {
		return rr.Header().Rrtype == qtype && dns.CanonicalName(rr.Header().Name) == chain.Last()
	})
	switch {
	case positive:
		return life
	case sure:
		return min(life, maxNegative)
	}
	return 0
}

// clampTTL brings the times to live of a cleaned answer into bounds. That of an
// SOA record in it is how long the absence may be remembered.
func clampTTL(m *dns.Msg) {
	for _, rr := range slices.Concat(m.Answer, m.Ns) {
		head := rr.Header()
		head.Ttl = uint32(min(exchange.TTL(head.Ttl), maxTTL) / time.Second) //nolint:gosec // a day at most
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			soa.Hdr.Ttl = min(soa.Hdr.Ttl, soa.Minttl)
		}
	}
}

// A cache keeps findings while they live: a bounded number and a bounded number
// of bytes; the one used longest ago goes first. Whether a workload may have an
// answer at all is decided before. It is safe for concurrent use.
type cache struct {
	limit, bytes int

	mu        sync.Mutex // guards the variables below
	bySubject map[subject]*list.Element
	order     *list.List // of keptFinding; the latest in front
	size      int
}

type keptFinding struct {
	subject subject
	*finding
}

// cost is about how many bytes of memory it takes.
func (k keptFinding) cost() int { return answerOverhead + len(k.subject.name) + len(k.wire) }

func newCache(limit, bytes int) *cache {
	return &cache{limit: limit, bytes: bytes, bySubject: map[subject]*list.Element{}, order: list.New()}
}

// get returns what is known about s at now; nil: nothing.
func (c *cache) get(s subject, now time.Time) *finding {
	c.mu.Lock()
	defer c.mu.Unlock()
	e, ok := c.bySubject[s]
	if !ok {
		return nil
	}
	k := e.Value.(keptFinding)
	if now.Sub(k.at) >= k.life {
		c.dropLocked(e)
		return nil
	}
	c.order.MoveToFront(e)
	return k.finding
}

// put keeps f in place of what was known about s.
func (c *cache) put(s subject, f *finding) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e, ok := c.bySubject[s]; ok {
		c.dropLocked(e)
	}
	if f.life <= 0 {
		return
	}
	k := keptFinding{s, f}
	c.bySubject[s] = c.order.PushFront(k)
	c.size += k.cost()
	for c.order.Len() > c.limit || c.size > c.bytes {
		c.dropLocked(c.order.Back())
	}
}

func (c *cache) dropLocked(e *list.Element) {
	k := c.order.Remove(e).(keptFinding)
	delete(c.bySubject, k.subject)
	c.size -= k.cost()
}
