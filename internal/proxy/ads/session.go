package ads

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc/codes"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// A Session is the client's side of the discovery protocol, over any number of
// streams one after the other.
//
// It asks for all clusters, listeners, names and server names; for the endpoints that
// clusters name, the tables that listeners name, and the virtual hosts of the
// tables that say theirs come one by one. What comes is staged, and handed out
// as one Delta once everything asked for has been answered, so that no cluster
// is published before its endpoints and no listener before its table.
//
// Its caller tells it what happened and sends what it returns. It is not safe
// for concurrent use. Make one with NewSession.
type Session struct {
	types  [len(xds.Types)]*subscription
	staged stage

	services references // EDS names by the clusters that use them
	tables   references // route tables by the listeners that use them
}

// A subscription is what is asked for of one type.
type subscription struct {
	all   bool
	some  bool                // a response to "all" was accepted
	names map[string]struct{} // asked for
	open  map[string]struct{} // those of names that are not answered
	held  map[string]string   // versions of what is held
}

// wants reports whether a resource was asked for. What was given up may still
// be under way.
func (s *subscription) wants(typeURL, name string) bool {
	if _, ok := s.names[name]; ok || s.all {
		return true
	}
	table, _, ok := xds.SplitVirtualHost(name)
	if !ok || typeURL != xds.VirtualHostType {
		return false
	}
	_, ok = s.names[xds.VirtualHostResource(table, "*")]
	return ok
}

// answered notes that the control plane has spoken of a name.
func (s *subscription) answered(typeURL, name string) {
	delete(s.open, name)
	if table, _, ok := xds.SplitVirtualHost(name); ok && typeURL == xds.VirtualHostType {
		delete(s.open, xds.VirtualHostResource(table, "*"))
	}
}

// NewSession returns a Session that knows nothing.
func NewSession() *Session {
	s := &Session{staged: newStage(), services: newReferences(), tables: newReferences()}
	for i, t := range xds.Types {
		s.types[i] = &subscription{
			all:   t == xds.ClusterType || t == xds.ListenerType || t == xds.NameType || t == xds.ServerNameType,
			names: make(map[string]struct{}),
			open:  make(map[string]struct{}),
			held:  make(map[string]string),
		}
	}
	return s
}

// Connect returns the first requests of a new stream, with the versions of what
// is held from earlier ones. The caller puts the node into the first.
func (s *Session) Connect() []*discoveryv3.DeltaDiscoveryRequest {
	var out []*discoveryv3.DeltaDiscoveryRequest
	for i, sub := range s.types {
		if !sub.all && len(sub.names) == 0 {
			continue
		}
		out = append(out, &discoveryv3.DeltaDiscoveryRequest{
			TypeUrl:                 xds.Types[i],
			ResourceNamesSubscribe:  slices.Sorted(maps.Keys(sub.names)), // none: all
			InitialResourceVersions: maps.Clone(sub.held),
		})
	}
	return out
}

// Receive takes a response and returns what to answer. An error says why the
// response was refused; the requests, the refusal among them, are to be sent all
// the same, and the state is as it was.
func (s *Session) Receive(r *discoveryv3.DeltaDiscoveryResponse) ([]*discoveryv3.DeltaDiscoveryRequest, error) {
	i := xds.TypeIndex(r.GetTypeUrl())
	if i < 0 {
		err := fmt.Errorf("resources of type %q were not asked for", shorten(r.GetTypeUrl()))
		return []*discoveryv3.DeltaDiscoveryRequest{refusal(r, err)}, err
	}
	sub, next := s.types[i], newStage()
	for _, x := range r.GetResources() {
		if !sub.wants(r.GetTypeUrl(), x.GetName()) {
			continue
		}
		if err := s.read(&next, r.GetTypeUrl(), x); err != nil {
			return []*discoveryv3.DeltaDiscoveryRequest{refusal(r, err)}, err
		}
	}
	for _, name := range r.GetRemovedResources() {
		if sub.wants(r.GetTypeUrl(), name) {
			next.remove(r.GetTypeUrl(), name)
		}
	}
	sub.accept(r)
	out := []*discoveryv3.DeltaDiscoveryRequest{{TypeUrl: r.GetTypeUrl(), ResponseNonce: r.GetNonce()}}
	out = append(out, s.follow(&next)...)
	s.staged.merge(&next)
	return out, nil
}

// read decodes one resource into st.
func (s *Session) read(st *stage, typeURL string, x *discoveryv3.Resource) error {
	if x.GetResource() == nil {
		st.remove(typeURL, x.GetName()) // the form in which VHDS says that there is none
		return nil
	}
	if got := x.GetResource().GetTypeUrl(); got != typeURL {
		return fmt.Errorf("%s %q: it holds a message of type %q", xds.ShortType(typeURL), shorten(x.GetName()), shorten(got))
	}
	return st.add(typeURL, x.GetName(), x.GetResource().GetValue())
}

