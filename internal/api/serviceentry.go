package api

import (
	"errors"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// The most that lists of a ServiceEntry may hold, as Istio's schema has it.
const (
	maxHosts     = 256
	maxAddresses = 256
	maxPorts     = 256
	maxEndpoints = 4096
	maxLabels    = 256
)

// entryFacts is what the rules of a ServiceEntry ask again and again.
type entryFacts struct {
	*networking.ServiceEntry
	resolution mesh.Resolution
	unsaid     bool            // has no resolution, and so that of Istio's default
	selects    bool            // has a workloadSelector
	doubles    int             // hosts that are listed before
	protocols  []mesh.Protocol // of each port; Unset where it did not parse
	unknown    []bool          // of each port: the protocol did not parse
	portNames  map[string]bool
}

func (v *validator) serviceEntry(se *networking.ServiceEntry) {
	e := &entryFacts{
		ServiceEntry: se,
		unsaid:       !v.object.has("spec.resolution") && v.object.has("spec"),
		resolution:   resolutionOf(se.Resolution),
		selects:      se.WorkloadSelector != nil,
		portNames:    map[string]bool{},
	}
	v.hosts(e)
	v.ports(e)
	v.addresses(e)
	v.selector(e)
	v.endpoints(e)
	v.resolution(e)
	v.handshakes(e)
	v.exportTo("spec.exportTo", se.ExportTo, true)
	v.notYet(e)
}

func (v *validator) hosts(e *entryFacts) {
	switch {
	case len(e.Hosts) == 0:
		v.err("spec.hosts", "names no host; name at least one")
	case len(e.Hosts) > maxHosts:
		v.err("spec.hosts", "names %d hosts, at most %d are allowed; split the entry", len(e.Hosts), maxHosts)
	}
	first := map[hostname.Name]int{}
	for i, text := range e.Hosts {
		field := index("spec.hosts", i)
		name, ok := v.host(field, text)
		if !ok {
			continue
		}
		if j, ok := first[name]; ok {
			e.doubles++
			v.warn(field, "%s is the same host as %s; remove one", quote(text), index("spec.hosts", j))
			continue
		}
		first[name] = i
		v.dotless(field, text, name)
		if strings.HasPrefix(text, "*") && !strings.HasPrefix(text, "*.") && e.resolution != mesh.DynamicDNS {
			v.warn(field, "%s also matches hosts such as %s; write %s if only names below it are meant", quote(text), quote("any"+text[1:]), quote("*."+text[1:]))
		}
	}
}

// host checks one host of an entry and returns it in canonical form.
func (v *validator) host(field, text string) (hostname.Name, bool) {
	name, err := hostname.Parse(text)
	switch {
	case text == "*":
		v.err(field, `"*" would take every host; name a domain, such as "*.example.com"`)
	case strings.Contains(text, "://"):
		v.err(field, "%s is a URL; leave only the host name", quote(text))
	case err != nil && strings.LastIndexByte(text, ':') > strings.LastIndexByte(text, ']') && strings.Count(text, ":") == 1:
		v.err(field, "%s has a port; put it under spec.ports", quote(text))
	case err != nil && strings.LastIndexByte(text, '*') > 0:
		v.err(field, "%s is no host name: a star may only be the first character", quote(text))
	case err != nil:
		v.err(field, "%s is no host name: %v", quote(text), err)
	case ownedByCluster(name):
		v.err(field, "%s would take the cluster's own services away from everyone; no entry may claim it", quote(text))
	default:
		return name, true
	}
	return "", false
}

// dotless warns of a host of one label, which others read as something else.
func (v *validator) dotless(field, text string, name hostname.Name) {
	if strings.ContainsAny(string(name), ".:*") {
		return
	}
	v.warn(field, "%s has no dot: rules of this namespace that name it mean the Service %s.%s.svc.cluster.local, not this entry, and resolvers try their search domains before it; "+
		"name it in full, such as %s", quote(text), name, v.object.Namespace, quote(string(name)+".internal"))
}

// ownedByCluster reports whether the name stands for services of the platform
// itself, which no entry may take.
func ownedByCluster(n hostname.Name) bool {
	if n.IsWildcard() {
		return n.Matches("kubernetes.default.svc.cluster.local")
	}
	return n == "kubernetes.default" || n == "kubernetes.default.svc" || n == "kubernetes.default.svc.cluster.local"
}

func (v *validator) addresses(e *entryFacts) {
	if len(e.Addresses) > maxAddresses {
		v.err("spec.addresses", "has %d addresses, at most %d are allowed; split the entry", len(e.Addresses), maxAddresses)
	}
	first := map[netip.Prefix]int{}
	for i, text := range e.Addresses {
		field := index("spec.addresses", i)
		prefix, err := parseAddress(text)
		if j, ok := first[prefix.Masked()]; ok && err == nil {
			v.warn(field, "%s is the same address as %s; remove one", quote(text), index("spec.addresses", j))
		} else if err == nil {
			first[prefix.Masked()] = i
		}
		switch {
		case err != nil:
			v.err(field, "%s is neither an IP address nor a CIDR such as 10.1.0.0/16", quote(text))
		case strings.Contains(text, "/") && e.resolution != mesh.None && e.resolution != mesh.Static:
			v.err(field, "a CIDR goes only with resolution NONE or STATIC, not with %s; list single addresses", e.resolution)
		case prefix.IsSingleIP():
		case prefix != prefix.Masked():
			v.warn(field, "%s has bits beyond its length; it is read as %s", quote(text), prefix.Masked())
		}
	}
	if len(e.Addresses) > 0 || e.resolution == mesh.DynamicDNS {
		return
	}
	if e.unsaid && len(e.Ports) > 0 && slices.ContainsFunc(e.Hosts, func(h string) bool { return !strings.HasPrefix(h, "*") }) {
		v.warn("spec.resolution", "is missing, which means NONE: callers reach any address on the ports of this entry; most external services want resolution: DNS")
		return // of every port, in other words
	}
	for i, protocol := range e.protocols {
		if protocol == mesh.UDP || e.unknown[i] || isReserved(e.Ports[i].Number) {
			continue // left out, or refused already
		}
		named := protocol.IsTLS() || protocol.IsHTTP() // connections say whom they mean
		field, number := index("spec.ports", i), e.Ports[i].Number
		switch {
		case e.resolution == mesh.None && !named:
			v.warn(field, "without spec.addresses any address is reachable on port %d; list the addresses that are meant", number)
		case e.resolution == mesh.None:
			v.warn(field, "without spec.addresses any address is reachable on port %d to a client that claims the name; list the addresses that are meant", number)
		case !named && !e.virtual(v.object):
			v.warn(field, "without addresses, and with no virtual one (%s), every connection to port %d, whatever its address, goes to this host; list its addresses", e.whyNotVirtual(v.object), number)
		}
	}
}

// virtual reports whether every host of the entry is given a virtual address.
func (e *entryFacts) virtual(o *Object) bool {
	return o.Labels[noVIP] != "false" && !slices.ContainsFunc(e.Hosts, func(h string) bool { return strings.HasPrefix(h, "*") })
}

// whyNotVirtual says which rule keeps a host of the entry from a virtual address.
func (e *entryFacts) whyNotVirtual(o *Object) string {
	if o.Labels[noVIP] == "false" {
		return "by the label " + noVIP
	}
	return "a wildcard host gets none"
}

// parseAddress reads an IP address, as a prefix of its full length, or a CIDR.
// An IPv4 address in the clothes of IPv6 is one of IPv4.
func parseAddress(s string) (netip.Prefix, error) {
	if strings.Contains(s, "/") {
		const mapped = 96 // bits before the IPv4 address in one of IPv6
		p, err := netip.ParsePrefix(s)
		if err == nil && p.Addr().Is4In6() && p.Bits() >= mapped {
			return netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-mapped), nil
		}
		return p, err
	}
	a, err := netip.ParseAddr(s)
	if err != nil {
		return netip.Prefix{}, err
	}
	if a.Zone() != "" {
		return netip.Prefix{}, errors.New("a zone means something on one machine only")
	}
	a = a.Unmap()
	return a.Prefix(a.BitLen())
}

