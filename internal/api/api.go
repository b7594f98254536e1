// Package api knows the kinds of Istio's API: it decodes objects, keeping line
// numbers, and validates them. Every border (files, admission, the validate
// command) goes through it, so that an object is judged alike everywhere.
package api

import (
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/mesh"
)

// STUB: owned by the objects helper; signatures are the contract.

// A Key identifies an object, whatever its version.
type Key struct{ Kind, Namespace, Name string }

// An Object is one decoded object. It is immutable once decoded.
type Object struct {
	Key
	Version     string // v1, v1beta1, v1alpha3
	Labels      map[string]string
	Annotations map[string]string
	Created     time.Time     // zero for files
	Spec        proto.Message // *networking.ServiceEntry of istio.io/api, …
	Source      mesh.Ref
	lines       map[string]int // field path -> line
}

// Line returns the line of a field path such as "spec.ports[0].number", or of
// its closest parent that has one.
func (o *Object) Line(field string) int { panic("stub") }

// A Severity ranks a Problem.
type Severity uint8

// The severities. A Warning never keeps an object out.
const (
	Warning Severity = iota
	Error
)

// A Problem is one thing wrong with one object: a sentence an operator can act on.
type Problem struct {
	Severity Severity
	Object   mesh.Ref
	File     string
	Line     int
	Field    string // "spec.ports[1].protocol"; empty if it is the whole object or file
	Message  string // what is wrong and what to do
}

// String is "entries/a.yaml:12: ServiceEntry default/a: spec.ports[1].protocol: …".
func (p Problem) String() string { panic("stub") }

// Decode reads every object of a file (YAML with several documents, or JSON).
// Objects without a namespace get the one given. What cannot be decoded is a
// Problem of severity Error and left out. It is bounded in depth, aliases and size.
func Decode(file string, data []byte, namespace string) ([]*Object, []Problem) { panic("stub") }

// Validate applies Istio's rules and ours to one object.
func Validate(o *Object) []Problem { panic("stub") }
