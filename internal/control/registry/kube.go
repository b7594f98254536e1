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

// Services of Kubernetes are claims as entries are, with three differences:
// their endpoints lie in objects of their own, no entry is merged with them, and
// entries of their namespace lend them endpoints and names.

// isKube reports whether a service is a Service of Kubernetes.
func isKube(s *mesh.Service) bool { return s.Source.Kind == api.KindService }

// replaceSlice exchanges one EndpointSlice and touches the host it belongs to,
// or did.
func (r *Registry) replaceSlice(c Change, touched map[hostname.Name]bool) {
	if old, ok := r.sliceOf[c.Key]; ok {
		touched[old] = true
		delete(r.sliceOf, c.Key)
		delete(r.slices[old], c.Key)
		if len(r.slices[old]) == 0 {
			delete(r.slices, old)
		}
	}
	if c.Object == nil {
		return
	}
	host, ok := api.SliceHost(c.Object)
	if !ok {
		return
	}
	touched[host] = true
	r.sliceOf[c.Key] = host
	if r.slices[host] == nil {
		r.slices[host] = map[api.Key]*api.Object{}
	}
	r.slices[host][c.Key] = c.Object
}

// slicesOf returns the EndpointSlices of a host in the order of their names.
func (r *Registry) slicesOf(host hostname.Name) []*api.Object {
	all := r.slices[host]
	objects := make([]*api.Object, 0, len(all))
	for _, key := range slices.SortedFunc(maps.Keys(all), api.Key.Compare) {
		objects = append(objects, all[key])
	}
	return objects
}

// orphans tells the EndpointSlices of a host that no Service has.
func (r *Registry) orphans(host hostname.Name) []api.Problem {
	var problems []api.Problem
	for _, o := range r.slicesOf(host) {
		problems = append(problems, claim{object: o}.problem("metadata.labels", fmt.Sprintf(
			"belongs to the Service of host %s, which no object declares: it changes nothing", host)))
	}
	return problems
}

// joined completes the Service of Kubernetes among the claims to a host with
// what other objects give it. It is the first of them if there is one. The
// claims have the workloads they select.
func (r *Registry) joined(host hostname.Name, claims []claim) ([]claim, []api.Problem) {
	if len(claims) == 0 || !isKube(claims[0].service) {
		return claims, r.orphans(host)
	}
	spec, ok := claims[0].object.Spec.(*api.KubeService)
	if !ok || claims[0].service.Resolution != mesh.Static { // it stands for an external name
		return claims, lendNothing(claims)
	}
	j := joiner{service: *claims[0].service, served: map[slot]bool{}}
	workloads := j.service.Endpoints
	j.service.Endpoints = nil
	for _, slice := range r.slicesOf(host) {
		for _, e := range api.SliceEndpoints(slice, spec, j.service.Ports) {
			j.add(e, e.PortFor)
		}
	}
	for _, e := range workloads {
		j.add(e, func(p mesh.Port) (uint16, bool) { return workloadPort(spec, e, p) })
	}
	for _, c := range claims[1:] {
		if c.service.Namespace == j.service.Namespace {
			j.borrow(c)
		}
	}
	if spec.Headless() {
		headless(&j.service)
	}
	claims = slices.Clone(claims)
	claims[0].service = &j.service // the one in r.claims stays without endpoints
	return claims, j.problems
}

// lendNothing tells entries that would lend endpoints to a Service without any.
func lendNothing(claims []claim) []api.Problem {
	var problems []api.Problem
	for _, c := range claims[1:] {
		if c.service.Namespace == claims[0].service.Namespace && lends(c) {
			problems = append(problems, c.problem("spec.endpoints", fmt.Sprintf(
				"are not added to %s: it stands for the external name %s", claims[0].object.Source.Where(), claims[0].service.Endpoints[0].Address)))
		}
	}
	return problems
}

// lends reports whether an entry has endpoints beside its own name.
func lends(c claim) bool {
	return slices.ContainsFunc(c.service.Endpoints, func(e mesh.Endpoint) bool { return e.Address != string(c.service.Host) })
}

