// Package registry folds objects into a Snapshot: which services there are, who
// owns a host, who sees it. It is pure, and incremental: a change touches what
// depends on it and nothing else.
//
// The rules, in the order in which they apply:
//
//   - An entry is seen by the namespaces its exportTo names; without one, by
//     those of the mesh's default. Only a namespace that sees an entry is
//     concerned by it.
//   - Entries of one namespace that declare a host with the same resolution,
//     exportTo, workloadSelector and presence of addresses are merged: their
//     ports, addresses and endpoints are united, and the endpoints of each
//     serve the ports of each. A port number declared twice belongs to the
//     older entry; if the younger gives it another protocol, the younger does
//     not serve it.
//   - No entry is merged with a Service of Kubernetes. The entries of its own
//     namespace precede it nowhere, and lend it their endpoints, for ports of
//     the same name, and subjectAltNames.
//   - Of what remains, a namespace gets its own; else a Service of Kubernetes;
//     else what is exported to it by name; else what is public. Inside each of these groups age decides, then
//     the name of the object, then its namespace. An object without a date
//     counts as older than any with one.
//   - An entry with a workloadSelector has the WorkloadEntries of its namespace
//     with those labels for endpoints, as far as its resolution can use them.
//     A Service of Kubernetes has them beside those of its EndpointSlices.
//   - A host whose owners list no addresses gets virtual ones, the same for
//     every namespace, unless nothing but the caller's own address can lead to
//     it (NONE), or it is a wildcard, or its entry says no. None is one that an
//     object declares.
//   - Whoever loses anything by these rules is told in a Problem.
package registry

