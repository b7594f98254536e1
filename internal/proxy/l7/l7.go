// Package l7 serves HTTP: it takes requests from a caller, lets them be routed,
// sends them to an endpoint and brings the answers back.
//
// An exchange is one request and its answer. What it does is the same whatever
// the protocols on its two sides: it routes, picks an endpoint, tries again, passes
// bodies on as they come, keeps time and fills the record. It meets the sides
// through two interfaces (sides.go):
//
//   - A caller is where the request comes from and the answer goes to. The driver
//     of its protocol reads the head, then lets the exchange serve it.
//   - An upstream is one try at one endpoint: the request goes there, the answer
//     comes from there. The cluster says which protocol that is.
//
// Heads cross as HTTP/1.1 text with offsets into it, the one form they have in the
// proxy, and bodies as pieces: data, whether it is the last, and the trailer if
// it is. How a body is framed is known to a side alone, so that no framing of one
// side can reach the other:
//
//	            length known        unknown            none              trailer
//	HTTP/1 in   Content-Length      chunked            neither           checked, dropped
//	HTTP/1 out  Content-Length      chunked            neither           dropped
//	answer in   Content-Length      chunked, or until  HEAD, 1xx, 204,   checked, dropped
//	                                the end            304
//	answer out  Content-Length      chunked; to a caller of HTTP/1.0     dropped
//	                                until the end
//	HTTP/2      content-length,     the end of the     the end with the  passed on
//	            checked             stream             head
//
// One goroutine serves an exchange. A second one exists only while the body of
// a request is still arriving, so that it flows towards the endpoint while the
// answer may already flow back. Memory is held while an exchange is in progress
// and is bounded whatever the size of bodies; a connection that waits for its
// next request holds none.
package l7

import (
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// Timeouts towards the caller.
const (
	headTimeout = 10 * time.Second // from the first bytes of a head to its last
	idleTimeout = time.Hour        // between requests, as Envoy has it
)

// DrainGrace is how long a connection that waits may still bring a request when a
// drain has begun. One may be on its way, and would meet the end of the connection;
// the answer says that no other is wanted.
const DrainGrace = time.Second

// A Recorder takes finished records; *telemetry.Log is one.
type Recorder interface{ Add(*decision.Record) }

// Options of a Server.
type Options struct {
	Config   func() *config.Config // the state now; loaded once per request
	Clusters *cluster.Set
	Log      Recorder
	Logger   *slog.Logger // where a panic is told; nil: in the record alone
	// AnswerFields reports whether records are to come with the fields of endpoints'
	// answers, which have to be kept for that; nil: never.
	AnswerFields func() bool
	Memory       *overload.Guard // refuses requests while it is over its limit; nil: never
	// Account counts and bounds what streams of HTTP/2 hold; nil: nothing does.
	Account *overload.Account
}

// A Server serves HTTP on connections that listeners hand it. It is safe for
// concurrent use.
type Server struct {
	config   func() *config.Config
	clusters *cluster.Set
	log      Recorder
	logger   *slog.Logger

	answerFields func() bool // or nil
	guard        *overload.Guard

	headTimeout time.Duration
	paces       paces
	memory      streams.Memory
	sessions    sync.Pool // of *session
	streams     sync.Pool // of *streamSession
	buffers     sync.Pool // of *buffer
	sheets      sync.Pool // of *sheet
	ids         atomic.Uint64
	panics      atomic.Uint64
}

// New returns a Server.
func New(o Options) *Server {
	s := &Server{config: o.Config, clusters: o.Clusters, log: o.Log, logger: o.Logger, answerFields: o.AnswerFields, guard: o.Memory, headTimeout: headTimeout}
	if s.logger == nil {
		s.logger = slog.New(slog.DiscardHandler)
	}
	s.memory.Account = o.Account
	s.paces.init()
	s.sessions.New = func() any { return newSession(s) }
	s.streams.New = func() any { return newStreamSession(s) }
	s.buffers.New = func() any { return new(buffer) }
	s.sheets.New = func() any { return new(sheet) }
	return s
}

// NextID returns the number of a record. Connections and requests share one
// sequence, so that a number means one thing in the life of a proxy.
func (s *Server) NextID() uint64 { return s.ids.Add(1) }

// Panics counts the requests that ended in a panic.
func (s *Server) Panics() uint64 { return s.panics.Load() }
