package api

import (
	"maps"
	"regexp"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/mesh"
)

// KindWorkloadEntry is the kind of objects that a workloadSelector selects.
const KindWorkloadEntry = "WorkloadEntry"

// Workload returns the endpoint that a valid WorkloadEntry describes, with the
// labels by which it is selected; those of its metadata beat those of its spec.
// It is false for other kinds, and for an entry without an address, which is
// reached through its network and not acted on.
func Workload(o *Object) (mesh.Endpoint, bool) {
	we, ok := o.Spec.(*networking.WorkloadEntry)
	if !ok || we.Address == "" {
		return mesh.Endpoint{}, false
	}
	e := endpointOf(we)
	e.Labels = make(map[string]string, len(we.Labels)+len(o.Labels))
	maps.Copy(e.Labels, we.Labels)
	maps.Copy(e.Labels, o.Labels)
	return e, true
}

func endpointOf(we *networking.WorkloadEntry) mesh.Endpoint {
	e := mesh.Endpoint{
		Address:        canonicalAddress(we.Address),
		Labels:         we.Labels,
		Network:        we.Network,
		Locality:       we.Locality,
		Weight:         max(we.Weight, 1),
		ServiceAccount: we.ServiceAccount,
	}
	if len(we.Ports) > 0 {
		e.Ports = make(map[string]uint16, len(we.Ports))
		for name, number := range we.Ports {
			e.Ports[name] = uint16(number) //nolint:gosec // validated
		}
	}
	return e
}

// tlsMode is Istio's label of a workload that takes connections with mutual TLS.
const (
	tlsMode     = "security.istio.io/tlsMode"
	noMutualTLS = "is not acted on yet: no connection is made with mutual TLS"
)

// The most that a WorkloadEntry may hold, wherever it stands, as Istio's schema
// has it.
const (
	maxWorkloadPorts      = 128
	longestPortName       = 62
	longestPlace          = 2048 // of network and locality
	longestServiceAccount = 253
)

// workload checks what an endpoint, a WorkloadEntry and the template of a
// WorkloadGroup have in common.
func (v *validator) workload(field string, we *networking.WorkloadEntry) {
	v.labels(join(field, "labels"), we.Labels)
	v.atMost(join(field, "labels"), len(we.Labels), maxLabels, "labels")
	if mode := we.Labels[tlsMode]; mode != "" && mode != "disabled" {
		v.warn(join(join(field, "labels"), tlsMode), noMutualTLS)
	}
	v.atMost(join(field, "ports"), len(we.Ports), maxWorkloadPorts, "ports")
	v.atMost(join(field, "network"), len(we.Network), longestPlace, "characters")
	v.atMost(join(field, "locality"), len(we.Locality), longestPlace, "characters")
	v.atMost(join(field, "serviceAccount"), len(we.ServiceAccount), longestServiceAccount, "characters")
}

// atMost checks how many of something a field has.
func (v *validator) atMost(field string, has, most int, what string) {
	if has > most {
		v.err(field, "has %d %s, at most %d are allowed", has, what, most)
	}
}

// portless refuses ports beside a unix socket.
func (v *validator) portless(field string, we *networking.WorkloadEntry) {
	if ports := join(field, "ports"); len(we.Ports) > 0 || v.object.has(ports) {
		v.err(ports, "a unix socket has no ports; remove them")
	}
}

// workloadEntry checks a WorkloadEntry that stands alone: which ServiceEntries
// will select it is not known.
func (v *validator) workloadEntry(field string, we *networking.WorkloadEntry) {
	v.workload(field, we)
	v.workloadPorts(join(field, "ports"), we)
	address := join(field, "address")
	switch {
	case we.Address == "" && we.Network == "":
		v.err(address, "the workload has no address; give it one")
	case we.Address == "":
		v.warn(address, "the workload has a network (%s) and no address, and gateways of networks are not known yet; it is left out", quote(we.Network))
	case strings.HasPrefix(we.Address, "unix:"):
		v.portless(field, we)
		v.unixAddress(address, we.Address)
	default:
		v.hostAddress(address, we.Address, "under spec.ports, by the name that the ServiceEntry gives it")
	}
	if we.ServiceAccount != "" {
		v.warn(join(field, "serviceAccount"), unchecked)
	}
}

// portKey is what Istio's schema takes for a key of ports.
var portKey = regexp.MustCompile(`^[a-zA-Z0-9](?:[-a-zA-Z0-9]*[a-zA-Z0-9])?$`)

