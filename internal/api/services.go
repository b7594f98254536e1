package api

import (
	"net/netip"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// noVIP is Istio's label with which an entry says "false" to virtual addresses.
const noVIP = "networking.istio.io/enable-autoallocate-ip"

// Services returns what a valid ServiceEntry declares: one service for each
// host; or a Kubernetes Service, which is one, without the endpoints that other
// objects give it. Other kinds declare none; nor does an entry that is not acted
// on yet. The services share their slices.
func Services(o *Object) []*mesh.Service {
	if spec, ok := o.Spec.(*KubeService); ok {
		return []*mesh.Service{kubeService(o, spec)}
	}
	se, ok := o.Spec.(*networking.ServiceEntry)
	if !ok || se.Resolution == networking.ServiceEntry_DYNAMIC_DNS {
		return nil
	}
	common := mesh.Service{
		Namespace:       o.Namespace,
		Addresses:       serviceAddresses(se.Addresses),
		Ports:           servicePorts(se.Ports),
		Resolution:      resolutionOf(se.Resolution),
		Endpoints:       serviceEndpoints(se.Endpoints),
		Selector:        se.WorkloadSelector.GetLabels(),
		ExportTo:        se.ExportTo,
		SubjectAltNames: se.SubjectAltNames,
		Created:         o.Created,
		Source:          o.Source,
		NoVIP:           o.Labels[noVIP] == "false",
	}
	if se.Location == networking.ServiceEntry_MESH_INTERNAL {
		common.Location = mesh.Internal
	}
	isDNS := common.Resolution == mesh.DNS || common.Resolution == mesh.DNSRoundRobin
	services := make([]*mesh.Service, 0, len(se.Hosts))
	seen := make(map[hostname.Name]bool, len(se.Hosts))
	for _, text := range se.Hosts {
		host, err := hostname.Parse(text)
		if err != nil || seen[host] {
			continue
		}
		seen[host] = true
		s := common
		s.Host = host
		if isDNS && len(s.Endpoints) == 0 && s.Selector == nil {
			s.Endpoints = []mesh.Endpoint{{Address: string(host), Weight: 1}}
		}
		services = append(services, &s)
	}
	return services
}

// serviceAddresses returns each address once, in the order in which they are listed.
func serviceAddresses(texts []string) []netip.Prefix {
	var addresses []netip.Prefix
	seen := make(map[netip.Prefix]bool, len(texts))
	for _, text := range texts {
		prefix, err := parseAddress(text)
		if prefix = prefix.Masked(); err != nil || seen[prefix] {
			continue
		}
		seen[prefix] = true
		addresses = append(addresses, prefix)
	}
	return addresses
}

// servicePorts leaves UDP ports out: they are not acted on.
func servicePorts(ports []*networking.ServicePort) []mesh.Port {
	out := make([]mesh.Port, 0, len(ports))
	for _, p := range ports {
		protocol, _ := mesh.ParseProtocol(p.Protocol)
		if protocol == mesh.UDP {
			continue
		}
		out = append(out, mesh.Port{
			Name:       p.Name,
			Number:     uint16(p.Number), //nolint:gosec // validated
			Protocol:   protocol,
			TargetPort: uint16(p.TargetPort), //nolint:gosec // validated
		})
	}
	return out
}

func serviceEndpoints(entries []*networking.WorkloadEntry) []mesh.Endpoint {
	var endpoints []mesh.Endpoint
	for _, e := range entries {
		if e.Address == "" {
			continue // reached through its network, which is not acted on
		}
		endpoints = append(endpoints, endpointOf(e))
	}
	return endpoints
}

func canonicalAddress(s string) string {
	if strings.HasPrefix(s, "unix:") {
		return s
	}
	if name, err := hostname.Parse(s); err == nil {
		return string(name)
	}
	return s
}

// HostField returns the path of the field in which an object names the host.
func HostField(o *Object, host hostname.Name) string {
	if o.Kind == KindService {
		return "metadata.name"
	}
	se, _ := o.Spec.(*networking.ServiceEntry)
	for i, text := range se.GetHosts() {
		if name, err := hostname.Parse(text); err == nil && name == host {
			return index("spec.hosts", i)
		}
	}
	return "spec.hosts"
}

// PortField returns the path of the field in which a ServiceEntry declares the
// port of that number.
func PortField(o *Object, number uint16) string {
	se, _ := o.Spec.(*networking.ServiceEntry)
	for i, p := range se.GetPorts() {
		if p.Number == uint32(number) {
			return index("spec.ports", i)
		}
	}
	return "spec.ports"
}
