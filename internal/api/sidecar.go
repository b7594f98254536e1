package api

import (
	"net/netip"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// KindSidecar is the kind of objects that narrow what a workload sees.
const KindSidecar = "Sidecar"

// Sidecar returns what a valid Sidecar says, or nil for other kinds.
func Sidecar(o *Object) *mesh.Sidecar {
	spec, ok := o.Spec.(*networking.Sidecar)
	if !ok {
		return nil
	}
	s := &mesh.Sidecar{
		Namespace: o.Namespace,
		Selector:  spec.WorkloadSelector.GetLabels(),
		Created:   o.Created,
		Source:    o.Source,
	}
	for _, l := range spec.Egress {
		listener := mesh.EgressListener{
			Port: uint16(l.Port.GetNumber()), //nolint:gosec // a valid one
			Past: l.CaptureMode == networking.CaptureMode_NONE,
		}
		for _, text := range l.Hosts {
			if uncaptured(l) {
				break // where there is nothing to connect to, nothing is imported
			}
			pattern, exclude, fault := egressHost(text)
			switch {
			case fault != "":
			case exclude:
				listener.Exclude = append(listener.Exclude, pattern)
			default:
				listener.Import = append(listener.Import, pattern)
			}
		}
		s.Egress = append(s.Egress, listener)
	}
	if p := spec.OutboundTrafficPolicy; p != nil {
		policy := mesh.RegistryOnly
		if p.Mode == networking.OutboundTrafficPolicy_ALLOW_ANY {
			policy = mesh.AllowAny
		}
		s.Policy = &policy
	}
	return s
}

// uncaptured reports whether a listener is a place of its own that workloads
// connect to, a unix socket or an HTTP proxy.
func uncaptured(l *networking.IstioEgressListener) bool {
	protocol, _ := mesh.ParseProtocol(l.Port.GetProtocol())
	return strings.HasPrefix(l.Bind, "unix:") || protocol == mesh.HTTPProxy
}

// egressHost reads namespace/dnsName. fault, if not empty, says what is wrong.
func egressHost(text string) (p mesh.HostPattern, exclude bool, fault string) {
	namespace, host, ok := strings.Cut(text, "/")
	if !ok {
		return p, false, `has no namespace; write namespace/host, such as "*/` + text + `" for any namespace`
	}
	if rest, ok := strings.CutPrefix(namespace, "~"); ok {
		exclude, namespace = true, rest
		if namespace == "" {
			namespace = "*"
		}
	}
	if namespace != "*" && namespace != "." && labelFault(namespace) != "" {
		return p, exclude, quote(namespace) + " is no namespace: " + labelFault(namespace)
	}
	name, err := hostname.Parse(host)
	switch {
	case err != nil:
		return p, exclude, quote(host) + " is no host name: " + err.Error()
	case name != "*" && !strings.Contains(string(name), "."):
		return p, exclude, "the host " + quote(host) + " has no dot; write it in full"
	}
	return mesh.HostPattern{Namespace: namespace, Host: name}, exclude, ""
}

func (v *validator) sidecar(s *networking.Sidecar) {
	if len(s.Egress) == 0 && len(s.Ingress) == 0 && s.OutboundTrafficPolicy == nil && s.InboundConnectionPool == nil {
		v.err("spec", "the Sidecar says nothing; give it egress hosts or an outboundTrafficPolicy")
	}
	v.sidecarSelector(s)
	seen := map[string]string{}
	for i, l := range s.Egress {
		v.egress(index("spec.egress", i), l, i == len(s.Egress)-1, seen)
	}
	for i, l := range s.Ingress {
		v.ingress(index("spec.ingress", i), l, seen)
	}
	if s.InboundConnectionPool != nil {
		v.warn("spec.inboundConnectionPool", "is not acted on yet: no traffic to the workload is taken in")
	}
	v.sidecarPolicy(s.OutboundTrafficPolicy)
}

func (v *validator) sidecarSelector(s *networking.Sidecar) {
	if s.WorkloadSelector == nil {
		return
	}
	const field = "spec.workloadSelector"
	labels := s.WorkloadSelector.Labels
	if len(labels) == 0 {
		v.warn(field, "has no labels, so the Sidecar is for every workload of its namespace")
	}
	v.selectorLabels(field+".labels", labels)
}

func (v *validator) sidecarPolicy(p *networking.OutboundTrafficPolicy) {
	const field = "spec.outboundTrafficPolicy"
	if p == nil {
		return
	}
	if p.Mode == networking.OutboundTrafficPolicy_REGISTRY_ONLY && !v.object.has(field+".mode") {
		v.warn(field, "without a mode means REGISTRY_ONLY; write mode: REGISTRY_ONLY, or remove the field to have the mesh's policy")
	}
	if p.EgressProxy == nil {
		return
	}
	v.warn(field+".egressProxy", "is not acted on yet: undeclared traffic goes straight to its address")
	if p.Mode != networking.OutboundTrafficPolicy_ALLOW_ANY {
		v.err(field+".egressProxy", "goes only with mode: ALLOW_ANY")
	}
	if name, err := hostname.Parse(p.EgressProxy.Host); err != nil || name.IsWildcard() {
		v.err(field+".egressProxy.host", "%s is no host name", quote(p.EgressProxy.Host))
	}
}

func (v *validator) egress(field string, l *networking.IstioEgressListener, last bool, seen map[string]string) {
	if l.Port == nil && !last {
		v.err(field, "a listener without a port takes what the others leave, so only the last may be one; move it to the end or give it a port")
	}
	v.sidecarListener(field, l.Port, l.Bind, l.CaptureMode, seen)
	v.egressPlace(field, l)
	if len(l.Hosts) == 0 {
		v.err(field+".hosts", `names no host; name at least one, such as "./*"`)
	}
	imports := 0
	for i, text := range l.Hosts {
		_, exclude, fault := egressHost(text)
		if fault != "" {
			v.err(index(field+".hosts", i), "%s: %s", quote(text), fault)
		}
		if !exclude {
			imports++
		}
	}
	v.excluded(field+".hosts", l.Hosts, imports)
}

// excluded warns of exclusions that leave nothing of what a listener imports.
func (v *validator) excluded(field string, hosts []string, imports int) {
	all := slices.IndexFunc(hosts, func(h string) bool { return h == "~/*" || h == "~*/*" })
	switch {
	case all < 0 && imports == 0 && len(hosts) > 0:
		v.warn(field, `has exclusions only, so it imports nothing; add "*/*" to import the rest`)
	case all >= 0 && len(hosts) > 1:
		v.warn(index(field, all), "%s excludes every host, so the others count for nothing; remove it, or them", quote(hosts[all]))
	}
}

// egressPlace names what of a listener's place is not to be had: what a workload
// sends is captured where it goes, and nothing is opened for it to connect to.
func (v *validator) egressPlace(field string, l *networking.IstioEgressListener) {
	switch {
	case strings.HasPrefix(l.Bind, "unix:"):
		v.warn(field+".bind", "is not acted on yet: the socket is not opened, so the listener imports nothing")
		return
	case uncaptured(l):
		v.warn(field+".port.protocol", "HTTP_PROXY is not acted on yet: no HTTP proxy is opened there, so the listener imports nothing")
		return
	case l.Bind != "" && l.CaptureMode == networking.CaptureMode_NONE:
		v.warn(field+".bind", "is not acted on yet: nothing is opened there")
	case l.Bind != "":
		v.warn(field+".bind", "is not acted on yet: nothing is opened there, and connections to the hosts are captured wherever they go")
	}
	if l.CaptureMode == networking.CaptureMode_NONE {
		v.warn(field+".captureMode", "NONE: the proxy takes nothing for these hosts, and they get no virtual address; where all traffic comes to it, theirs is undeclared")
	}
}

func (v *validator) ingress(field string, l *networking.IstioIngressListener, seen map[string]string) {
	v.warn(field, "is not acted on yet: no traffic to the workload is taken in")
	if l.Port == nil {
		v.err(field+".port", "the listener has no port; give it one")
	}
	if strings.HasPrefix(l.Bind, "unix:") {
		v.err(field+".bind", "traffic is taken in at an IP address, not at a unix socket")
	}
	v.sidecarListener(field, l.Port, l.Bind, l.CaptureMode, seen)
	if l.DefaultEndpoint != "" {
		v.defaultEndpoint(field+".defaultEndpoint", l.DefaultEndpoint)
	}
}

func (v *validator) defaultEndpoint(field, text string) {
	if strings.HasPrefix(text, "unix:") {
		v.unixAddress(field, text)
		return
	}
	at, err := netip.ParseAddrPort(text)
	if err != nil || at.Port() == 0 || !at.Addr().IsLoopback() && !at.Addr().IsUnspecified() {
		v.err(field, "%s is no endpoint of the workload; write 127.0.0.1:PORT, [::1]:PORT, 0.0.0.0:PORT, [::]:PORT or unix:///path", quote(text))
	}
}

// sidecarListener checks where a listener is to be. seen names the listeners
// before it.
func (v *validator) sidecarListener(field string, port *networking.SidecarPort, bind string, mode networking.CaptureMode, seen map[string]string) {
	unix := strings.HasPrefix(bind, "unix:")
	_, err := netip.ParseAddr(bind)
	switch {
	case bind == "":
	case unix:
		v.unixAddress(field+".bind", bind)
		if mode == networking.CaptureMode_IPTABLES {
			v.err(field+".captureMode", "connections to a unix socket cannot be captured; use DEFAULT or NONE")
		}
	case err != nil:
		v.err(field+".bind", "%s is neither an IP address nor a unix socket", quote(bind))
	}
	if bind != "" && port == nil {
		v.err(field+".bind", "needs a port; give the listener one")
	}
	if port == nil {
		return
	}
	switch {
	case unix && port.Number != 0:
		v.err(field+".port.number", "a unix socket has no port; write 0 or remove it")
	case !unix && (port.Number == 0 || port.Number > 65535):
		v.err(field+".port.number", "%d is no port; use 1 to 65535", port.Number)
	}
	if _, ok := mesh.ParseProtocol(port.Protocol); !ok {
		v.err(field+".port.protocol", "%s is no protocol; use HTTP, HTTPS, GRPC, HTTP2, MONGO, TCP or TLS", quote(port.Protocol))
	}
	at := bind + " " + field[:len("spec.egress")] + " " + netip.AddrPortFrom(netip.IPv4Unspecified(), uint16(port.Number)).String() //nolint:gosec // only compared
	if other, ok := seen[at]; ok {
		v.err(field+".port", "%s is at the same place; give each listener its own", other)
	}
	seen[at] = field
}
