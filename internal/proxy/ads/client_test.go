package ads

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// A scripted control plane hands each stream to the test.
type scripted struct {
	discoveryv3.UnimplementedAggregatedDiscoveryServiceServer
	streams chan *plane
}

// A plane is the server's side of one stream, played by the test.
type plane struct {
	t    *testing.T
	s    discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer
	done chan struct{}
}

func (s *scripted) DeltaAggregatedResources(g discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesServer) error {
	p := &plane{s: g, done: make(chan struct{})}
	select {
	case s.streams <- p:
	case <-g.Context().Done():
		return nil
	}
	select {
	case <-p.done:
	case <-g.Context().Done():
	}
	return nil
}

func (p *plane) recv() *discoveryv3.DeltaDiscoveryRequest {
	p.t.Helper()
	r, err := p.s.Recv()
	if err != nil {
		p.t.Fatal(err)
	}
	return r
}

// send sends a response written as in the scripts of the session.
func (p *plane) send(text string) {
	p.t.Helper()
	if err := p.s.Send(response(p.t, strings.Fields(text))); err != nil {
		p.t.Fatal(err)
	}
}

// rig is a client, the control plane it talks to, and what it called back.
type rig struct {
	*scripted
	t       *testing.T
	client  *Client
	applied chan config.Delta
	ready   chan struct{}
}

func newRig(t *testing.T) *rig {
	t.Helper()
	r := &rig{
		scripted: &scripted{streams: make(chan *plane)}, t: t,
		applied: make(chan config.Delta, 16), ready: make(chan struct{}, 16),
	}
	path := filepath.Join(t.TempDir(), "xds")
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	discoveryv3.RegisterAggregatedDiscoveryServiceServer(g, r.scripted)
	r.client = New(Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		},
		Workload: mesh.Workload{Name: "w", Namespace: "ns"},
		Apply:    func(d config.Delta) { r.applied <- d },
		Ready:    func() { r.ready <- struct{}{} },
		Log:      slog.New(slog.DiscardHandler),
	})
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = g.Serve(ln) })
	wg.Go(func() { _ = r.client.Run(ctx) })
	t.Cleanup(wg.Wait)
	t.Cleanup(g.Stop)
	t.Cleanup(cancel)
	return r
}

func (r *rig) stream() *plane {
	r.t.Helper()
	p := get(r.t, r.streams)
	p.t = r.t
	return p
}

func get[V any](t *testing.T, c <-chan V) V {
	t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	select {
	case v := <-c:
		return v
	case <-limit.C:
		t.Fatal("waited in vain")
		panic("unreachable")
	}
}

// begin takes the four first requests and gives cluster a and nothing else.
func (p *plane) begin() {
	p.t.Helper()
	first := p.recv()
	if id := first.GetNode().GetId(); id != "sidecar~127.0.0.1~w.ns~ns.svc.cluster.local" {
		p.t.Errorf("node %q", id)
	}
	for range 3 {
		if p.recv().GetNode() != nil {
			p.t.Error("the node is sent more than once")
		}
	}
	for _, text := range []string{"cds 1 a", "sni 1a", "lds 2", "name 3"} {
		p.send(text)
		p.recv()
	}
}

func TestReadyComesOnceAndAfterTheFirstChange(t *testing.T) {
	r := newRig(t)
	p := r.stream()
	p.begin()
	if d := get(t, r.applied); len(d.Clusters) != 1 {
		t.Errorf("first change %+v, want cluster a", d)
	}
	get(t, r.ready)
	close(p.done)
	// A new stream says what is held, and what differs is no second beginning.
	p = r.stream()
	if got := p.recv().GetInitialResourceVersions()["a"]; got != "v1" {
		t.Errorf("holds a at %q, want v1", got)
	}
	p.send("cds 1 b")
	get(t, r.applied)
	if len(r.ready) != 0 {
		t.Error("ready a second time")
	}
}

func TestWhatIsRefusedChangesNothingAndIsKnown(t *testing.T) {
	r := newRig(t)
	p := r.stream()
	p.begin()
	get(t, r.applied)
	p.send("cds 4 b c:bad -a")
	nack := p.recv()
	if !strings.Contains(nack.GetErrorDetail().GetMessage(), `Cluster "c"`) || nack.GetResponseNonce() != "4" || nack.GetTypeUrl() != xds.ClusterType {
		t.Errorf("answer %v, want a refusal of 4 that names cluster c", nack)
	}
	if len(r.applied) != 0 {
		t.Error("something of it was applied")
	}
	if st := r.client.Status(); !st.Connected || !strings.Contains(st.Error, `Cluster "c"`) {
		t.Errorf("status %+v, want connected and the error", st)
	}
}

// A change is applied before it is acknowledged, so that who waits for the
// acknowledgement may rely on it.
func TestWhatIsAcknowledgedIsInForce(t *testing.T) {
	r := newRig(t)
	p := r.stream()
	p.begin()
	get(t, r.applied)
	p.send("cds 4 b")
	p.recv()
	if len(r.applied) != 1 {
		t.Error("acknowledged and not applied")
	}
}
