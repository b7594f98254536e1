package api

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	meshv1 "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	security "istio.io/api/security/v1beta1"
)

// Validate applies Istio's rules and ours to one object: everything that can be
// said of it without knowing any other. It names every fault, not the first.
func Validate(o *Object) []Problem {
	v := &validator{object: o}
	v.metadata()
	switch spec := o.Spec.(type) {
	case *networking.ServiceEntry:
		v.serviceEntry(spec)
	case *meshv1.MeshConfig:
		v.meshConfig(spec)
	case *networking.Sidecar:
		v.sidecar(spec)
		v.sidecarInbound(spec)
	case *networking.WorkloadEntry:
		v.workloadEntry("spec", spec)
	case *KubeService:
		v.kubeService(spec)
	case *KubeSlice:
		v.kubeSlice(spec)
	case *networking.VirtualService:
		v.notActedOn()
		v.virtualService(spec)
	case *networking.DestinationRule:
		v.notActedOn()
		v.destinationRule(spec)
	case *security.PeerAuthentication:
		v.notActedOn()
		v.peerAuthentication(spec)
	case *networking.WorkloadGroup:
		v.workloadGroup(spec)
	default:
		v.notActedOn()
		v.policySelector(o.Spec)
	}
	Sort(v.problems)
	return v.problems
}

// notActedOn says of a kind as a whole that it changes nothing.
func (v *validator) notActedOn() {
	v.warn("", "%s is not acted on yet; the object changes nothing", v.object.Kind)
}

type validator struct {
	object   *Object
	problems []Problem
}

func (v *validator) report(s Severity, field, format string, args ...any) {
	v.problems = append(v.problems, Problem{
		Severity: s,
		Object:   v.object.Source,
		File:     v.object.Source.File,
		Line:     v.object.Line(field),
		Field:    field,
		Message:  fmt.Sprintf(format, args...),
	})
}

func (v *validator) err(field, format string, args ...any) {
	v.report(Error, field, format, args...)
}

func (v *validator) warn(field, format string, args ...any) {
	v.report(Warning, field, format, args...)
}

func (v *validator) metadata() {
	v.labels("metadata.labels", v.object.Labels)
	v.knownLabels()
	v.annotations()
}

// labels checks keys and values as the API server does.
func (v *validator) labels(field string, labels map[string]string) {
	for _, key := range slices.Sorted(maps.Keys(labels)) {
		for _, fault := range labelFaults(key, labels[key]) {
			v.err(join(field, key), "%s", fault)
		}
	}
}

// LabelFault says what keeps key and value from being a label, or "".
func LabelFault(key, value string) string { return strings.Join(labelFaults(key, value), "; ") }

func labelFaults(key, value string) (faults []string) {
	if fault := qualifiedNameFault(key); fault != "" {
		faults = append(faults, fmt.Sprintf("%s is no label: %s", quote(key), fault))
	}
	if fault := labelValueFault(value); fault != "" {
		faults = append(faults, fmt.Sprintf("%s is no value of a label: %s", quote(value), fault))
	}
	return faults
}

// qualifiedNameFault says what keeps s from being a key such as
// example.com/name, or "".
func qualifiedNameFault(s string) string {
	prefix, name, hasPrefix := strings.Cut(s, "/")
	if !hasPrefix {
		name = s
	} else if fault := subdomainFault(prefix); fault != "" {
		return "before the slash, " + fault
	}
	if name == "" {
		return "it is empty"
	}
	return labelValueFault(name)
}

// labelValueFault says what keeps s from being the value of a label, or "".
func labelValueFault(s string) string {
	alphanumeric := func(c byte) bool {
		return 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9'
	}
	switch {
	case s == "":
		return ""
	case len(s) > 63:
		return "it is longer than 63 characters"
	case !alphanumeric(s[0]) || !alphanumeric(s[len(s)-1]):
		return "it must begin and end with a letter or digit"
	}
	for i := range len(s) {
		if !alphanumeric(s[i]) && !strings.ContainsRune("-_.", rune(s[i])) {
			return "only letters, digits, '-', '_' and '.' are allowed"
		}
	}
	return ""
}
