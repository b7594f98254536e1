package decision

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

var entry = mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "svc-entry", File: "entries/svc-entry.yaml", Line: 1}

// declared and withheld are hosts of which something is not to be had.
var (
	declared = &Declaration{Host: "grpc.test", Entry: entry, Ports: []DeclaredPort{
		{Number: 50051, Protocol: mesh.TLS}, {Number: 80, Protocol: mesh.HTTP}, {Number: 9}, {Number: 3306, Protocol: mesh.MySQL}, {Number: 25, Protocol: mesh.TCP},
	}}
	withheld = &Declaration{
		Host: "grpc.test", Entry: entry, Ports: []DeclaredPort{{Number: 80, Protocol: mesh.HTTP}, {Number: 5432, Protocol: mesh.TCP, Withheld: true}},
		Sidecar: mesh.Ref{Kind: "Sidecar", Namespace: "shop", Name: "narrow", File: "s.yaml", Line: 3},
	}
)

func TestSentence(t *testing.T) {
	original := netip.MustParseAddrPort("240.240.0.1:80")
	endpoint := netip.MustParseAddrPort("192.168.0.100:80")
	tests := []struct {
		name string
		rec  Record
		want string
	}{
		{"nothing to tell", Record{}, ""},
		{
			"a drain that is over",
			Record{Reason: Drained, Err: DrainOver(5 * time.Second).Error()},
			"the proxy was ended while this was in progress, and cut it off: it had waited 5s for it.",
		},
		{
			"undeclared request",
			Record{Reason: NotDeclared, Authority: []byte("evil.test"), SNI: "never told", Original: original},
			"evil.test (240.240.0.1:80) is not declared by any ServiceEntry visible here and the outbound policy is REGISTRY_ONLY; declare the host and port in a ServiceEntry to allow it.",
		},
		{
			"undeclared connection with SNI",
			Record{Reason: NotDeclared, SNI: "evil.test", Name: "never told", Original: original},
			"evil.test (240.240.0.1:80) is not declared by any ServiceEntry visible here and the outbound policy is REGISTRY_ONLY; declare the host and port in a ServiceEntry to allow it.",
		},
		{
			"undeclared address",
			Record{Reason: NotDeclared, Original: original},
			"240.240.0.1:80 is not declared by any ServiceEntry visible here and the outbound policy is REGISTRY_ONLY; declare the host and port in a ServiceEntry to allow it.",
		},
		{
			"address for a name",
			Record{Reason: NotDeclared, Authority: []byte("240.240.0.1"), Original: original},
			"240.240.0.1:80 is not declared by any ServiceEntry visible here and the outbound policy is REGISTRY_ONLY; declare the host and port in a ServiceEntry to allow it.",
		},
		{
			"declared for another port alone",
			Record{Reason: NotDeclared, Authority: []byte("grpc.test:81"), Protocol: HTTP11, Original: netip.MustParseAddrPort("240.240.0.1:81"), Declared: declared},
			"grpc.test:81 (240.240.0.1:81) is not declared: ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares host grpc.test with ports 50051 TLS, 80 HTTP, 9, 3306 MySQL, 25 TCP only, and the outbound policy is REGISTRY_ONLY; declare port 81 there to allow it.",
		},
		{
			"a request where TLS is declared",
			Record{Reason: NotDeclared, Authority: []byte("grpc.test:50051"), Protocol: HTTP11, Original: netip.MustParseAddrPort("240.240.0.1:50051"), Declared: declared},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares port 50051 of host grpc.test for TLS and this is plain HTTP/1.1, and the outbound policy is REGISTRY_ONLY; speak TLS there, or declare the port with the protocol that is spoken.",
		},
		{
			"TLS where requests are declared",
			Record{Reason: NotDeclared, SNI: "grpc.test", Protocol: TLS, Original: netip.MustParseAddrPort("240.240.0.1:80"), Declared: declared},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares port 80 of host grpc.test for HTTP and this is TLS, and the outbound policy is REGISTRY_ONLY; speak HTTP there, or declare the port with the protocol that is spoken.",
		},
		{
			"TLS without a name",
			Record{Reason: NotDeclared, Name: "grpc.test", Protocol: TLS, Original: netip.MustParseAddrPort("240.240.0.1:50051"), Declared: declared},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares port 50051 of host grpc.test for TLS and this TLS names no server, and the outbound policy is REGISTRY_ONLY; let the caller send the host as server name (SNI).",
		},
		{
			"bytes where requests are declared",
			Record{Reason: NotDeclared, Name: "grpc.test", Protocol: TCP, Original: netip.MustParseAddrPort("240.240.0.1:80"), Declared: declared},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares port 80 of host grpc.test for HTTP and this is something else, and the outbound policy is REGISTRY_ONLY; speak HTTP there, or declare the port with the protocol that is spoken.",
		},
		{
			"another address than those of the host",
			Record{Reason: NotDeclared, Authority: []byte("grpc.test:3306"), Protocol: HTTP11, Original: netip.MustParseAddrPort("192.0.2.1:3306"), Declared: declared},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares port 3306 of host grpc.test for MySQL, which goes by address, and 192.0.2.1 is none that leads to it, and the outbound policy is REGISTRY_ONLY; use an address that DNS gives for the host here, or list this one in spec.addresses.",
		},
		{
			"withheld by a Sidecar",
			Record{Reason: NotDeclared, Name: "grpc.test", Protocol: TCP, Original: netip.MustParseAddrPort("240.240.0.1:5432"), Declared: withheld},
			"Sidecar shop/narrow (s.yaml:3) imports host grpc.test of ServiceEntry default/svc-entry (entries/svc-entry.yaml:1), but not for port 5432, and the outbound policy is REGISTRY_ONLY; add the host to the listener of that port there to allow it.",
		},
		{
			"an undeclared port beside a withheld one",
			Record{Reason: NotDeclared, Name: "grpc.test", Protocol: TCP, Original: netip.MustParseAddrPort("240.240.0.1:1"), Declared: withheld},
			"grpc.test (240.240.0.1:1) is not declared: ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares host grpc.test with ports 80 HTTP, 5432 TCP only, and the outbound policy is REGISTRY_ONLY; declare port 1 there to allow it.",
		},
		{
			"one port",
			Record{Reason: NotDeclared, Name: "a.test", Original: netip.MustParseAddrPort("240.240.0.1:1"), Declared: &Declaration{Host: "a.test", Entry: entry, Ports: []DeclaredPort{{Number: 80}}}},
			"a.test (240.240.0.1:1) is not declared: ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares host a.test with port 80 only, and the outbound policy is REGISTRY_ONLY; declare port 1 there to allow it.",
		},
		{
			"ports that are not known",
			Record{Reason: NotDeclared, Name: "a.test", Original: netip.MustParseAddrPort("240.240.0.1:1"), Declared: &Declaration{Host: "a.test", Entry: entry}},
			"a.test (240.240.0.1:1) is not declared with this port and protocol by ServiceEntry default/svc-entry (entries/svc-entry.yaml:1), which declares the host, and the outbound policy is REGISTRY_ONLY; declare them there to allow it.",
		},
		{
			"no route",
			Record{Reason: NoRoute, Entry: entry, Authority: []byte("www.baidu.com")},
			"no route of ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) matches this request for www.baidu.com.",
		},
		{
			"no cluster",
			Record{Reason: NoCluster, Entry: entry, Cluster: "outbound|80||a", Authority: []byte("a")},
			"the route for a leads to cluster outbound|80||a, which does not exist; check the destination and its port in ServiceEntry default/svc-entry (entries/svc-entry.yaml:1).",
		},
		{
			"no endpoint listed",
			Record{Reason: NoEndpoint, Entry: entry, Authority: []byte("a")},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) has no endpoint to send a to: it lists none.",
		},
		{
			"a destination that may not be chosen",
			Record{Reason: NoEndpoint, Entry: entry, Authority: []byte("a"), Err: "address 203.0.113.8 is none of its"},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) has no endpoint to send a to: address 203.0.113.8 is none of its.",
		},
		{
			"no address",
			Record{Reason: NoEndpoint, Entry: entry, Authority: []byte("a"), DNS: Negative, DNSError: "NXDOMAIN from 127.0.0.1:53"},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) has no endpoint to send a to: the name has no address (NXDOMAIN from 127.0.0.1:53).",
		},
		{
			"a tunnel to a virtual address whose host has none",
			Record{
				Reason: NoEndpoint, Cluster: xds.PassthroughCluster, Method: []byte("CONNECT"), Protocol: HTTP11, Authority: []byte("foo.test:443"),
				Original: netip.MustParseAddrPort("240.240.0.1:3306"), Behind: declared, DNS: Negative, DNSError: "NXDOMAIN",
			},
			"PassthroughCluster (for what no ServiceEntry visible here declares, by host, port and protocol) has no endpoint to send foo.test:443 (240.240.0.1:3306) to: that is the virtual address of grpc.test, which has no address of its own (NXDOMAIN); declare port 3306 of grpc.test as TCP, so that it gets whatever comes there, or the host that is named on that port.",
		},
		{
			"a virtual address whose host was never found",
			Record{Reason: NoEndpoint, Entry: entry, Cluster: "outbound|80||a", Authority: []byte("a"), Original: original, Behind: declared, DNS: Never},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) has no endpoint to send a (240.240.0.1:80) to: that is the virtual address of grpc.test, whose own address was never learnt.",
		},
		{
			"a request where TLS is declared, to a host without address",
			Record{
				Reason: NoEndpoint, Cluster: xds.PassthroughCluster, Protocol: HTTP11, Authority: []byte("grpc.test"), Original: netip.MustParseAddrPort("240.240.0.1:50051"),
				Behind: declared, Declared: declared, DNS: Negative,
			},
			"PassthroughCluster (for what no ServiceEntry visible here declares, by host, port and protocol) has no endpoint to send grpc.test (240.240.0.1:50051) to: that is the virtual address of grpc.test, which has no address of its own; ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares port 50051 of host grpc.test for TLS and this is plain HTTP/1.1: speak TLS there, or declare the port with the protocol that is spoken.",
		},
		{
			"an undeclared port of a host without address",
			Record{Reason: NoEndpoint, Cluster: xds.PassthroughCluster, Name: "grpc.test", Original: netip.MustParseAddrPort("240.240.0.1:1"), Behind: withheld, Declared: withheld, DNS: Negative},
			"PassthroughCluster (for what no ServiceEntry visible here declares, by host, port and protocol) has no endpoint to send grpc.test (240.240.0.1:1) to: that is the virtual address of grpc.test, which has no address of its own; grpc.test (240.240.0.1:1) is not declared: ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares host grpc.test with ports 80 HTTP, 5432 TCP only: declare port 1 there.",
		},
		{
			"a tunnel whose target nothing declares",
			Record{Reason: NotDeclared, Method: []byte("CONNECT"), Authority: []byte("foo.test:443"), Name: "squid.test", Original: netip.MustParseAddrPort("240.240.0.1:3128")},
			"foo.test:443 (240.240.0.1:3128) is not declared by any ServiceEntry visible here and the outbound policy is REGISTRY_ONLY; declare port 3128 of squid.test as TCP, so that it gets whatever comes there, or the host that is named on that port.",
		},
		{
			"a tunnel whose target is declared on its own port",
			Record{Reason: NotDeclared, Method: []byte("CONNECT"), Authority: []byte("grpc.test:50051"), Protocol: HTTP11, Original: netip.MustParseAddrPort("192.0.2.1:3128"), Declared: declared},
			"grpc.test:50051 (192.0.2.1:3128) is not declared on port 3128: ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) declares host grpc.test with ports 50051 TLS, 80 HTTP, 9, 3306 MySQL, 25 TCP only, and the outbound policy is REGISTRY_ONLY; declare port 3128 of the proxy that it was sent to as TCP, so that it gets whatever comes there, or the host that is named on that port.",
		},
		{
			"connect failed",
			Record{Reason: ConnectFailed, Entry: entry, Endpoint: endpoint, Err: "connection refused", Tries: 3},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1): connection to endpoint 192.168.0.100:80 failed: connection refused (tried 3 times).",
		},
		{
			"connect failed, and perhaps elsewhere before",
			Record{Reason: ConnectFailed, Entry: entry, Endpoint: endpoint, Err: "connection refused", Tries: 3, Endpoints: 2},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1): connection to endpoint 192.168.0.100:80 failed: connection refused (the last of 3 tries among 2 endpoints).",
		},
		{
			"a stream that was reset",
			Record{Reason: UpstreamReset, Entry: entry, Endpoint: endpoint, Flags: UR, Err: "the stream was reset by the peer: CANCEL"},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1): endpoint 192.168.0.100:80 ended the stream before its answer was complete: the stream was reset by the peer: CANCEL.",
		},
		{
			"over the budget of retries",
			Record{Reason: ConnectFailed, Entry: entry, Endpoint: endpoint, Err: "connection refused", Tries: 2, Flags: UF | UO},
			"ServiceEntry default/svc-entry (entries/svc-entry.yaml:1): connection to endpoint 192.168.0.100:80 failed: connection refused (tried 2 times); it was not tried again, as enough of the requests in progress there are retries.",
		},
		{
			"passed through in vain",
			Record{Reason: ConnectFailed, Cluster: xds.PassthroughCluster, Endpoint: endpoint, Err: "no route to host", Tries: 1},
			"PassthroughCluster (for what no ServiceEntry visible here declares, by host, port and protocol): connection to endpoint 192.168.0.100:80 failed: no route to host.",
		},
		{
			"named endpoint",
			Record{Reason: UpstreamReset, Entry: mesh.Ref{Kind: "ServiceEntry", Namespace: "a", Name: "b"}, EndpointName: "db.corp", Endpoint: endpoint, Err: "connection reset by peer"},
			"ServiceEntry a/b: endpoint db.corp at 192.168.0.100:80 ended the connection before its answer was complete: connection reset by peer.",
		},
		{
			"unix endpoint",
			Record{Reason: UpstreamBroken, Cluster: "c", EndpointName: "/run/x.sock", Err: "status line without version"},
			"cluster c: endpoint /run/x.sock sent an answer that is not valid in the protocol spoken with it: status line without version.",
		},
		{
			"a port that another host holds",
			Record{
				Reason: PortHeld, Name: "a.example.com", Original: netip.MustParseAddrPort("192.0.2.20:5432"), Entry: entry,
				Holder: "b.example.com", HolderEntry: mesh.Ref{Kind: "ServiceEntry", Namespace: "x", Name: "y"},
			},
			"port 5432 of a.example.com (192.0.2.20:5432) is refused: ServiceEntry x/y holds connections to it for host b.example.com, and an address does not tell which of the two is meant; give ServiceEntry default/svc-entry (entries/svc-entry.yaml:1) spec.addresses of its own or another port, or let it have a virtual address.",
		},
		{
			"loop",
			Record{Reason: Loop, Original: netip.MustParseAddrPort("127.0.0.1:15001")},
			"the destination 127.0.0.1:15001 is the workload or its proxy itself, which cannot be reached through the proxy; the connection was refused as a loop.",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.rec.Sentence(); got != tt.want {
				t.Errorf("Sentence:\n got %s\nwant %s", got, tt.want)
			}
		})
	}
}

