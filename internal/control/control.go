// Package control assembles the control plane: files are read and followed, the
// registry joins their objects, each view is translated, and the outcome served
// to proxies. What a change costs is what the change is, from file to proxy.
package control

import (
	"cmp"
	"context"
	"errors"
	"io"
	"log/slog"
	"maps"
	"net"
	"slices"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/run"
)

// Options of a Plane.
type Options struct {
	Paths     []string            // files, folders, or "-" for Stdin; none: nothing is declared
	Stdin     io.Reader           // read once
	Namespace string              // of objects that name none
	Labels    map[string]string   // of the workload whose warnings New returns
	Policy    mesh.OutboundPolicy // what happens to traffic that no object declares; REGISTRY_ONLY is closed whatever objects say
	Log       *slog.Logger
}

// A Plane is a control plane with its objects. It is safe for concurrent use.
type Plane struct {
	policy   mesh.OutboundPolicy
	log      *slog.Logger
	source   *file.Source
	server   *ads.Server
	expected translate.View    // the one that will be asked for first
	labels   map[string]string // of the workload that will

	mu       sync.Mutex // guards the following
	registry *registry.Registry
	snapshot *registry.Snapshot
	views    map[translate.View]*view
	problems map[api.Problem]struct{} // that hold of the objects together; each was logged
	errors   int                      // how many of them are errors
	foreseen []api.Problem            // those of them that the expected view will have once it is made

	meshObject *api.Object // the mesh-wide configuration; nil: there is none
	ruling     Ruling      // for the expected workload, as said last
}

// A view is what one kind of proxy gets, and who follows it.
type view struct {
	*translate.Translator
	followers map[*follower]struct{}
}

type follower struct {
	node    ads.Node
	view    *view // that it follows
	publish func(*translate.Set, []translate.Key)
}

// New returns a Plane with everything the options' paths hold. If something
// there is wrong, the error lists every fault; warnings are what the objects
// ask for in vain, and are there without an error too. They are logged. Where
// each object is sound and they do not go together, the Plane is there beside
// the error, to be asked about and not to be served.
func New(o Options) (p *Plane, warnings []api.Problem, err error) {
	source, changes, problems, err := file.Load(file.Options{Paths: o.Paths, Stdin: o.Stdin, Namespace: o.Namespace, Log: o.Log})
	if err != nil {
		return nil, problems, cmp.Or(faults(problems), err)
	}
	m := config.Default()
	m.OutboundTrafficPolicy = o.Policy
	p = &Plane{
		policy:   o.Policy,
		labels:   o.Labels,
		log:      o.Log,
		source:   source,
		registry: registry.New(m),
		views:    make(map[translate.View]*view),
		problems: make(map[api.Problem]struct{}),
	}
	p.server = ads.New(p, o.Log)
	snapshot, delta := p.registry.Apply(time.Now(), changes)
	p.snapshot = snapshot
	p.noteMeshLocked(changes)
	p.expected = p.keyLocked(o.Namespace, o.Labels, p.snapshot.Mesh().Capture())
	p.ruling = p.rulingLocked(o.Namespace, o.Labels)
	p.foreseen = translate.Problems(p.servicesLocked(p.expected))
	joined := slices.Concat(delta.Problems, p.foreseen)
	for _, x := range joined {
		p.addLocked(x)
	}
	problems = slices.Concat(problems, joined)
	if err := faults(problems); err != nil {
		return p, problems, err
	}
	p.log.Info("objects loaded", "count", len(changes))
	for _, x := range problems { // for those who look later; the caller shows them at once
		file.Report(p.log, x)
	}
	return p, problems, nil
}

// faults joins the problems that are errors.
func faults(all []api.Problem) error {
	var errs []error
	for _, x := range all {
		if x.Severity == api.Error {
			errs = append(errs, errors.New(x.String()))
		}
	}
	return errors.Join(errs...)
}

// Serve serves proxies on ln and follows the files until ctx ends; it closes ln.
// Who may connect is the affair of ln, whose Accept may refuse, and of opts.
func (p *Plane) Serve(ctx context.Context, ln net.Listener, opts ...grpc.ServerOption) error {
	p.prepare()
	return run.All(ctx, map[string]run.Task{
		"xds":   func(ctx context.Context) error { return p.server.Serve(ctx, ln, opts...) },
		"files": func(ctx context.Context) error { return p.source.Run(ctx, p.Apply) },
	})
}

// prepare makes the view that will be asked for, while the proxy that will ask is
// still being started.
func (p *Plane) prepare() {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, problems := p.viewLocked(p.expected)
	p.reportLocked(problems, nil)
	p.endLocked(p.foreseen)
	p.foreseen = nil
}

// Status returns how far each connected proxy is, by id.
func (p *Plane) Status() []ads.ProxyStatus { return p.server.Status() }

// Loaded returns how many objects the files had at first.
func (p *Plane) Loaded() int { return p.source.Loaded() }

// Errors returns how many problems of severity error there are now: in the files,
// and in what their objects are together for the proxies served.
func (p *Plane) Errors() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.source.Errors() + p.errors
}

// Problems returns what is wrong now, in the files and in what their objects are
// together for the proxies served: errors first, at most 100.
func (p *Plane) Problems() []api.Problem {
	p.mu.Lock()
	all := slices.Concat(p.source.Problems(), slices.Collect(maps.Keys(p.problems)))
	p.mu.Unlock()
	api.Sort(all)
	slices.SortStableFunc(all, func(a, b api.Problem) int { return cmp.Compare(b.Severity, a.Severity) })
	return all[:min(len(all), maxProblems)]
}

