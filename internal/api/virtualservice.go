package api

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
)

// meshGateway stands in gateways for every workload's own proxy.
const meshGateway = "mesh"

// A routing is what the rules of a VirtualService ask again and again.
type routing struct {
	*networking.VirtualService
	hosts     map[hostname.Name]int // those that could be read, each with its first index
	unread    bool                  // one could not be read
	delegated bool                  // it has no hosts: others hand requests to it
	inMesh    bool                  // it holds for workloads, not for gateways only
	short     map[string]bool       // hosts without a dot that were spoken of
}

func (v *validator) virtualService(spec *networking.VirtualService) {
	r := &routing{
		VirtualService: spec,
		hosts:          map[hostname.Name]int{},
		delegated:      len(spec.Hosts) == 0,
		inMesh:         len(spec.Gateways) == 0 || slices.Contains(spec.Gateways, meshGateway),
		short:          map[string]bool{},
	}
	v.routedHosts(r)
	v.gatewayNames("spec.gateways", spec.Gateways)
	if len(spec.Http)+len(spec.Tls)+len(spec.Tcp) == 0 {
		v.err("spec", "routes nothing; give it http, tls or tcp rules")
	}
	if r.delegated {
		for _, f := range []struct {
			name string
			has  int
		}{{"gateways", len(spec.Gateways)}, {"tls", len(spec.Tls)}, {"tcp", len(spec.Tcp)}} {
			if f.has > 0 {
				v.err(join("spec", f.name), "a VirtualService without hosts is one that others delegate HTTP requests to, and has no %s; remove it, or add spec.hosts", f.name)
			}
		}
	}
	for i, rule := range spec.Http {
		v.httpRoute(r, index("spec.http", i), rule)
	}
	for i, rule := range spec.Tls {
		v.tlsRoute(r, index("spec.tls", i), rule)
	}
	for i, rule := range spec.Tcp {
		v.tcpRoute(r, index("spec.tcp", i), rule)
	}
	v.reachable(spec)
	v.exportTo("spec.exportTo", spec.ExportTo, false)
}

// routedHosts checks spec.hosts, of which no two may have a host in common.
func (v *validator) routedHosts(r *routing) {
	names := make([]hostname.Name, len(r.Hosts))
	for i, text := range r.Hosts {
		field := index("spec.hosts", i)
		if text == "*" && r.inMesh {
			v.err(field, `"*" would take every request of every workload; name hosts, or bind the rules to gateways only`)
		}
		name, ok := v.ruleHost(field, text)
		if !ok {
			r.unread = true
			continue
		}
		v.shortHost(r, field, name)
		if j, ok := r.hosts[name]; ok {
			v.err(field, "%s is the same host as %s; remove one", quote(text), index("spec.hosts", j))
			continue
		}
		r.hosts[name], names[i] = i, name
	}
	for i, name := range names {
		if j, ok := within(name, r.hosts); ok {
			v.err(index("spec.hosts", i), "%s overlaps %s of %s; the hosts of one VirtualService have nothing in common: move one to another object", quote(r.Hosts[i]), quote(r.Hosts[j]), index("spec.hosts", j))
		}
	}
}

// within finds another wildcard of all that the name falls under.
func within(name hostname.Name, all map[hostname.Name]int) (int, bool) {
	rest := strings.TrimPrefix(string(name), "*")
	for i := 1; i <= len(rest); i++ { // the star never stands for nothing
		if j, ok := all[hostname.Name("*"+rest[i:])]; ok {
			return j, true
		}
	}
	return 0, false
}

// ruleHost reads a host that a rule is for or leads to, a wildcard perhaps.
func (v *validator) ruleHost(field, text string) (hostname.Name, bool) {
	name, err := hostname.Parse(text)
	switch {
	case err == nil:
		return name, true
	case text == "":
		v.err(field, "names no host; name one")
	case strings.Contains(text, "://"):
		v.err(field, "%s is a URL; leave only the host name", quote(text))
	case strings.Count(text, ":") == 1:
		v.err(field, "%s has a port; leave only the host name", quote(text))
	case strings.LastIndexByte(text, '*') > 0:
		v.err(field, "%s is no host name: a star may only be the first character", quote(text))
	default:
		v.err(field, "%s is no host name: %v", quote(text), err)
	}
	return "", false
}

// shortHost says, once for each host, what a name without a dot means.
func (v *validator) shortHost(r *routing, field string, name hostname.Name) {
	text := string(name)
	if strings.ContainsAny(text, ".:*") || r.short[text] {
		return
	}
	r.short[text] = true
	v.shortName(field, text)
}

func (v *validator) shortName(field, text string) {
	v.warn(field, "%s means %s, and no ServiceEntry whose host is %s; write the host in full", quote(text), quote(text+"."+v.object.Namespace+".svc.cluster.local"), quote(text))
}

