package dns

import (
	"context"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

const (
	maxQuestions = 1024            // being answered at one time
	totalTime    = 2 * time.Second // for a question that is forwarded
)

// Options of a Server.
type Options struct {
	Servers []netip.AddrPort           // where questions are forwarded to
	Config  func() *config.Config      // the state now; its Names are the declared hosts
	Policy  func() mesh.OutboundPolicy // RegistryOnly: undeclared names are REFUSED
	Log     *slog.Logger
	// Search is the search list in the workload's resolv.conf, if it is known:
	// undeclared names in these domains are answered NXDOMAIN.
	Search []string

	exchange exchange.Func // for tests; nil: the network
}

// A Server answers a workload's questions. It is safe for concurrent use.
type Server struct {
	config   func() *config.Config
	policy   func() mesh.OutboundPolicy
	search   []string
	upstream *exchange.Client
	network  *exchange.Network
	memory   *memory
	cache    *cache
	flights  flights
	notes    *notes
	slots    chan struct{} // one for each question being answered
	refused  atomic.Uint64
	shed     atomic.Uint64
	panics   atomic.Uint64
}

// New returns a Server.
func New(o Options) *Server {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	network := new(exchange.Network)
	if o.exchange == nil {
		o.exchange = network.Exchange
	}
	s := &Server{
		network: network,
		config:  o.Config,
		policy:  o.Policy,
		upstream: &exchange.Client{
			Servers:  o.Servers,
			Next:     min(time.Second, totalTime/time.Duration(len(o.Servers)+1)),
			Exchange: o.exchange,
		},
		memory: newMemory(maxRemembered),
		cache:  newCache(maxAnswers, maxAnswerBytes),
		notes:  newNotes(o.Log),
		slots:  make(chan struct{}, maxQuestions),
	}
	for _, domain := range o.Search {
		s.search = append(s.search, "."+canonical(dns.Fqdn(domain)))
	}
	return s
}

// NameOf returns the name that was last answered with addr, if an answer for it
// may still be in use; else the empty string. An answer counts as in use for its
// time to live, and for a minute at least.
func (s *Server) NameOf(addr netip.Addr) string {
	name, _ := s.memory.nameOf(addr, time.Now())
	return name
}

// Refused is how many questions were refused because no entry declares the name.
func (s *Server) Refused() uint64 { return s.refused.Load() }

// Shed is how many questions were answered SERVFAIL, and how many connections
// closed, because too many were there at one time.
func (s *Server) Shed() uint64 { return s.shed.Load() }

// Panics is how many questions were answered SERVFAIL, or servers given up,
// because what they sent made this program panic.
func (s *Server) Panics() uint64 { return s.panics.Load() + s.upstream.Panics() }

// Ignored is how many datagrams came from a name server's address without
// being the answer to what it was asked: somebody may be forging.
func (s *Server) Ignored() uint64 { return s.network.Ignored() }

// Serve answers on the packet connections and listeners until ctx ends, then
// closes them, gives connections a moment to bring what is on its way, and
// returns when the last answer is out. It returns nil then, and
// otherwise the error that kept it from reading. It may be called again with
// other sockets.
func (s *Server) Serve(ctx context.Context, packets []*net.UDPConn, streams []net.Listener) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		readers sync.WaitGroup
		once    sync.Once
		failure error
	)
	read := func(serve func() error) {
		readers.Go(func() {
			if err := serve(); err != nil {
				once.Do(func() { failure = err })
				cancel()
			}
		})
	}
	for _, p := range packets {
		read(func() error { return s.servePackets(ctx, p) })
	}
	conns := make(chan struct{}, maxConns)
	for _, l := range streams {
		read(func() error { return s.serveListener(ctx, l, conns) })
	}
	readers.Go(func() {
		<-ctx.Done()
		for _, p := range packets {
			_ = p.SetReadDeadline(time.Unix(1, 0))
		}
		for _, l := range streams {
			_ = l.Close()
		}
	})
	readers.Wait()
	for _, p := range packets {
		_ = p.Close()
	}
	return failure
}

// within runs answer if there is a slot for one more question and reports
// whether it did; answer runs in a goroutine that wg waits for.
func (s *Server) within(wg *sync.WaitGroup, answer func()) bool {
	select {
	case s.slots <- struct{}{}:
	default:
		s.shed.Add(1)
		return false
	}
	wg.Go(func() {
		defer func() { <-s.slots }()
		answer()
	})
	return true
}
