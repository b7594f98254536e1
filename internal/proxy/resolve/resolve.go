package resolve

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// The bounds of what is kept.
const (
	StaleCap     = 24 * time.Hour  // last good answer, while servers fail
	Grace        = 5 * time.Minute // last good answer, while servers say there is none
	MaxAddresses = 256             // of one name; the rest of an answer is dropped
	MaxTTL       = 24 * time.Hour
	MinTTL       = time.Second

	maxLoose   = 1024            // names kept that nobody watches
	maxQueries = 256             // names asked about at one time
	totalTime  = 5 * time.Second // for one question, whatever the servers
)

// ErrClosed is the error of an Answer asked of a closed Resolver.
var ErrClosed = errors.New("the resolver is closed")

// An Answer is what is known of a name. Its addresses are shared: they must not
// be changed.
type Answer struct {
	Addrs []netip.Addr // v4, then v6, each as answered, duplicates dropped, at most 256
	State decision.DNSState
	TTL   time.Duration // of the addresses; 0 if there are none
	Err   error         // why the last query failed, in part or in whole; nil if it did not
	Asked time.Time     // when the last query ended
	Local bool          // this machine says so itself: its hosts file, localhost, an address
}

// Options say whom to ask.
type Options struct {
	Servers []netip.AddrPort        // asked in order; see FromSystem
	Hosts   map[string][]netip.Addr // /etc/hosts, names in lower case; beats DNS
	Search  []string                // for names of one label
	// Refresh is the wait after a TTL of 0 and the longest after a failure.
	// Default 60 s (Istio's).
	Refresh time.Duration
	// Timeout is how long a server may be silent before the next is asked as
	// well; at most what lets every server be asked within 5 s. Default 2 s.
	Timeout  time.Duration
	Attempts int // rounds over all servers; default 2

	exchange exchange.Func // for tests; nil: the network
}

// A Resolver asks for A and AAAA records and follows names over time.
// It is safe for concurrent use.
type Resolver struct {
	opts    Options
	network *exchange.Network
	client  exchange.Client
	ctx     context.Context //nolint:containedctx // the life of the watches, which outlive every call; Close ends it
	cancel  context.CancelFunc
	slots   chan struct{} // one for each name being asked about
	wg      sync.WaitGroup
	panics  atomic.Uint64
	cut     atomic.Uint64

	mu     sync.Mutex // guards the variables below
	names  map[string]*name
	loose  map[string]*name // those of names that nobody watches
	closed bool
}

// A name is one name followed. Its variables are guarded by Resolver.mu.
type name struct {
	host    string
	fixed   bool // known without asking, for ever
	record  record
	changes uint64        // how often record.answer changed; 0: nothing is known yet
	asking  chan struct{} // closed when the query under way ends; nil: there is none
	timer   *time.Timer   // asks again; nil: not armed
	watches map[*watch]struct{}
}

type watch struct {
	on func(Answer)

	mu      sync.Mutex // held while on is called; guards the variables below
	seen    uint64     // name.changes that on was last called with
	stopped bool
}

// New returns a Resolver; Close ends its watches.
func New(o Options) *Resolver {
	if o.Refresh <= 0 {
		o.Refresh = time.Minute
	}
	if o.Timeout <= 0 {
		o.Timeout = 2 * time.Second
	}
	network := new(exchange.Network)
	if o.exchange == nil {
		o.exchange = network.Exchange
	}
	//nolint:forbidigo // watches outlive every caller's context; Close is their end
	ctx, cancel := context.WithCancel(context.Background())
	return &Resolver{
		opts:    o,
		network: network,
		client: exchange.Client{
			Servers:  o.Servers,
			Next:     min(o.Timeout, totalTime/time.Duration(len(o.Servers)+1)),
			Attempts: o.Attempts,
			Exchange: o.exchange,
		},
		ctx:    ctx,
		cancel: cancel,
		slots:  make(chan struct{}, maxQueries),
		names:  map[string]*name{},
		loose:  map[string]*name{},
	}
}

// Ignored is how many datagrams came from a name server's address without
// being the answer to what it was asked: somebody may be forging.
func (r *Resolver) Ignored() uint64 { return r.network.Ignored() }

// Panics is how many answers were given up because reading them panicked.
func (r *Resolver) Panics() uint64 { return r.panics.Load() + r.client.Panics() }

// Cut is how many answers held more addresses of one family than MaxAddresses;
// the rest was dropped.
func (r *Resolver) Cut() uint64 { return r.cut.Load() }

// Lookup asks once (cached within the TTL, failures until they are tried
// again). If ctx ends first it returns what is known, with ctx's error.
func (r *Resolver) Lookup(ctx context.Context, host string) Answer {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return Answer{State: decision.Never, Err: ErrClosed}
	}
	n := r.nameLocked(host)
	if n.fixed || n.changes > 0 && time.Now().Before(n.record.next) {
		defer r.mu.Unlock()
		return n.record.answer
	}
	done := r.askLocked(n)
	r.mu.Unlock()

	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	a := n.record.answer
	if n.changes == 0 {
		a.State = decision.Never
		if err == nil {
			err = ErrClosed
		}
	}
	if err != nil {
		a.Err = err
	}
	return a
}

