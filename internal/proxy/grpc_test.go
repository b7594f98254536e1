package proxy_test

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"
	"google.golang.org/grpc/status"

	"github.com/fairlead/fairlead/internal/mesh"
)

const grpcEntry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: calls, namespace: default}
spec:
  hosts: [calls.test]
  addresses: [240.240.0.1]
  location: MESH_EXTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: calls%s, targetPort: %s}
  endpoints:
  - address: 127.0.0.1
`

// callee serves gRPC's interoperability tests and returns the port it is on.
func callee(t *testing.T) (port string) {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	var served sync.WaitGroup
	served.Go(func() {
		if err := s.Serve(ln); err != nil {
			t.Error(err)
		}
	})
	t.Cleanup(func() { s.Stop(); served.Wait() })
	_, port, _ = net.SplitHostPort(ln.Addr().String())
	return port
}

// caller is a client of gRPC as if in the workload, for calls.test.
func (w *world) caller() *grpc.ClientConn {
	w.t.Helper()
	cc, err := grpc.NewClient("passthrough:///calls.test", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "tcp", w.capture.Addr().String())
		}))
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { cc.Close() })
	return cc
}

// What a callee answers comes back as it is, and what befalls it as a status.
func TestFault45StatusesOfGRPC(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	testgrpc.RegisterTestServiceServer(s, interop.NewTestServer())
	var served sync.WaitGroup
	served.Go(func() { _ = s.Serve(ln) })
	defer served.Wait()
	defer s.Stop()
	_, port, _ := net.SplitHostPort(ln.Addr().String())
	w := start(t, mesh.RegistryOnly, fmt.Sprintf(grpcEntry, ", protocol: GRPC", port))
	service := testgrpc.NewTestServiceClient(w.caller())
	call := func(size int) error {
		_, err := service.UnaryCall(t.Context(), &testgrpc.SimpleRequest{Payload: &testgrpc.Payload{Body: make([]byte, size)}})
		return err
	}
	if err := call(4<<20 - 100); err != nil {
		t.Error(err)
	}
	if err := call(4<<20 + 1); status.Code(err) != codes.ResourceExhausted || !strings.Contains(err.Error(), "larger than max") {
		t.Errorf("a message over the callee's limit: %v", err)
	}
	stream, err := service.FullDuplexCall(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&testgrpc.StreamingOutputCallRequest{ResponseParameters: []*testgrpc.ResponseParameters{{Size: 1}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	s.Stop()
	if _, err := stream.Recv(); status.Code(err) != codes.Internal && status.Code(err) != codes.Unavailable {
		t.Errorf("a callee that dies within a call: %v", err)
	}
	if err := call(0); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "ServiceEntry default/calls") || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("no callee: %v", err)
	}
}

// The cases of gRPC's interoperability tests that need no credentials. What fails
// in one ends the process: that is how they are made.
func TestFault45GRPCInterop(t *testing.T) {
	for name, protocol := range map[string]string{"declared GRPC": ", protocol: GRPC", "nothing declared": ""} {
		t.Run(name, func(t *testing.T) {
			w := start(t, mesh.RegistryOnly, fmt.Sprintf(grpcEntry, protocol, callee(t)))
			cc := w.caller()
			service := testgrpc.NewTestServiceClient(cc)
			for name, does := range map[string]func(context.Context, testgrpc.TestServiceClient, ...grpc.CallOption){
				"empty_unary":                 interop.DoEmptyUnaryCall,
				"large_unary":                 interop.DoLargeUnaryCall,
				"client_streaming":            interop.DoClientStreaming,
				"server_streaming":            interop.DoServerStreaming,
				"ping_pong":                   interop.DoPingPong,
				"empty_stream":                interop.DoEmptyStream,
				"timeout_on_sleeping_server":  interop.DoTimeoutOnSleepingServer,
				"cancel_after_begin":          interop.DoCancelAfterBegin,
				"cancel_after_first_response": interop.DoCancelAfterFirstResponse,
				"status_code_and_message":     interop.DoStatusCodeAndMessage,
				"special_status_message":      interop.DoSpecialStatusMessage,
				"custom_metadata":             interop.DoCustomMetadata,
			} {
				t.Run(name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					does(ctx, service)
				})
			}
			t.Run("unimplemented_method", func(t *testing.T) { interop.DoUnimplementedMethod(t.Context(), cc) })
			t.Run("unimplemented_service", func(t *testing.T) {
				interop.DoUnimplementedService(t.Context(), testgrpc.NewUnimplementedServiceClient(cc))
			})
			w.await("the calls are logged as HTTP/2", func() bool {
				return strings.Count(w.access.String(), `"protocol":"HTTP/2"`) >= 14
			})
		})
	}
}
