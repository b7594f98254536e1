package config

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/mesh"
)

// TestDefaultIsIstios has the values people rely on without naming them.
func TestDefaultIsIstios(t *testing.T) {
	m := Default()
	if m.OutboundTrafficPolicy != mesh.AllowAny || m.ConnectTimeout != 10*time.Second || m.DNSRefreshRate != time.Minute ||
		m.RootNamespace != "istio-system" || len(m.DefaultServiceExportTo) != 1 || m.DefaultServiceExportTo[0] != "*" ||
		m.VirtualIPv4.String() != "240.240.0.0/16" || m.VirtualIPv6.String() != "2001:2::/48" {
		t.Errorf("got %+v", m)
	}
}