func (v *validator) selector(e *entryFacts) {
	if !e.selects {
		return
	}
	const field = "spec.workloadSelector"
	labels := e.WorkloadSelector.Labels
	if len(e.Endpoints) > 0 || v.object.has("spec.endpoints") { // Istio's definitions count an empty list too
		v.err(field, "endpoints and workloadSelector exclude each other; remove one")
	}
	if e.resolution == mesh.None {
		v.warn(field, "is without effect under resolution NONE, which uses the address the caller dialed; use STATIC")
	}
	if len(labels) == 0 {
		v.warn(field, "selects nothing: it has no labels")
	}
	v.selectorLabels(field+".labels", labels)
}

// selectorLabels checks labels that others are to have.
func (v *validator) selectorLabels(field string, labels map[string]string) {
	v.atMost(field, len(labels), maxLabels, "labels")
	v.labels(field, withoutStars(labels))
	for key, value := range labels {
		if strings.Contains(key, "*") || strings.Contains(value, "*") {
			v.err(join(field, key), "a star is not allowed in a selector; name the label in full")
		}
	}
}

func withoutStars(labels map[string]string) map[string]string {
	rest := make(map[string]string, len(labels))
	for key, value := range labels {
		if !strings.Contains(key+value, "*") {
			rest[key] = value
		}
	}
	return rest
}

