package ads

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"slices"
	"strings"
	"sync"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

const (
	maxResponse = 200 << 20 // bytes of one message of the control plane

	// patience is how long a change is held back for what it refers to. A
	// control plane that never sends it must not stop everything else.
	patience = 5 * time.Second

	firstBackoff = 20 * time.Millisecond
	lastBackoff  = 10 * time.Second
	steady       = 30 * time.Second // a stream that held this long starts the backoff anew
)

// Options of a Client. All fields but Address are needed.
type Options struct {
	// Dial opens a connection to the control plane. It is trusted as it is:
	// checking the peer is Dial's affair.
	Dial     func(context.Context) (net.Conn, error)
	Workload mesh.Workload
	Address  string // of the workload, for the node's id; empty: 127.0.0.1
	// Apply is called with each change, from one goroutine. The first is
	// complete: it has all that was asked for.
	Apply func(config.Delta)
	// Ready is called once, after the first Apply has returned.
	Ready func()
	Log   *slog.Logger
}

// A Client follows a control plane. Its methods are safe for concurrent use.
type Client struct {
	o    Options
	node *corev3.Node

	session *Session // only of the goroutine in Run
	ready   bool     // likewise

	mu     sync.Mutex
	status Status // guarded by mu
}

// A Status says how a Client stands with its control plane.
type Status struct {
	Connected bool
	Since     time.Time // of the connection, or of its loss
	Changed   time.Time // last change applied; zero: none yet
	Awaited   []string  // what was asked for and has not come
	Error     string    // why there is no connection, or why a response was refused last; empty if neither
}

// New returns a Client; Run makes it work.
func New(o Options) *Client {
	return &Client{o: o, node: node(o), session: NewSession()}
}

// node says who asks, in Istio's form.
func node(o Options) *corev3.Node {
	w := o.Workload
	address := o.Address
	if address == "" {
		address = "127.0.0.1"
	}
	labels := make(map[string]*structpb.Value, len(w.Labels))
	for k, v := range w.Labels {
		labels[k] = structpb.NewStringValue(v)
	}
	return &corev3.Node{
		Id:            strings.Join([]string{"sidecar", address, w.Name + "." + w.Namespace, w.Namespace + ".svc.cluster.local"}, "~"),
		Cluster:       w.Name + "." + w.Namespace,
		UserAgentName: "fairlead",
		Metadata: &structpb.Struct{Fields: map[string]*structpb.Value{
			"NAMESPACE": structpb.NewStringValue(w.Namespace),
			"NAME":      structpb.NewStringValue(w.Name),
			"LABELS":    structpb.NewStructValue(&structpb.Struct{Fields: labels}),
		}},
	}
}

// Status returns how the client stands now.
func (c *Client) Status() Status {
	c.mu.Lock()
	defer c.mu.Unlock()
	st := c.status
	st.Awaited = slices.Clone(st.Awaited)
	return st
}

func (c *Client) note(f func(*Status)) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f(&c.status)
}

// Run follows the control plane until ctx ends, and returns ctx's error. Lost
// connections are made anew, ever more slowly while they fail, and with chance in
// the delay so that many clients do not come at once.
func (c *Client) Run(ctx context.Context) error {
	backoff := firstBackoff
	for {
		began := time.Now()
		err := c.stream(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if time.Since(began) > steady {
			backoff = firstBackoff
		}
		wait := backoff/2 + rand.N(backoff) //nolint:gosec // spreads load, guards nothing
		c.note(func(s *Status) { s.Connected, s.Since, s.Error = false, time.Now(), err.Error() })
		c.o.Log.Warn("no stream from the control plane, keeping the last configuration", "error", err, "retry_in", wait.Round(time.Millisecond))
		t := time.NewTimer(wait)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return ctx.Err()
		}
		backoff = min(2*backoff, lastBackoff)
	}
}

// stream serves one stream until it breaks or ctx ends.
func (c *Client) stream(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///control-plane",
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return c.o.Dial(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxResponse), grpc.MaxCallSendMsgSize(maxResponse)),
		grpc.WithDisableServiceConfig(), grpc.WithNoProxy())
	if err != nil {
		return fmt.Errorf("connect to the control plane: %w", err)
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	defer func() { _ = conn.Close() }() // nothing is left to be told
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	s, err := discoveryv3.NewAggregatedDiscoveryServiceClient(conn).DeltaAggregatedResources(ctx)
	if err != nil {
		return fmt.Errorf("open a stream from the control plane: %w", err)
	}
	requests := c.session.Connect()
	requests[0].Node = c.node
	if err := send(s, requests); err != nil {
		if _, why := s.Recv(); why != nil {
			err = fmt.Errorf("open a stream from the control plane: %w", why)
		}
		return err
	}
	c.note(func(st *Status) { st.Connected, st.Since, st.Error = true, time.Now(), "" })
	received := make(chan *discoveryv3.DeltaDiscoveryResponse)
	broken := make(chan error, 1)
	wg.Go(func() { broken <- receive(ctx, s, received) })
	return c.follow(s, received, broken)
}

type deltaStream = discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient

func send(s deltaStream, requests []*discoveryv3.DeltaDiscoveryRequest) error {
	for _, r := range requests {
		if err := s.Send(r); err != nil {
			return fmt.Errorf("ask the control plane: %w", err)
		}
	}
	return nil
}

// receive hands on what comes until the stream breaks.
func receive(ctx context.Context, s deltaStream, to chan<- *discoveryv3.DeltaDiscoveryResponse) error {
	for {
		r, err := s.Recv()
		if err != nil {
			return fmt.Errorf("stream from the control plane: %w", err)
		}
		select {
		case to <- r:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// follow answers responses and applies what is complete, or has waited for the
// rest long enough.
func (c *Client) follow(s deltaStream, received <-chan *discoveryv3.DeltaDiscoveryResponse, broken <-chan error) error {
	hold := time.NewTimer(patience)
	defer hold.Stop()
	for {
		select {
		case err := <-broken:
			return err
		case <-hold.C:
			if !c.session.Staged() {
				continue
			}
			if awaited := c.session.Awaited(); !c.session.GiveUp() {
				hold.Reset(patience)
			} else {
				c.o.Log.Warn("the control plane did not send all that its configuration refers to, going on without", "awaited", awaited)
				c.apply()
			}
		case r := <-received:
			began := !c.session.Staged()
			requests, refused := c.session.Receive(r)
			if refused != nil {
				c.o.Log.Error("configuration refused, the last good one stays", "error", refused)
				c.note(func(st *Status) { st.Error = refused.Error() })
			}
			// Apply first: when the control plane hears that a version was
			// accepted, it is in force.
			switch {
			case c.session.Complete():
				c.apply()
			case began:
				hold.Reset(patience)
			}
			c.noteAwaited()
			if send(s, requests) != nil {
				return why(received, broken)
			}
		}
	}
}

// why waits for the end of a stream on which nothing can be sent any more.
func why(received <-chan *discoveryv3.DeltaDiscoveryResponse, broken <-chan error) error {
	for {
		select {
		case <-received: // of no use without an answer
		case err := <-broken:
			return err
		}
	}
}

func (c *Client) noteAwaited() {
	var awaited []string
	if !c.session.Complete() {
		awaited = c.session.Awaited()
	}
	c.note(func(s *Status) { s.Awaited = awaited })
}

func (c *Client) apply() {
	if c.ready && !c.session.Staged() {
		return
	}
	c.o.Apply(c.session.Take())
	c.note(func(s *Status) { s.Changed = time.Now() })
	if !c.ready {
		c.ready = true
		c.o.Ready()
	}
}
