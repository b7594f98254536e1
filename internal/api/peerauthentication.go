package api

import (
	"maps"
	"slices"
	"strconv"

	security "istio.io/api/security/v1beta1"
	typev1 "istio.io/api/type/v1beta1"
)

func (v *validator) peerAuthentication(p *security.PeerAuthentication) {
	v.workloadSelector("spec.selector", p.Selector)
	const field = "spec.portLevelMtls"
	if !v.object.has(field) {
		return
	}
	if len(p.Selector.GetMatchLabels()) == 0 {
		v.err(field, "needs a selector, as ports mean something on certain workloads only; add spec.selector.matchLabels")
	}
	if len(p.PortLevelMtls) == 0 {
		v.err(field, "names no port; name one, or remove it")
	}
	for _, number := range slices.Sorted(maps.Keys(p.PortLevelMtls)) {
		if number == 0 || number > 65535 {
			v.err(join(field, strconv.FormatUint(uint64(number), 10)), "%d is no port; use 1 to 65535", number)
		}
	}
}

// workloadSelector checks the selector of a policy, which selects by labels of
// workloads and has no wildcards.
func (v *validator) workloadSelector(field string, s *typev1.WorkloadSelector) {
	if s == nil {
		return
	}
	if len(s.MatchLabels) == 0 {
		v.warn(field, "has no labels, so the object is for every workload that its namespace reaches; remove it, or add matchLabels")
	}
	v.selectorLabels(field+".matchLabels", s.MatchLabels)
}

// policySelector checks how the kinds that do not act say whom they are for.
func (v *validator) policySelector(spec any) {
	if s, ok := spec.(interface {
		GetSelector() *typev1.WorkloadSelector
	}); ok {
		v.workloadSelector("spec.selector", s.GetSelector())
	}
	if s, ok := spec.(interface{ GetSelector() map[string]string }); ok { // of a Gateway
		v.selectorLabels("spec.selector", s.GetSelector())
	}
	given := ""
	for _, name := range []string{"spec.selector", "spec.targetRef", "spec.targetRefs"} {
		switch {
		case !v.object.has(name):
		case given != "":
			v.err(name, "cannot go with %s; remove one", given)
		default:
			given = name
		}
	}
	if s, ok := spec.(interface {
		GetTargetRef() *typev1.PolicyTargetReference
	}); ok && s.GetTargetRef() != nil {
		v.targetRef("spec.targetRef", s.GetTargetRef())
	}
	if s, ok := spec.(interface {
		GetTargetRefs() []*typev1.PolicyTargetReference
	}); ok {
		v.atMost("spec.targetRefs", len(s.GetTargetRefs()), maxTargets, "targets")
		for i, ref := range s.GetTargetRefs() {
			v.targetRef(index("spec.targetRefs", i), ref)
		}
	}
}

// maxTargets is the most objects a policy may name, as Istio's schema has it.
const maxTargets = 16

// targetRef checks how a policy names the object it is for.
func (v *validator) targetRef(field string, ref *typev1.PolicyTargetReference) {
	if ref.Kind == "" {
		v.err(field+".kind", "names no kind; write Gateway, Service or ServiceEntry")
	}
	if ref.Name == "" {
		v.err(field+".name", "names no object; name one")
	}
	if ref.Namespace != "" {
		v.err(field+".namespace", "a policy is for objects of its own namespace only; remove it")
	}
}
