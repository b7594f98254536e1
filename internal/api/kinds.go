package api

import (
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
	kinds    []kind // sorted by name
}

// A kind is one kind of object.
type kind struct {
	name string
	spec proto.Message // a nil message of its type
}

// lookupGroup returns what Istio defines, whether Fairlead acts on it or not. All
// versions of a kind have the same fields.
func lookupGroup(name string) (group, bool) {
	switch name {
	case "networking.istio.io":
		return group{[]string{"v1", "v1beta1", "v1alpha3"}, []kind{
			{"DestinationRule", (*networking.DestinationRule)(nil)},
			{"EnvoyFilter", (*networking.EnvoyFilter)(nil)},
			{"Gateway", (*networking.Gateway)(nil)},
			{"ProxyConfig", (*networkingbeta.ProxyConfig)(nil)},
			{KindServiceEntry, (*networking.ServiceEntry)(nil)},
			{KindSidecar, (*networking.Sidecar)(nil)},
			{"VirtualService", (*networking.VirtualService)(nil)},
			{KindWorkloadEntry, (*networking.WorkloadEntry)(nil)},
			{"WorkloadGroup", (*networking.WorkloadGroup)(nil)},
		}}, true
	case "security.istio.io":
		return group{[]string{"v1", "v1beta1"}, []kind{
			{"AuthorizationPolicy", (*security.AuthorizationPolicy)(nil)},
			{"PeerAuthentication", (*security.PeerAuthentication)(nil)},
			{"RequestAuthentication", (*security.RequestAuthentication)(nil)},
		}}, true
	case "telemetry.istio.io":
		return group{[]string{"v1", "v1alpha1"}, []kind{
			{"Telemetry", (*telemetry.Telemetry)(nil)},
		}}, true
	case "extensions.istio.io":
		return group{[]string{"v1alpha1"}, []kind{
			{"TrafficExtension", (*extensions.TrafficExtension)(nil)},
			{"WasmPlugin", (*extensions.WasmPlugin)(nil)},
		}}, true
	}
	return group{}, false
}

// apiVersionOf returns the version to write for a kind that is read, or "".
func apiVersionOf(name string) string {
	switch name {
	case KindConfigMap, KindService:
		return "v1"
	case KindEndpointSlice:
		return "discovery.k8s.io/v1"
	}
	for _, domain := range []string{"networking.istio.io", "security.istio.io", "telemetry.istio.io", "extensions.istio.io"} {
		g, _ := lookupGroup(domain)
		if slices.ContainsFunc(g.kinds, func(k kind) bool { return k.name == name }) {
			return domain + "/" + g.versions[0]
		}
	}
	return ""
}

// newSpec returns an empty message for an apiVersion and kind. known says
// whether the group is one of Istio's; fault, if not empty, what is wrong with
// the pair.
func newSpec(apiVersion, name string) (spec proto.Message, known bool, fault string) {
	domain, version, _ := strings.Cut(apiVersion, "/")
	g, ok := lookupGroup(domain)
	if !ok {
		return nil, false, ""
	}
	if !slices.Contains(g.versions, version) {
		return nil, true, "apiVersion " + quote(apiVersion) + " does not exist; use " + domain + "/" + g.versions[0]
	}
	names := make([]string, 0, len(g.kinds))
	for _, k := range g.kinds {
		if k.name == name {
			return k.spec.ProtoReflect().New().Interface(), true, ""
		}
		names = append(names, k.name)
	}
	if near := Nearest(name, names); near != "" {
		return nil, true, "kind " + quote(name) + " does not exist in " + domain + "; did you mean " + near + "?"
	}
	return nil, true, "kind " + quote(name) + " does not exist in " + domain + "; it has " + strings.Join(names, ", ")
}
