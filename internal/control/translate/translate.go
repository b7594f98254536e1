// Package translate turns what the registry knows into the resources that one
// kind of proxy is to have: clusters, endpoints, listeners, route tables, virtual
// hosts and names. It is pure and incremental: given the hosts that
// changed it makes anew what depends on them and nothing else, and the outcome
// is the same as if it had been made from scratch.
//
// Shapes and names are Istio's, so that Envoy, dashboards and people find what
// they know. Two things differ. A route table never changes: its virtual hosts
// are resources of their own (VHDS), the one for everything undeclared
// included, so that a new host costs a new host and not the table. And of types of
// our own are the names that DNS may answer, and those that the ClientHello of a
// connection may say: a listener holds no chain for a host known by that alone.
package translate

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// A View is what resources depend on beside the services: proxies with the
// same View share them.
type View struct {
	Namespace string
	Sidecar   *mesh.Sidecar // through which its services are seen; nil for none
	Capture   mesh.Capture  // by which they are reached
	Policy    mesh.OutboundPolicy
}

// A Source answers what a namespace reaches through the view's Sidecar and by its
// capture, as mesh.Reach says; registry.Scope is one.
type Source interface {
	Mesh() config.Mesh
	Service(namespace string, host hostname.Name) *mesh.Service
	Services(namespace string) iter.Seq[*mesh.Service]
}

// A Translator holds the resources of one view. It is not safe for concurrent
// use; the Sets it returns are.
type Translator struct {
	view  View
	mesh  config.Mesh
	how   *setting
	forms *forms
	hosts map[hostname.Name]*contribution
	ports map[uint16]*port
	set   *Set
	holds holds
	ended []api.Problem // by the last Update
}

// A contribution is what one service adds by itself, whatever else there is.
type contribution struct {
	service   *mesh.Service // nil if it is left undeclared
	resources []*Resource
	claims    []*claim // each on another port
	problems  []api.Problem
}

// resource returns the one of that key, or nil.
func (c *contribution) resource(k Key) *Resource {
	for _, x := range c.resources {
		if x.Key == k {
			return x
		}
	}
	return nil
}

// claim returns the one on that port, or nil.
func (c *contribution) claim(port uint16) *claim {
	for _, x := range c.claims {
		if x.port.Number == port {
			return x
		}
	}
	return nil
}

// New returns the Translator of a view with everything that src has for it.
// problems are those found by putting services on ports.
func New(view View, src Source) (t *Translator, problems []api.Problem) {
	t = &Translator{
		view:  view,
		mesh:  src.Mesh(),
		hosts: make(map[hostname.Name]*contribution),
		ports: make(map[uint16]*port),
		holds: make(holds),
	}
	t.how, t.forms = settingOf(view, t.mesh), newForms(t.mesh)
	r := t.round()
	for _, b := range base(t.how, t.mesh) {
		r.put(b)
	}
	for s := range src.Services(view.Namespace) {
		r.replace(s.Host, s)
	}
	r.finish()
	t.holds.exchange(r.past, r.present)
	return t, r.problems
}

// Set returns the resources as they are now.
func (t *Translator) Set() *Set { return t.set }

// Update follows a change of the hosts named, as src now has them. It returns
// the keys of the resources that came, changed or went, and the problems of
// everything it had to look at; Ended has those that held until now.
func (t *Translator) Update(src Source, hosts []hostname.Name) (changed []Key, problems []api.Problem) {
	r := t.round()
	for _, h := range hosts {
		r.replace(h, src.Service(t.view.Namespace, h))
	}
	r.finish()
	changed = slices.Collect(maps.Keys(r.changed))
	slices.SortFunc(changed, Key.compare)
	t.ended = t.holds.exchange(r.past, r.present)
	return changed, r.problems
}

// A round is one Update while it is made.
type round struct {
	*Translator
	changed  map[Key]*Resource
	touched  map[uint16]*touch
	renamed  map[hostname.Name]struct{} // whose names are to be made
	problems []api.Problem
	past     []api.Problem // of what is made anew: what held before,
	present  []api.Problem // and what holds now
}

// A touch is what of a port must be made anew.
type touch struct {
	any   bool                       // the listener of any address
	at    map[netip.Addr]struct{}    // listeners of single addresses
	hosts map[hostname.Name]struct{} // virtual hosts
	put   []*claim                   // that were put on it
}

func (t *Translator) round() *round {
	return &round{Translator: t, changed: make(map[Key]*Resource), touched: make(map[uint16]*touch), renamed: make(map[hostname.Name]struct{})}
}

func (r *round) put(x *Resource) { r.changed[x.Key] = x }

