// Package registry folds objects into a Snapshot: which services there are, who
// owns a host, who sees it. It is pure, and incremental: a change touches what
// depends on it and nothing else.
package registry

import (
	"iter"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// STUB: owned by the objects helper; signatures are the contract.

// A Change is an object that came or changed, or, with a nil Object, went.
type Change struct {
	Key    api.Key
	Object *api.Object
}

// A Delta names what a round of changes touched.
type Delta struct {
	// Hosts are the hosts for which some namespace may now see another service,
	// or the same service changed. Sorted.
	Hosts []hostname.Name
	// Problems found by joining objects: hosts shadowed, ports claimed twice.
	// They are the problems of the hosts touched, not of all.
	Problems []api.Problem
}

// A Registry holds the objects. It is not safe for concurrent use; the
// Snapshots it returns are.
type Registry struct{}

// New returns an empty Registry.
func New(m config.Mesh) *Registry { panic("stub") }

// Apply folds changes in. The result does not depend on their order.
func (r *Registry) Apply(changes []Change) (*Snapshot, Delta) { panic("stub") }

// A Snapshot is an immutable state of the registry.
type Snapshot struct{}

// Mesh returns the mesh-wide configuration.
func (s *Snapshot) Mesh() config.Mesh { panic("stub") }

// Service returns the service that a workload of the namespace reaches under
// host, merged from all entries that contribute, or nil.
func (s *Snapshot) Service(namespace string, host hostname.Name) *mesh.Service { panic("stub") }

// Services yields every service a workload of the namespace sees, one per
// host, sorted by host.
func (s *Snapshot) Services(namespace string) iter.Seq[*mesh.Service] { panic("stub") }