import (
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	"github.com/benbjohnson/immutable"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/vip"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A Change is an object that came or changed, or, with a nil Object, went.
type Change struct {
	Key    api.Key
	Object *api.Object
	// Moved says that the object says what it said before, at another place.
	// What is told of its origin follows; it is no news for anybody's log.
	Moved bool
}

// A Delta names what a round of changes touched.
type Delta struct {
	// Hosts are the hosts for which some namespace may now see another service,
	// or the same service changed. Sorted.
	Hosts []hostname.Name
	// Mesh says that the mesh-wide configuration changed.
	Mesh bool
	// Sidecars says that another Sidecar may apply to some workload.
	Sidecars bool
	// Problems found by joining objects: hosts shadowed, ports claimed twice.
	// They are the problems of the hosts touched, not of all.
	Problems []api.Problem
	// Ended are problems that held until now.
	Ended []api.Problem
}

// A Registry holds the objects. It is not safe for concurrent use; the
// Snapshots it returns are.
type Registry struct {
	base    config.Mesh // where no object says otherwise
	mesh    config.Mesh
	objects map[api.Key][]claim
	claims  map[hostname.Name][]claim // each list in order of precedence
	hosts   hosts
	vips    *vip.Pool
	waiting map[hostname.Name]bool // hosts that got no virtual address because there was none left

	workloads workloads
	selectors selectors                                 // of claims
	slices    map[hostname.Name]map[api.Key]*api.Object // EndpointSlices, by the host of their Service
	sliceOf   map[api.Key]hostname.Name                 // the same the other way round
	sidecars  map[string][]sidecar                      // by namespace, in order of precedence; never written to, as Snapshots hold it

	told     map[hostname.Name][]api.Problem // what holds of hosts
	toldIdle map[string][]api.Problem        // what holds of the Sidecars of a namespace
}

// New returns an empty Registry; m is the mesh-wide configuration where no object
// says otherwise.
func New(m config.Mesh) *Registry {
	return &Registry{
		base:    m,
		mesh:    m,
		vips:    vip.New(m.VirtualIPv4, m.VirtualIPv6),
		waiting: map[hostname.Name]bool{},
		objects: map[api.Key][]claim{},
		claims:  map[hostname.Name][]claim{},
		hosts:   immutable.NewMap[hostname.Name, *host](byName{}),

		workloads: newWorkloads(),
		selectors: newSelectors(),
		slices:    map[hostname.Name]map[api.Key]*api.Object{},
		sliceOf:   map[api.Key]hostname.Name{},

		told:     map[hostname.Name][]api.Problem{},
		toldIdle: map[string][]api.Problem{},
	}
}

// Apply folds changes in. The result does not depend on their order, unless
// they name an object twice: then the last holds. (Of two hosts whose names
// point to one virtual address, who came first has it.) Objects must be valid.
// The time is for virtual addresses that rest.
func (r *Registry) Apply(now time.Time, changes []Change) (*Snapshot, Delta) {
	var delta Delta
	touched := r.fold(changes, &delta)
	settle := func(name hostname.Name) {
		changed, problems := r.settle(now, name)
		if changed {
			delta.Hosts = append(delta.Hosts, name)
		}
		tell(&delta, r.told, name, problems)
	}
	for _, name := range slices.Sorted(maps.Keys(touched)) {
		settle(name)
	}
	for _, name := range r.stillWaiting(now, touched) {
		if settle(name); r.waiting[name] {
			break // nor is there one for those after it
		}
	}
	slices.Sort(delta.Hosts)
	api.Sort(delta.Problems)
	api.Sort(delta.Ended)
	return &Snapshot{mesh: r.mesh, hosts: r.hosts, sidecars: r.sidecars}, delta
}

// fold takes the changes in and returns the hosts that depend on them.
func (r *Registry) fold(changes []Change, delta *Delta) (touched map[hostname.Name]bool) {
	touched = map[hostname.Name]bool{}
	sidecars := map[string]bool{} // namespaces whose Sidecars changed
	for _, c := range changes {
		switch c.Key.Kind {
		case api.KindWorkloadEntry:
			r.replaceWorkload(c, touched)
		case api.KindEndpointSlice:
			r.replaceSlice(c, touched)
		case api.KindSidecar:
			if r.replaceSidecar(c) {
				sidecars[c.Key.Namespace] = true
			}
		case api.KindConfigMap:
			delta.Mesh = r.replaceMesh(c, touched) || delta.Mesh
		default:
			r.replace(c, touched)
		}
	}
	delta.Sidecars = len(sidecars) > 0
	for namespace := range sidecars {
		tell(delta, r.toldIdle, namespace, r.idleSidecars(namespace))
	}
	return touched
}

// tell puts problems in the place of those that held of one thing.
func tell[T comparable](d *Delta, all map[T][]api.Problem, of T, now []api.Problem) {
	d.Problems = append(d.Problems, now...)
	if old := all[of]; len(old) > 0 {
		still := make(map[api.Problem]struct{}, len(now))
		for _, x := range now {
			still[x] = struct{}{}
		}
		for _, x := range old {
			if _, ok := still[x]; !ok {
				d.Ended = append(d.Ended, x)
			}
		}
	}
	if len(now) > 0 {
		all[of] = now
	} else {
		delete(all, of)
	}
}

// replaceMesh exchanges the mesh-wide configuration and reports whether it
// changed. Hosts depend on two things that it says.
func (r *Registry) replaceMesh(c Change, touched map[hostname.Name]bool) bool {
	if !c.Key.IsMesh() {
		return false
	}
	m := r.base
	if c.Object != nil {
		m = api.Mesh(c.Object, r.base)
	}
	if reflect.DeepEqual(m, r.mesh) {
		return false
	}
	if !slices.Equal(m.DefaultServiceExportTo, r.mesh.DefaultServiceExportTo) {
		for host := range r.claims {
			touched[host] = true
		}
	}
	if m.VirtualIPv4 != r.mesh.VirtualIPv4 || m.VirtualIPv6 != r.mesh.VirtualIPv6 {
		r.vips.Use(m.VirtualIPv4, m.VirtualIPv6) // for hosts that have none: the others keep theirs
		for host := range r.waiting {
			touched[host] = true
		}
		for host, claims := range r.claims {
			if slices.ContainsFunc(claims, func(c claim) bool {
				return slices.ContainsFunc(c.service.Addresses, func(at netip.Prefix) bool { return virtualRange(m, at).IsValid() })
			}) {
				touched[host] = true
			}
		}
	}
	r.mesh = m
	return true
}

// replace exchanges the claims of one object.
func (r *Registry) replace(c Change, touched map[hostname.Name]bool) {
	for _, old := range r.objects[c.Key] {
		name := old.service.Host
		touched[name] = true
		for _, at := range old.service.Addresses {
			r.vips.Free(at)
		}
		r.claims[name] = slices.DeleteFunc(r.claims[name], func(other claim) bool { return other.object.Key == c.Key })
		if len(r.claims[name]) == 0 {
			delete(r.claims, name)
		}
		r.selectors.remove(old)
	}
	delete(r.objects, c.Key)
	if c.Object == nil {
		return
	}
	services := api.Services(c.Object)
	if len(services) == 0 {
		return
	}
	claims := make([]claim, 0, len(services))
	for _, s := range services {
		claim := claim{service: s, object: c.Object}
		claims = append(claims, claim)
		touched[s.Host] = true
		for _, at := range s.Addresses {
			r.vips.Reserve(at) // somebody is there
		}
		list := r.claims[s.Host]
		at, _ := slices.BinarySearchFunc(list, claim, claim.compare)
		r.claims[s.Host] = slices.Insert(list, at, claim)
		r.selectors.add(claim)
	}
	r.objects[c.Key] = claims
}

// settle works out one host anew.
func (r *Registry) settle(at time.Time, name hostname.Name) (changed bool, problems []api.Problem) {
	before, existed := r.hosts.Get(name)
	claims := r.claims[name]
	if len(claims) == 0 {
		if existed {
			r.hosts = r.hosts.Delete(name)
			r.vips.Release(name, at)
			delete(r.waiting, name)
		}
		return existed, r.orphans(name)
	}
	now := &contest{}
	claims, problems = r.selected(claims)
	claims, more := r.joined(name, claims)
	problems = append(problems, more...)
	if len(claims) == 1 { // nearly all
		now.owners = []owner{r.owner(claims[0].service)}
	} else {
		problems = append(problems, r.contend(now, claims)...)
	}
	problems = append(problems, r.address(at, name, now)...)
	problems = append(problems, r.amongVirtual(claims)...)
	if existed && reflect.DeepEqual(before.owners, now.owners) {
		return false, problems
	}
	r.hosts = r.hosts.Set(name, hostOf(now.owners))
	return true, problems
}

func (r *Registry) owner(s *mesh.Service) owner {
	return owner{service: s, audience: audienceOf(s, r.mesh.DefaultServiceExportTo)}
}

// contend sorts several claims to one host into classes and merges each.
func (r *Registry) contend(c *contest, claims []claim) []api.Problem {
	for _, claim := range claims {
		o := r.owner(claim.service)
		class := classOf(o)
		i := slices.Index(c.classes, class)
		if i < 0 {
			i = len(c.classes)
			c.classes = append(c.classes, class)
			c.claims = append(c.claims, nil)
			c.owners = append(c.owners, o)
		}
		c.claims[i] = append(c.claims[i], claim)
	}
	var problems []api.Problem
	for i := range c.owners {
		s, faults := merge(c.claims[i])
		c.owners[i].service = s
		problems = append(problems, faults...)
	}
	return append(problems, c.shadows()...)
}
