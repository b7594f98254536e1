package registry

import (
	"fmt"
	"slices"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

// merge unites claims of one class, oldest first, into one service, and tells
// those that lose something by it.
func merge(claims []claim) (*mesh.Service, []api.Problem) {
	first := claims[0].service
	if len(claims) == 1 {
		return first, nil
	}
	m := merger{
		service: *first,
		ports:   map[uint16]declared{},
		names:   map[string]bool{},
		served:  map[slot]bool{},
	}
	m.service.Addresses = nil
	m.service.Ports = nil
	m.service.Endpoints = nil
	m.service.SubjectAltNames = nil
	for _, c := range claims {
		m.location(claims[0], c)
		m.endpoints(c.service, m.shares(c))
		m.service.Addresses = unite(m.service.Addresses, c.service.Addresses)
		m.service.SubjectAltNames = unite(m.service.SubjectAltNames, c.service.SubjectAltNames)
	}
	m.finish()
	return &m.service, m.problems
}

// A merger works on one merge. Its maps keep the cost linear.
type merger struct {
	service  mesh.Service
	ports    map[uint16]declared
	names    map[string]bool // of ports
	served   map[slot]bool   // what the endpoints of earlier claims do
	problems []api.Problem
}

// declared is a merged port and the claim that brought it.
type declared struct {
	port mesh.Port
	by   claim
}

// A slot is an endpoint's port at which it serves a port of the service. Under
// DNS_ROUND_ROBIN each port of the service has one only: that of port number.
type slot struct {
	number  uint16
	address string
	port    uint16
}

func (m *merger) location(first, c claim) {
	if c.service.Location != first.service.Location {
		m.problems = append(m.problems, c.problem("spec.location", fmt.Sprintf(
			"host %s is %s by %s, with which this entry is merged; that holds",
			c.service.Host, first.service.Location, first.object.Source.Where())))
	}
}

// A share is a port as one claim declares it and as the merged service has it.
type share struct{ own, merged mesh.Port }

// shares adds the ports of c and returns those that its endpoints serve.
func (m *merger) shares(c claim) []share {
	var shares []share
	for _, p := range c.service.Ports {
		first, ok := m.ports[p.Number]
		switch {
		case !ok:
			merged := p
			merged.Name = m.freeName(p)
			m.names[merged.Name] = true
			m.ports[p.Number] = declared{merged, c}
			m.service.Ports = append(m.service.Ports, merged)
			shares = append(shares, share{p, merged})
		case first.port.Protocol == p.Protocol:
			shares = append(shares, share{p, first.port})
		default:
			m.problems = append(m.problems, c.problem(api.PortField(c.object, p.Number), fmt.Sprintf(
				"port %d of host %s is %s by %s, with which this entry is merged; %s is not used",
				p.Number, c.service.Host, protocol(first.port), first.by.object.Source.Where(), protocol(p))))
		}
	}
	return shares
}

func protocol(p mesh.Port) string {
	if p.Protocol == mesh.Unset {
		return "without a protocol"
	}
	return p.Protocol.String()
}

// freeName returns a name for p that no port has yet.
func (m *merger) freeName(p mesh.Port) string {
	name := p.Name
	for i := 0; m.names[name]; i++ {
		name = fmt.Sprintf("%s-%d", p.Name, p.Number)
		if i > 0 {
			name = fmt.Sprintf("%s-%d", name, i)
		}
	}
	return name
}

// endpoints adds the endpoints of s for the ports it shares, but for what an
// earlier claim's endpoints do already. The target ports and names of ports of
// s are its own, so they are written into each endpoint where they differ from
// the merged ones.
func (m *merger) endpoints(s *mesh.Service, shares []share) {
	var slots []slot
	for _, e := range s.Endpoints {
		merged := e
		merged.Ports, merged.Serves = nil, []uint16{}
		for _, sh := range shares {
			port, _ := e.PortFor(sh.own)
			at := slot{sh.merged.Number, e.Address, port}
			if s.Resolution == mesh.DNSRoundRobin {
				at = slot{number: sh.merged.Number}
			}
			if m.served[at] {
				continue
			}
			slots = append(slots, at)
			merged.Serves = append(merged.Serves, sh.merged.Number)
			if byDefault, _ := (mesh.Endpoint{Address: e.Address}).PortFor(sh.merged); byDefault != port {
				if merged.Ports == nil {
					merged.Ports = map[string]uint16{}
				}
				merged.Ports[sh.merged.Name] = port
			}
		}
		if len(merged.Serves) > 0 {
			m.service.Endpoints = append(m.service.Endpoints, merged)
		}
	}
	for _, at := range slots {
		m.served[at] = true
	}
}

// finish brings the result into the form a single entry would have.
func (m *merger) finish() {
	for i := range m.service.Endpoints {
		e := &m.service.Endpoints[i]
		if len(e.Serves) == len(m.service.Ports) {
			e.Serves = nil
		}
	}
	slices.SortStableFunc(m.service.Ports, func(a, b mesh.Port) int { return int(a.Number) - int(b.Number) })
}

// unite appends to all what it lacks of more.
func unite[T comparable](all, more []T) []T {
	for _, x := range more {
		if !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return all
}