// resolution checks what a resolution asks of the entry as a whole.
func (v *validator) resolution(e *entryFacts) {
	const field = "spec.resolution"
	switch e.resolution {
	case mesh.None:
		if len(e.Endpoints) > 0 || v.object.has("spec.endpoints") {
			v.err("spec.endpoints", "endpoints are not allowed under resolution NONE, not even an empty list; write resolution: STATIC (addresses) or DNS (names)")
		}
	case mesh.Static:
		if len(e.Endpoints) == 0 && !e.selects {
			v.warn(field, "STATIC without endpoints: every request is answered 503; add spec.endpoints")
		}
	case mesh.DNS, mesh.DNSRoundRobin:
		v.resolvable(e)
	case mesh.DynamicDNS:
		v.dynamic(e)
	}
	v.distinguishable(e)
}

// resolvable checks that a DNS entry has a name to resolve.
func (v *validator) resolvable(e *entryFacts) {
	if len(e.Endpoints) == 0 {
		for i, text := range e.Hosts {
			if name, err := hostname.Parse(text); err == nil && name.IsWildcard() && text != "*" {
				v.err(index("spec.hosts", i), "a wildcard cannot be resolved; add spec.endpoints with names that can, or use resolution NONE")
			}
		}
	}
	if e.resolution == mesh.DNSRoundRobin && len(e.Endpoints) > 1 {
		v.err("spec.endpoints", "DNS_ROUND_ROBIN takes at most one endpoint, found %d; use resolution DNS", len(e.Endpoints))
	}
}

func (v *validator) dynamic(e *entryFacts) {
	for i, text := range e.Hosts {
		if !strings.HasPrefix(text, "*") {
			v.err(index("spec.hosts", i), "DYNAMIC_DNS is for wildcard hosts only; use resolution DNS for %s", quote(text))
		}
	}
	if len(e.Addresses) > 0 {
		v.err("spec.addresses", "addresses are not allowed with DYNAMIC_DNS; remove them")
	}
	if len(e.Endpoints) > 0 {
		v.err("spec.endpoints", "endpoints are not allowed with DYNAMIC_DNS; remove them or use resolution DNS")
	}
	if e.selects {
		v.err("spec.workloadSelector", "a workloadSelector is not allowed with DYNAMIC_DNS; remove it")
	}
	for i, p := range e.protocols {
		if !e.unknown[i] && p != mesh.HTTP && p != mesh.HTTP2 && p != mesh.GRPC && p != mesh.TLS {
			v.err(index("spec.ports", i)+".protocol", "DYNAMIC_DNS needs a protocol that carries the host: HTTP, HTTP2, GRPC or TLS")
		}
	}
	if _, ok := v.object.Labels["istio.io/use-waypoint"]; ok && e.Location == networking.ServiceEntry_MESH_INTERNAL {
		v.err("spec.location", "MESH_INTERNAL cannot go with DYNAMIC_DNS and the label istio.io/use-waypoint; use MESH_EXTERNAL")
	}
}