// accept notes what a response, which was understood, answers.
func (s *subscription) accept(r *discoveryv3.DeltaDiscoveryResponse) {
	s.some = true
	for _, x := range r.GetResources() {
		switch {
		case !s.wants(r.GetTypeUrl(), x.GetName()):
			continue
		case x.GetResource() == nil:
			delete(s.held, x.GetName())
		default:
			s.held[x.GetName()] = x.GetVersion()
		}
		s.answered(r.GetTypeUrl(), x.GetName())
	}
	for _, name := range r.GetRemovedResources() {
		delete(s.held, name)
		s.answered(r.GetTypeUrl(), name)
	}
}

// follow brings what is asked for by name in line with what now refers to it.
func (s *Session) follow(st *stage) []*discoveryv3.DeltaDiscoveryRequest {
	var out []*discoveryv3.DeltaDiscoveryRequest
	ask := func(typeURL string, add, drop []string) {
		if len(add)+len(drop) == 0 {
			return
		}
		sub := s.types[xds.TypeIndex(typeURL)]
		for _, n := range add {
			sub.names[n], sub.open[n] = struct{}{}, struct{}{}
		}
		for _, n := range drop {
			delete(sub.names, n)
			delete(sub.open, n)
			delete(sub.held, n)
		}
		slices.Sort(add)
		slices.Sort(drop)
		out = append(out, &discoveryv3.DeltaDiscoveryRequest{TypeUrl: typeURL, ResourceNamesSubscribe: add, ResourceNamesUnsubscribe: drop})
	}

	for name, c := range st.clusters {
		var wants []string
		if c != nil && c.Type == config.EDS {
			wants = []string{c.ServiceName}
		}
		s.services.set(name, wants)
	}
	add, drop := s.services.changes()
	for _, n := range drop {
		st.assignments[n] = nil
	}
	ask(xds.EndpointType, add, drop)

	for name, l := range st.listeners {
		s.tables.set(name, tablesOf(l))
	}
	add, drop = s.tables.changes()
	for _, n := range drop {
		st.tables[n] = nil
	}
	ask(xds.RouteType, add, drop)

	var globs, gone []string
	hosts := s.types[xds.TypeIndex(xds.VirtualHostType)]
	for name, t := range st.tables {
		glob := xds.VirtualHostResource(name, "*")
		_, asked := hosts.names[glob]
		switch wanted := t != nil && t.VHDS; {
		case wanted && !asked:
			globs = append(globs, glob)
		case !wanted && asked:
			gone = append(gone, glob)
			s.dropHosts(st, name)
		}
	}
	ask(xds.VirtualHostType, globs, gone)
	return out
}

// dropHosts lets go of the virtual hosts of a table that came one by one.
func (s *Session) dropHosts(st *stage, table string) {
	sub := s.types[xds.TypeIndex(xds.VirtualHostType)]
	for name := range sub.held {
		if t, host, ok := xds.SplitVirtualHost(name); ok && t == table {
			delete(sub.held, name)
			st.hosts[config.HostedName{Table: t, Host: host}] = nil
		}
	}
}

func tablesOf(l *config.Listener) []string {
	if l == nil {
		return nil
	}
	var out []string
	for _, c := range slices.Concat(l.Chains, []*config.FilterChain{l.Default}) {
		if c != nil && c.HTTP != nil && c.HTTP.RouteName != "" {
			out = append(out, c.HTTP.RouteName)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// Complete reports whether everything asked for has been answered.
func (s *Session) Complete() bool {
	for _, sub := range s.types {
		if len(sub.open) > 0 || sub.all && !sub.some {
			return false
		}
	}
	return true
}

// Awaited lists what was asked for and not answered, as "Cluster *".
func (s *Session) Awaited() []string {
	var out []string
	for i, sub := range s.types {
		short := xds.ShortType(xds.Types[i]) + " "
		if sub.all && !sub.some {
			out = append(out, short+"*")
		}
		for _, name := range slices.Sorted(maps.Keys(sub.open)) {
			out = append(out, short+name)
		}
	}
	return out
}

// GiveUp stops waiting for what clusters, listeners and tables refer to, unless
// one of the kinds that a proxy cannot do without has not come at all: then it
// returns false. What comes later is still taken.
func (s *Session) GiveUp() bool {
	for _, sub := range s.types {
		if sub.all && !sub.some {
			return false
		}
	}
	for _, sub := range s.types {
		clear(sub.open)
	}
	return true
}

// Staged reports whether Take would return a change.
func (s *Session) Staged() bool { return !s.staged.empty() }

// Take returns what came since the last Take as one change.
func (s *Session) Take() config.Delta {
	d := s.staged.delta()
	s.staged = newStage()
	return d
}

// refusal answers a response that is not taken.
func refusal(r *discoveryv3.DeltaDiscoveryResponse, err error) *discoveryv3.DeltaDiscoveryRequest {
	return &discoveryv3.DeltaDiscoveryRequest{
		TypeUrl:       r.GetTypeUrl(),
		ResponseNonce: r.GetNonce(),
		ErrorDetail:   &status.Status{Code: int32(codes.InvalidArgument), Message: strings.ToValidUTF8(err.Error(), "�")},
	}
}

// shorten bounds foreign text in an error.
func shorten(s string) string {
	if len(s) > 256 {
		return s[:256] + "…"
	}
	return s
}