// maxProblems bounds what Problems returns: who has more mends these first.
const maxProblems = 100

// Join implements ads.Catalog.
func (p *Plane) Join(n ads.Node, publish func(*translate.Set, []translate.Key)) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	capture := p.captureLocked(n)
	v, problems := p.viewLocked(p.keyLocked(n.Namespace, n.Labels, capture))
	p.reportLocked(problems, nil)
	if past := capture.String(); past != "" {
		p.log.Info("not everything of the workload comes to its proxy; virtual addresses that it would miss are not used", "proxy", n.ID, "past", past)
	}
	f := &follower{node: n, view: v, publish: publish}
	v.followers[f] = struct{}{}
	publish(v.Set(), nil)
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(f.view.followers, f)
		if len(f.view.followers) == 0 && len(p.views) > maxIdleViews {
			maps.DeleteFunc(p.views, func(_ translate.View, v *view) bool { return v == f.view })
			p.endLocked(slices.Collect(f.view.Holding()))
		}
	}
}

// maxIdleViews bounds the views kept for proxies that may come back.
const maxIdleViews = 16

// keyLocked says what a workload is to have.
func (p *Plane) keyLocked(namespace string, labels map[string]string, capture mesh.Capture) translate.View {
	sidecar := p.snapshot.Sidecar(namespace, labels)
	return translate.View{Namespace: namespace, Sidecar: sidecar, Capture: capture, Policy: p.policyLocked(sidecar)}
}

// captureLocked is what a proxy gets by what it says itself, else by the mesh.
func (p *Plane) captureLocked(n ads.Node) mesh.Capture {
	if n.DNSUnsaid && !p.snapshot.Mesh().DNSCapture {
		return n.Capture.WithoutDNS()
	}
	return n.Capture
}

// policyLocked is the policy of a Sidecar, which may be nil, else the mesh's; but
// what the Plane was told to close no object opens.
func (p *Plane) policyLocked(sidecar *mesh.Sidecar) mesh.OutboundPolicy {
	switch {
	case p.policy == mesh.RegistryOnly:
		return mesh.RegistryOnly
	case sidecar != nil && sidecar.Policy != nil:
		return *sidecar.Policy
	}
	return p.snapshot.Mesh().OutboundTrafficPolicy
}

func (p *Plane) viewLocked(key translate.View) (*view, []api.Problem) {
	if v := p.views[key]; v != nil {
		return v, nil
	}
	t, problems := translate.New(key, p.snapshot.Through(key.Sidecar, key.Capture))
	v := &view{Translator: t, followers: make(map[*follower]struct{})}
	p.views[key] = v
	return v, problems
}

// regroupLocked gives each follower the view that is now its own, made anew if
// anew says so. It returns how many resources differ for them, the problems of
// views that were made, and those of views that went.
func (p *Plane) regroupLocked(anew bool) (resources int, problems, ended []api.Problem) {
	type move struct{ from, to *view }
	diffs := map[move][]translate.Key{}
	all := slices.Collect(maps.Values(p.views))
	if anew {
		clear(p.views)
	}
	for _, from := range all {
		for f := range from.followers {
			to, found := p.viewLocked(p.keyLocked(f.node.Namespace, f.node.Labels, p.captureLocked(f.node)))
			problems = append(problems, found...)
			if to == from {
				continue
			}
			m := move{from, to}
			keys, known := diffs[m]
			if !known {
				keys = translate.Diff(from.Set(), to.Set())
				diffs[m] = keys
				resources += len(keys)
			}
			delete(from.followers, f)
			f.view = to
			to.followers[f] = struct{}{}
			f.publish(to.Set(), keys)
		}
	}
	maps.DeleteFunc(p.views, func(_ translate.View, v *view) bool { return len(v.followers) == 0 })
	for _, v := range all {
		if len(v.followers) == 0 {
			ended = slices.AppendSeq(ended, v.Holding())
		}
	}
	return resources, problems, ended
}

// Apply folds changes of the objects in, which must be valid, and tells whoever
// follows what changed. Serve does it for what becomes of the files.
func (p *Plane) Apply(changes []registry.Change) {
	if len(changes) == 0 {
		return
	}
	began := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	snapshot, delta := p.registry.Apply(time.Now(), changes)
	p.snapshot = snapshot
	p.noteMeshLocked(changes)
	problems, ended := delta.Problems, delta.Ended
	resources := 0
	if delta.Mesh || delta.Sidecars {
		moved, found, past := p.regroupLocked(delta.Mesh)
		problems, ended = append(problems, found...), append(ended, past...)
		resources += moved
	}
	for key, v := range p.views {
		keys, found := v.Update(snapshot.Through(key.Sidecar, key.Capture), delta.Hosts)
		problems, ended = append(problems, found...), append(ended, v.Ended()...)
		resources += len(keys)
		if len(keys) == 0 {
			continue
		}
		for f := range v.followers {
			f.publish(v.Set(), keys)
		}
	}
	for _, c := range changes {
		switch {
		case c.Object == nil:
			p.log.Info("object removed", "object", c.Key.String())
		case !c.Moved:
			p.log.Info("object applied", "object", c.Object.Source.Where())
		}
	}
	p.log.Info("configuration changed", "hosts", len(delta.Hosts), "resources", resources, "took", time.Since(began).Round(time.Microsecond))
	p.logPolicyLocked()
	p.overLocked(p.endLocked(ended), problems, changes)
	p.reportLocked(problems, changes)
}
