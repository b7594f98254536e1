package api

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// kubeService checks a Kubernetes Service as far as its meaning here depends on
// it: the API server has checked the rest, or will.
func (v *validator) kubeService(s *KubeService) {
	if fault := labelFault(v.object.Name); fault != "" {
		v.err("metadata.name", "%s is no name of a Service: %s", quote(v.object.Name), fault)
	}
	if to := exportToOf(v.object.Annotations); len(to) > 0 {
		v.exportTo(join("metadata.annotations", exportToAnnotation), to, true)
	}
	v.kubeKeys()
	v.kubeAddresses(s)
	v.labels("spec.selector", s.Selector)
	v.kubePorts(s)
	if s.SessionAffinity == "ClientIP" {
		v.warn("spec.sessionAffinity", "is not acted on: the proxy chooses an endpoint for each connection or request")
	}
	if s.InternalTrafficPolicy == "Local" {
		v.warn("spec.internalTrafficPolicy", "is not acted on yet: endpoints of every node are used")
	}
	if s.TrafficDistribution != "" {
		v.warn("spec.trafficDistribution", "is not acted on yet: endpoints of every zone are used alike")
	}
}

// kubeKeys names the labels and annotations by which Istio would do something
// with a Service.
func (v *validator) kubeKeys() {
	for field, keys := range map[string]map[string]string{"metadata.labels": v.object.Labels, "metadata.annotations": v.object.Annotations} {
		for key := range keys {
			domain, _, ok := strings.Cut(key, "/")
			if ok && strings.HasSuffix("."+domain, ".istio.io") && domain != "service.istio.io" && key != exportToAnnotation && key != noVIP {
				v.warn(join(field, key), "is not acted on yet")
			}
		}
	}
}

func (v *validator) kubeAddresses(s *KubeService) {
	types := []string{"ClusterIP", "ExternalName", "LoadBalancer", "NodePort"}
	switch {
	case s.Type == "ExternalName":
		const field = "spec.externalName"
		if s.ExternalName == "" {
			v.err(field, "the Service has no external name; give it one, or another type")
		} else if name, err := hostname.Parse(s.ExternalName); err != nil {
			v.err(field, "%s is no host name: %v", quote(s.ExternalName), err)
		} else if name.IsWildcard() {
			v.err(field, "%s is a wildcard, which cannot be resolved; name one host", quote(s.ExternalName))
		}
		return
	case s.Type != "" && !slices.Contains(types, s.Type):
		v.err("spec.type", "%s is no type of a Service; use one of %s", quote(s.Type), strings.Join(types, ", "))
	}
	v.clusterIP("spec.clusterIP", s.ClusterIP)
	for i, text := range s.ClusterIPs {
		v.clusterIP(index("spec.clusterIPs", i), text)
	}
	if len(s.ClusterIPs) > 0 && s.ClusterIP != "" && s.ClusterIPs[0] != s.ClusterIP {
		v.err("spec.clusterIPs", "begins with %s, and clusterIP is %s; make them the same", quote(s.ClusterIPs[0]), quote(s.ClusterIP))
	}
}

func (v *validator) clusterIP(field, text string) {
	if text == "" || text == "None" {
		return
	}
	if ip, err := netip.ParseAddr(text); err != nil || ip.Zone() != "" {
		v.err(field, `%s is neither an IP address nor "None"`, quote(text))
	}
}

func (v *validator) kubePorts(s *KubeService) {
	names := map[string]int{}
	numbers := map[string]map[uint32]int{} // by protocol
	for i, p := range s.Ports {
		field := index("spec.ports", i)
		protocol := p.Protocol
		if protocol == "" {
			protocol = "TCP"
		}
		v.transport(join(field, "protocol"), protocol)
		switch {
		case protocol == "UDP" || protocol == "SCTP":
			v.warn(field, "%s is not acted on yet; the port is left out", protocol)
		case p.protocol() == mesh.UDP:
			v.warn(field, "its name or appProtocol says UDP, which is not acted on yet; the port is left out")
		default:
			v.reserved(join(field, "port"), uint32(max(p.Number, 0)), "connections to port %d of the Service do not reach it") //nolint:gosec // not negative
		}
		if numbers[protocol] == nil {
			numbers[protocol] = map[uint32]int{}
		}
		if p.Number < 0 {
			v.err(join(field, "port"), "%d is no port; use 1 to 65535", p.Number)
		} else {
			v.portNumber(join(field, "port"), uint32(p.Number), numbers[protocol], i)
		}
		if p.Name != "" || len(s.Ports) > 1 {
			v.portName(join(field, "name"), p.Name, names, i)
		}
		if p.Target < 0 || p.Target > 65535 {
			v.err(join(field, "targetPort"), "%d is no port; use 1 to 65535", p.Target)
		}
		if fault := labelFault(p.TargetName); p.TargetName != "" && fault != "" {
			v.err(join(field, "targetPort"), "%s is no name of a port: %s", quote(p.TargetName), fault)
		}
	}
}

func (v *validator) transport(field, protocol string) {
	if !slices.Contains([]string{"TCP", "UDP", "SCTP"}, protocol) {
		v.err(field, "%s is no protocol of a port; use TCP, UDP or SCTP, and appProtocol for what is spoken over it", quote(protocol))
	}
}

// kubeSlice checks an EndpointSlice.
func (v *validator) kubeSlice(s *KubeSlice) {
	if v.object.Labels[serviceNameLabel] == "" {
		v.warn("metadata.labels", "without the label %s it belongs to no Service and changes nothing", serviceNameLabel)
	}
	switch s.AddressType {
	case "IPv4", "IPv6":
	case "FQDN":
		v.warn("addressType", "FQDN is deprecated and not acted on; write a ServiceEntry with resolution: DNS")
		return
	case "":
		v.err("addressType", "the slice has no addressType; use IPv4 or IPv6")
		return
	default:
		v.err("addressType", "%s is no type of an address; use IPv4 or IPv6", quote(s.AddressType))
		return
	}
	for i, e := range s.Endpoints {
		v.sliceAddresses(s, join(index("endpoints", i), "addresses"), e.Addresses)
	}
	names := map[string]int{}
	for i, p := range s.Ports {
		field := index("ports", i)
		if p.Protocol != "" {
			v.transport(join(field, "protocol"), p.Protocol)
		}
		if p.Number < 0 || p.Number > 65535 {
			v.err(join(field, "port"), "%d is no port; use 1 to 65535", p.Number)
		}
		if j, ok := names[p.Name]; ok {
			v.err(join(field, "name"), "%s has the name %s already; give each port its own", index("ports", j), quote(p.Name))
		} else {
			names[p.Name] = i
		}
	}
}

func (v *validator) sliceAddresses(s *KubeSlice, field string, addresses []string) {
	if len(addresses) == 0 {
		v.err(field, "the endpoint has no address; give it one")
	}
	for i, text := range addresses {
		ip, err := netip.ParseAddr(text)
		switch {
		case err != nil || ip.Zone() != "":
			v.err(index(field, i), "%s is no IP address; a host name needs a ServiceEntry with resolution: DNS", quote(text))
		case ip.Is4() != (s.AddressType == "IPv4"):
			v.err(index(field, i), "%s is no %s address, as addressType says", quote(text), s.AddressType)
		}
	}
}
