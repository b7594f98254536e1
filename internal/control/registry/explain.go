package registry

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// An Explanation is the decision whose service a workload of a namespace reaches
// under a host, with its reasons.
type Explanation struct {
	Host      hostname.Name
	Namespace string
	Sidecar   *mesh.Sidecar // the workload's; nil if it has none
	// Owner has the host; nil if nobody declares it to the namespace.
	Owner *Standing
	// Others declare the very host and do not have it, in order of precedence;
	// those that the namespace does not see come last. After them come those that
	// declare a wildcard that the host falls under, and do not have that.
	Others []Standing
	// Wildcards are the owners of wildcard hosts that the host falls under, the
	// longest first: the first has what the Owner does not declare.
	Wildcards []Standing
}

// A Standing is how one service stands in an Explanation.
type Standing struct {
	Service *mesh.Service
	Merged  []mesh.Ref // the objects it was merged from, if they are several
	Reason  string     // why it has the host or not: the end of a sentence
}

// Explain returns the decision for a host and the workloads of a namespace that
// have the Sidecar, which may be nil. It is that of Scope.Service in the Snapshot
// returned last. The cost grows with the length of the host and the number of
// entries that claim it.
func (r *Registry) Explain(namespace string, sidecar *mesh.Sidecar, host hostname.Name) Explanation {
	e := Explanation{Host: host, Namespace: namespace, Sidecar: sidecar}
	e.Owner, e.Others = r.explainOne(namespace, sidecar, host)
	for wildcard := range wildcardsOver(host) {
		owner, others := r.explainOne(namespace, sidecar, wildcard)
		if owner != nil {
			e.Wildcards = append(e.Wildcards, *owner)
		}
		e.Others = append(e.Others, others...)
	}
	return e
}

// wildcardsOver yields the wildcards that the host falls under, longest first.
func wildcardsOver(host hostname.Name) func(yield func(hostname.Name) bool) {
	return func(yield func(hostname.Name) bool) {
		text := strings.TrimPrefix(string(host), "*")
		for i := 1; i <= len(text); i++ {
			if wildcard := hostname.Name("*" + text[i:]); wildcard != host && !yield(wildcard) {
				return
			}
		}
	}
}

// explainOne explains who has the very host, wildcard or not.
func (r *Registry) explainOne(namespace string, sidecar *mesh.Sidecar, host hostname.Name) (owner *Standing, others []Standing) {
	settled, ok := r.hosts.Get(host)
	if !ok {
		return nil, nil
	}
	c := &contest{}
	r.contend(c, r.claims[host])
	winner := c.pick(namespace, sidecar)
	var hidden []Standing
	for i, o := range c.owners {
		s := Standing{Service: settled.owners[i].service}
		if len(c.claims[i]) > 1 {
			for _, claim := range c.claims[i] {
				s.Merged = append(s.Merged, claim.object.Source)
			}
		}
		switch {
		case i == winner:
			s.Reason = title(o, namespace) + narrowing(sidecar, namespace, o.service)
			s.Service = r.reached(s.Service, namespace, sidecar)
			owner = &s
		case o.group(namespace) == unseen:
			s.Reason = "its exportTo does not show it to namespace " + namespace + ": " + shownTo(o.audience)
			hidden = append(hidden, s)
		case sidecar.First(namespace, o.service) < 0:
			var had *mesh.Service
			if winner >= 0 {
				had = c.owners[winner].service
			}
			s.Reason = unreached(sidecar, namespace, o.service, had)
			others = append(others, s)
		case sidecar.First(namespace, o.service) > sidecar.First(namespace, c.owners[winner].service):
			s.Reason = fmt.Sprintf("%s imports the host from %s first", sidecar.Source.Where(), c.owners[winner].service.Source)
			others = append(others, s)
		default:
			s.Reason = fmt.Sprintf("%s %s", c.owners[winner].service.Source, c.reason(winner, i, namespace))
			if lent := isKube(c.owners[winner].service) && o.service.Namespace == c.owners[winner].service.Namespace; lent {
				s.Reason += "; only endpoints, for ports of the same name, and subjectAltNames are used, for that Service"
			}
			others = append(others, s)
		}
	}
	return owner, append(others, hidden...)
}

// title says by what an owner has its host in a namespace.
func title(o owner, namespace string) string {
	switch o.group(namespace) {
	case ownNamespace:
		return "it lies in namespace " + namespace
	case kubernetes:
		return "it is a Kubernetes Service that namespace " + namespace + " sees"
	case exportedByName:
		return "it is exported to namespace " + namespace + " by name"
	}
	return "it is exported to every namespace"
}

