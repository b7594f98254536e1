package l7

import (
	"context"
	"net/netip"
	"reflect"
	"slices"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
)

// TestARestForgetsNothingThatAListenerFound has each field of a record in one of two
// places: facts carry it, or it is not a listener's, for a connection that may rest.
func TestARestForgetsNothingThatAListenerFound(t *testing.T) {
	notIts := []string{
		// Of each request.
		"ID", "Start", "Method", "Authority", "Path", "UserAgent", "RequestID",
		"RouteTable", "VirtualHost", "Route", "Cluster", "Entry", "Endpoint", "EndpointName", "Upstream", "Tries", "DNS", "DNSError", "Endpoints", "Behind",
		"Call", "Status", "Received", "Sent", "Duration", "UpstreamTime", "Request", "Response", "Trailer",
		// Of a connection that is refused: one with a reason or flags does not rest.
		"Reason", "Flags", "Details", "Err", "Declared", "Holder", "HolderEntry",
	}
	at := netip.MustParseAddrPort("192.0.2.1:80")
	found := decision.Record{
		Downstream: at, Original: at, Name: "a", SNI: "b", Listener: "c", Chain: "d", Protocol: decision.HTTP2, Policy: mesh.RegistryOnly,
	}
	f := factsOf(&found)
	if again := f.record(); !reflect.DeepEqual(*again, found) {
		t.Errorf("after a rest %+v, before %+v", *again, found)
	}
	of := reflect.ValueOf(found)
	for i := range of.NumField() {
		name := of.Type().Field(i).Name
		if carried := !of.Field(i).IsZero(); carried == slices.Contains(notIts, name) {
			t.Errorf("%s: facts carry it: %v; where does it belong?", name, carried)
		}
	}
}

func TestAClosedFrontHasNothingLeftToDo(t *testing.T) {
	r := prepareRig(t)
	defer r.clusters.Close()
	ctx, drain := context.WithCancel(t.Context())
	f := r.server.Front(t.Context(), ctx)
	drain()
	waitFor(t, func() bool {
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.late != nil
	})
	f.Close()
	if f.late.Stop() {
		t.Error("it would still end who waits")
	}
}