// Watch calls on with the first answer, good or bad, and again whenever the
// addresses (their order apart), the state or the error change, until stop is
// called. Calls are sequential for one watch and come from a goroutine of the
// Resolver, never from within Watch; after stop has returned there are none. So
// on must return soon, must call neither stop nor Close, and must not wait for
// a lock that is held around them. On a closed Resolver nothing is ever called.
func (r *Resolver) Watch(host string, on func(Answer)) (stop func()) {
	w := &watch{on: on}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return func() {}
	}
	n := r.nameLocked(host)
	n.watches[w] = struct{}{}
	delete(r.loose, n.host)
	if n.changes > 0 {
		r.wg.Go(func() { r.deliver(n, w) })
	}
	switch {
	case n.fixed, n.timer != nil:
	case n.changes > 0 && time.Now().Before(n.record.next):
		r.armLocked(n)
	default:
		r.askLocked(n)
	}
	return func() { r.unwatch(n, w) }
}

func (r *Resolver) unwatch(n *name, w *watch) {
	r.mu.Lock()
	if _, ok := n.watches[w]; ok {
		delete(n.watches, w)
		if len(n.watches) == 0 {
			r.disarmLocked(n)
			r.loosenLocked(n)
		}
	}
	r.mu.Unlock()

	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
}

// Close ends all watches and waits for them.
func (r *Resolver) Close() {
	r.mu.Lock()
	r.closed = true
	for _, n := range r.names {
		r.disarmLocked(n)
		clear(n.watches)
	}
	r.mu.Unlock()
	r.cancel()
	r.wg.Wait()
}

// nameLocked returns the name, making it if nobody has asked for it yet.
func (r *Resolver) nameLocked(host string) *name {
	host = canonical(host)
	if n, ok := r.names[host]; ok {
		return n
	}
	n := &name{host: host, watches: map[*watch]struct{}{}}
	if a, ok := r.fixed(host); ok {
		n.fixed, n.record.answer, n.changes = true, a, 1
	}
	r.names[host] = n
	r.loosenLocked(n)
	return n
}

// loosenLocked counts n among the names that nobody watches and forgets one of
// them if they are too many.
func (r *Resolver) loosenLocked(n *name) {
	r.loose[n.host] = n
	if len(r.loose) <= maxLoose {
		return
	}
	for host, other := range r.loose {
		if other != n && other.asking == nil {
			delete(r.loose, host)
			delete(r.names, host)
			return
		}
	}
}

// askLocked begins a query for n unless one is under way, and returns what is
// closed at its end.
func (r *Resolver) askLocked(n *name) <-chan struct{} {
	if n.asking == nil {
		done := make(chan struct{})
		n.asking = done
		r.disarmLocked(n)
		r.wg.Go(func() {
			defer close(done)
			r.ask(n)
		})
	}
	return n.asking
}

// ask queries, learns and tells the watches.
func (r *Resolver) ask(n *name) {
	select {
	case r.slots <- struct{}{}:
	case <-r.ctx.Done():
		return
	}
	found := r.query(r.ctx, n.host)
	<-r.slots

	r.mu.Lock()
	n.asking = nil
	if r.closed {
		r.mu.Unlock()
		return
	}
	//nolint:gosec // spreads load, guards nothing
	if n.record.learn(found, time.Now(), r.opts.Refresh, rand.Float64()) {
		n.changes++
	}
	watches := make([]*watch, 0, len(n.watches))
	for w := range n.watches {
		watches = append(watches, w)
	}
	if len(watches) > 0 {
		r.armLocked(n)
	}
	r.mu.Unlock()

	for _, w := range watches {
		r.deliver(n, w)
	}
}

// deliver calls w with the answer now, unless it has had that one.
func (r *Resolver) deliver(n *name, w *watch) {
	w.mu.Lock()
	defer w.mu.Unlock()
	r.mu.Lock()
	answer, changes, closed := n.record.answer, n.changes, r.closed
	r.mu.Unlock()
	if w.stopped || closed || changes <= w.seen {
		return
	}
	w.seen = changes
	w.on(answer)
}

// armLocked asks again when the record says so.
func (r *Resolver) armLocked(n *name) {
	r.disarmLocked(n)
	r.wg.Add(1)
	var timer *time.Timer
	timer = time.AfterFunc(time.Until(n.record.next), func() {
		defer r.wg.Done()
		r.mu.Lock()
		defer r.mu.Unlock()
		if n.timer != timer || r.closed {
			return
		}
		n.timer = nil
		r.askLocked(n)
	})
	n.timer = timer
}

func (r *Resolver) disarmLocked(n *name) {
	if n.timer == nil {
		return
	}
	if n.timer.Stop() {
		r.wg.Done()
	}
	n.timer = nil
}
