package registry

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A claim is what one object says of one host.
type claim struct {
	service *mesh.Service
	object  *api.Object
}

// compare orders claims to one host: a Service of Kubernetes first, then the
// older, then by name and namespace.
func (claim) compare(a, b claim) int {
	byKind := func(c claim) int {
		if isKube(c.service) {
			return 0
		}
		return 1
	}
	return cmp.Or(
		byKind(a)-byKind(b),
		a.service.Created.Compare(b.service.Created),
		strings.Compare(a.object.Name, b.object.Name),
		strings.Compare(a.object.Namespace, b.object.Namespace),
	)
}

func (c claim) problem(field, message string) api.Problem {
	return api.Problem{
		Severity: api.Warning,
		Object:   c.object.Source,
		File:     c.object.Source.File,
		Line:     c.object.Line(field),
		Field:    field,
		Message:  message,
	}
}

// An audience says which namespaces see a service.
type audience struct {
	public bool
	names  []string // sorted; empty if public
}

func audienceOf(s *mesh.Service, byDefault []string) audience {
	exportTo := s.ExportTo
	if len(exportTo) == 0 {
		exportTo = byDefault
	}
	var a audience
	for _, to := range exportTo {
		switch to {
		case "*":
			return audience{public: true}
		case "~":
		case ".":
			a.names = append(a.names, s.Namespace)
		default:
			a.names = append(a.names, to)
		}
	}
	slices.Sort(a.names)
	a.names = slices.Compact(a.names)
	return a
}

func (a audience) includes(namespace string) bool {
	_, ok := slices.BinarySearch(a.names, namespace)
	return ok
}

// A class is what entries of one host must have in common to be merged.
type class struct {
	kube       bool // alone
	namespace  string
	resolution mesh.Resolution
	public     bool
	exportTo   string
	selector   string
	addresses  bool
}

func classOf(o owner) class {
	s, a := o.service, o.audience
	return class{
		kube:       isKube(s),
		namespace:  s.Namespace,
		resolution: s.Resolution,
		public:     a.public,
		exportTo:   strings.Join(a.names, ","),
		selector:   selectorText(s.Selector),
		addresses:  len(s.Addresses) > 0,
	}
}

// selectorText is the same for equal selectors.
func selectorText(selector map[string]string) string {
	if selector == nil {
		return ""
	}
	var text strings.Builder
	for _, key := range slices.Sorted(maps.Keys(selector)) {
		fmt.Fprintf(&text, "%s=%s,", key, selector[key])
	}
	return "{" + text.String() + "}"
}

// difference names what keeps two classes of one namespace apart.
func (c class) difference(other class) string {
	switch {
	case c.resolution != other.resolution:
		return "its resolution is another"
	case c.public != other.public || c.exportTo != other.exportTo:
		return "its exportTo is another"
	case c.selector != other.selector:
		return "its workloadSelector is another"
	}
	return "only one of them has addresses"
}

// An owner is one candidate for a host: the service merged from one class.
type owner struct {
	service  *mesh.Service
	audience audience
}

// The groups in which owners are ranked, best first.
const (
	ownNamespace = iota
	kubernetes
	exportedByName
	exportedToAll
	unseen
)

func (o owner) group(namespace string) int {
	named := o.audience.includes(namespace)
	switch {
	case !named && !o.audience.public:
		return unseen
	case o.service.Namespace == namespace:
		return ownNamespace
	case isKube(o.service):
		return kubernetes
	case named:
		return exportedByName
	}
	return exportedToAll
}

// A host is all that is declared under one name. It is immutable.
type host struct {
	owners []owner // in order of age, name, namespace of their oldest claim
	one    [1]owner
}

// hostOf makes a host. Nearly all have one owner, and it lies beside the host: who
// looks a name up waits for memory more than for anything else.
func hostOf(owners []owner) *host {
	h := &host{owners: owners}
	if len(owners) == 1 {
		h.one[0] = owners[0]
		h.owners = h.one[:]
	}
	return h
}

// A contest is a host while it is worked out, with what only its problems need.
type contest struct {
	host
	claims  [][]claim // of each owner
	classes []class   // of each owner
}

