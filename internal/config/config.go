// Package config is the mesh-wide configuration, under the field names of
// Istio's MeshConfig.
package config

import (
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/mesh"
)

// A Mesh is the configuration that holds for every workload. Default returns
// Istio's values; the zero Mesh is not useful.
type Mesh struct {
	OutboundTrafficPolicy  mesh.OutboundPolicy
	ConnectTimeout         time.Duration
	DNSRefreshRate         time.Duration
	RootNamespace          string
	DefaultServiceExportTo []string
	// ProtocolDetectionTimeout is how long a caller may be silent before its
	// connection is taken as bytes; 0: no verdict by clock.
	ProtocolDetectionTimeout time.Duration
	// DNSCapture says whether questions of workloads come to their proxies, where
	// those do not say it themselves.
	DNSCapture bool
	// AccessLog is the form of a line about each request and connection.
	AccessLog AccessLog
	// Headers are what proxies add to messages.
	Headers ProxyHeaders
	// The ranges that virtual addresses come from.
	VirtualIPv4, VirtualIPv6 netip.Prefix
}

// Default returns Istio's defaults.
func Default() Mesh {
	return Mesh{
		ConnectTimeout:         10 * time.Second,
		DNSRefreshRate:         60 * time.Second,
		RootNamespace:          "istio-system",
		DefaultServiceExportTo: []string{"*"},
		DNSCapture:             true,
		VirtualIPv4:            netip.PrefixFrom(netip.AddrFrom4([4]byte{240, 240}), 16),
		VirtualIPv6:            netip.PrefixFrom(netip.AddrFrom16([16]byte{0x20, 1, 0, 2}), 48),
	}
}

// Capture is that of a workload which says nothing of its own.
func (m Mesh) Capture() mesh.Capture {
	if m.DNSCapture {
		return mesh.Capture{}
	}
	return mesh.Capture{}.WithoutDNS()
}

// An AccessLog says what lines of it look like. The zero AccessLog leaves that to
// the proxy.
type AccessLog struct {
	Off  bool   // none is wanted; the rest is empty
	File string // where lines go, for proxies that are told; empty if nobody said
	// At most one of them is set: Text in Envoy's format language, or Fields, whose
	// strings are in that.
	Text   string
	Fields map[string]any
}

// IsSet reports whether the lines have a form that somebody chose.
func (l AccessLog) IsSet() bool { return l.Text != "" || l.Fields != nil }

// ProxyHeaders say what proxies add to messages or change in them. The zero value
// is nothing. What is for requests is for those to services of the mesh alone.
type ProxyHeaders struct {
	Server        string // instead of what a server says of itself; empty: that stays
	RequestID     bool   // x-request-id, for requests
	AttemptCount  bool   // x-envoy-attempt-count, for requests
	ForwardedPort bool   // x-forwarded-port, for requests
	Debug         bool   // x-envoy-upstream-service-time of answers, x-envoy-expected-rq-timeout-ms for requests
	LowerCase     bool   // names of fields go out in lower case
}
