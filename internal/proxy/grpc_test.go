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
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/interop"
	testgrpc "google.golang.org/grpc/interop/grpc_testing"

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

// The cases of gRPC's interoperability tests that need no credentials. What fails
// in one ends the process: that is how they are made.
func Test45GRPCInterop(t *testing.T) {
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
					ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
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
