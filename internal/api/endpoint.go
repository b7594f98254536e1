package api

import (
	"maps"
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

func (v *validator) endpoints(e *entryFacts) {
	if len(e.Endpoints) > maxEndpoints {
		v.err("spec.endpoints", "has %d endpoints, at most %d are allowed; split the entry", len(e.Endpoints), maxEndpoints)
		return
	}
	if e.resolution == mesh.None || e.resolution == mesh.DynamicDNS {
		return // refused as a whole
	}
	for i, p := range e.Endpoints {
		field := index("spec.endpoints", i)
		v.workload(field, p)
		v.endpointPorts(e, field+".ports", p)
		switch {
		case p.Address == "" && p.Network == "":
			v.err(field+".address", "the endpoint has no address; give it one")
		case p.Address == "":
			v.warn(field+".address", "the endpoint has a network (%s) and no address, and gateways of networks are not known yet; it is left out", quote(p.Network))
		case strings.HasPrefix(p.Address, "unix:"):
			v.unixEndpoint(e, field, p)
		default:
			v.endpointAddress(e, field+".address", p.Address)
		}
	}
}

func (v *validator) endpointAddress(e *entryFacts, field, address string) {
	named := v.hostAddress(field, address, "under ports: of the endpoint, or as targetPort under spec.ports")
	if named && e.resolution == mesh.Static {
		v.err(field, "%s is a host name, and STATIC does not resolve names; write resolution: DNS, or give its IP address", quote(address))
	}
}

// hostAddress checks the address of an endpoint that is no unix socket. It
// reports whether that is a host name which could be resolved. portGoes says
// where a port belongs that was written with it.
func (v *validator) hostAddress(field, address, portGoes string) (named bool) {
	if ip, err := netip.ParseAddr(address); err == nil {
		v.endpointIP(field, address, ip)
		return false
	}
	name, err := hostname.Parse(address)
	_, noPort := netip.ParseAddrPort(address)
	switch {
	case strings.Contains(address, "://"):
		v.err(field, "%s is a URL; leave only the host name or address", quote(address))
	case err == nil && strings.HasPrefix(address, "["):
		v.err(field, "%s has brackets, which are for addresses with a port; write %s", quote(address), quote(strings.Trim(address, "[]")))
	case strings.Count(address, ":") == 1 || noPort == nil:
		v.err(field, "%s has a port; put it %s", quote(address), portGoes)
	case err != nil:
		v.err(field, "%s is neither an IP address nor a host name: %v", quote(address), err)
	case name.IsWildcard():
		v.err(field, "%s is a wildcard, which cannot be resolved; name one host", quote(address))
	default:
		return true
	}
	return false
}

// endpointIP warns of addresses at which nobody answers, or somebody else.
func (v *validator) endpointIP(field, address string, ip netip.Addr) {
	switch ip := ip.Unmap(); {
	case ip.Zone() != "":
		v.err(field, "%s has a zone, which means something on one machine only; use an address without", quote(address))
	case ip.IsUnspecified():
		v.warn(field, "%s is no destination: it stands for any address of the machine that listens; give the address of the server", quote(address))
	case ip.IsMulticast(), ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		v.warn(field, "%s stands for a group, to which no connection can be made; give the address of the server", quote(address))
	case ip.IsLoopback():
		v.warn(field, "%s is the loopback of the machine that the proxy runs on, and not of the workload's sandbox; connections are made there", quote(address))
	}
}

func (v *validator) unixEndpoint(e *entryFacts, field string, p *networking.WorkloadEntry) {
	v.portless(field, p)
	field += ".address"
	if e.resolution != mesh.Static {
		v.err(field, "a unix socket needs resolution STATIC, not %s", e.resolution)
	} else {
		v.unixAddress(field, p.Address)
	}
	if len(e.Ports) != 1 {
		v.err(field, "a unix socket serves one port, and the entry declares %d; make one entry for each", len(e.Ports))
	}
}

// unixAddress checks that an address that begins with unix: names a socket.
func (v *validator) unixAddress(field, address string) {
	path, ok := strings.CutPrefix(address, "unix://")
	switch {
	case !ok || !strings.HasPrefix(path, "/") && !strings.HasPrefix(path, "@"):
		v.err(field, "%s is no unix socket; write unix:///absolute/path or unix://@name", quote(address))
	case strings.HasSuffix(path, "/") || path == "@":
		v.err(field, "%s names no socket; its last part is empty", quote(address))
	case len(path) > 107:
		v.err(field, "the path of a unix socket may have 107 characters, found %d", len(path))
	}
}

// endpointPorts checks ports whose names the entry must have.
func (v *validator) endpointPorts(e *entryFacts, field string, p *networking.WorkloadEntry) {
	for _, name := range slices.Sorted(maps.Keys(p.Ports)) {
		field := join(field, name)
		switch number := p.Ports[name]; {
		case len(name) > longestPortName:
			v.err(field, "the name is longer than %d characters", longestPortName)
		case !e.portNames[name]:
			v.err(field, "spec.ports has no port named %s; it has %s", quote(name), sortedNames(e.portNames))
		case number == 0 || number > 65535:
			v.err(field, "%d is no port; use 1 to 65535", number)
		}
	}
}
