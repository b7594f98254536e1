package registry

import (
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// Selectors and workloads find each other by single labels, so that neither
// looks at all there are of the other.

// A label is one that workloads of a namespace have.
type label struct{ namespace, key, value string }

// workloads are the WorkloadEntries.
type workloads struct {
	all     map[string]map[api.Key]*workload // by namespace
	labeled map[label][]*workload            // by each of their labels, in the order of keys
}

func newWorkloads() workloads {
	return workloads{all: map[string]map[api.Key]*workload{}, labeled: map[label][]*workload{}}
}

func (w *workload) labels(yield func(label) bool) {
	for key, value := range w.endpoint.Labels {
		if !yield(label{w.object.Namespace, key, value}) {
			return
		}
	}
}

func (w *workload) compare(key api.Key) int { return w.object.Key.Compare(key) }

func (ws workloads) add(w *workload) {
	namespace := w.object.Namespace
	if ws.all[namespace] == nil {
		ws.all[namespace] = map[api.Key]*workload{}
	}
	ws.all[namespace][w.object.Key] = w
	for l := range w.labels {
		list := ws.labeled[l]
		at, _ := slices.BinarySearchFunc(list, w.object.Key, (*workload).compare)
		ws.labeled[l] = slices.Insert(list, at, w)
	}
}

// remove takes out the workload of a key and returns it, or nil.
func (ws workloads) remove(key api.Key) *workload {
	w := ws.all[key.Namespace][key]
	if w == nil {
		return nil
	}
	if delete(ws.all[key.Namespace], key); len(ws.all[key.Namespace]) == 0 {
		delete(ws.all, key.Namespace)
	}
	for l := range w.labels {
		at, _ := slices.BinarySearchFunc(ws.labeled[l], key, (*workload).compare)
		if ws.labeled[l] = slices.Delete(ws.labeled[l], at, at+1); len(ws.labeled[l]) == 0 {
			delete(ws.labeled, l)
		}
	}
	return w
}

// near returns, in the order of keys, the workloads of a namespace among which
// are all that a selector selects: those with the rarest of its labels.
func (ws workloads) near(namespace string, selector map[string]string) []*workload {
	var rarest []*workload
	first := true
	for key, value := range selector {
		if list := ws.labeled[label{namespace, key, value}]; first || len(list) < len(rarest) {
			rarest, first = list, false
		}
	}
	return rarest
}

// A selector is what claims of a namespace select workloads by.
type selector struct {
	labels map[string]string
	under  label                 // that of its labels by which it is found
	hosts  map[hostname.Name]int // whose claims have it, and how many of theirs
}

// selectors are those of all claims.
type selectors struct {
	all   map[string]map[string]*selector  // by namespace and selectorText
	under map[label]map[*selector]struct{} // each once
}

func newSelectors() selectors {
	return selectors{all: map[string]map[string]*selector{}, under: map[label]map[*selector]struct{}{}}
}

// hasSelector reports whether a service may have workloads for its endpoints. A
// selector without labels selects nothing.
func hasSelector(s *mesh.Service) bool { return len(s.Selector) > 0 && s.Resolution != mesh.None }

// covers reports whether a selector asks for nothing that labels lack.
func covers(selector, labels map[string]string) bool {
	for key, value := range selector {
		if v, ok := labels[key]; !ok || v != value {
			return false
		}
	}
	return true
}

// add notes the selector of a claim, if it has one. A new one is to be found by
// that of its labels by which fewest others are.
func (all selectors) add(c claim) {
	if !hasSelector(c.service) {
		return
	}
	namespace, text := c.service.Namespace, selectorText(c.service.Selector)
	s := all.all[namespace][text]
	if s == nil {
		s = &selector{labels: c.service.Selector, hosts: map[hostname.Name]int{}}
		first := true
		for key, value := range s.labels {
			if l := (label{namespace, key, value}); first || len(all.under[l]) < len(all.under[s.under]) {
				s.under, first = l, false
			}
		}
		if all.under[s.under] == nil {
			all.under[s.under] = map[*selector]struct{}{}
		}
		all.under[s.under][s] = struct{}{}
		if all.all[namespace] == nil {
			all.all[namespace] = map[string]*selector{}
		}
		all.all[namespace][text] = s
	}
	s.hosts[c.service.Host]++
}

// remove takes back one add.
func (all selectors) remove(c claim) {
	if !hasSelector(c.service) {
		return
	}
	namespace, text := c.service.Namespace, selectorText(c.service.Selector)
	s := all.all[namespace][text]
	if s.hosts[c.service.Host]--; s.hosts[c.service.Host] == 0 {
		delete(s.hosts, c.service.Host)
	}
	if len(s.hosts) > 0 {
		return
	}
	if delete(all.all[namespace], text); len(all.all[namespace]) == 0 {
		delete(all.all, namespace)
	}
	if delete(all.under[s.under], s); len(all.under[s.under]) == 0 {
		delete(all.under, s.under)
	}
}

// of yields the selectors that select a workload.
func (all selectors) of(w *workload) func(yield func(*selector) bool) {
	return func(yield func(*selector) bool) {
		for l := range w.labels {
			for s := range all.under[l] {
				if covers(s.labels, w.endpoint.Labels) && !yield(s) {
					return
				}
			}
		}
	}
}
