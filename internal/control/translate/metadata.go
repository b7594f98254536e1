package translate

import (
	"net/netip"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// Fields of core.v3.Metadata and of what it consists of.
const (
	metadataFilters protowire.Number = 1
	structFields    protowire.Number = 1
	entryKey        protowire.Number = 1 // of every map
	entryValue      protowire.Number = 2
	valueNumber     protowire.Number = 2
	valueString     protowire.Number = 3
	valueBool       protowire.Number = 4
	valueStruct     protowire.Number = 5
	valueList       protowire.Number = 6
	listValues      protowire.Number = 1
)

// filter begins the Struct of one key of a Metadata.
func (w *wire) filter(key string) (entry, value int) {
	entry = w.open(metadataFilters)
	w.text(entryKey, key)
	return entry, w.open(entryValue)
}

// property begins the Value of one key of a Struct.
func (w *wire) property(key string) (entry, value int) {
	entry = w.open(structFields)
	w.text(entryKey, key)
	return entry, w.open(entryValue)
}

// closeBoth ends what filter or property began.
func (w *wire) closeBoth(entry, value int) {
	w.close(value)
	w.close(entry)
}

func (w *wire) stringProperty(key, s string) {
	entry, value := w.property(key)
	w.text(valueString, s)
	w.closeBoth(entry, value)
}

func (w *wire) numberProperty(key string, n int) {
	entry, value := w.property(key)
	w.float(valueNumber, float64(n))
	w.closeBoth(entry, value)
}

// declared appends to a Metadata which object declared a destination and, where
// the caller chooses that, the entry's addresses, each with the length of its prefix:
// the proxy holds it against them.
func (w *wire) declared(r mesh.Ref, addresses []netip.Prefix) {
	if r == (mesh.Ref{}) && len(addresses) == 0 {
		return
	}
	entry, fields := w.filter(xds.MetadataKey)
	if len(addresses) > 0 {
		property, value := w.property(xds.AddressesKey)
		list := w.open(valueList)
		for _, a := range addresses {
			at := w.open(listValues)
			w.text(valueString, a.String())
			w.close(at)
		}
		w.close(list)
		w.closeBoth(property, value)
	}
	if r != (mesh.Ref{}) {
		if r.File != "" {
			w.stringProperty("file", r.File)
		}
		w.stringProperty("kind", r.Kind)
		if r.Line != 0 {
			w.numberProperty("line", r.Line)
		}
		w.stringProperty("name", r.Name)
		w.stringProperty("namespace", r.Namespace)
	}
	w.closeBoth(entry, fields)
}

// telemetry appends to a Metadata what Istio's telemetry reads of a cluster.
func (w *wire) telemetry(s *mesh.Service, p mesh.Port) {
	entry, fields := w.filter("istio")
	w.numberProperty("default_original_port", int(p.Number))
	if s.Location == mesh.External {
		property, value := w.property("external")
		w.number(valueBool, 1)
		w.closeBoth(property, value)
	}
	property, value := w.property("services")
	list := w.open(valueList)
	one := w.open(listValues)
	service := w.open(valueStruct)
	w.stringProperty("host", string(s.Host))
	w.stringProperty("name", string(s.Host))
	w.stringProperty("namespace", s.Namespace)
	w.close(service)
	w.close(one)
	w.close(list)
	w.closeBoth(property, value)
	w.closeBoth(entry, fields)
}

// entryMetadata says which object declared a destination, in a message that is
// made as a whole.
func entryMetadata(r mesh.Ref) *corev3.Metadata {
	if r == (mesh.Ref{}) {
		return nil
	}
	var w wire
	w.declared(r, nil)
	m := &corev3.Metadata{}
	if err := proto.Unmarshal(w, m); err != nil {
		panic("translate: " + err.Error()) // only text that is not UTF-8, as in encode
	}
	return m
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
	declare(n, s)
	return n
}

func sourceOf(r mesh.Ref) *fairleadpb.Source {
	if r == (mesh.Ref{}) {
		return nil
	}
	return &fairleadpb.Source{Kind: r.Kind, Namespace: r.Namespace, Name: r.Name, File: r.File, Line: uint32(max(r.Line, 0))} //nolint:gosec // a line number
}
