package ads

import (
	"context"
	"log/slog"
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/xds"
)

// catalog has one view for everybody.
type catalog struct {
	mu        sync.Mutex
	set       *translate.Set
	followers map[int]func(*translate.Set, []translate.Key)
	next      int
}

func (c *catalog) Join(_ Node, publish func(*translate.Set, []translate.Key)) func() {
	c.mu.Lock()
	defer c.mu.Unlock()
	id := c.next
	c.next++
	c.followers[id] = publish
	publish(c.set, nil)
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.followers, id)
	}
}

// put makes cluster a of n bytes.
func (c *catalog) put(version, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := translate.Key{Type: xds.ClusterType, Name: "a"}
	r := &translate.Resource{Key: k, Version: strconv.Itoa(version), Body: &anypb.Any{TypeUrl: k.Type, Value: make([]byte, n)}}
	c.set = c.set.With(map[translate.Key]*translate.Resource{k: r})
	for _, publish := range c.followers {
		publish(c.set, []translate.Key{k})
	}
}

// serve starts a server and returns a client of it.
func serve(t *testing.T) (*catalog, *Server, discoveryv3.AggregatedDiscoveryServiceClient) {
	t.Helper()
	c := &catalog{followers: make(map[int]func(*translate.Set, []translate.Key))}
	c.put(1, 1)
	s := New(c, slog.New(slog.DiscardHandler))
	path := filepath.Join(t.TempDir(), "xds")
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "unix", path)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var wg sync.WaitGroup
	wg.Go(func() {
		if err := s.Serve(ctx, ln); err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	t.Cleanup(wg.Wait)
	t.Cleanup(cancel)
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return c, s, discoveryv3.NewAggregatedDiscoveryServiceClient(conn)
}

func open(t *testing.T, client discoveryv3.AggregatedDiscoveryServiceClient, n *corev3.Node) discoveryv3.AggregatedDiscoveryService_DeltaAggregatedResourcesClient {
	t.Helper()
	s, err := client.DeltaAggregatedResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&discoveryv3.DeltaDiscoveryRequest{Node: n, TypeUrl: xds.ClusterType}); err != nil {
		t.Fatal(err)
	}
	return s
}

func named(id string) *corev3.Node { return &corev3.Node{Id: id} }

func TestASlowReaderHoldsNobodyUp(t *testing.T) {
	c, s, client := serve(t)
	slow := open(t, client, named("sidecar~127.0.0.1~slow.default~default.svc.cluster.local"))
	quick := open(t, client, named("sidecar~127.0.0.1~quick.default~default.svc.cluster.local"))
	// The slow one answers, so that more is due, and reads nothing: what is
	// sent to it, far more than the connection holds, stays where it is.
	first, err := slow.Recv()
	if err != nil {
		t.Fatal(err)
	}
	if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, ResponseNonce: first.GetNonce()}); err != nil {
		t.Fatal(err)
	}
	for version := 1; version < 50; version++ {
		r, err := quick.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if got := r.GetResources()[0].GetVersion(); got != strconv.Itoa(version) {
			t.Fatalf("got version %s, want %d", got, version)
		}
		if err := quick.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, ResponseNonce: r.GetNonce()}); err != nil {
			t.Fatal(err)
		}
		c.put(version+1, 1<<20)
	}
	// It can still be seen how far it is, and it is not far.
	for _, p := range s.Status() {
		if p.Name == "slow" && p.Types[0].State() != Stale {
			t.Errorf("the slow reader is %s, want %s", p.Types[0].State(), Stale)
		}
	}
	// When it reads again it gets the newest, not each that it missed.
	seen := 0
	for last := ""; last != "50"; seen++ {
		r, err := slow.Recv()
		if err != nil {
			t.Fatal(err)
		}
		last = r.GetResources()[0].GetVersion()
		if err := slow.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, ResponseNonce: r.GetNonce()}); err != nil {
			t.Fatal(err)
		}
	}
	if seen > 2 {
		t.Errorf("the slow reader was sent %d responses, want at most the one under way and the newest", seen)
	}
}

func TestWhoGoesIsForgotten(t *testing.T) {
	c, s, client := serve(t)
	stream := open(t, client, named("sidecar~127.0.0.1~w.default~default.svc.cluster.local"))
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	if n := len(s.Status()); n != 1 {
		t.Fatalf("%d proxies listed, want 1", n)
	}
	if err := stream.CloseSend(); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err == nil {
		t.Fatal("the stream goes on after its client ended it")
	}
	for deadline := time.Now().Add(time.Minute); len(s.Status()) > 0; {
		if time.Now().After(deadline) {
			t.Fatal("still listed after it went")
		}
		<-time.NewTimer(time.Millisecond).C
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.followers) != 0 {
		t.Error("changes are still published to a stream that ended")
	}
}

func TestAClientThatIsNotServedIsToldWhy(t *testing.T) {
	_, _, client := serve(t)
	_, err := open(t, client, nil).Recv()
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "names no node") {
		t.Errorf("without a node: %v", err)
	}
	_, err = open(t, client, named("anybody")).Recv()
	if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), "no namespace") {
		t.Errorf("without a namespace: %v", err)
	}
	sotw, err := client.StreamAggregatedResources(t.Context())
	if err == nil {
		_, err = sotw.Recv()
	}
	if status.Code(err) != codes.Unimplemented || !strings.Contains(err.Error(), "DELTA_GRPC") {
		t.Errorf("state of the world: %v", err)
	}
}

func TestAClientThatDoesNotReadIsRefusedAllTheSame(t *testing.T) {
	c, s, client := serve(t)
	c.put(2, 1<<20)
	stream := open(t, client, named("sidecar~127.0.0.1~w.default~default.svc.cluster.local"))
	// The first response fills the connection, the second blocks its sender.
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ListenerType}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the second response is under way", func() bool {
		all := s.Status()
		return len(all) == 1 && len(all[0].Types) == 2 && all[0].Types[1].State() == Stale
	})
	names := make([]string, maxNames+1)
	for i := range names {
		names[i] = strconv.Itoa(i)
	}
	if err := stream.Send(&discoveryv3.DeltaDiscoveryRequest{TypeUrl: xds.ClusterType, ResourceNamesSubscribe: names}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the stream is gone", func() bool { return len(s.Status()) == 0 })
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within reason: %s", what)
		}
		<-time.NewTimer(time.Millisecond).C
	}
}
