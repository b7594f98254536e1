package registry

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// address gives the owners of a host its virtual addresses, or takes them back.
// They are the host's, whoever owns it where.
func (r *Registry) address(now time.Time, name hostname.Name, h *contest) []api.Problem {
	delete(r.waiting, name)
	var vips []netip.Addr
	var problems []api.Problem
	for i, o := range h.owners {
		if !r.wantsVIP(o.service) {
			continue
		}
		if vips == nil {
			pair, err := r.vips.Assign(name, now)
			if err != nil {
				r.waiting[name] = true
				problems = append(problems, r.exhausted(o.service, err))
				break
			}
			vips = pair.Addrs()
		}
		s := *o.service // what was handed out before stays as it is
		s.VIPs = vips
		h.owners[i].service = &s
	}
	if vips == nil {
		r.vips.Release(name, now)
	}
	return problems
}

// stillWaiting returns the hosts that may get a virtual address now, since
// another's has rested, but for those that were touched; sorted.
func (r *Registry) stillWaiting(now time.Time, touched map[hostname.Name]bool) []hostname.Name {
	if len(r.waiting) == 0 || r.vips.Exhausted(now) { // nearly always
		return nil
	}
	return slices.DeleteFunc(slices.Sorted(maps.Keys(r.waiting)), func(name hostname.Name) bool { return touched[name] })
}

// exhausted is the problem of a service whose host gets no virtual address.
func (r *Registry) exhausted(s *mesh.Service, err error) api.Problem {
	return noteOn(s, hostsField(s), fmt.Sprintf(
		"host %s gets no virtual address: %v (%s and %s have room for %d hosts); DNS answers with its own address until one of another host is free again, and its TCP connections are known by their port alone; "+
			"give it spec.addresses, or the mesh a wider range: annotation %s on ConfigMap istio-system/istio",
		s.Host, err, r.mesh.VirtualIPv4, r.mesh.VirtualIPv6, r.vips.Size(), api.VirtualAddresses))
}

// wantsVIP reports whether a service is to have virtual addresses, by Istio's
// rules.
func (r *Registry) wantsVIP(s *mesh.Service) bool {
	return s.Resolution != mesh.None && s.Resolution != mesh.DynamicDNS && len(s.Addresses) == 0 &&
		!s.Host.IsWildcard() && !isAddress(s.Host) && !s.NoVIP
}

// amongVirtual tells claims whose own addresses lie where virtual ones come from.
func (r *Registry) amongVirtual(claims []claim) []api.Problem {
	var problems []api.Problem
	for _, c := range claims {
		for i, at := range c.service.Addresses {
			of := virtualRange(r.mesh, at)
			if !of.IsValid() {
				continue
			}
			field, text := fmt.Sprintf("spec.addresses[%d]", i), at.String()
			if isKube(c.service) {
				field = "spec.clusterIP"
			}
			if at.IsSingleIP() {
				text = at.Addr().String()
			}
			others := "no host is given it"
			if host := r.vips.Holder(at.Addr()); host != "" && at.IsSingleIP() {
				others = fmt.Sprintf("host %s was given it before and keeps it while the run lives, so what goes there may be meant for either", host)
			}
			problems = append(problems, c.problem(field, fmt.Sprintf(
				"address %s of host %s lies in %s, from which virtual addresses come; %s; use an address outside, or give the mesh another range: annotation %s on ConfigMap istio-system/istio",
				text, c.service.Host, of, others, api.VirtualAddresses)))
		}
	}
	return problems
}

// virtualRange returns the range of virtual addresses that a prefix lies in, or the
// zero Prefix. A wider one is meant for what is real in it.
func virtualRange(m config.Mesh, at netip.Prefix) netip.Prefix {
	for _, of := range []netip.Prefix{m.VirtualIPv4, m.VirtualIPv6} {
		if at.Bits() > of.Bits() && of.Contains(at.Addr()) {
			return of
		}
	}
	return netip.Prefix{}
}

// isAddress reports whether a host is an IP address, which nobody looks up.
func isAddress(host hostname.Name) bool {
	_, err := netip.ParseAddr(string(host))
	return err == nil
}

// hostsField is the field in which an object names its hosts.
func hostsField(s *mesh.Service) string {
	if isKube(s) {
		return "metadata.name"
	}
	return "spec.hosts"
}
