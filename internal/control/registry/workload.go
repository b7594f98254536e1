package registry

import (
	"fmt"
	"maps"
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

// selects reports whether the claim has the workload for an endpoint, as far as
// labels go. A selector without labels selects nothing.
func (c claim) selects(w workload) bool {
	if len(c.service.Selector) == 0 || c.service.Resolution == mesh.None {
		return false
	}
	for key, value := range c.service.Selector {
		if v, ok := w.endpoint.Labels[key]; !ok || v != value {
			return false
		}
	}
	return true
}

// replaceWorkload exchanges one workload and touches the hosts that select it
// or did.
func (r *Registry) replaceWorkload(c Change, touched map[hostname.Name]bool) {
	all := r.workloads[c.Key.Namespace]
	if old, ok := all[c.Key]; ok {
		r.touchSelecting(c.Key.Namespace, old, touched)
		delete(all, c.Key)
	}
	if c.Object != nil {
		if e, ok := api.Workload(c.Object); ok {
			if all == nil {
				all = map[api.Key]workload{}
				r.workloads[c.Key.Namespace] = all
			}
			w := workload{endpoint: e, object: c.Object}
			all[c.Key] = w
			r.touchSelecting(c.Key.Namespace, w, touched)
		}
	}
	if len(all) == 0 {
		delete(r.workloads, c.Key.Namespace)
	}
}

func (r *Registry) touchSelecting(namespace string, w workload, touched map[hostname.Name]bool) {
	for host := range r.selecting[namespace] {
		for _, c := range r.claims[host] {
			if c.service.Namespace == namespace && c.selects(w) {
				touched[host] = true
				break
			}
		}
	}
}

// noteSelecting keeps the list of a namespace's hosts with selectors.
func (r *Registry) noteSelecting(namespace string, host hostname.Name) {
	selects := slices.ContainsFunc(r.claims[host], func(c claim) bool {
		return c.service.Namespace == namespace && len(c.service.Selector) > 0
	})
	hosts := r.selecting[namespace]
	switch {
	case selects && hosts == nil:
		r.selecting[namespace] = map[hostname.Name]bool{host: true}
	case selects:
		hosts[host] = true
	case hosts != nil:
		delete(hosts, host)
		if len(hosts) == 0 {
			delete(r.selecting, namespace)
		}
	}
}

// selected returns the claims with the workloads that each selects for its
// endpoints, and what is wrong with those it cannot use.
func (r *Registry) selected(claims []claim) ([]claim, []api.Problem) {
	var problems []api.Problem
	if !slices.ContainsFunc(claims, func(c claim) bool { return len(c.service.Selector) > 0 }) {
		return claims, nil
	}
	claims = slices.Clone(claims)
	for i, c := range claims {
		if len(c.service.Selector) == 0 || c.service.Resolution == mesh.None {
			continue
		}
		s := *c.service // the one in r.claims stays without endpoints
		all := r.workloads[s.Namespace]
		for _, key := range slices.SortedFunc(maps.Keys(all), api.Key.Compare) {
			w := all[key]
			if !c.selects(w) {
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
	for namespace, all := range r.workloads {
		selectors := r.selectors(namespace)
		for _, w := range all {
			if slices.ContainsFunc(selectors, func(c claim) bool { return c.selects(w) }) {
				continue
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

// selectors returns one claim for each selector of a namespace: many may have
// the same.
func (r *Registry) selectors(namespace string) []claim {
	var all []claim
	known := map[string]bool{}
	for host := range r.selecting[namespace] {
		for _, c := range r.claims[host] {
			if c.service.Namespace != namespace || len(c.service.Selector) == 0 || c.service.Resolution == mesh.None {
				continue
			}
			if text := selectorText(c.service.Selector); !known[text] {
				known[text] = true
				all = append(all, c)
			}
		}
	}
	return all
}