// winner returns the index of the owner that a namespace gets, or -1.
func (h *host) winner(namespace string) int {
	if len(h.owners) == 1 { // nobody to be held against
		if a := &h.owners[0].audience; a.public || a.includes(namespace) {
			return 0
		}
		return -1
	}
	best, bestGroup := -1, unseen
	for i, o := range h.owners {
		if g := o.group(namespace); g < bestGroup {
			best, bestGroup = i, g
		}
	}
	return best
}

// shadows tells every claim that loses the host in some namespace that sees it.
func (h *contest) shadows() []api.Problem {
	if len(h.owners) < 2 {
		return nil
	}
	type loss struct {
		loser, winner int
		reason        string
	}
	viewers, winners := h.viewers(), map[string]int{}
	where := map[loss][]string{}
	for l := range h.owners {
		for _, namespace := range h.affected(l, viewers) {
			w, ok := winners[namespace]
			if !ok {
				w = h.winner(namespace)
				winners[namespace] = w
			}
			if w != l {
				at := loss{l, w, h.reason(w, l, namespace)}
				where[at] = append(where[at], namespace)
			}
		}
	}
	var problems []api.Problem
	for at, namespaces := range where {
		winner := h.owners[at.winner].service
		for _, c := range h.claims[at.loser] {
			problems = append(problems, c.problem(api.HostField(c.object, winner.Host), fmt.Sprintf(
				"host %s belongs to %s %s, which %s; %s",
				winner.Host, winner.Source.Where(), inNamespaces(namespaces), at.reason, left(winner, c.service))))
		}
	}
	return problems
}

// left says what becomes of a claim where another has its host.
func left(winner, loser *mesh.Service) string {
	switch {
	case isKube(loser):
		return "this Service is not used there"
	case isKube(winner) && winner.Namespace == loser.Namespace:
		return "of this entry only the endpoints, for ports of the same name, and the subjectAltNames are used, for that Service"
	}
	return "this entry is not used there"
}

// viewers returns the namespaces that may get different answers, sorted. The
// empty one stands for every namespace that no object mentions.
func (h *contest) viewers() []string {
	viewers := []string{""}
	for _, o := range h.owners {
		viewers = append(viewers, o.service.Namespace)
		viewers = append(viewers, o.audience.names...)
	}
	slices.Sort(viewers)
	return slices.Compact(viewers)
}

// mostViewers bounds for how many namespaces one loser is told: where very many
// claim one host, the text would grow with their square.
const mostViewers = 32

// affected returns the namespaces, of the viewers, that see an owner; not more
// than mostViewers of them.
func (h *contest) affected(l int, viewers []string) []string {
	o := h.owners[l]
	if !o.audience.public {
		return o.audience.names[:min(len(o.audience.names), mostViewers)]
	}
	some := viewers[:min(len(viewers), mostViewers)]
	if own := o.service.Namespace; !slices.Contains(some, own) {
		some = append(slices.Clone(some), own)
	}
	return some
}

// reason says why owner w precedes owner l in a namespace.
func (h *contest) reason(w, l int, namespace string) string {
	winner, loser := h.owners[w], h.owners[l]
	switch group := winner.group(namespace); {
	case isKube(winner.service) && winner.service.Namespace == loser.service.Namespace:
		return "is a Kubernetes Service, which goes before the entries of its namespace"
	case group == loser.group(namespace):
	case group == ownNamespace:
		return "lies in that namespace"
	case group == kubernetes:
		return "is a Kubernetes Service, which goes before entries of other namespaces"
	case group == exportedByName:
		return "is exported to that namespace by name"
	}
	reason := "comes first by name"
	if winner.service.Created.Before(loser.service.Created) {
		reason = "is older"
	}
	if winner.service.Namespace == loser.service.Namespace {
		reason += " and is not merged with this one because " + h.classes[w].difference(h.classes[l])
	}
	return reason
}

func inNamespaces(names []string) string {
	const most = 3
	others := slices.Contains(names, "")
	names = slices.DeleteFunc(slices.Clone(names), func(s string) bool { return s == "" })
	text := strings.Join(names[:min(len(names), most)], ", ")
	if len(names) > most {
		text += " and others"
	}
	switch {
	case len(names) == 0:
		return "in every namespace that no such entry names"
	case others:
		return "in namespace " + text + " and every other namespace"
	}
	return "in namespace " + text
}
