package mesh

import (
	"net/netip"
	"slices"
)

// Reach returns a service of the mesh as connections of one workload reach it, or
// nil if that imports nothing of it: through its Sidecar, which may be nil, and
// by its capture. It has the ports that the Sidecar imports and the proxy takes,
// and those virtual addresses of which the capture takes every port: any other
// would lead nowhere, so neither DNS nor a listener may know it. Own is the
// workload's namespace. s stays as it is, and is what is returned where nothing
// is narrowed.
func Reach(s *Service, own string, sidecar *Sidecar, capture Capture) *Service {
	taken, past, imported := sidecar.ports(own, s)
	if !imported {
		return nil
	}
	vips := s.VIPs
	if past {
		vips = nil
	}
	if capture != (Capture{}) {
		numbers := make([]uint16, 0, len(taken))
		for _, p := range taken {
			numbers = append(numbers, p.Number)
		}
		vips = slices.DeleteFunc(slices.Clone(vips), func(a netip.Addr) bool { return capture.noDNS || !capture.Takes(a, numbers) })
	}
	if len(taken) == len(s.Ports) && len(vips) == len(s.VIPs) {
		return s
	}
	narrowed := *s
	narrowed.Ports, narrowed.VIPs = taken, nil
	if len(vips) > 0 {
		narrowed.VIPs = vips
	}
	if len(taken) < len(s.Ports) {
		narrowed.Withheld, narrowed.WithheldBy = sidecar.withheld(own, s), sidecar.Source
	}
	return &narrowed
}