func (v *validator) gatewayNames(field string, names []string) {
	for i, name := range names {
		field := index(field, i)
		namespace, short, qualified := strings.Cut(name, "/")
		switch {
		case name == "":
			v.err(field, "names no gateway; write namespace/name, or mesh for the workloads' own proxies")
		case qualified && labelFault(namespace) != "":
			v.err(field, "%s is no namespace: %s; write namespace/name", quote(namespace), labelFault(namespace))
		case qualified && labelFault(short) != "":
			v.err(field, "%s is no name of a gateway: %s; write namespace/name", quote(short), labelFault(short))
		case qualified:
		case subdomainFault(name) != "":
			v.err(field, "%s is no name of a gateway: %s; write namespace/name", quote(name), subdomainFault(name))
		case strings.Contains(name, "."):
			parts := strings.Split(name, ".")
			v.warn(field, "is an old way to name a gateway; write %s", quote(parts[1]+"/"+parts[0]))
		}
	}
}

func (v *validator) tlsRoute(r *routing, field string, rule *networking.TLSRoute) {
	if len(rule.Match) == 0 {
		v.err(field+".match", "the rule matches nothing; give it a match with sniHosts")
	}
	for i, m := range rule.Match {
		field := index(field+".match", i)
		if len(m.SniHosts) == 0 {
			v.err(field+".sniHosts", "names no server name; name at least one of spec.hosts")
		}
		for j, text := range m.SniHosts {
			v.sniHost(r, index(field+".sniHosts", j), text)
		}
		v.connectionMatch(field, m.DestinationSubnets, m.Port, m.SourceLabels, m.Gateways, m.SourceNamespace)
	}
	v.byteDestinations(r, field+".route", rule.Route)
}

func (v *validator) sniHost(r *routing, field, text string) {
	name, ok := v.ruleHost(field, text)
	if !ok {
		return
	}
	if _, err := netip.ParseAddr(string(name)); err == nil {
		v.warn(field, "%s is an address, and clients send no address as server name; use spec.tcp with destinationSubnets", quote(text))
	}
	_, same := r.hosts[name]
	_, inside := within(name, r.hosts)
	if !same && !inside && !r.unread && !r.delegated { // of those something is said already
		v.err(field, "%s is not within spec.hosts, which are %s; add it there or name one of those", quote(text), few(r.Hosts))
	}
}

// few is for sentences that list what may be much.
func few(names []string) string {
	const most = 5
	if len(names) <= most {
		return strings.Join(names, ", ")
	}
	return fmt.Sprintf("%s and %d more", strings.Join(names[:most], ", "), len(names)-most)
}

func (v *validator) tcpRoute(r *routing, field string, rule *networking.TCPRoute) {
	for i, m := range rule.Match {
		field := index(field+".match", i)
		v.connectionMatch(field, m.DestinationSubnets, m.Port, m.SourceLabels, m.Gateways, m.SourceNamespace)
		if m.SourceSubnet != "" {
			v.subnet(field+".sourceSubnet", m.SourceSubnet)
		}
	}
	v.byteDestinations(r, field+".route", rule.Route)
}

// connectionMatch checks what matches of TLS and TCP have in common.
func (v *validator) connectionMatch(field string, subnets []string, port uint32, labels map[string]string, gateways []string, namespace string) {
	for i, text := range subnets {
		v.subnet(index(field+".destinationSubnets", i), text)
	}
	v.matchSource(field, port, labels, gateways, namespace)
}

// matchSource checks what all matches have in common.
func (v *validator) matchSource(field string, port uint32, labels map[string]string, gateways []string, namespace string) {
	if port > 65535 {
		v.err(field+".port", "%d is no port; use 1 to 65535", port)
	} else if port == 0 && v.object.has(field+".port") {
		v.warn(field+".port", "0 matches every port; remove it, or use 1 to 65535")
	}
	v.labels(field+".sourceLabels", labels)
	v.gatewayNames(field+".gateways", gateways)
	if namespace != "" && labelFault(namespace) != "" {
		v.err(field+".sourceNamespace", "%s is no namespace: %s", quote(namespace), labelFault(namespace))
	}
}

func (v *validator) subnet(field, text string) {
	prefix, err := parseAddress(text)
	switch {
	case err != nil:
		v.err(field, "%s is neither an IP address nor a CIDR such as 10.1.0.0/16", quote(text))
	case prefix != prefix.Masked():
		v.warn(field, "%s has bits beyond its length; it is read as %s", quote(text), prefix.Masked())
	}
}

