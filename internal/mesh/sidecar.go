package mesh

import (
	"time"

	"github.com/fairlead/fairlead/internal/hostname"
)

// A Sidecar narrows what workloads see of the mesh, and may say what happens to
// traffic that nothing declares. A nil *Sidecar narrows nothing.
type Sidecar struct {
	Namespace string
	Selector  map[string]string // labels of the workloads it is for; empty: every one of its namespace
	Egress    []EgressListener  // in order; empty imports everything
	Policy    *OutboundPolicy   // nil: the mesh's
	Created   time.Time
	Source    Ref
}

// An EgressListener lists hosts to import and, of those, hosts not to.
type EgressListener struct {
	Import, Exclude []HostPattern
	// Port is the one on which the hosts can be reached. 0: on every port that no
	// other listener is for.
	Port uint16
	// Past says that what goes to these hosts is not to be captured: the workload
	// knows of them, and the proxy takes nothing that goes to them.
	Past bool
}

// A HostPattern stands for hosts declared in a namespace.
type HostPattern struct {
	Namespace string        // "*" is any, "." that of the workload
	Host      hostname.Name // "*" is any
}

// Covers reports whether the pattern of a workload of namespace own stands for a
// host that an object of the namespace declares.
func (p HostPattern) Covers(own, namespace string, host hostname.Name) bool {
	switch p.Namespace {
	case "*":
	case ".":
		if namespace != own {
			return false
		}
	default:
		if namespace != p.Namespace {
			return false
		}
	}
	return host.SubsetOf(p.Host)
}

// Imports reports whether a workload of namespace own gets through the listener
// a host that an object of the namespace declares.
func (l EgressListener) Imports(own, namespace string, host hostname.Name) bool {
	for _, p := range l.Exclude {
		if p.Covers(own, namespace, host) {
			return false
		}
	}
	for _, p := range l.Import {
		if p.Covers(own, namespace, host) {
			return true
		}
	}
	return false
}

// Selects reports whether the Sidecar is for workloads with those labels, as
// far as labels go.
func (s *Sidecar) Selects(labels map[string]string) bool {
	for key, value := range s.Selector {
		if v, ok := labels[key]; !ok || v != value {
			return false
		}
	}
	return true
}

// Listener returns which listener a workload of namespace own reaches a port of a
// host by that an object of namespace declares; -1 if by none, and 0 where
// nothing is narrowed. Of those for that port it is the first that imports the
// host; one for every port has what is left of ports that none is for.
func (s *Sidecar) Listener(own, namespace string, host hostname.Name, port uint16) int {
	if s == nil || len(s.Egress) == 0 {
		return 0
	}
	rest, taken := -1, false
	for i, l := range s.Egress {
		switch {
		case l.Port == port && port != 0:
			if l.Imports(own, namespace, host) {
				return i
			}
			taken = taken || !l.Past
		case l.Port == 0 && rest < 0 && l.Imports(own, namespace, host):
			rest = i
		}
	}
	if taken {
		return -1
	}
	return rest
}

// First returns the first listener by which a workload of namespace own reaches
// any port of a service; -1 if it reaches none, and 0 where nothing is narrowed.
func (s *Sidecar) First(own string, service *Service) int {
	if s == nil || len(s.Egress) == 0 {
		return 0
	}
	if len(service.Ports) == 0 {
		return s.Listener(own, service.Namespace, service.Host, 0)
	}
	first := -1
	for _, p := range service.Ports {
		if l := s.Listener(own, service.Namespace, service.Host, p.Number); l >= 0 && (first < 0 || l < first) {
			first = l
		}
	}
	return first
}

// ports returns the ports of a service that a workload reaches through its
// proxy, and whether it has others past it. imported says whether it has any.
func (s *Sidecar) ports(own string, service *Service) (taken []Port, past, imported bool) {
	if s == nil || len(s.Egress) == 0 {
		return service.Ports, false, true
	}
	if len(service.Ports) == 0 {
		at := s.First(own, service)
		return nil, at >= 0 && s.Egress[at].Past, at >= 0
	}
	for _, p := range service.Ports {
		switch at := s.Listener(own, service.Namespace, service.Host, p.Number); {
		case at < 0:
		case s.Egress[at].Past:
			past = true
		default:
			taken = append(taken, p)
		}
	}
	return taken, past, past || len(taken) > 0
}

// withheld returns the ports of a service that no listener imports.
func (s *Sidecar) withheld(own string, service *Service) []Port {
	var all []Port
	for _, p := range service.Ports {
		if s.Listener(own, service.Namespace, service.Host, p.Number) < 0 {
			all = append(all, p)
		}
	}
	return all
}
