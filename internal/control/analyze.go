package control

import (
	"maps"
	"reflect"
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// Explain returns which entry a host belongs to for workloads of a namespace
// with those labels, and why; and what happens to what no object declares to them.
func (p *Plane) Explain(namespace string, labels map[string]string, host hostname.Name) (registry.Explanation, mesh.OutboundPolicy) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(namespace, labels, mesh.Capture{})
	return p.registry.Explain(namespace, key.Sidecar, host), key.Policy
}

// Policy returns what happens to traffic of a workload that no object declares:
// by its Sidecar, else by the mesh, and never more open than the Plane was told.
func (p *Plane) Policy(namespace string, labels map[string]string) mesh.OutboundPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keyLocked(namespace, labels, mesh.Capture{}).Policy
}

// Mesh returns the mesh-wide configuration as it is now.
func (p *Plane) Mesh() config.Mesh {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot.Mesh()
}

// maxViews bounds how many different views Analyze works out: each costs as
// much as all the objects it sees.
const maxViews = 64

// Analyze returns what joining the objects brings to light for workloads of
// every namespace that an object lies in or names, beyond what New returned, and
// without repetition. Notes are what is worth knowing and nobody's fault. Where
// namespaces see more than maxViews different things, the rest is not looked at;
// skipped says of how many.
func (p *Plane) Analyze() (problems, notes []api.Problem, skipped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var known []outlook // of views that were worked out
	for key := range p.views {
		known = append(known, p.outlookLocked(key))
	}
	found := map[api.Problem]struct{}{}
	worked := 0
	for _, namespace := range p.registry.Namespaces() {
		key := p.keyLocked(namespace, nil, mesh.Capture{})
		o := p.outlookLocked(key)
		if slices.ContainsFunc(known, o.equal) {
			continue
		}
		if worked++; worked > maxViews {
			skipped++
			continue
		}
		known = append(known, o)
		_, more := translate.New(key, p.snapshot.Through(key.Sidecar, key.Capture))
		for _, x := range more {
			if _, said := p.problems[x]; !said {
				found[x] = struct{}{}
			}
		}
	}
	problems = slices.Collect(maps.Keys(found))
	api.Sort(problems)
	return problems, p.registry.Notes(), skipped
}

// An outlook is what the problems of a view come from: nearly all namespaces
// have the same.
type outlook struct {
	policy   mesh.OutboundPolicy
	services []*mesh.Service
}

func (o outlook) equal(other outlook) bool {
	return o.policy == other.policy && slices.EqualFunc(o.services, other.services, func(a, b *mesh.Service) bool {
		// What a Sidecar narrows is made anew each time.
		return a == b || a.Host == b.Host && a.Source == b.Source && reflect.DeepEqual(a, b)
	})
}

func (p *Plane) outlookLocked(key translate.View) outlook {
	return outlook{key.Policy, slices.Collect(p.snapshot.Through(key.Sidecar, key.Capture).Services(key.Namespace))}
}
