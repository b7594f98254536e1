package translate

import (
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// mostPorts bounds what a name says of its ports: a refusal does without the list
// where it would be no sentence any more.
const mostPorts = 64

// declare says of a name which ports its object declares, those that a Sidecar
// withholds from the workload included.
func declare(n *fairleadpb.Name, s *mesh.Service) {
	if len(s.Ports)+len(s.Withheld) > mostPorts {
		return
	}
	add := func(ports []mesh.Port, withheld bool) {
		for _, p := range ports {
			n.Ports = append(n.Ports, &fairleadpb.DeclaredPort{Number: uint32(p.Number), Protocol: p.Protocol.String(), Withheld: withheld})
		}
	}
	add(s.Ports, false)
	add(s.Withheld, true)
	if len(s.Withheld) > 0 {
		n.NarrowedBy = sourceOf(s.WithheldBy)
	}
}
