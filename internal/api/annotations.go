package api

import (
	"maps"
	"slices"
	"strings"
)

// annotationPrefix begins the annotations that are Fairlead's own. They are how
// Istio's kinds are extended: where Istio's definitions are installed, a field of
// ours would be dropped and a value of ours refused.
const annotationPrefix = "fairlead.dev/"

// An extension is an annotation of Fairlead's own.
type extension struct {
	key    string
	belong string // "ConfigMap istio-system/istio": where it may stand, for sentences
	fits   func(Key) bool
	check  func(v *validator, field, value string)
}

// ownAnnotations is every annotation that Fairlead has.
func ownAnnotations() []extension {
	return []extension{
		{VirtualAddresses, KindConfigMap + " " + meshNamespace + "/" + meshName, Key.IsMesh, (*validator).virtualAddresses},
	}
}

// annotations checks the keys of all annotations, and the values of our own.
func (v *validator) annotations() {
	for _, key := range slices.Sorted(maps.Keys(v.object.Annotations)) {
		field := join("metadata.annotations", key)
		if fault := qualifiedNameFault(key); fault != "" {
			v.err(field, "%s is no annotation: %s", quote(key), fault)
		} else if strings.HasPrefix(key, annotationPrefix) {
			v.extension(field, key, v.object.Annotations[key])
		} else if key == noVIP && v.acts() {
			v.warn(field, "is a label; put it under metadata.labels")
		} else {
			v.istioKey(field, key)
		}
	}
}

func (v *validator) extension(field, key, value string) {
	var known []string
	for _, x := range ownAnnotations() {
		known = append(known, x.key)
		switch {
		case x.key != key:
		case !x.fits(v.object.Key):
			v.err(field, "changes nothing here: it belongs on %s; remove it", x.belong)
			return
		default:
			x.check(v, field, value)
			return
		}
	}
	if near := Nearest(key, known); near != "" {
		v.err(field, "Fairlead has no such annotation; did you mean %s?", near)
		return
	}
	v.err(field, "Fairlead has no such annotation; it has %s", strings.Join(known, ", "))
}

// knownLabels checks the labels that are more than a name.
func (v *validator) knownLabels() {
	for _, key := range slices.Sorted(maps.Keys(v.object.Labels)) {
		field, value := join("metadata.labels", key), v.object.Labels[key]
		if strings.HasPrefix(key, annotationPrefix) {
			v.err(field, "Fairlead's extensions are annotations; put it under metadata.annotations")
		}
		if key == noVIP && value != "true" && value != "false" {
			v.warn(field, `%s is taken as "true"; write "false" to have no virtual addresses`, quote(value))
		}
		v.istioKey(field, key)
	}
}

// A knownKey is a label or an annotation by which Istio would do something with
// an object.
type knownKey struct {
	key   string   // or, with a slash at its end, all keys of that domain
	kinds []string // nil: any
	why   string   // what is not done; "": it acts, or nothing is lost without it
}

// istioKeys lists those that mean something on the kinds that act.
func istioKeys() []knownKey {
	const (
		noWaypoint = "is not acted on: there are no waypoints"
		noAmbient  = "is not acted on: there is no ambient mode"
		noLocality = "is not acted on yet: endpoints are chosen whatever their locality"
	)
	entry, workload := []string{KindServiceEntry}, []string{KindWorkloadEntry}
	return []knownKey{
		{noVIP, entry, ""},
		{"galley.istio.io/analyze-suppress", nil, ""}, // for istioctl
		{"install.operator.istio.io/", nil, ""},       // who installed it
		{"operator.istio.io/", nil, ""},
		{"service.istio.io/", nil, ""}, // names of a workload
		{"istio.io/autoRegistrationGroup", workload, ""},
		{"istio.io/connectedAt", workload, ""},
		{"istio.io/disconnectedAt", workload, ""},
		{"istio.io/workloadController", workload, ""},
		{"topology.istio.io/cluster", workload, ""}, // where it is, which alone decides nothing
		{"topology.istio.io/locality", workload, ""},
		{"topology.istio.io/network", workload, ""},
		{"topology.istio.io/subzone", workload, ""},

		{"istio.io/rev", nil, "is not acted on: Fairlead reads the objects of every revision"},
		{"ambient.istio.io/", nil, noAmbient},
		{"istio.io/dataplane-mode", nil, noAmbient},
		{"istio.io/ingress-use-waypoint", nil, noWaypoint},
		{"istio.io/use-waypoint", nil, noWaypoint},
		{"istio.io/use-waypoint-canary", nil, noWaypoint},
		{"istio.io/use-waypoint-canary-namespace", nil, noWaypoint},
		{"istio.io/use-waypoint-canary-weight", nil, noWaypoint},
		{"istio.io/use-waypoint-namespace", nil, noWaypoint},
		{"networking.istio.io/traffic-distribution", entry, noLocality},
		{"networking.istio.io/exportTo", nil, "is read from a Service of Kubernetes; here the field spec.exportTo says it"},
		{tlsMode, workload, noMutualTLS},
	}
}

// istioKey names a label or annotation of Istio's that stays without effect on an
// object that is otherwise acted on.
func (v *validator) istioKey(field, key string) {
	domain, _, ok := strings.Cut(key, "/")
	if !ok || domain != "istio.io" && !strings.HasSuffix(domain, ".istio.io") || !v.acts() {
		return
	}
	var names []string
	for _, k := range istioKeys() {
		switch {
		case k.key != key && k.key != domain+"/":
			names = append(names, k.key)
		case k.kinds != nil && !slices.Contains(k.kinds, v.object.Kind):
			v.warn(field, "means nothing on a %s", v.object.Kind)
			return
		case k.why != "":
			v.warn(field, "%s", k.why)
			return
		default:
			return
		}
	}
	if near := Nearest(key, names); near != "" {
		v.warn(field, "changes nothing; did you mean %s?", near)
		return
	}
	v.warn(field, "is not acted on yet")
}

// acts reports whether the object is of one of Istio's kinds that act; of others
// it is said as a whole that they do not.
func (v *validator) acts() bool {
	return slices.Contains([]string{KindConfigMap, KindServiceEntry, KindSidecar, KindWorkloadEntry}, v.object.Kind)
}
