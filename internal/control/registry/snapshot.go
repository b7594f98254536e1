package registry

import (
	"iter"
	"slices"
	"strings"

	"github.com/benbjohnson/immutable"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A Snapshot is an immutable state of the registry. It is safe for concurrent use.
type Snapshot struct {
	mesh     config.Mesh
	hosts    hosts
	sidecars map[string][]sidecar
}

// Mesh returns the mesh-wide configuration.
func (s *Snapshot) Mesh() config.Mesh { return s.mesh }

// Service returns the service that a workload of the namespace reaches under
// host where no Sidecar narrows what it sees, merged from all entries that
// contribute, or nil. The host is one that
// entries declare, so for "*.example.com" ask with the star.
func (s *Snapshot) Service(namespace string, host hostname.Name) *mesh.Service {
	h, ok := s.hosts.Get(host)
	if !ok {
		return nil
	}
	if i := h.winner(namespace); i >= 0 {
		return h.owners[i].service
	}
	return nil
}

// Services yields every service a workload of the namespace sees, one per
// host, sorted by host.
func (s *Snapshot) Services(namespace string) iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		for _, h := range inOrder(s.hosts, nil) {
			if i := h.winner(namespace); i >= 0 && !yield(h.owners[i].service) {
				return
			}
		}
	}
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

// A Scope is what workloads reach through one Sidecar and by one capture. It is
// immutable.
type Scope struct {
	snapshot *Snapshot
	sidecar  *mesh.Sidecar
	capture  mesh.Capture
}

// Through returns the Snapshot as workloads reach it for which the Sidecar is,
// nil narrowing nothing, and whose proxies get what the capture takes.
func (s *Snapshot) Through(sidecar *mesh.Sidecar, capture mesh.Capture) Scope {
	return Scope{s, sidecar, capture}
}

// Mesh returns the mesh-wide configuration.
func (s Scope) Mesh() config.Mesh { return s.snapshot.mesh }

// Service is Snapshot.Service through the Sidecar and by the capture: as
// mesh.Reach says.
func (s Scope) Service(namespace string, host hostname.Name) *mesh.Service {
	h, ok := s.snapshot.hosts.Get(host)
	if !ok {
		return nil
	}
	return s.reach(h, namespace)
}

// Services is Snapshot.Services through the Sidecar and by the capture.
func (s Scope) Services(namespace string) iter.Seq[*mesh.Service] {
	return func(yield func(*mesh.Service) bool) {
		for _, h := range inOrder(s.snapshot.hosts, nil) {
			if service := s.reach(h, namespace); service != nil && !yield(service) {
				return
			}
		}
	}
}

func (s Scope) reach(h *host, namespace string) *mesh.Service {
	i := h.pick(namespace, s.sidecar)
	if i < 0 {
		return nil
	}
	return mesh.Reach(h.owners[i].service, namespace, s.sidecar, s.capture)
}

// hosts are those that somebody declares. They are immutable.
type hosts = *immutable.Map[hostname.Name, *host]

// byName finds hosts.
type byName struct{}

// Hash implements immutable.Hasher.
func (byName) Hash(n hostname.Name) uint32 {
	h := uint32(2166136261)
	for i := range len(n) {
		h = (h ^ uint32(n[i])) * 16777619
	}
	return h ^ h>>15
}

// Equal implements immutable.Hasher.
func (byName) Equal(a, b hostname.Name) bool { return a == b }

// inOrder yields the hosts for which keep holds, by name; nil keeps all.
func inOrder(all hosts, keep func(hostname.Name) bool) iter.Seq2[hostname.Name, *host] {
	return func(yield func(hostname.Name, *host) bool) {
		type pair struct {
			name hostname.Name
			host *host
		}
		var sorted []pair
		if keep == nil {
			sorted = make([]pair, 0, all.Len())
		}
		for it := all.Iterator(); !it.Done(); {
			if name, h, _ := it.Next(); keep == nil || keep(name) {
				sorted = append(sorted, pair{name, h})
			}
		}
		slices.SortFunc(sorted, func(a, b pair) int { return strings.Compare(string(a.name), string(b.name)) })
		for _, p := range sorted {
			if !yield(p.name, p.host) {
				return
			}
		}
	}
}
