package whoowns

import (
	"net/netip"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/mesh"
)

// decided is an Explanation as it is written.
func decided(e registry.Explanation, policy mesh.OutboundPolicy) admin.Decision {
	d := admin.Decision{
		Host: e.Host.String(), Namespace: e.Namespace,
		Others: standings(e.Others), Wildcards: standings(e.Wildcards), Policy: policy.String(), Undeclared: undeclared(policy),
	}
	if e.Sidecar != nil {
		d.Sidecar = e.Sidecar.Source.Where()
	}
	if e.Owner != nil {
		d.Owner = &standings([]registry.Standing{*e.Owner})[0]
	}
	return d
}

func undeclared(p mesh.OutboundPolicy) string {
	if p == mesh.RegistryOnly {
		return "refused"
	}
	return "passed through"
}

func standings(list []registry.Standing) []admin.Standing {
	all := make([]admin.Standing, 0, len(list))
	for _, s := range list {
		src := s.Service.Source
		out := admin.Standing{
			Object: src.String(), File: src.File, Line: src.Line, Host: s.Service.Host.String(), Reason: s.Reason,
			Ports: portsOf(s.Service), Resolution: s.Service.Resolution.String(),
		}
		for _, m := range s.Merged {
			out.Merged = append(out.Merged, m.Where())
		}
		for _, a := range s.Service.Addresses {
			out.Addresses = append(out.Addresses, addressText(a))
		}
		for _, a := range s.Service.VIPs {
			out.Virtual = append(out.Virtual, a.String())
		}
		all = append(all, out)
	}
	return all
}

func portsOf(s *mesh.Service) []admin.Port {
	ports := make([]admin.Port, 0, len(s.Ports))
	for _, p := range s.Ports {
		ports = append(ports, admin.Port{Number: p.Number, Protocol: p.Protocol.String()})
	}
	return ports
}

// addressText is a prefix as people write it: an address, if it is one.
func addressText(p netip.Prefix) string {
	if p.IsSingleIP() {
		return p.Addr().String()
	}
	return p.String()
}

func prefixes(list []netip.Addr) []netip.Prefix {
	all := make([]netip.Prefix, 0, len(list))
	for _, a := range list {
		all = append(all, netip.PrefixFrom(a, a.BitLen()))
	}
	return all
}

func addressTexts(list []netip.Prefix) []string {
	all := make([]string, 0, len(list))
	for _, p := range list {
		all = append(all, addressText(p))
	}
	return all
}
