package registry

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A sidecar is a Sidecar with its object.
type sidecar struct {
	*mesh.Sidecar
	object *api.Object
}

// precede orders the Sidecars of one namespace: the older first, then by name.
func (s sidecar) precede(o sidecar) int {
	return cmp.Or(s.Created.Compare(o.Created), strings.Compare(s.object.Name, o.object.Name))
}

// replaceSidecar exchanges one Sidecar and reports whether anything came of it.
// The lists are never written to: Snapshots hold them.
func (r *Registry) replaceSidecar(c Change) bool {
	old := r.sidecars[c.Key.Namespace]
	list := slices.DeleteFunc(slices.Clone(old), func(s sidecar) bool { return s.object.Key == c.Key })
	if c.Object != nil {
		if s := api.Sidecar(c.Object); s != nil {
			list = append(list, sidecar{s, c.Object})
			slices.SortFunc(list, sidecar.precede)
		}
	}
	if len(old) == 0 && len(list) == 0 {
		return false
	}
	all := maps.Clone(r.sidecars)
	if all == nil {
		all = make(map[string][]sidecar)
	}
	if len(list) == 0 {
		delete(all, c.Key.Namespace)
	} else {
		all[c.Key.Namespace] = list
	}
	r.sidecars = all
	return true
}

// idleSidecars tells the Sidecars of a namespace that one before them hides.
func (r *Registry) idleSidecars(namespace string) []api.Problem {
	var problems []api.Problem
	all := r.sidecars[namespace]
	for i, s := range all {
		at := slices.IndexFunc(all[:i], func(first sidecar) bool { return first.hides(s) })
		if at < 0 {
			continue
		}
		field, why := "", "is for every workload of the namespace too and comes first; remove one or give it a workloadSelector"
		if len(s.Selector) > 0 {
			field, why = "spec.workloadSelector", "selects every workload that this one does and comes first; remove one or let them select others"
		}
		problems = append(problems, claim{object: s.object}.problem(field, fmt.Sprintf("is not used: %s %s", all[at].object.Source.Where(), why)))
	}
	return problems
}

// hides reports whether no workload is left for a Sidecar that comes later.
func (s sidecar) hides(later sidecar) bool {
	if len(s.Selector) == 0 || len(later.Selector) == 0 {
		return len(s.Selector) == len(later.Selector)
	}
	return s.Selects(later.Selector)
}

// reached is a service as a workload reaches it that says nothing of its capture,
// or, if it does not, the service itself.
func (r *Registry) reached(s *mesh.Service, namespace string, sidecar *mesh.Sidecar) *mesh.Service {
	if narrowed := mesh.Reach(s, namespace, sidecar, r.mesh.Capture()); narrowed != nil {
		return narrowed
	}
	return s
}

// unreached says why no listener of a Sidecar leads a workload to a service. The
// one it is led to may be nil.
func unreached(sidecar *mesh.Sidecar, namespace string, s, owner *mesh.Service) string {
	by := sidecar.Source.Where()
	at := slices.IndexFunc(sidecar.Egress, func(l mesh.EgressListener) bool { return l.Imports(namespace, s.Namespace, s.Host) })
	switch {
	case at < 0:
		return by + " does not import the host from namespace " + s.Namespace
	case sidecar.Egress[at].Port != 0:
		return fmt.Sprintf("%s imports the host from namespace %s on port %d alone, which the entry does not declare", by, s.Namespace, sidecar.Egress[at].Port)
	case owner != nil:
		return fmt.Sprintf("%s imports the host from %s first", by, owner.Source)
	}
	return by + " has listeners of their own for the ports that the entry declares, and those do not import the host"
}

// narrowing says what a Sidecar leaves of the ports of a service that a workload
// reaches, or "".
func narrowing(sidecar *mesh.Sidecar, namespace string, s *mesh.Service) string {
	var left, past []string
	for _, p := range s.Ports {
		switch at := sidecar.Listener(namespace, s.Namespace, s.Host, p.Number); {
		case at < 0:
			left = append(left, strconv.Itoa(int(p.Number)))
		case sidecar != nil && len(sidecar.Egress) > 0 && sidecar.Egress[at].Past:
			past = append(past, strconv.Itoa(int(p.Number)))
		}
	}
	said := ""
	if len(left) > 0 {
		said += fmt.Sprintf("; %s does not import port %s of it", sidecar.Source.Where(), strings.Join(left, ", "))
	}
	if len(past) > 0 {
		said += fmt.Sprintf("; %s has captureMode NONE for port %s of it, which the proxy does not take", sidecar.Source.Where(), strings.Join(past, ", "))
	}
	return said
}

// pick returns the index of the owner that a workload of the namespace gets
// through a Sidecar, or -1: of its listeners, the first by which a port of some
// owner is reached decides. A host has one owner, as in Istio: the ports of
// another are not added to its own.
func (h *host) pick(namespace string, through *mesh.Sidecar) int {
	if through == nil || len(through.Egress) == 0 {
		return h.winner(namespace)
	}
	best, bestAt, bestGroup := -1, 0, unseen
	for i, o := range h.owners {
		g := o.group(namespace)
		if g == unseen {
			continue
		}
		at := through.First(namespace, o.service)
		if at >= 0 && (best < 0 || at < bestAt || at == bestAt && g < bestGroup) {
			best, bestAt, bestGroup = i, at, g
		}
	}
	return best
}
