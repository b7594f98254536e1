package decode

import (
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// maxServer bounds the value of a server header.
const maxServer = 1 << 10

// headers reads what is added to messages. What Envoy would add unasked is not: nil
// is the ordinary outcome.
func headers(path string, m *hcmv3.HttpConnectionManager) (*config.Headers, error) {
	h := config.Headers{
		Server:        m.GetServerName(),
		RequestID:     m.GetGenerateRequestId().GetValue(),
		ForwardedPort: m.GetAppendXForwardedPort(),
	}
	if strings.ContainsFunc(h.Server, func(r rune) bool { return r < ' ' || r > '~' }) || len(h.Server) > maxServer {
		return nil, fmt.Errorf("%s.server_name: no value of a header", path)
	}
	filters := m.GetHttpFilters()
	var router routerv3.Router
	if err := unmarshal(filters[len(filters)-1].GetTypedConfig().GetValue(), &router); err != nil {
		return nil, fmt.Errorf("%s.http_filters: %w", path, err)
	}
	h.Debug = !router.GetSuppressEnvoyHeaders()
	if h == (config.Headers{}) {
		return nil, nil //nolint:nilnil // as said above
	}
	return &h, nil
}

// headerCase reads from the metadata of a chain whether names of fields are to go
// out in lower case.
func headerCase(path string, c *config.FilterChain, m *corev3.Metadata) error {
	v := m.GetFilterMetadata()[xds.MetadataKey].GetFields()[xds.LowerCaseKey]
	if v == nil {
		return nil
	}
	x, ok := v.GetKind().(*structpb.Value_BoolValue)
	if !ok {
		return fmt.Errorf("%s.metadata.filter_metadata[%s].%s is neither true nor false", path, xds.MetadataKey, xds.LowerCaseKey)
	}
	if x.BoolValue {
		if c.HTTP.Headers == nil {
			c.HTTP.Headers = &config.Headers{}
		}
		c.HTTP.Headers.LowerCase = true
	}
	return nil
}

// inMesh reads, of a cluster, whether its service belongs to the mesh: what Istio's
// telemetry goes by.
func inMesh(m *corev3.Metadata) bool {
	f := m.GetFilterMetadata()["istio"].GetFields()
	return f["services"] != nil && !f["external"].GetBoolValue()
}
