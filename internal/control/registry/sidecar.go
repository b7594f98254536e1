package registry

import (
	"cmp"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
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

// idleSidecars tells the Sidecars for a whole namespace that an older one hides.
func (r *Registry) idleSidecars(namespaces map[string]bool) []api.Problem {
	var problems []api.Problem
	for _, namespace := range slices.Sorted(maps.Keys(namespaces)) {
		var first *sidecar
		for _, s := range r.sidecars[namespace] {
			switch {
			case len(s.Selector) > 0:
			case first == nil:
				first = &s
			default:
				problems = append(problems, claim{object: s.object}.problem("", fmt.Sprintf(
					"is not used: %s is for every workload of the namespace too and comes first; remove one or give it a workloadSelector",
					first.object.Source.Where())))
			}
		}
	}
	return problems
}

// Sidecar returns the Sidecar for a workload with those labels: the first of
// its namespace that selects it, else that for its whole namespace, else that
// for the whole root namespace; nil if there is none. The same pointer means
// the same Sidecar.
func (s *Snapshot) Sidecar(namespace string, labels map[string]string) *mesh.Sidecar {
	own := s.sidecars[namespace]
	for _, c := range own {
		if len(c.Selector) > 0 && c.Selects(labels) {
			return c.Sidecar
		}
	}
	for _, list := range [][]sidecar{own, s.sidecars[s.mesh.RootNamespace]} {
		for _, c := range list {
			if len(c.Selector) == 0 {
				return c.Sidecar
			}
		}
	}
	return nil
}

// A Scope is what workloads see through one Sidecar. It is immutable.
type Scope struct {
	snapshot *Snapshot
	sidecar  *mesh.Sidecar
}

// Through returns the Snapshot as workloads see it for which the Sidecar is;
// nil narrows nothing.
func (s *Snapshot) Through(sidecar *mesh.Sidecar) Scope { return Scope{s, sidecar} }

// Mesh returns the mesh-wide configuration.
func (s Scope) Mesh() config.Mesh { return s.snapshot.mesh }

// Service is Snapshot.Service through the Sidecar.
func (s Scope) Service(namespace string, host hostname.Name) *mesh.Service {
	h, ok := s.snapshot.hosts.Get(host)
	if !ok {
		return nil
	}
	if i := h.pick(namespace, host, s.sidecar); i >= 0 {
		return h.owners[i].service
	}
	return nil
}

// Services is Snapshot.Services through the Sidecar.
func (s Scope) Services(namespace string) iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		for all := s.snapshot.hosts.Iterator(); !all.Done(); {
			host, h, _ := all.Next()
			if i := h.pick(namespace, host, s.sidecar); i >= 0 && !yield(h.owners[i].service) {
				return
			}
		}
	}
}

// pick returns the index of the owner that a workload of the namespace gets
// through a Sidecar, or -1: of its listeners, the first that imports the host
// from some owner decides.
func (h *host) pick(namespace string, name hostname.Name, through *mesh.Sidecar) int {
	if through == nil || len(through.Egress) == 0 {
		return h.winner(namespace)
	}
	for _, l := range through.Egress {
		best, bestGroup := -1, unseen
		for i, o := range h.owners {
			if g := o.group(namespace); g < bestGroup && l.Imports(namespace, o.service.Namespace, name) {
				best, bestGroup = i, g
			}
		}
		if best >= 0 {
			return best
		}
	}
	return -1
}
