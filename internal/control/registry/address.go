package registry

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// address gives the owners of a host its virtual addresses, or takes them back.
// They are the host's, whoever owns it where.
func (r *Registry) address(now time.Time, name hostname.Name, h *contest) []api.Problem {
	var vips []netip.Addr
	var problems []api.Problem
	for i, o := range h.owners {
		if !r.wantsVIP(o.service) {
			continue
		}
		if vips == nil {
			pair, err := r.vips.Assign(name, now)
			if err != nil {
				src := o.service.Source
				problems = append(problems, api.Problem{
					Severity: api.Warning, Object: src, File: src.File, Line: src.Line, Field: "spec.hosts",
					Message: fmt.Sprintf("host %s gets no virtual address: %v; its TCP connections are known by their port alone", name, err),
				})
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

// wantsVIP reports whether a service is to have virtual addresses, by Istio's
// rules.
func (r *Registry) wantsVIP(s *mesh.Service) bool {
	return s.Resolution != mesh.None && s.Resolution != mesh.DynamicDNS && len(s.Addresses) == 0 &&
		!s.Host.IsWildcard() && !isAddress(s.Host) && !s.NoVIP
}

// isAddress reports whether a host is an IP address, which nobody looks up.
func isAddress(host hostname.Name) bool {
	_, err := netip.ParseAddr(string(host))
	return err == nil
}
