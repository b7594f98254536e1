package control

import (
	"hash/maphash"
	"iter"
	"maps"
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A Sight is what a workload reaches at one moment, and by what. It is immutable.
type Sight struct {
	View     translate.View
	Services registry.Scope
}

// Namespaces returns the namespaces in which an object lies, and those that an
// exportTo names; sorted.
func (p *Plane) Namespaces() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.registry.Namespaces()
}

// Explain returns which entry a host belongs to for workloads of a namespace
// with those labels, and why; and all that they reach. It makes no resource, and
// leaves nothing behind in the Plane or its log.
func (p *Plane) Explain(namespace string, labels map[string]string, host hostname.Name) (registry.Explanation, Sight) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyLocked(namespace, labels, p.snapshot.Mesh().Capture())
	return p.registry.Explain(namespace, key.Sidecar, host), Sight{key, p.snapshot.Through(key.Sidecar, key.Capture)}
}

// Policy returns what happens to traffic of a workload that no object declares:
// by its Sidecar, else by the mesh, and never more open than the Plane was told.
func (p *Plane) Policy(namespace string, labels map[string]string) mesh.OutboundPolicy {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.keyLocked(namespace, labels, p.snapshot.Mesh().Capture()).Policy
}

// AccessLogOff reports whether the mesh-wide configuration wants no access log.
func (p *Plane) AccessLogOff() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.snapshot.Mesh().AccessLog.Off
}

// maxJudged bounds how many services Analyze looks at, each anew for every
// namespace that does not see just what another sees.
const maxJudged = 5_000_000

// Analyze returns what joining the objects brings to light for workloads of
// every namespace that an object lies in or names, beyond what New returned, and
// without repetition. Notes are what is worth knowing and nobody's fault. Where
// very many namespaces see very many different things, the rest is not looked
// at; skipped says of how many.
func (p *Plane) Analyze() (problems, notes []api.Problem, skipped int) {
	return p.analyze(maxJudged)
}

func (p *Plane) analyze(maxJudged int) (problems, notes []api.Problem, skipped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	seed, known := maphash.MakeSeed(), map[uint64]struct{}{}
	found := map[api.Problem]struct{}{}
	judged := 0
	var services []*mesh.Service
	for _, namespace := range p.registry.Namespaces() {
		var h maphash.Hash
		h.SetSeed(seed)
		services = slices.AppendSeq(services[:0], p.servicesLocked(p.keyLocked(namespace, nil, p.snapshot.Mesh().Capture())))
		for _, s := range services {
			maphash.WriteComparable(&h, s)
		}
		if _, ok := known[h.Sum64()]; ok { // nearly all namespaces see the same
			continue
		}
		if judged += len(services); judged > maxJudged {
			skipped++
			continue
		}
		known[h.Sum64()] = struct{}{}
		for _, x := range translate.Problems(slices.Values(services)) {
			if _, said := p.problems[x]; !said {
				found[x] = struct{}{}
			}
		}
	}
	problems = slices.Collect(maps.Keys(found))
	api.Sort(problems)
	return problems, p.registry.Notes(), skipped
}

// servicesLocked yields what a workload reaches.
func (p *Plane) servicesLocked(key translate.View) iter.Seq[*mesh.Service] {
	return p.snapshot.Through(key.Sidecar, key.Capture).Services(key.Namespace)
}