// workloadPorts checks ports whose names some ServiceEntry will know.
func (v *validator) workloadPorts(field string, we *networking.WorkloadEntry) {
	for _, name := range slices.Sorted(maps.Keys(we.Ports)) {
		field := join(field, name)
		switch number := we.Ports[name]; {
		case len(name) > longestPortName:
			v.err(field, "the name is longer than %d characters", longestPortName)
		case !portKey.MatchString(name):
			v.err(field, "%s is no name of a port; use letters, digits and hyphens", quote(name))
		case number == 0 || number > 65535:
			v.err(field, "%d is no port; use 1 to 65535", number)
		case labelFault(name) != "":
			v.warn(field, "no ServiceEntry can have a port named %s: %s", quote(name), labelFault(name))
		}
	}
}

// workloadGroup checks the template of workloads that register themselves, which
// nothing here does.
func (v *validator) workloadGroup(wg *networking.WorkloadGroup) {
	v.warn("", "WorkloadGroup is not acted on yet: no workload registers itself; write a WorkloadEntry for each")
	v.labels("spec.metadata.labels", wg.Metadata.GetLabels())
	v.atMost("spec.metadata.labels", len(wg.Metadata.GetLabels()), maxLabels, "labels")
	v.atMost("spec.metadata.annotations", len(wg.Metadata.GetAnnotations()), maxLabels, "annotations")
	for _, key := range slices.Sorted(maps.Keys(wg.Metadata.GetAnnotations())) {
		if fault := qualifiedNameFault(key); fault != "" {
			v.err(join("spec.metadata.annotations", key), "%s is no annotation: %s", quote(key), fault)
		}
	}
	if wg.Template == nil {
		v.err("spec.template", "the group has no template; give it one")
	} else {
		v.workload("spec.template", wg.Template)
		v.workloadPorts("spec.template.ports", wg.Template)
		switch a := wg.Template.Address; {
		case strings.HasPrefix(a, "unix:"):
			v.portless("spec.template", wg.Template)
			v.unixAddress("spec.template.address", a)
		case a != "":
			v.hostAddress("spec.template.address", a, "under spec.ports, by the name that the ServiceEntry gives it")
		}
	}
	if wg.Probe != nil {
		v.probe("spec.probe", wg.Probe)
	}
}

// headerName is what Istio's schema takes for a header of a probe.
var headerName = regexp.MustCompile(`^[-_A-Za-z0-9]+$`)

func (v *validator) probe(field string, p *networking.ReadinessProbe) {
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"initialDelaySeconds", p.InitialDelaySeconds},
		{"timeoutSeconds", p.TimeoutSeconds},
		{"periodSeconds", p.PeriodSeconds},
		{"successThreshold", p.SuccessThreshold},
		{"failureThreshold", p.FailureThreshold},
	} {
		if f.value < 0 {
			v.err(join(field, f.name), "%d is negative; use 0 or more", f.value)
		}
	}
	port := func(field string, number uint32) {
		if number == 0 || number > 65535 {
			v.err(join(field, "port"), "%d is no port; use 1 to 65535", number)
		}
	}
	switch m := p.HealthCheckMethod.(type) {
	case *networking.ReadinessProbe_HttpGet:
		port(join(field, "httpGet"), m.HttpGet.Port)
		for i, h := range m.HttpGet.HttpHeaders {
			if !headerName.MatchString(h.GetName()) {
				v.err(index(join(field, "httpGet.httpHeaders"), i)+".name", "%s is no name of a header; use letters, digits, hyphens and underscores", quote(h.GetName()))
			}
		}
		if s := m.HttpGet.Scheme; s != "" && s != "HTTP" && s != "HTTPS" {
			v.err(join(field, "httpGet.scheme"), "%s is no scheme; use HTTP or HTTPS", quote(s))
		}
	case *networking.ReadinessProbe_TcpSocket:
		port(join(field, "tcpSocket"), m.TcpSocket.Port)
	case *networking.ReadinessProbe_Grpc:
		port(join(field, "grpc"), m.Grpc.Port)
	case *networking.ReadinessProbe_Exec:
		if len(m.Exec.Command) == 0 {
			v.err(join(field, "exec.command"), "names no command; name one")
		}
		if i := slices.Index(m.Exec.Command, ""); i >= 0 {
			v.err(index(join(field, "exec.command"), i), "is empty; fill it or remove it")
		}
	default:
		v.err(field, "the probe has no method; give it httpGet, tcpSocket, exec or grpc")
	}
}
