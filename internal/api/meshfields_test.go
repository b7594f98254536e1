package api

import (
	"maps"
	"reflect"
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	meshv1 "istio.io/api/mesh/v1alpha1"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

// listedFields says of each listed path in which lists it is.
func listedFields() map[string][]string {
	in := map[string][]string{}
	for _, path := range actingFields() {
		in[path] = append(in[path], "acts")
	}
	for _, path := range harmlessFields() {
		in[path] = append(in[path], "harmless")
	}
	for _, f := range unsupportedFields() {
		in[f.path] = append(in[f.path], "not supported")
	}
	return in
}

// TestEachMeshFieldIsInOneList fails where a new version of Istio's API brings a
// field that nobody has judged.
func TestEachMeshFieldIsInOneList(t *testing.T) {
	listed := listedFields()
	below := func(path string) bool {
		for other := range listed {
			if strings.HasPrefix(other, path+".") {
				return true
			}
		}
		return false
	}
	exists := map[string]bool{}
	var walk func(path string, d protoreflect.MessageDescriptor)
	walk = func(path string, d protoreflect.MessageDescriptor) {
		for i := range d.Fields().Len() {
			fd := d.Fields().Get(i)
			path := join(path, fd.JSONName())
			exists[path] = true
			in := listed[path]
			switch {
			case len(in) > 1:
				t.Errorf("%s is in several lists: %s", path, strings.Join(in, ", "))
			case len(in) == 1 && below(path):
				t.Errorf("%s is listed, and so are fields below it", path)
			case len(in) == 0 && !below(path):
				t.Errorf("%s is in no list: does Fairlead act on it, is it harmless, or is it not supported?", path)
			case len(in) == 0:
				walk(path, fd.Message())
			}
		}
	}
	walk("", (&meshv1.MeshConfig{}).ProtoReflect().Descriptor())
	for path := range listed {
		if !exists[path] {
			t.Errorf("%s is listed, and MeshConfig has no such field", path)
		}
	}
}

// TestEachActingMeshFieldActs gives each field of the first list a value that is
// not its default.
func TestEachActingMeshFieldActs(t *testing.T) {
	values := map[string]string{
		"accessLogEncoding":                                  `{"accessLogEncoding": "JSON"}`,
		"accessLogFile":                                      `{"accessLogFile": "/dev/stdout"}`,
		"accessLogFormat":                                    `{"accessLogFormat": "%DURATION%"}`,
		"connectTimeout":                                     `{"connectTimeout": "3s"}`,
		"defaultConfig.proxyHeaders.attemptCount":            `{"defaultConfig": {"proxyHeaders": {"attemptCount": {"disabled": false}}}}`,
		"defaultConfig.proxyHeaders.envoyDebugHeaders":       `{"defaultConfig": {"proxyHeaders": {"envoyDebugHeaders": {"disabled": false}}}}`,
		"defaultConfig.proxyHeaders.preserveHttp1HeaderCase": `{"defaultConfig": {"proxyHeaders": {"preserveHttp1HeaderCase": false}}}`,
		"defaultConfig.proxyHeaders.requestId":               `{"defaultConfig": {"proxyHeaders": {"requestId": {"disabled": false}}}}`,
		"defaultConfig.proxyHeaders.server":                  `{"defaultConfig": {"proxyHeaders": {"server": {"value": "shop"}}}}`,
		"defaultConfig.proxyHeaders.xForwardedPort":          `{"defaultConfig": {"proxyHeaders": {"xForwardedPort": {"enabled": true}}}}`,
		"defaultConfig.proxyMetadata":                        `{"defaultConfig": {"proxyMetadata": {"ISTIO_META_DNS_CAPTURE": "false"}}}`,
		"defaultServiceExportTo":                             `{"defaultServiceExportTo": ["."]}`,
		"dnsRefreshRate":                                     `{"dnsRefreshRate": "3s"}`,
		"outboundTrafficPolicy.mode":                         `{"outboundTrafficPolicy": {"mode": "REGISTRY_ONLY"}}`,
		"protocolDetectionTimeout":                           `{"protocolDetectionTimeout": "3s"}`,
		"rootNamespace":                                      `{"rootNamespace": "root"}`,
	}
	base := config.Default()
	for _, path := range actingFields() {
		m := &meshv1.MeshConfig{}
		if err := protojson.Unmarshal([]byte(values[path]), m); err != nil {
			t.Errorf("%s: no value to try: %v", path, err)
			continue
		}
		if reflect.DeepEqual(Mesh(&Object{Spec: m}, base), base) {
			t.Errorf("%s is said to act, and changes nothing", path)
		}
	}
}

func TestEachModeOfThePolicyIsAPolicy(t *testing.T) {
	for mode, want := range map[meshv1.MeshConfig_OutboundTrafficPolicy_Mode]mesh.OutboundPolicy{
		meshv1.MeshConfig_OutboundTrafficPolicy_REGISTRY_ONLY:         mesh.RegistryOnly,
		meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY:             mesh.AllowAny,
		meshv1.MeshConfig_OutboundTrafficPolicy_ALLOW_ANY_DYNAMIC_DNS: mesh.AllowAny, // for now
	} {
		spec := &meshv1.MeshConfig{OutboundTrafficPolicy: &meshv1.MeshConfig_OutboundTrafficPolicy{Mode: mode}}
		if got := Mesh(&Object{Spec: spec}, config.Mesh{OutboundTrafficPolicy: 1 - want}).OutboundTrafficPolicy; got != want {
			t.Errorf("%v is read as %v, want %v", mode, got, want)
		}
	}
}

// TestUnsupportedMeshFieldsSaySo sets every field of the third list, once to each
// value that asks for nothing and once to another.
func TestUnsupportedMeshFieldsSaySo(t *testing.T) {
	warned := func(m *meshv1.MeshConfig) map[string]string {
		says := map[string]string{}
		for _, p := range Validate(&Object{Key: Key{KindConfigMap, meshNamespace, meshName}, Spec: m}) {
			if p.Severity == Warning {
				says[strings.TrimPrefix(p.Field, meshField+".")] = p.Message
			}
		}
		return says
	}
	loud := map[string]string{ // where something will not do
		"localityLbSetting": `{"failoverPriority": ["a"]}`,
		"pathNormalization": `{"normalization": "MERGE_SLASHES"}`,
		"enableAutoMtls":    ``, // whatever it says
	}
	for _, f := range unsupportedFields() {
		m := &meshv1.MeshConfig{}
		parent, fd := reach(m.ProtoReflect(), f.path)
		value, special := loud[f.path]
		if special && value != "" {
			if err := protojson.Unmarshal([]byte(`{"`+fd.JSONName()+`": `+value+`}`), parent.Interface()); err != nil {
				t.Errorf("%s cannot be %s: %v", f.path, value, err)
			}
		} else {
			parent.Set(fd, something(parent, fd))
		}
		if got := warned(m); value == "" && special {
			if len(got) != 0 {
				t.Errorf("%s: %q, want nothing", f.path, got)
			}
		} else if got[f.path] != f.why || len(got) != 1 {
			t.Errorf("%s set to %v: %q, want %q", f.path, parent.Get(fd), got, f.why)
		}
		for _, value := range f.quiet {
			same := parent.New()
			if err := protojson.Unmarshal([]byte(`{"`+fd.JSONName()+`": `+value+`}`), same.Interface()); err != nil {
				t.Errorf("%s cannot be %s: %v", f.path, value, err)
				continue
			}
			parent.Set(fd, same.Get(fd))
			if got := warned(m); len(got) != 0 {
				t.Errorf("%s set to %s: %q, want nothing", f.path, value, slices.Collect(maps.Values(got)))
			}
		}
	}
}

// reach makes the messages on the way to a field.
func reach(m protoreflect.Message, path string) (protoreflect.Message, protoreflect.FieldDescriptor) {
	name, rest, more := strings.Cut(path, ".")
	fd := m.Descriptor().Fields().ByJSONName(name)
	if !more {
		return m, fd
	}
	return reach(m.Mutable(fd).Message(), rest)
}

// something is a value that no field has by default.
func something(m protoreflect.Message, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch {
	case fd.IsList():
		list := m.NewField(fd)
		list.List().Append(someItem(list.List().NewElement(), fd))
		return list
	case fd.IsMap():
		value := m.NewField(fd)
		value.Map().Set(protoreflect.ValueOfString("key").MapKey(), someItem(value.Map().NewValue(), fd.MapValue()))
		return value
	}
	return someItem(m.NewField(fd), fd)
}

func someItem(empty protoreflect.Value, fd protoreflect.FieldDescriptor) protoreflect.Value {
	switch fd.Kind() { //nolint:exhaustive // the kinds that the configuration has
	case protoreflect.BoolKind:
		return protoreflect.ValueOfBool(true)
	case protoreflect.StringKind:
		return protoreflect.ValueOfString("x")
	case protoreflect.Int32Kind:
		return protoreflect.ValueOfInt32(7)
	case protoreflect.Uint32Kind:
		return protoreflect.ValueOfUint32(7)
	case protoreflect.Int64Kind:
		return protoreflect.ValueOfInt64(7)
	case protoreflect.DoubleKind:
		return protoreflect.ValueOfFloat64(7)
	case protoreflect.EnumKind:
		return protoreflect.ValueOfEnum(1)
	case protoreflect.MessageKind:
		fields := empty.Message().Descriptor().Fields()
		last := fields.Get(fields.Len() - 1) // the first is what defaults set
		empty.Message().Set(last, something(empty.Message(), last))
	}
	return empty
}
