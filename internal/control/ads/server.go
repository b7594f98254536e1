package ads

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"strconv"
	"sync"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/run"
)

// maxRequest bounds a client's message. The largest is the first after a
// reconnect, which lists every version held.
const maxRequest = 64 << 20

// A Catalog knows what each node is to have.
type Catalog interface {
	// Join calls publish at once with the set of the node's view and no
	// changes, and then after every change, until leave is called. No call is
	// running or made once leave has returned. publish must not block.
	Join(n Node, publish func(*translate.Set, []translate.Key)) (leave func())
}

// A Server serves the streams of many clients. It is safe for concurrent use.
type Server struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer

	catalog Catalog
	log     *slog.Logger
	senders sync.WaitGroup // of all streams; outlast their handlers, by which a blocked one is freed

	mu      sync.Mutex
	streams map[*stream]struct{} // guarded by mu
}

// New returns a Server of what catalog knows.
func New(catalog Catalog, log *slog.Logger) *Server {
	return &Server{catalog: catalog, log: log, streams: make(map[*stream]struct{})}
}

// Serve accepts clients on ln until ctx ends; it closes ln and returns when
// every stream has ended. Who may connect is the listener's affair and that of opts.
func (s *Server) Serve(ctx context.Context, ln net.Listener, opts ...grpc.ServerOption) error {
	g := grpc.NewServer(append([]grpc.ServerOption{grpc.MaxRecvMsgSize(maxRequest), grpc.WaitForHandlers(true)}, opts...)...)
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, s)
	defer s.senders.Wait()
	return run.All(ctx, map[string]run.Task{
		"serve": func(context.Context) error {
			if err := g.Serve(ln); err != nil && !errors.Is(err, grpc.ErrServerStopped) {
				return fmt.Errorf("serve xDS on %s: %w", ln.Addr(), err)
			}
			return nil
		},
		"stop": func(ctx context.Context) error {
			<-ctx.Done()
			g.Stop()
			return nil
		},
	})
}

// StreamAggregatedResources is the state-of-the-world form, which is not
// served.
func (s *Server) StreamAggregatedResources(discoveryv3.AggregatedDiscoveryService_StreamAggregatedResourcesServer) error {
	return status.Error(codes.Unimplemented, "this control plane serves the delta form of xDS only: configure the client with api_type DELTA_GRPC")
}

// DeltaAggregatedResources serves one stream until its client or the server
// ends it.
func (s *Server) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	first, err := g.Recv()
	if err != nil {
		return ended(err)
	}
	node, err := parseNode(first.GetNode())
	if err != nil {
		return status.Error(codes.InvalidArgument, err.Error())
	}
	st := &stream{node: node, since: time.Now(), wake: make(chan struct{}, 1), log: s.log.With("proxy", node.ID)}
	leave := s.catalog.Join(node, st.publish)
	defer leave()
	s.add(st)
	defer s.drop(st)
	st.log.Info("proxy connected", "namespace", node.Namespace, "agent", node.Agent)
	done := make(chan struct{})
	defer close(done)
	s.senders.Go(func() { st.send(done, g) })
	err = st.serve(first, g)
	st.log.Info("proxy disconnected", "after", time.Since(st.since).Round(time.Millisecond))
	return err
}

func (s *Server) add(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.streams[st] = struct{}{}
}

func (s *Server) drop(st *stream) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.streams, st)
}

// Status returns how far each connected client is, by id.
func (s *Server) Status() []ProxyStatus {
	s.mu.Lock()
	streams := make([]*stream, 0, len(s.streams))
	for st := range s.streams {
		streams = append(streams, st)
	}
	s.mu.Unlock()
	out := make([]ProxyStatus, 0, len(streams))
	for _, st := range streams {
		out = append(out, st.status())
	}
	slices.SortFunc(out, func(a, b ProxyStatus) int {
		return cmp.Or(cmp.Compare(a.ID, b.ID), a.Connected.Compare(b.Connected))
	})
	return out
}

// A stream is one client's connection: the goroutine that called receives, a
// second one sends, and the session between them says what. The first does not
// wait for the second, which a client that does not read may hold up: the end
// of the handler frees it, and the Server waits.
type stream struct {
	node  Node
	since time.Time
	wake  chan struct{} // holds a token when something may be due
	log   *slog.Logger

	mu      sync.Mutex
	session Session // guarded by mu
}

func (st *stream) serve(first *discoveryv3.DeltaDiscoveryRequest, g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	for req := first; ; {
		err := st.receive(req)
		if err != nil {
			return status.Error(codes.ResourceExhausted, err.Error())
		}
		if req, err = g.Recv(); err != nil {
			return ended(err)
		}
	}
}

// ended is the outcome of a stream whose client has gone.
func ended(err error) error {
	if errors.Is(err, io.EOF) || status.Code(err) == codes.Canceled {
		return nil
	}
	return err
}

func (st *stream) receive(m *discoveryv3.DeltaDiscoveryRequest) error {
	req := Request{
		Type:        m.GetTypeUrl(),
		Subscribe:   m.GetResourceNamesSubscribe(),
		Unsubscribe: m.GetResourceNamesUnsubscribe(),
		Held:        m.GetInitialResourceVersions(),
		Nonce:       m.GetResponseNonce(),
	}
	if e := m.GetErrorDetail(); e != nil {
		req.Error = cmp.Or(e.GetMessage(), "the client gave no reason")
		st.log.Warn("proxy refused resources", "type", req.Type, "error", req.Error)
	}
	st.mu.Lock()
	err := st.session.Receive(time.Now(), req)
	st.mu.Unlock()
	st.ring()
	return err
}

// publish takes a change of the view. It never waits for the client: what the
// client has not been sent yet is folded together.
func (st *stream) publish(set *translate.Set, changed []translate.Key) {
	st.mu.Lock()
	st.session.Publish(set, changed)
	st.mu.Unlock()
	st.ring()
}

func (st *stream) ring() {
	select {
	case st.wake <- struct{}{}:
	default:
	}
}

// send sends what is due until done is closed or the stream broken; that the
// receiver hears of too.
func (st *stream) send(done <-chan struct{}, g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) {
	for {
		select {
		case <-done:
			return
		case <-st.wake:
		}
		st.mu.Lock()
		due := st.session.Due(time.Now())
		st.mu.Unlock()
		for _, r := range due {
			if g.Send(message(r)) != nil {
				return
			}
		}
	}
}

func message(r Response) *discoveryv3.DeltaDiscoveryResponse {
	m := &discoveryv3.DeltaDiscoveryResponse{
		TypeUrl:           r.Type,
		Nonce:             r.Nonce,
		SystemVersionInfo: strconv.FormatUint(r.Version, 10),
		RemovedResources:  r.Removed,
		Resources:         make([]*discoveryv3.Resource, len(r.Updated)),
	}
	for i, x := range r.Updated {
		m.Resources[i] = &discoveryv3.Resource{Name: x.Name, Version: x.Version, Resource: x.Body}
	}
	return m
}

func (st *stream) status() ProxyStatus {
	st.mu.Lock()
	defer st.mu.Unlock()
	return ProxyStatus{Node: st.node, Connected: st.since, Types: st.session.Status()}
}
