package translate

import (
	"strconv"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"
	"google.golang.org/protobuf/encoding/protowire"
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

// Fields of VirtualHost and of the messages in it.
const (
	hostName     protowire.Number = 1
	hostDomains  protowire.Number = 2
	hostRoutes   protowire.Number = 3
	hostAttempts protowire.Number = 14
	hostMetadata protowire.Number = 24
	routeAction  protowire.Number = 2
	routeCluster protowire.Number = 1
)

// virtualHost makes the virtual host of a service on a port.
func (f *forms) virtualHost(port uint16, s *mesh.Service, domains []string) *Resource {
	w := f.blank()
	w.text(hostName, string(s.Host)+":"+tableName(port))
	for _, d := range domains {
		w.text(hostDomains, d)
	}
	route := w.open(hostRoutes)
	w.raw(f.route)
	action := w.open(routeAction)
	w.raw(f.action)
	w.text(routeCluster, xds.OutboundCluster(port, "", string(s.Host)))
	w.close(action)
	w.close(route)
	if f.mesh.Headers.AttemptCount && s.Location != mesh.External {
		w.number(hostAttempts, 1)
	}
	if s.Source != (mesh.Ref{}) {
		at := w.open(hostMetadata)
		w.declared(s.Source, nil)
		w.close(at)
	}
	return f.resource(xds.VirtualHostType, xds.VirtualHostResource(tableName(port), string(s.Host)), w)
}

// routeForm makes what the routes of all declared hosts have in common.
func routeForm() *routev3.Route { return &routev3.Route{Name: "default", Match: everyPath()} }

// actionForm makes what the actions of those routes do.
func actionForm() *routev3.RouteAction {
	return &routev3.RouteAction{Timeout: durationpb.New(0), RetryPolicy: defaultRetry()}
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