// distinguishable checks that connections to several hosts can be told apart.
func (v *validator) distinguishable(e *entryFacts) {
	hosts := len(e.Hosts) - e.doubles
	if e.resolution == mesh.None || e.resolution == mesh.DynamicDNS || hosts < 2 {
		return
	}
	for i, p := range e.protocols {
		field := index("spec.ports", i)
		switch {
		case p.IsHTTP(), e.unknown[i]:
		case !p.IsTLS():
			v.err(field, "port %d carries no host name, so its connections cannot be told apart between %d hosts; make one entry for each host", e.Ports[i].Number, hosts)
		case e.resolution != mesh.Static && len(e.Addresses) > 0:
			v.warn(field, "several hosts share the addresses of this TLS port, and the address alone decides; make one entry for each host")
		}
	}
}

// handshakes warns of hosts that no TLS handshake can be known by: server names
// are matched by whole labels.
func (v *validator) handshakes(e *entryFacts) {
	if e.resolution == mesh.DynamicDNS {
		return // left out as a whole
	}
	for i, text := range e.Hosts {
		name, err := hostname.Parse(text)
		if err != nil || !name.IsWildcard() || name == "*" || strings.HasPrefix(string(name), "*.") {
			continue
		}
		for j, p := range e.protocols {
			if p.IsTLS() {
				v.warn(index("spec.hosts", i), "the server name of a TLS handshake is matched by whole labels, so port %d is left out for %s; write %s, and the other names one by one",
					e.Ports[j].Number, quote(text), quote("*."+strings.TrimLeft(string(name), "*-_")))
			}
		}
	}
}

// exportTo checks a visibility list; none says whether "~" is allowed.
func (v *validator) exportTo(field string, exportTo []string, none bool) {
	seen := map[string]bool{}
	for i, target := range exportTo {
		field := index(field, i)
		canonical := target
		if target == "." {
			canonical = v.object.Namespace
		}
		switch {
		case target == "*" || target == "~" && none:
			if len(exportTo) > 1 {
				v.err(field, "%s excludes every other target; let it stand alone", quote(target))
			}
		case target == "~":
			v.err(field, `"~" is allowed in a ServiceEntry only`)
		case target != "." && labelFault(target) != "":
			v.err(field, "%s is no namespace: %s", quote(target), labelFault(target))
		case seen[canonical]:
			v.err(field, "namespace %s is named twice; remove one", quote(canonical))
		}
		seen[canonical] = true
	}
}

// notYet names every field that is valid, set and without effect.
func (v *validator) notYet(e *entryFacts) {
	if len(e.SubjectAltNames) > 0 {
		v.warn("spec.subjectAltNames", unchecked)
	}
	if e.resolution == mesh.DynamicDNS {
		v.warn("spec.resolution", "DYNAMIC_DNS is not acted on yet: the entry is left out, and its hosts are unknown")
	}
	for i, p := range e.Endpoints {
		if p.ServiceAccount != "" { // once: an entry may have thousands
			v.warn(index("spec.endpoints", i)+".serviceAccount", unchecked)
			break
		}
	}
}

// unchecked is what is to be known of fields that name whom a certificate is for.
const unchecked = "is not acted on yet: no certificate is checked against it before the proxy originates TLS"

func resolutionOf(r networking.ServiceEntry_Resolution) mesh.Resolution {
	switch r {
	case networking.ServiceEntry_STATIC:
		return mesh.Static
	case networking.ServiceEntry_DNS:
		return mesh.DNS
	case networking.ServiceEntry_DNS_ROUND_ROBIN:
		return mesh.DNSRoundRobin
	case networking.ServiceEntry_DYNAMIC_DNS:
		return mesh.DynamicDNS
	case networking.ServiceEntry_NONE:
	}
	return mesh.None
}

// sortedNames is for sentences that list what there is.
func sortedNames(names map[string]bool) string {
	list := make([]string, 0, len(names))
	for name := range names {
		if name != "" {
			list = append(list, name)
		}
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}
