package registry

import (
	"fmt"
	"maps"
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// vainImports notes what Sidecars import and nothing declares, as far as their
// workloads see.
func (r *Registry) vainImports() []api.Problem {
	var notes []api.Problem
	var near vicinity
	for _, namespace := range slices.Sorted(maps.Keys(r.sidecars)) {
		for _, s := range r.sidecars[namespace] {
			// The root namespace's is for workloads of any.
			viewer := namespace
			if namespace == r.mesh.RootNamespace && len(s.Selector) == 0 {
				viewer = anyViewer
			}
			for i, l := range s.Egress {
				for _, p := range l.Import {
					if fault := r.vain(viewer, s.Egress, l, p, &near); fault != "" {
						notes = append(notes, api.Problem{
							Severity: api.Warning, Object: s.Source, File: s.Source.File,
							Line: s.object.Line(fmt.Sprintf("spec.egress[%d].hosts", i)), Field: fmt.Sprintf("spec.egress[%d].hosts", i),
							Message: fmt.Sprintf("%s/%s imports nothing: %s", p.Namespace, p.Host, fault),
						})
					}
				}
			}
		}
	}
	return notes
}

// anyViewer stands for workloads of every namespace. No namespace has that name.
const anyViewer = "*"

// vain says why a pattern of one of the listeners imports nothing for workloads of
// the viewer's namespace, or "". Patterns for all that a namespace has, or all there
// is, are no claim that there is something.
func (r *Registry) vain(viewer string, egress []mesh.EgressListener, l mesh.EgressListener, p mesh.HostPattern, near *vicinity) string {
	if p.Host == "*" {
		return ""
	}
	unseenBy, elsewhere, otherPorts, taken := "", "", "", ""
	for name, h := range r.under(p.Host) {
		for _, o := range h.owners {
			s := o.service
			switch {
			case !p.Covers(viewer, s.Namespace, name) && (p.Namespace != "." || viewer != anyViewer):
				elsewhere = s.Namespace
			case viewer != anyViewer && o.group(viewer) == unseen:
				unseenBy = s.Source.Where()
			case l.Port != 0 && !slices.ContainsFunc(s.Ports, func(q mesh.Port) bool { return q.Number == l.Port }):
				otherPorts = s.Source.Where()
			case l.Port == 0 && othersHave(egress, viewer, s):
				taken = s.Source.Where()
			default:
				return ""
			}
		}
	}
	switch {
	case taken != "":
		return fmt.Sprintf("every port that %s declares has a listener of its own, and this one has the others; list the host there", taken)
	case otherPorts != "":
		return fmt.Sprintf("%s does not declare port %d, for which the listener is", otherPorts, l.Port)
	case unseenBy != "":
		return fmt.Sprintf("the exportTo of %s does not show it to namespace %s", unseenBy, viewer)
	case elsewhere != "":
		return fmt.Sprintf("it is declared in namespace %s; write %s/%s", elsewhere, elsewhere, p.Host)
	}
	fault := "nothing declares such a host"
	if host := near.to(r, p.Host); host != "" {
		fault += "; did you mean " + host + "?"
	}
	return fault
}

// othersHave reports whether listeners for single ports leave nothing of a service
// to one for all others.
func othersHave(egress []mesh.EgressListener, viewer string, s *mesh.Service) bool {
	return len(s.Ports) > 0 && !slices.ContainsFunc(s.Ports, func(p mesh.Port) bool {
		return !slices.ContainsFunc(egress, func(l mesh.EgressListener) bool {
			return l.Port == p.Number && (!l.Past || l.Imports(viewer, s.Namespace, s.Host))
		})
	})
}

// under yields the hosts that a pattern's host stands for.
func (r *Registry) under(pattern hostname.Name) func(yield func(hostname.Name, *host) bool) {
	return func(yield func(hostname.Name, *host) bool) {
		if !pattern.IsWildcard() {
			if h, ok := r.hosts.Get(pattern); ok {
				yield(pattern, h)
			}
			return
		}
		inOrder(r.hosts, func(name hostname.Name) bool { return name.SubsetOf(pattern) })(yield)
	}
}

// A vicinity finds the host that was meant. It looks a bounded number of times:
// each costs as much as there are hosts.
type vicinity struct {
	hosts []string
	asked int
}

const mostVicinities = 100

func (v *vicinity) to(r *Registry, host hostname.Name) string {
	if v.asked++; v.asked > mostVicinities {
		return ""
	}
	if v.hosts == nil {
		for name := range inOrder(r.hosts, nil) {
			v.hosts = append(v.hosts, string(name))
		}
	}
	return api.Nearest(string(host), v.hosts)
}
