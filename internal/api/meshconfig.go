package api

import (
	"errors"
	"io"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	meshv1 "istio.io/api/mesh/v1alpha1"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

// KindConfigMap is the kind of the object with the mesh-wide configuration.
const KindConfigMap = "ConfigMap"

// The mesh-wide configuration is where Istio has it.
const (
	meshNamespace = "istio-system"
	meshName      = "istio"
	meshField     = "data.mesh"
	networksField = "data.meshNetworks"
)

// IsMesh reports whether the key is that of the mesh-wide configuration.
func (k Key) IsMesh() bool { return k == Key{KindConfigMap, meshNamespace, meshName} }

// Mesh returns base with what a valid mesh-wide configuration says in place of
// what base says. Other objects say nothing.
func Mesh(o *Object, base config.Mesh) config.Mesh {
	m, ok := o.Spec.(*meshv1.MeshConfig)
	if !ok {
		return base
	}
	base = virtualRanges(o, base)
	if p := m.OutboundTrafficPolicy; p != nil {
		base.OutboundTrafficPolicy = mesh.RegistryOnly
		if p.Mode == meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY || p.Mode == meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS {
			base.OutboundTrafficPolicy = mesh.AllowAny
		}
	}
	if m.ConnectTimeout != nil {
		base.ConnectTimeout = m.ConnectTimeout.AsDuration()
	}
	if m.DnsRefreshRate != nil {
		base.DNSRefreshRate = m.DnsRefreshRate.AsDuration()
	}
	if m.ProtocolDetectionTimeout != nil {
		base.ProtocolDetectionTimeout = m.ProtocolDetectionTimeout.AsDuration()
	}
	if m.RootNamespace != "" {
		base.RootNamespace = m.RootNamespace
	}
	if len(m.DefaultServiceExportTo) > 0 {
		base.DefaultServiceExportTo = m.DefaultServiceExportTo
	}
	if text := m.GetDefaultConfig().GetProxyMetadata()[dnsCapture]; text != "" {
		base.DNSCapture, _ = strconv.ParseBool(text) // it was validated
	}
	base.AccessLog = accessLog(o, m)
	base.Headers = proxyHeaders(m.GetDefaultConfig().GetProxyHeaders())
	return base
}

// dnsCapture is the variable of Istio's agent that says whether it answers DNS.
const dnsCapture = "ISTIO_META_DNS_CAPTURE"

// configMap decodes the mesh-wide configuration, which is text in an object of
// its own: the lines are those of the file.
func (w *walker) configMap(data field) proto.Message {
	m := &meshv1.MeshConfig{}
	if data.value == nil || isNull(data.value) {
		return m
	}
	for _, f := range w.fields(data.value, "data") {
		path := join("data", f.name)
		w.mark(f.line, path)
		text, ok := w.text(f.value, path)
		switch {
		case !ok:
		case path == meshField:
			w.embedded(f.value, text, path, m)
		case path == networksField:
			w.networks(f.value, text)
		default:
			w.warn(f.line, path, "is not read: the configuration is in "+meshField+" and "+networksField)
		}
	}
	return m
}

// networks checks what says how other networks are reached, which nothing here
// does.
func (w *walker) networks(at *yaml.Node, text string) {
	m := &meshv1.MeshNetworks{}
	w.embedded(at, text, networksField, m)
	for _, name := range slices.Sorted(maps.Keys(m.Networks)) {
		path := join(networksField+".networks", name)
		for i, e := range m.Networks[name].Endpoints {
			path := index(path+".endpoints", i)
			switch ne := e.Ne.(type) {
			case nil:
				w.report(w.lineOf(path), path, "names no endpoints; give it fromCidr or fromRegistry")
			case *meshv1.Network_NetworkEndpoints_FromCidr:
				if _, err := netip.ParsePrefix(ne.FromCidr); err != nil {
					w.report(w.lineOf(path+".fromCidr"), path+".fromCidr", quote(ne.FromCidr)+" is no CIDR such as 10.1.0.0/16")
				}
			}
		}
		for i, g := range m.Networks[name].Gateways {
			path := index(path+".gateways", i)
			if g.Gw == nil {
				w.report(w.lineOf(path), path, "names no gateway; give it address or registryServiceName")
			}
			if g.Port == 0 || g.Port > 65535 {
				w.report(w.lineOf(path+".port"), path+".port", strconv.Itoa(int(g.Port))+" is no port; use 1 to 65535")
			}
		}
	}
	if len(m.Networks) > 0 {
		w.warn(at.Line, networksField, "is not acted on yet: endpoints are reached at their own address, whatever their network")
	}
}

// lineOf returns the line of a field that was read, or of what is closest.
func (w *walker) lineOf(path string) int {
	slices.SortFunc(w.lines, func(a, b fieldLine) int { return strings.Compare(a.field, b.field) })
	return (&Object{lines: w.lines}).Line(path)
}

// embedded reads a message that is written as text in a field of its object.
func (w *walker) embedded(at *yaml.Node, text, path string, m proto.Message) {
	line := func(int) int { return at.Line } // what is folded, or written on one line, is all there
	if at.Style&yaml.LiteralStyle != 0 {
		line = func(inner int) int { return at.Line + max(inner, 1) } // the first line follows the bar
	}
	var document yaml.Node
	err := yaml.NewDecoder(strings.NewReader(text)).Decode(&document)
	if errors.Is(err, io.EOF) {
		return
	}
	if err != nil {
		d := &decoder{file: w.file}
		d.syntax(err, []byte(text))
		for _, p := range d.problems {
			w.report(line(p.Line), path, p.Message)
		}
		return
	}
	relocate(&document, line)
	if err := survey(&document); err != nil {
		w.report(at.Line, path, err.Error())
		return
	}
	w.message(document.Content[0], m.ProtoReflect(), path)
}

// relocate gives every node of a tree its line in the file.
func relocate(n *yaml.Node, line func(int) int) {
	n.Line = line(n.Line)
	for _, child := range n.Content {
		relocate(child, line)
	}
}

// meshConfig checks the mesh-wide configuration.
func (v *validator) meshConfig(m *meshv1.MeshConfig) {
	if m.OutboundTrafficPolicy != nil {
		v.meshPolicy(meshField+".outboundTrafficPolicy", m.OutboundTrafficPolicy)
	}
	if m.ConnectTimeout != nil {
		v.duration(meshField+".connectTimeout", m.ConnectTimeout)
	}
	if m.DnsRefreshRate != nil {
		v.duration(meshField+".dnsRefreshRate", m.DnsRefreshRate)
	}
	if m.ProtocolDetectionTimeout.AsDuration() != 0 { // which is to wait without limit
		v.duration(meshField+".protocolDetectionTimeout", m.ProtocolDetectionTimeout)
	}
	v.exportTo(meshField+".defaultServiceExportTo", m.DefaultServiceExportTo, true)
	if fault := labelFault(m.RootNamespace); m.RootNamespace != "" && fault != "" {
		v.err(meshField+".rootNamespace", "%s is no namespace: %s", quote(m.RootNamespace), fault)
	}
	v.accessLog(m)
	v.serverHeader(m.GetDefaultConfig().GetProxyHeaders().GetServer())
	v.proxyMetadata(meshField+".defaultConfig.proxyMetadata", m.GetDefaultConfig().GetProxyMetadata())
	v.unsupported(m)
}

// proxyMetadata names the environment variables of Istio's agent that ask for
// what Fairlead does not do.
func (v *validator) proxyMetadata(field string, variables map[string]string) {
	for _, name := range slices.Sorted(maps.Keys(variables)) {
		value := variables[name]
		on, err := strconv.ParseBool(value)
		isBool := err == nil
		field := join(field, name)
		switch name {
		case "BOOTSTRAP_XDS_AGENT", "PROXY_CONFIG_XDS_AGENT": // how the agent and Envoy come by their configuration
		case dnsCapture, "ISTIO_META_DNS_AUTO_ALLOCATE":
			switch {
			case !isBool:
				v.err(field, `%s is neither "true" nor "false"`, quote(value))
			case !on && name != dnsCapture:
				v.warn(field, "is not acted on yet: hosts get virtual addresses but for the label %s", noVIP)
			}
		default:
			v.warn(field, "is not acted on: it configures Istio's agent")
		}
	}
}

func (v *validator) meshPolicy(field string, p *meshv1.MeshConfig_OutboundTrafficPolicy) {
	switch {
	case !v.object.has(field + ".mode"):
		v.err(field, "has no mode; write mode: ALLOW_ANY or mode: REGISTRY_ONLY")
	case p.Mode == meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS:
		v.warn(field+".mode", "%s is not acted on yet and is read as ALLOW_ANY: what nothing declares goes to the address that the workload chose, and no name is looked up for it", p.Mode)
	}
}

// duration checks one as Istio does.
func (v *validator) duration(field string, d *durationpb.Duration) {
	switch t := d.AsDuration(); {
	case t < time.Millisecond:
		v.err(field, "%s is too short; use 1ms or more", t)
	case t%time.Millisecond != 0:
		v.err(field, "%s is no whole number of milliseconds; round it", t)
	}
}
