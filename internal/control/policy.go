package control

import (
	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A Ruling is an outbound policy and, where not everybody who speaks of it says
// the same, by whom it holds and who is not heard: the end of a sentence.
type Ruling struct {
	Policy mesh.OutboundPolicy
	By     string // "by ConfigMap istio-system/istio (mesh.yaml:1), which …"; empty: all agree
}

// Ruling returns what happens to traffic of a workload that no object declares,
// and by whom.
func (p *Plane) Ruling(namespace string, labels map[string]string) Ruling {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.rulingLocked(namespace, labels)
}

func (p *Plane) rulingLocked(namespace string, labels map[string]string) Ruling {
	sidecar := p.snapshot.Sidecar(namespace, labels)
	r := Ruling{Policy: p.policyLocked(sidecar)}
	fromMesh, said := saidBy(p.meshObject)
	switch {
	case p.policy == mesh.RegistryOnly:
		switch {
		case sidecar != nil && sidecar.Policy != nil:
			if *sidecar.Policy != r.Policy {
				r.By = "by the command line, which no object opens: " + sidecar.Source.Where() + " says ALLOW_ANY in vain"
			}
		case said && fromMesh != r.Policy:
			r.By = "by the command line, which no object opens: " + p.meshObject.Source.Where() + " says ALLOW_ANY in vain"
		}
	case sidecar != nil && sidecar.Policy != nil:
		switch {
		case r.Policy != mesh.RegistryOnly && said && fromMesh == mesh.RegistryOnly:
			r.By = "by " + sidecar.Source.Where() + ", which goes before " + p.meshObject.Source.Where()
		case r.Policy == mesh.RegistryOnly:
			r.By = "by " + sidecar.Source.Where() + ", which goes before the mesh's policy and closes what the command line leaves open"
		}
	case r.Policy == mesh.RegistryOnly && said:
		r.By = "by " + p.meshObject.Source.Where() + ", which closes what the command line leaves open"
	}
	return r
}

// saidBy returns the policy that the mesh-wide configuration, which may be nil,
// states: what it says whatever held before.
func saidBy(o *api.Object) (policy mesh.OutboundPolicy, said bool) {
	if o == nil {
		return 0, false
	}
	open := api.Mesh(o, config.Mesh{OutboundTrafficPolicy: mesh.AllowAny}).OutboundTrafficPolicy
	closed := api.Mesh(o, config.Mesh{OutboundTrafficPolicy: mesh.RegistryOnly}).OutboundTrafficPolicy
	return open, open == closed
}

// noteMeshLocked keeps the mesh-wide configuration, if it is among the changes.
func (p *Plane) noteMeshLocked(changes []registry.Change) {
	for _, c := range changes {
		if c.Key.IsMesh() {
			p.meshObject = c.Object
		}
	}
}

// logPolicyLocked says what the policy of the expected workload is, if that or its
// reason is not what it was.
func (p *Plane) logPolicyLocked() {
	now := p.rulingLocked(p.expected.Namespace, p.labels)
	if now == p.ruling {
		return
	}
	p.ruling = now
	if now.By == "" {
		p.log.Info("the outbound policy changed", "policy", now.Policy.String())
		return
	}
	p.log.Info("the outbound policy changed", "policy", now.Policy.String(), "reason", now.By)
}