func (v *validator) byteDestinations(r *routing, field string, route []*networking.RouteDestination) {
	if len(route) == 0 {
		v.err(field, "leads nowhere; name at least one destination")
	}
	w := weights{validator: v, field: field}
	for i, d := range route {
		v.neededDestination(r, index(field, i)+".destination", d.Destination)
		w.add(d.Weight)
	}
	w.check()
}

// weights adds up those of one route.
type weights struct {
	*validator
	field string
	count int
	sum   int64
}

func (w *weights) add(weight int32) {
	if weight < 0 {
		w.err(index(w.field, w.count)+".weight", "%d is negative; use 0 or more", weight)
	}
	w.count++
	w.sum += int64(max(weight, 0))
}

// check refuses several destinations of which none is to get anything.
func (w *weights) check() {
	if w.count > 1 && w.sum == 0 {
		w.err(w.field, "all %d weights are 0, so nothing is left to choose; give at least one of them a weight", w.count)
	}
}

func (v *validator) neededDestination(r *routing, field string, d *networking.Destination) {
	if d == nil {
		v.err(field, "is missing; name the host to send to")
		return
	}
	v.destination(r, field, d)
}

func (v *validator) destination(r *routing, field string, d *networking.Destination) {
	if d.Host == "*" {
		v.err(field+".host", `"*" is no destination; name one host`)
	} else if name, ok := v.ruleHost(field+".host", d.Host); ok {
		v.shortHost(r, field+".host", name)
	}
	if d.Subset != "" && labelFault(d.Subset) != "" {
		v.err(field+".subset", "%s is no name of a subset: %s", quote(d.Subset), labelFault(d.Subset))
	}
	v.portSelector(field+".port", d.Port)
}

// portSelector checks a port that may be missing.
func (v *validator) portSelector(field string, p *networking.PortSelector) {
	if p != nil && (p.Number == 0 || p.Number > 65535) {
		v.err(field+".number", "%d is no port; use 1 to 65535", p.Number)
	}
}

// reachable warns of rules that others leave nothing to, and of matches that
// stand twice.
func (v *validator) reachable(spec *networking.VirtualService) {
	l := lane{validator: v, list: "spec.http", takes: "request", seen: map[string]string{}}
	for _, rule := range spec.Http {
		l.next(len(rule.Match) == 0)
		for i, m := range rule.Match {
			bare := &networking.HTTPMatchRequest{
				Uri: m.Uri, Scheme: m.Scheme, Method: m.Method, Authority: m.Authority, Headers: m.Headers, Port: m.Port,
				SourceLabels: m.SourceLabels, Gateways: m.Gateways, QueryParams: m.QueryParams, IgnoreUriCase: m.IgnoreUriCase,
				WithoutHeaders: m.WithoutHeaders, SourceNamespace: m.SourceNamespace,
			} // without the names it is known by
			l.match(i, bare, catchesAll(bare))
		}
	}
	l = lane{validator: v, list: "spec.tcp", takes: "connection", seen: map[string]string{}}
	for _, rule := range spec.Tcp {
		l.next(len(rule.Match) == 0)
		for i, m := range rule.Match {
			l.match(i, m, proto.Size(m) == 0)
		}
	}
	l = lane{validator: v, list: "spec.tls", takes: "connection", seen: map[string]string{}}
	for _, rule := range spec.Tls {
		l.next(false)
		for i, m := range rule.Match {
			l.match(i, m, false)
		}
	}
}

// catchesAll reports whether a match without its names takes every request.
func catchesAll(m *networking.HTTPMatchRequest) bool {
	if m.Uri != nil && m.Uri.GetPrefix() != "/" {
		return false
	}
	return proto.Equal(m, &networking.HTTPMatchRequest{Uri: m.Uri, IgnoreUriCase: m.IgnoreUriCase})
}

// A lane is one list of rules, of which the first that matches is taken.
type lane struct {
	*validator
	list, takes string
	seen        map[string]string // match → the field that has it
	rule        int               // one more than the index of the present one
	end         string            // the field that takes all there is; "" if none does
	told        bool              // the present rule is out of reach
}

func (l *lane) next(catchAll bool) {
	field := index(l.list, l.rule)
	l.rule++
	if l.told = l.end != ""; l.told {
		l.warn(field, "is never reached: %s takes every %s; move it before that, or remove it", l.end, l.takes)
		return
	}
	if catchAll {
		l.end = field
	}
}

func (l *lane) match(i int, m proto.Message, catchAll bool) {
	if l.told {
		return
	}
	field := index(index(l.list, l.rule-1)+".match", i)
	if catchAll && l.end == "" {
		l.end = field
	}
	key, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		return // text that is no UTF-8 is not equal to any
	}
	if other, ok := l.seen[string(key)]; ok {
		l.warn(field, "is never reached: %s matches the same; remove one", other)
		return
	}
	l.seen[string(key)] = field
}
