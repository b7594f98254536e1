package translate

import (
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// retryOn is Istio's default list.
const retryOn = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes"

func tableName(port uint16) string { return strconv.Itoa(int(port)) }

// routeTable makes the table of a port. It holds nothing and never changes:
// any change of it would take from Envoy what VHDS delivered.
func routeTable(port uint16) *Resource {
	t := &routev3.RouteConfiguration{
		Name:                     tableName(port),
		Vhds:                     &routev3.Vhds{ConfigSource: ads()},
		IgnorePortInHostMatching: true,
		ValidateClusters:         wrapperspb.Bool(false),
	}
	return encode(xds.RouteType, t.GetName(), t)
}

// catchAll makes the virtual host for what no entry declares.
func catchAll(port uint16, policy mesh.OutboundPolicy) *Resource {
	h := undeclared(policy)
	return encode(xds.VirtualHostType, xds.VirtualHostResource(tableName(port), h.GetName()), h)
}

func undeclared(policy mesh.OutboundPolicy) *routev3.VirtualHost {
	if policy == mesh.RegistryOnly {
		return &routev3.VirtualHost{Name: xds.BlockAll, Domains: []string{"*"}, Routes: []*routev3.Route{{
			Name:   xds.BlockAll,
			Match:  everyPath(),
			Action: &routev3.Route_DirectResponse{DirectResponse: &routev3.DirectResponseAction{Status: 502}},
		}}}
	}
	return &routev3.VirtualHost{Name: xds.AllowAny, Domains: []string{"*"}, Routes: []*routev3.Route{{
		Name:  xds.AllowAny,
		Match: everyPath(),
		Action: &routev3.Route_Route{Route: &routev3.RouteAction{
			ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: xds.PassthroughCluster},
			Timeout:          durationpb.New(0),
		}},
	}}}
}

// virtualHost makes the virtual host of a service on a port.
func virtualHost(port uint16, s *mesh.Service, domains []string) *Resource {
	h := &routev3.VirtualHost{
		Name:     string(s.Host) + ":" + tableName(port),
		Domains:  domains,
		Metadata: entryMetadata(s.Source),
		Routes: []*routev3.Route{{
			Name:  "default",
			Match: everyPath(),
			Action: &routev3.Route_Route{Route: &routev3.RouteAction{
				ClusterSpecifier: &routev3.RouteAction_Cluster{Cluster: xds.OutboundCluster(port, "", string(s.Host))},
				Timeout:          durationpb.New(0),
				RetryPolicy:      defaultRetry(),
			}},
		}},
	}
	return encode(xds.VirtualHostType, xds.VirtualHostResource(tableName(port), string(s.Host)), h)
}

func everyPath() *routev3.RouteMatch {
	return &routev3.RouteMatch{PathSpecifier: &routev3.RouteMatch_Prefix{Prefix: "/"}}
}

func defaultRetry() *routev3.RetryPolicy {
	return &routev3.RetryPolicy{
		RetryOn:    retryOn,
		NumRetries: wrapperspb.UInt32(2),
		RetryHostPredicate: []*routev3.RetryPolicy_RetryHostPredicate{{
			Name:       "envoy.retry_host_predicates.previous_hosts",
			ConfigType: &routev3.RetryPolicy_RetryHostPredicate_TypedConfig{TypedConfig: pack(&previoushostsv3.PreviousHostsPredicate{})},
		}},
		HostSelectionRetryMaxAttempts: 5,
	}
}