// replace puts s, which is nil if the host is gone, in the place of what was
// known of the host.
func (r *round) replace(host hostname.Name, s *mesh.Service) {
	r.renamed[host] = struct{}{}
	old, now := r.hosts[host], &contribution{}
	if old == nil {
		old = &contribution{}
	}
	if s == nil {
		delete(r.hosts, host)
	} else {
		now = r.forms.contribute(s, r.view.Capture.DNS())
		for _, c := range now.claims {
			c.short = api.ShortNames(host, r.view.Namespace)
		}
		r.hosts[host] = now
	}
	r.past, r.present = append(r.past, old.problems...), append(r.present, now.problems...)
	r.problems = append(r.problems, now.problems...)
	for _, x := range old.resources {
		if now.resource(x.Key) == nil {
			r.changed[x.Key] = nil
		}
	}
	for _, x := range now.resources {
		r.put(x)
	}
	for _, c := range old.claims {
		if n := c.port.Number; now.claim(n) == nil {
			r.claim(n, c, nil)
		}
	}
	for _, c := range now.claims {
		r.claim(c.port.Number, old.claim(c.port.Number), c)
	}
}

// claim puts a host's claim on a port in the place of its old one; either may
// be nil.
func (r *round) claim(n uint16, old, now *claim) {
	p := r.ports[n]
	if p == nil {
		p = newPort(n)
		r.ports[n] = p
	}
	t := r.touched[n]
	if t == nil {
		t = &touch{at: make(map[netip.Addr]struct{}), hosts: make(map[hostname.Name]struct{})}
		r.touched[n] = t
	}
	for _, c := range []*claim{old, now} {
		if c != nil && c.kind.isHTTP() {
			t.hosts[c.host()] = struct{}{}
		}
	}
	p.put(old, now, t)
	if now != nil {
		t.put = append(t.put, now)
	}
}

// finish makes the ports touched and publishes the new Set. What is left in changed
// differs from what there was.
func (r *round) finish() {
	for _, n := range slices.Sorted(maps.Keys(r.touched)) {
		r.finishPort(r.ports[n], r.touched[n])
	}
	r.rename()
	for k, x := range r.changed {
		if old := r.set.Get(k); old == x || old != nil && x != nil && old.Version == x.Version {
			delete(r.changed, k)
		}
	}
	if len(r.changed) > 0 || r.set == nil {
		r.set = r.set.With(r.changed)
	}
}

func (r *round) finishPort(p *port, t *touch) {
	hadTable := p.table
	p.table = p.requests > 0
	if p.table != hadTable {
		for _, x := range []*Resource{routeTable(p.number), catchAll(p.number, r.view.Policy)} {
			if p.table {
				r.put(x)
			} else {
				r.changed[x.Key] = nil
			}
		}
	}
	for h := range t.hosts {
		c := p.claims[h]
		if c == nil || !c.kind.isHTTP() {
			r.changed[Key{xds.VirtualHostType, xds.VirtualHostResource(tableName(p.number), string(h))}] = nil
			continue
		}
		r.put(r.forms.virtualHost(p.number, c.service, p.domains(c)))
	}
	r.finishListeners(p, t)
	if len(p.claims) == 0 {
		delete(r.ports, p.number)
	}
}

// finishListeners makes the listeners touched, and tells what claims do not get:
// all that lose in a listener that was made, and of others those that were put
// on the port.
func (r *round) finishListeners(p *port, t *touch) {
	made := make(map[*part]struct{}, len(t.at)+1)
	finish := func(x *part, anew func(*setting) *Resource) {
		made[x] = struct{}{}
		old := x.made
		r.concerned(x)
		r.past = append(r.past, x.problems...)
		x.made = anew(r.how)
		r.concerned(x)
		r.present = append(r.present, x.problems...)
		r.problems = append(r.problems, x.problems...)
		switch {
		case x.made != nil:
			r.put(x.made)
		case old != nil:
			r.changed[old.Key] = nil
		}
	}
	if t.any {
		finish(p.any, p.makeAny)
	}
	for _, ip := range slices.SortedFunc(maps.Keys(t.at), netip.Addr.Compare) {
		finish(p.at[ip], func(s *setting) *Resource { return p.makeOne(ip, s) })
		if len(p.at[ip].claims) == 0 {
			delete(p.at, ip)
		}
	}
	for _, c := range t.put {
		for x := range p.parts(c) {
			if _, told := made[x]; told || len(x.refused[c.host()]) == 0 {
				continue
			}
			for _, problem := range x.problems {
				if problem.Object == c.service.Source {
					r.problems = append(r.problems, problem)
				}
			}
		}
	}
}

// compare orders keys as they are sent: by type, then name.
func (k Key) compare(o Key) int {
	return cmp.Or(cmp.Compare(xds.TypeIndex(k.Type), xds.TypeIndex(o.Type)), cmp.Compare(k.Name, o.Name))
}
