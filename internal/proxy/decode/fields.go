package decode

import (
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// maxDepth bounds how deep messages may be nested.
const maxDepth = 64

// unmarshal reads a message.
func unmarshal(b []byte, m proto.Message) error {
	return proto.UnmarshalOptions{RecursionLimit: maxDepth}.Unmarshal(b, m)
}

// A fieldSet lists the fields of a message that may be set: those acted on,
// with an empty text, and those that may be ignored, with the reason why.
type fieldSet map[protoreflect.Name]string

// acted is the empty reason: the field is acted on.
const acted = ""

// check reports the first field set in m, in the order of their numbers, that
// is not in the set. Fields that are set and unknown to this program's version
// of the type are reported too: what they ask for cannot be known.
func (f fieldSet) check(path string, m proto.Message) error {
	r := m.ProtoReflect()
	if len(r.GetUnknown()) > 0 {
		return fmt.Errorf("%s has a field that this proxy's version of %s does not know", at(path), r.Descriptor().FullName())
	}
	var odd []protoreflect.FieldDescriptor
	r.Range(func(d protoreflect.FieldDescriptor, _ protoreflect.Value) bool {
		if _, ok := f[d.Name()]; !ok {
			odd = append(odd, d)
		}
		return true
	})
	if len(odd) == 0 {
		return nil
	}
	first := slices.MinFunc(odd, func(a, b protoreflect.FieldDescriptor) int { return int(a.Number()) - int(b.Number()) })
	return fmt.Errorf("%s is not supported by this proxy", join(path, string(first.Name())))
}

func at(path string) string {
	if path == "" {
		return "the resource"
	}
	return path
}

func join(path, field string) string {
	if path == "" {
		return field
	}
	return path + "." + field
}

func index(path string, i int) string { return fmt.Sprintf("%s[%d]", path, i) }
