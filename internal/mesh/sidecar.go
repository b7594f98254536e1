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
type EgressListener struct{ Import, Exclude []HostPattern }

// A HostPattern stands for hosts declared in a namespace.
type HostPattern struct {
	Namespace string        // "*" is any, "." that of the workload
	Host      hostname.Name // "*" is any
}

func (p HostPattern) covers(own, namespace string, host hostname.Name) bool {
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
		if p.covers(own, namespace, host) {
			return false
		}
	}
	for _, p := range l.Import {
		if p.covers(own, namespace, host) {
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
