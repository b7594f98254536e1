package api

import (
	"maps"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	extensions "istio.io/api/extensions/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	networkingbeta "istio.io/api/networking/v1beta1"
	security "istio.io/api/security/v1beta1"
	telemetry "istio.io/api/telemetry/v1alpha1"
)

// KindServiceEntry is the kind this mesh is built around.
const KindServiceEntry = "ServiceEntry"

// A group is one API group of Istio: its versions and its kinds.
type group struct {
	versions []string
	kinds    map[string]proto.Message // an empty message of each kind, never changed
}

// lookupGroup returns what Istio defines, whether Fairlead acts on it or not. All
// versions of a kind have the same fields.
func lookupGroup(name string) (group, bool) {
	switch name {
	case "networking.istio.io":
		return group{[]string{"v1", "v1beta1", "v1alpha3"}, map[string]proto.Message{
			KindServiceEntry:  (*networking.ServiceEntry)(nil),
			"WorkloadEntry":   (*networking.WorkloadEntry)(nil),
			"WorkloadGroup":   (*networking.WorkloadGroup)(nil),
			"Sidecar":         (*networking.Sidecar)(nil),
			"VirtualService":  (*networking.VirtualService)(nil),
			"DestinationRule": (*networking.DestinationRule)(nil),
			"Gateway":         (*networking.Gateway)(nil),
			"EnvoyFilter":     (*networking.EnvoyFilter)(nil),
			"ProxyConfig":     (*networkingbeta.ProxyConfig)(nil),
		}}, true
	case "security.istio.io":
		return group{[]string{"v1", "v1beta1"}, map[string]proto.Message{
			"AuthorizationPolicy":   (*security.AuthorizationPolicy)(nil),
			"PeerAuthentication":    (*security.PeerAuthentication)(nil),
			"RequestAuthentication": (*security.RequestAuthentication)(nil),
		}}, true
	case "telemetry.istio.io":
		return group{[]string{"v1", "v1alpha1"}, map[string]proto.Message{
			"Telemetry": (*telemetry.Telemetry)(nil),
		}}, true
	case "extensions.istio.io":
		return group{[]string{"v1alpha1"}, map[string]proto.Message{
			"WasmPlugin":       (*extensions.WasmPlugin)(nil),
			"TrafficExtension": (*extensions.TrafficExtension)(nil),
		}}, true
	}
	return group{}, false
}

// newSpec returns an empty message for an apiVersion and kind. known says
// whether the group is one of Istio's; fault, if not empty, what is wrong with
// the pair.
func newSpec(apiVersion, kind string) (spec proto.Message, known bool, fault string) {
	name, version, _ := strings.Cut(apiVersion, "/")
	g, ok := lookupGroup(name)
	if !ok {
		return nil, false, ""
	}
	if !slices.Contains(g.versions, version) {
		return nil, true, "apiVersion " + quote(apiVersion) + " does not exist; use " + name + "/" + g.versions[0]
	}
	prototype, ok := g.kinds[kind]
	if !ok {
		names := slices.Sorted(maps.Keys(g.kinds))
		if near := nearest(kind, names); near != "" {
			return nil, true, "kind " + quote(kind) + " does not exist in " + name + "; did you mean " + near + "?"
		}
		return nil, true, "kind " + quote(kind) + " does not exist in " + name + "; it has " + strings.Join(names, ", ")
	}
	return prototype.ProtoReflect().New().Interface(), true, ""
}
