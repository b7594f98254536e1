package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A workload is a WorkloadEntry and the endpoint it describes.
type workload struct {
	endpoint mesh.Endpoint
	object   *api.Object
}

// replaceWorkload exchanges one workload and touches the hosts that select it
// or did.
func (r *Registry) replaceWorkload(c Change, touched map[hostname.Name]bool) {
	if old := r.workloads.remove(c.Key); old != nil {
		r.touchSelecting(old, touched)
	}
	if c.Object == nil {
		return
	}
	if e, ok := api.Workload(c.Object); ok {
		w := &workload{endpoint: e, object: c.Object}
		r.workloads.add(w)
		r.touchSelecting(w, touched)
	}
}

func (r *Registry) touchSelecting(w *workload, touched map[hostname.Name]bool) {
	for s := range r.selectors.of(w) {
		for host := range s.hosts {
			touched[host] = true
		}
	}
}

// selected returns the claims with the workloads that each selects for its
// endpoints, and what is wrong with those it cannot use.
func (r *Registry) selected(claims []claim) ([]claim, []api.Problem) {
	var problems []api.Problem
	if !slices.ContainsFunc(claims, func(c claim) bool { return hasSelector(c.service) }) {
		return claims, nil
	}
	claims = slices.Clone(claims)
	for i, c := range claims {
		if !hasSelector(c.service) {
			continue
		}
		s := *c.service // the one in r.claims stays without endpoints
		for _, w := range r.workloads.near(s.Namespace, s.Selector) {
			if !covers(s.Selector, w.endpoint.Labels) {
				continue
			}
			if fault := unusable(&s, w.endpoint); fault != "" {
				problems = append(problems, claim{object: w.object}.problem("spec.address", fmt.Sprintf(
					"is no endpoint of host %s, which %s declares: %s", s.Host, c.object.Source.Where(), fault)))
				continue
			}
			s.Endpoints = append(s.Endpoints, w.endpoint)
		}
		if len(s.Endpoints) == 0 && !isKube(&s) {
			problems = append(problems, c.problem("spec.workloadSelector", fmt.Sprintf(
				"selects no WorkloadEntry of namespace %s that can be used, so host %s has no endpoint: every request is answered 503", s.Namespace, s.Host)))
		}
		claims[i].service = &s
	}
	return claims, problems
}

// unusable says why a workload cannot be an endpoint of a service, or "".
func unusable(s *mesh.Service, e mesh.Endpoint) string {
	unix := strings.HasPrefix(e.Address, "unix:")
	_, err := netip.ParseAddr(e.Address)
	switch {
	case unix && s.Resolution != mesh.Static:
		return "a unix socket needs resolution STATIC, not " + s.Resolution.String()
	case unix && len(s.Ports) != 1 && isKube(s):
		return fmt.Sprintf("a unix socket serves one port, and the Service declares %d", len(s.Ports))
	case unix && len(s.Ports) != 1:
		return fmt.Sprintf("a unix socket serves one port, and the entry declares %d", len(s.Ports))
	case !unix && err != nil && isKube(s):
		return "its address is a host name, and the names of a Service's endpoints are not resolved; give its IP address"
	case !unix && err != nil && s.Resolution == mesh.Static:
		return "its address is a host name, and STATIC does not resolve names; give its IP address, or write resolution: DNS there"
	case s.Resolution == mesh.DNSRoundRobin && len(s.Endpoints) > 0:
		return "DNS_ROUND_ROBIN takes one endpoint only, and has " + s.Endpoints[0].Address
	}
	return ""
}

// idleWorkloads notes the WorkloadEntries that no entry and no Service selects.
func (r *Registry) idleWorkloads() []api.Problem {
	var notes []api.Problem
	for namespace, all := range r.workloads.all {
	next:
		for _, w := range all {
			for range r.selectors.of(w) {
				continue next
			}
			field, why := "spec.labels", "no ServiceEntry and no Service of namespace "+namespace+" selects it by its labels"
			if len(w.endpoint.Labels) == 0 {
				field, why = "spec", "it has no labels by which it could be selected"
			}
			notes = append(notes, claim{object: w.object}.problem(field, why+", so nothing leads to it"))
		}
	}
	return notes
}