func TestEveryReasonHasASentenceEvenOnAnEmptyRecord(t *testing.T) {
	for r := OK + 1; r <= Internal; r++ {
		rec := Record{Reason: r}
		got := rec.Sentence()
		if len(got) < 20 || !strings.HasSuffix(got, ".") || strings.Contains(got, "  ") || strings.Contains(got, "invalid AddrPort") {
			t.Errorf("reason %d: %q is no sentence", r, got)
		}
	}
}

func TestSentenceDoesNotAllocate(t *testing.T) {
	buf := make([]byte, 0, 1024)
	rec := Record{Reason: NotDeclared, Name: "grpc.test", Original: netip.MustParseAddrPort("240.240.0.1:1"), Declared: declared}
	if n := testing.AllocsPerRun(100, func() { buf = rec.AppendSentence(buf[:0]) }); n != 0 {
		t.Errorf("AppendSentence allocates %v times for what is declared", n)
	}
	rec = Record{Reason: ConnectFailed, Entry: entry, Endpoint: netip.MustParseAddrPort("192.168.0.100:80"), Err: "connection refused", Tries: 3}
	if n := testing.AllocsPerRun(100, func() { buf = rec.AppendSentence(buf[:0]) }); n != 0 {
		t.Errorf("AppendSentence allocates %v times", n)
	}
}

func TestFlags(t *testing.T) {
	tests := []struct {
		flags Flags
		want  string
	}{
		{0, "-"},
		{UF, "UF"},
		{URX | UF, "UF,URX"},
		{DR | LH, "LH,DR"},
	}
	for _, tt := range tests {
		if got := tt.flags.String(); got != tt.want {
			t.Errorf("Flags(%b) = %q, want %q", uint32(tt.flags), got, tt.want)
		}
	}
}