// shownTo says who sees what an audience sees, which is not public.
func shownTo(a audience) string {
	if len(a.names) == 0 {
		return "nobody sees it"
	}
	return "only " + strings.Join(a.names, ", ") + " can see it"
}

// Notes returns what is worth knowing of the whole and no fault of anybody:
// wildcards whose traffic entries of other namespaces take, entries that nobody
// can be seen to use, imports of nothing, and workloads that nothing selects. Each is a Problem of severity Warning, sorted.
func (r *Registry) Notes() []api.Problem {
	inhabited := map[string]bool{}
	for key := range r.objects {
		inhabited[key.Namespace] = true
	}
	for namespace := range r.workloads.all {
		inhabited[namespace] = true
	}
	for namespace := range r.sidecars {
		inhabited[namespace] = true
	}
	var notes []api.Problem
	for name, h := range inOrder(r.hosts, nil) {
		for _, o := range h.owners {
			if note, ok := unused(o, inhabited); ok {
				notes = append(notes, note)
			}
		}
		notes = append(notes, r.takenBy(name, h)...)
	}
	notes = append(notes, r.vainImports()...)
	notes = append(notes, r.idleWorkloads()...)
	api.Sort(notes)
	return slices.Compact(notes)
}

// Namespaces returns the namespaces in which an object lies that declares
// something, and those that an exportTo names; sorted.
func (r *Registry) Namespaces() []string {
	all := map[string]bool{}
	for key := range r.objects {
		all[key.Namespace] = true
	}
	for namespace := range r.sidecars {
		all[namespace] = true
	}
	for hosts := r.hosts.Iterator(); !hosts.Done(); { // in any order
		_, h, _ := hosts.Next()
		for _, o := range h.owners {
			for _, namespace := range o.audience.names {
				all[namespace] = true
			}
		}
	}
	return slices.Sorted(maps.Keys(all))
}

// unused notes that nobody, as far as the objects show, sees a service.
func unused(o owner, inhabited map[string]bool) (api.Problem, bool) {
	if o.audience.public || slices.ContainsFunc(o.audience.names, func(n string) bool { return inhabited[n] }) {
		return api.Problem{}, false
	}
	field, what := "spec.exportTo", "this entry"
	if isKube(o.service) {
		field, what = "metadata.annotations", "this Service"
	}
	message := "exportTo names nobody, so no namespace sees " + what
	if names := o.audience.names; len(names) > 0 {
		message = fmt.Sprintf("only namespace %s sees %s, and no object lies there; is the name right?", strings.Join(names, ", "), what)
	}
	return noteOn(o.service, field, message), true
}

// takenBy notes the wildcards that lose, in their own namespace, traffic to the
// service that owns a host there and belongs to another.
func (r *Registry) takenBy(name hostname.Name, h *host) []api.Problem {
	now := &Snapshot{mesh: r.mesh, hosts: r.hosts, sidecars: r.sidecars}
	var notes []api.Problem
	for wildcard := range wildcardsOver(name) {
		if len(r.claims[wildcard]) == 0 { // nearly always, and cheaper to ask
			continue
		}
		w, _ := r.hosts.Get(wildcard)
		for i, under := range w.owners {
			namespace := under.service.Namespace
			sidecar := now.Sidecar(namespace, nil)
			at := h.pick(namespace, sidecar)
			if at < 0 || w.pick(namespace, sidecar) != i {
				continue
			}
			taker := h.owners[at].service
			if ports := commonPorts(r.reached(under.service, namespace, sidecar), r.reached(taker, namespace, sidecar)); ports != "" && taker.Namespace != namespace {
				notes = append(notes, noteOn(under.service, "spec.hosts", fmt.Sprintf(
					"host %s of %s, which namespace %s sees as well, takes what goes to it on %s from %s: the longer name wins",
					name, taker.Source.Where(), namespace, ports, wildcard)))
			}
		}
	}
	return notes
}

// commonPorts names the ports that both declare, or returns "".
func commonPorts(a, b *mesh.Service) string {
	var common []string
	for _, p := range a.Ports {
		if slices.ContainsFunc(b.Ports, func(q mesh.Port) bool { return q.Number == p.Number }) {
			common = append(common, strconv.Itoa(int(p.Number)))
		}
	}
	switch len(common) {
	case 0:
		return ""
	case 1:
		return "port " + common[0]
	}
	return "ports " + strings.Join(common, ", ")
}

func noteOn(s *mesh.Service, field, message string) api.Problem {
	return api.Problem{Severity: api.Warning, Object: s.Source, File: s.Source.File, Line: s.Source.Line, Field: field, Message: message}
}
