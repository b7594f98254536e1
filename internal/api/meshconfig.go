package api

import (
	"errors"
	"io"
	"slices"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
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
	if p := m.OutboundTrafficPolicy; p != nil {
		base.OutboundTrafficPolicy = mesh.RegistryOnly
		if p.Mode == meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY {
			base.OutboundTrafficPolicy = mesh.AllowAny
		}
	}
	if m.ConnectTimeout != nil {
		base.ConnectTimeout = m.ConnectTimeout.AsDuration()
	}
	if m.DnsRefreshRate != nil {
		base.DNSRefreshRate = m.DnsRefreshRate.AsDuration()
	}
	if m.RootNamespace != "" {
		base.RootNamespace = m.RootNamespace
	}
	if len(m.DefaultServiceExportTo) > 0 {
		base.DefaultServiceExportTo = m.DefaultServiceExportTo
	}
	return base
}

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
			w.meshText(f.value, text, m)
		default:
			w.warn(f.line, path, "is not acted on yet")
		}
	}
	return m
}

func (w *walker) meshText(at *yaml.Node, text string, m *meshv1.MeshConfig) {
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
			w.report(line(p.Line), meshField, p.Message)
		}
		return
	}
	relocate(&document, line)
	if err := survey(&document); err != nil {
		w.report(at.Line, meshField, err.Error())
		return
	}
	w.message(document.Content[0], m.ProtoReflect(), meshField)
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
	m.ProtoReflect().Range(func(fd protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		name := fd.JSONName()
		field := join(meshField, name)
		switch name {
		case "outboundTrafficPolicy":
			v.meshPolicy(field, m.OutboundTrafficPolicy)
		case "connectTimeout":
			v.duration(field, m.ConnectTimeout)
		case "dnsRefreshRate":
			v.duration(field, m.DnsRefreshRate)
		case "defaultServiceExportTo":
			v.exportTo(field, m.DefaultServiceExportTo, true)
		case "rootNamespace":
			if fault := labelFault(m.RootNamespace); fault != "" {
				v.err(field, "%s is no namespace: %s", quote(m.RootNamespace), fault)
			}
		default:
			if !harmless(name) {
				v.warn(field, "is not acted on yet")
			}
		}
		return true
	})
}

func (v *validator) meshPolicy(field string, p *meshv1.MeshConfig_OutboundTrafficPolicy) {
	const advice = "write mode: ALLOW_ANY or mode: REGISTRY_ONLY"
	switch {
	case !v.object.has(field + ".mode"):
		v.err(field, "has no mode; %s", advice)
	case p.Mode != meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY && p.Mode != meshv1.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY:
		v.err(field+".mode", "%s is not acted on yet; %s", p.Mode, advice)
	}
	if p.Tls != nil {
		v.warn(field+".tls", "is not acted on yet")
	}
}

// harmless reports whether the traffic of a workload is the same without what a
// field says: it concerns ingress, the names of statistics, or identities.
func harmless(field string) bool {
	return slices.Contains([]string{
		"ingressClass", "ingressService", "ingressControllerMode", "ingressSelector", "enablePrometheusMerge",
		"trustDomain", "trustDomainAliases", "inboundClusterStatName", "outboundClusterStatName", "disableEnvoyListenerLog",
	}, field)
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
