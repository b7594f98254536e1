package translate

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// entryMetadata says which object declared a destination.
func entryMetadata(r mesh.Ref) *corev3.Metadata {
	if r == (mesh.Ref{}) {
		return nil
	}
	f := map[string]*structpb.Value{
		"kind":      structpb.NewStringValue(r.Kind),
		"namespace": structpb.NewStringValue(r.Namespace),
		"name":      structpb.NewStringValue(r.Name),
	}
	if r.File != "" {
		f["file"] = structpb.NewStringValue(r.File)
	}
	if r.Line != 0 {
		f["line"] = structpb.NewNumberValue(float64(r.Line))
	}
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{xds.MetadataKey: {Fields: f}}}
}

// serverNames says that server names of a listener's port are looked up.
func serverNames() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{xds.MetadataKey: {Fields: map[string]*structpb.Value{
		xds.ServerNamesKey: structpb.NewBoolValue(true),
	}}}}
}

// noAccessLog says, of virtualOutbound, that no access log is wanted: that nothing
// says what one looks like leaves it to the proxy.
func noAccessLog() *corev3.Metadata {
	return &corev3.Metadata{FilterMetadata: map[string]*structpb.Struct{xds.MetadataKey: {Fields: map[string]*structpb.Value{
		xds.AccessLogKey: structpb.NewBoolValue(false),
	}}}}
}

// serviceMetadata adds what Istio's telemetry reads of a cluster.
func serviceMetadata(s *mesh.Service, p mesh.Port) *corev3.Metadata {
	m := entryMetadata(s.Source)
	if m == nil {
		m = &corev3.Metadata{FilterMetadata: make(map[string]*structpb.Struct)}
	}
	service := structpb.NewStructValue(&structpb.Struct{Fields: map[string]*structpb.Value{
		"host":      structpb.NewStringValue(string(s.Host)),
		"name":      structpb.NewStringValue(string(s.Host)),
		"namespace": structpb.NewStringValue(s.Namespace),
	}})
	f := map[string]*structpb.Value{
		"default_original_port": structpb.NewNumberValue(float64(p.Number)),
		"services":              structpb.NewListValue(&structpb.ListValue{Values: []*structpb.Value{service}}),
	}
	if s.Location == mesh.External {
		f["external"] = structpb.NewBoolValue(true)
	}
	if s.Resolution == mesh.None && len(s.Addresses) > 0 {
		listAddresses(m, s.Addresses)
	}
	m.FilterMetadata["istio"] = &structpb.Struct{Fields: f}
	return m
}

// listAddresses adds what the proxy holds a destination against that the caller
// chose: the entry's addresses, each with the length of its prefix.
func listAddresses(m *corev3.Metadata, addresses []netip.Prefix) {
	list := &structpb.ListValue{}
	for _, a := range addresses {
		list.Values = append(list.Values, structpb.NewStringValue(a.String()))
	}
	own := m.FilterMetadata[xds.MetadataKey]
	if own == nil {
		own = &structpb.Struct{Fields: make(map[string]*structpb.Value)}
		m.FilterMetadata[xds.MetadataKey] = own
	}
	own.Fields[xds.AddressesKey] = structpb.NewListValue(list)
}

// nameOf makes the name by which DNS knows a service that gets all its ports. A
// proxy that is not to be asked leaves its addresses to the workload's own DNS.
func nameOf(s *mesh.Service, asked bool) *fairleadpb.Name {
	n := &fairleadpb.Name{Host: string(s.Host), Virtual: len(s.VIPs) > 0}
	if asked {
		for _, ip := range answers(s) {
			n.Addresses = append(n.Addresses, ip.String())
		}
	}
	n.Source = sourceOf(s.Source)
	return n
}

func sourceOf(r mesh.Ref) *fairleadpb.Source {
	if r == (mesh.Ref{}) {
		return nil
	}
	return &fairleadpb.Source{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, File: r.File, Line: uint32(max(r.Line, 0))} //nolint:gosec // a line number
}
