// Package api knows the kinds of Istio's API: it decodes objects, keeping line
// numbers, and validates them. Every border (files, admission, the validate
// command) goes through it, so that an object is judged alike everywhere.
//
// Read is the whole way: bytes in, sound objects and a list of problems out.
// Decode and Validate are its two halves. Nothing here does I/O.
package api

import (
	"reflect"
	"slices"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/mesh"
)

// A Key identifies an object, whatever its version.
type Key struct{ Kind, Namespace, Name string }

// String is the form used in sentences: "ServiceEntry default/svc-entry".
func (k Key) String() string { return k.Kind + " " + k.Namespace + "/" + k.Name }

// Compare orders keys by kind, namespace and name.
func (k Key) Compare(other Key) int {
	if c := strings.Compare(k.Kind, other.Kind); c != 0 {
		return c
	}
	if c := strings.Compare(k.Namespace, other.Namespace); c != 0 {
		return c
	}
	return strings.Compare(k.Name, other.Name)
}

// An Object is one decoded object. It is immutable once decoded.
type Object struct {
	Key
	Group       string // networking.istio.io, …
	Version     string // v1, v1beta1, v1alpha3, …
	Labels      map[string]string
	Annotations map[string]string
	Created     time.Time // zero where the object states none, as in files
	Spec        any       // *networking.ServiceEntry of istio.io/api, *KubeService, …; never nil
	Source      mesh.Ref
	lines       []fieldLine // sorted by field
}

type fieldLine struct {
	field string
	line  int
}

// Line returns the line of a field path such as "spec.ports[0].number", or of
// its closest parent that has one; at last that of the object itself.
func (o *Object) Line(field string) int {
	for field != "" {
		i, ok := slices.BinarySearchFunc(o.lines, field, func(l fieldLine, field string) int {
			return strings.Compare(l.field, field)
		})
		if ok {
			return o.lines[i].line
		}
		field = field[:max(strings.LastIndexAny(field, ".["), 0)]
	}
	return o.Source.Line
}

// has reports whether the object was read with that very field.
func (o *Object) has(field string) bool {
	_, ok := slices.BinarySearchFunc(o.lines, field, func(l fieldLine, field string) int { return strings.Compare(l.field, field) })
	return ok
}

// SamePlace reports whether every field of both was read at the same place.
func (o *Object) SamePlace(other *Object) bool {
	return o.Source == other.Source && slices.Equal(o.lines, other.lines)
}

// Equal reports whether both say the same, wherever they were read.
func (o *Object) Equal(other *Object) bool {
	if o == nil || other == nil {
		return o == other
	}
	return o.Key == other.Key && o.Group == other.Group &&
		o.Created.Equal(other.Created) &&
		equalMaps(o.Labels, other.Labels) && equalMaps(o.Annotations, other.Annotations) &&
		equalSpecs(o.Spec, other.Spec)
}

func equalSpecs(a, b any) bool {
	x, isMessage := a.(proto.Message)
	y, both := b.(proto.Message)
	if isMessage && both {
		return proto.Equal(x, y)
	}
	return reflect.DeepEqual(a, b)
}

func equalMaps(a, b map[string]string) bool {
	if len(a) != len(b) {
		return false
	}
	for k, v := range a {
		if w, ok := b[k]; !ok || v != w {
			return false
		}
	}
	return true
}

// Read decodes and validates every object of a file and returns those without
// an error, in the order of the file, and every problem, in the order of lines.
// A field that cannot be decoded does not keep the rules from the others.
func Read(file string, data []byte, namespace string) ([]*Object, []Problem) {
	d := decode(file, data, namespace)
	problems := d.problems
	for _, p := range d.partial {
		problems = append(problems, p.judge()...)
	}
	sound := d.objects[:0]
	for _, o := range d.objects {
		found := Validate(o)
		problems = append(problems, found...)
		if !HasError(found) {
			sound = append(sound, o)
		}
	}
	Sort(problems)
	return sound, problems
}
