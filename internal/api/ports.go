package api

import (
	"strings"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

func (v *validator) ports(e *entryFacts) {
	switch {
	case len(e.Ports) == 0:
		v.warn("spec.ports", "declares no port, so the entry changes nothing; add the ports its callers use")
	case len(e.Ports) > maxPorts:
		v.err("spec.ports", "declares %d ports, at most %d are allowed; split the entry", len(e.Ports), maxPorts)
	}
	numbers := map[uint32]int{}
	names := map[string]int{}
	for i, p := range e.Ports {
		field := index("spec.ports", i)
		e.portNames[p.Name] = true
		v.portNumber(field+".number", p.Number, numbers, i)
		v.portName(field+".name", p.Name, names, i)
		v.targetPort(field+".targetPort", p.TargetPort)
		protocol, ok := mesh.ParseProtocol(p.Protocol)
		if !ok {
			v.err(field+".protocol", "%s is no protocol; %s", quote(p.Protocol), protocolMeant(p.Protocol))
		}
		e.protocols = append(e.protocols, protocol)
		e.unknown = append(e.unknown, !ok)
		if protocol != mesh.UDP {
			v.reserved(field+".number", p.Number, "declare another number, with targetPort: %d if that is what the server listens on")
		}
		switch protocol { //nolint:exhaustive // the others need no word
		case mesh.UDP:
			v.warn(field+".protocol", "UDP is not acted on yet; the port is left out")
		case mesh.Postgres:
			v.warn(field+".protocol", "Istio does not know POSTGRES and refuses the entry; write TCP where it must be portable")
		}
	}
}

// protocolMeant advises what to write in place of what is no protocol.
func protocolMeant(text string) string {
	known := []string{"HTTP", "HTTPS", "GRPC", "GRPC-Web", "HTTP2", "TLS", "TCP", "MONGO", "REDIS", "MYSQL", "POSTGRES"}
	if near := Nearest(text, known); near != "" {
		return "did you mean " + near + "?"
	}
	return "use " + strings.Join(known[:len(known)-1], ", ") + " or " + known[len(known)-1]
}

// isReserved reports whether no connection to a port comes to the proxy as one to
// a destination.
func isReserved(number uint32) bool { return number == xds.OutboundPort || number == xds.DNSPort }

// reserved warns of the ports by which no connection to a destination comes to
// the proxy. The advice may name the port.
func (v *validator) reserved(field string, number uint32, advice string) {
	var why string
	switch number {
	case xds.OutboundPort:
		why = "port %d is where the proxy itself takes connections in"
	case xds.DNSPort:
		why = "port %d of every address is the workload's name server"
	default:
		return
	}
	v.warn(field, why+", so this one is left out; "+advice, number, number)
}

func (v *validator) targetPort(field string, number uint32) {
	switch {
	case number > 65535:
		v.err(field, "%d is no port; use 1 to 65535", number)
	case number == 0 && v.object.has(field):
		v.err(field, "0 is no port; remove targetPort if the endpoints serve the same port as is declared")
	}
}

func (v *validator) portNumber(field string, number uint32, seen map[uint32]int, i int) {
	if number == 0 && !v.object.has(field) {
		advice := "give it one, from 1 to 65535"
		if i > 0 {
			advice += ", or remove the dash if its lines belong to the port above"
		}
		v.err(field, "the port has no number; %s", advice)
		return
	}
	if number == 0 || number > 65535 {
		v.err(field, "%d is no port; use 1 to 65535", number)
		return
	}
	if j, ok := seen[number]; ok {
		v.err(field, "port %d is declared by %s already; declare each number once", number, index("spec.ports", j))
		return
	}
	seen[number] = i
}

func (v *validator) portName(field, name string, seen map[string]int, i int) {
	if name == "" {
		v.err(field, `the port has no name; give it one, such as "http"`)
		return
	}
	if fault := labelFault(name); fault != "" {
		v.err(field, "%s is no name of a port: %s", quote(name), fault)
	}
	if j, ok := seen[name]; ok {
		v.err(field, "%s has the name %s already; give each port its own", index("spec.ports", j), quote(name))
		return
	}
	seen[name] = i
}