// workloadPort returns the port at which a workload serves port p of a Service,
// whose target may be a name that the workload gives a number.
func workloadPort(spec *api.KubeService, e mesh.Endpoint, p mesh.Port) (uint16, bool) {
	if _, own := e.Ports[p.Name]; own {
		return e.PortFor(p)
	}
	if name := spec.TargetName(p.Number); name != "" {
		port, ok := e.Ports[name]
		return port, ok
	}
	return e.PortFor(p)
}

// A joiner gathers the endpoints of one Service.
type joiner struct {
	service  mesh.Service
	served   map[slot]bool
	problems []api.Problem
}

// add adds an endpoint for the ports that it serves, at the numbers that at
// says, but for what was added already: slices may name an endpoint twice.
func (j *joiner) add(e mesh.Endpoint, at func(mesh.Port) (uint16, bool)) {
	joined := e
	joined.Ports, joined.Serves = nil, nil
	for _, p := range j.service.Ports {
		port, ok := at(p)
		here := slot{p.Number, e.Address, port}
		if !ok || j.served[here] {
			continue
		}
		j.served[here] = true
		joined.Serves = append(joined.Serves, p.Number)
		if byDefault, _ := (mesh.Endpoint{Address: e.Address}).PortFor(p); byDefault != port {
			if joined.Ports == nil {
				joined.Ports = map[string]uint16{}
			}
			joined.Ports[p.Name] = port
		}
	}
	switch len(joined.Serves) {
	case len(j.service.Ports):
		joined.Serves = nil // none of none, too: the name leads there
	case 0:
		return
	}
	j.service.Endpoints = append(j.service.Endpoints, joined)
}

// borrow adds what an entry of the Service's namespace has for it: the names on
// its certificate, and its endpoints for ports of the same name.
func (j *joiner) borrow(c claim) {
	j.service.SubjectAltNames = unite(slices.Clip(j.service.SubjectAltNames), c.service.SubjectAltNames)
	if !lends(c) || c.service.Resolution == mesh.None {
		return
	}
	named := func(p mesh.Port) (mesh.Port, bool) {
		i := slices.IndexFunc(c.service.Ports, func(q mesh.Port) bool { return q.Name == p.Name })
		if i < 0 {
			return mesh.Port{}, false
		}
		return c.service.Ports[i], true
	}
	if !slices.ContainsFunc(j.service.Ports, func(p mesh.Port) bool { _, ok := named(p); return ok }) {
		j.problems = append(j.problems, c.problem("spec.ports", fmt.Sprintf(
			"none has the name of a port of %s, so the endpoints are not added to it; name one alike", j.service.Source.Where())))
		return
	}
	for _, e := range c.service.Endpoints {
		_, err := netip.ParseAddr(e.Address)
		if err != nil && !strings.HasPrefix(e.Address, "unix:") {
			j.problems = append(j.problems, c.problem("spec.endpoints", fmt.Sprintf(
				"%s is not added to %s: it is a host name, and the names of a Service's endpoints are not resolved; give its IP address", e.Address, j.service.Source.Where())))
			continue
		}
		j.add(e, func(p mesh.Port) (uint16, bool) {
			own, ok := named(p)
			if !ok {
				return 0, false
			}
			return e.PortFor(own)
		})
	}
}

// headless makes a service one whose name leads to its endpoints: callers choose
// among them, and what they choose is where they get, port and all. While there
// is no endpoint, requests and handshakes that name the service are answered
// so; ports whose connections name nobody are not claimed, as without an
// address they would be taken for everybody's.
func headless(s *mesh.Service) {
	var addresses []netip.Prefix
	for _, e := range s.Endpoints {
		if ip, err := netip.ParseAddr(e.Address); err == nil {
			addresses = unite(addresses, []netip.Prefix{netip.PrefixFrom(ip, ip.BitLen())})
		}
	}
	if len(addresses) == 0 {
		s.Endpoints = nil
		s.Ports = slices.DeleteFunc(slices.Clone(s.Ports), func(p mesh.Port) bool { return !p.Protocol.IsHTTP() && !p.Protocol.IsTLS() })
		return
	}
	s.Resolution, s.Addresses, s.Endpoints = mesh.None, addresses, nil
	s.Ports = slices.Clone(s.Ports)
	for i := range s.Ports {
		s.Ports[i].TargetPort = 0
	}
}
