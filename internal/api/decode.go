package api

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"
	"sort"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/mesh"
)

// Decode reads every object of a file (YAML with several documents, or JSON).
// Objects without a namespace get the one given. What cannot be decoded is a
// Problem of severity Error and left out. It is bounded in depth, aliases and size.
func Decode(file string, data []byte, namespace string) ([]*Object, []Problem) {
	d := decode(file, data, namespace)
	return d.objects, d.problems
}

func decode(file string, data []byte, namespace string) *decoder {
	d := &decoder{file: file, namespace: namespace}
	if len(data) > MaxFileSize {
		d.report(Error, mesh.Ref{}, 0, "", fmt.Sprintf("the file has more than %d bytes; split it", MaxFileSize))
		return d
	}
	reader := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var document yaml.Node
		err := reader.Decode(&document)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			d.syntax(err, data)
			break // what follows cannot be told apart any more
		}
		d.document(&document)
	}
	return d
}

type decoder struct {
	file, namespace string
	objects         []*Object
	partial         []partial // objects that lack what could not be read
	problems        []Problem
}

func (d *decoder) report(s Severity, object mesh.Ref, line int, field, message string) {
	d.problems = append(d.problems, Problem{Severity: s, Object: object, File: d.file, Line: line, Field: field, Message: message})
}

var (
	lineInError   = regexp.MustCompile(`^line (\d+): `)
	unknownAnchor = regexp.MustCompile(`^unknown anchor '(.*)' referenced`)
)

// syntax reports that the text is no YAML.
func (d *decoder) syntax(err error, data []byte) {
	text := strings.TrimPrefix(err.Error(), "yaml: ")
	var line int
	if what, at := jsonFault(data); at > 0 { // says it better than a reader of YAML can
		text, line = what, at
	} else if m := lineInError.FindStringSubmatch(text); m != nil {
		line, _ = strconv.Atoi(m[1]) // digits by the expression; too many of them read as 0
		text = text[len(m[0]):]
	} else if m := unknownAnchor.FindStringSubmatch(text); m != nil {
		line = lineAt(data, bytes.Index(data, []byte("*"+m[1])))
	} else {
		line = max(lineAt(data, firstUnreadable(data)), 1) // of the first line the reader does not say it
	}
	if strings.HasPrefix(text, "exceeded max depth") { // the reader's own bound, far above ours
		text = fmt.Sprintf("nested deeper than %d levels", maxDepth)
	}
	if strings.Contains(text, "cannot start any token") {
		text += " (if it is a tab: YAML is indented with spaces)"
	}
	switch {
	case text == "mapping values are not allowed in this context":
		text += " (check the indentation; text with a colon and a space in it needs quotes)"
	case text == "did not find expected key" || text == "did not find expected '-' indicator":
		switch at := stoppedAt(err, data, line); {
		case at > line+1:
			text, line = "this line does not fit what begins in line "+strconv.Itoa(line+1)+" ("+text+")", at
		case at > 0:
			text, line = "this line does not fit what is above it ("+text+")", at
		}
		text += "; check the indentation"
	}
	d.report(Error, mesh.Ref{}, line, "", "not YAML or JSON: "+text+"; the rest of the file was not read")
}

// maxSearched bounds the text in which a fault is looked for by reading it again.
const maxSearched = 256 << 10

// stoppedAt returns the line at which the reader gave up, or 0. What it says
// itself is the line above the mapping or list that did not go on, or above the
// fault: so the shortest text is looked for that has the same fault.
func stoppedAt(fault error, data []byte, line int) int {
	lines := bytes.SplitAfter(data, []byte("\n"))
	start := min(line, len(lines)-1) // of the document
	for start > 0 && !bytes.HasPrefix(lines[start], []byte("---")) {
		start--
	}
	document := bytes.Join(lines[start:], nil)
	if len(document) > maxSearched {
		return 0
	}
	_, what, _ := strings.Cut(fault.Error(), ": line ")
	_, what, _ = strings.Cut(what, ": ")
	has := func(upTo int) bool {
		var n yaml.Node
		err := yaml.NewDecoder(bytes.NewReader(bytes.Join(lines[start:upTo], nil))).Decode(&n)
		return err != nil && strings.HasSuffix(err.Error(), fmt.Sprintf("line %d: %s", line-start, what))
	}
	if !has(len(lines)) {
		return 0
	}
	return line + 1 + sort.Search(len(lines)-line-1, func(i int) bool { return has(line + 1 + i) })
}

// jsonFault returns what is wrong with JSON, and its line; 0 if the text is no
// JSON or nothing is wrong with it.
func jsonFault(data []byte) (string, int) {
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		return "", 0
	}
	var fault *json.SyntaxError
	var value json.RawMessage
	if !errors.As(json.Unmarshal(data, &value), &fault) {
		return "", 0
	}
	return fault.Error(), lineAt(data, int(fault.Offset)-1)
}

// lineAt returns the line of an offset; 0 for a negative one.
func lineAt(data []byte, offset int) int {
	if offset < 0 {
		return 0
	}
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// firstUnreadable returns the offset of the first byte that may not stand in
// YAML, or -1.
func firstUnreadable(data []byte) int {
	for i := 0; i < len(data); {
		r, size := utf8.DecodeRune(data[i:])
		if r == utf8.RuneError && size == 1 || r < ' ' && r != '\t' && r != '\n' && r != '\r' || r == 0x7f {
			return i
		}
		i += size
	}
	return -1
}

func (d *decoder) document(n *yaml.Node) {
	if n.Kind != yaml.DocumentNode || len(n.Content) == 0 || isNull(n.Content[0]) {
		return
	}
	if err := survey(n); err != nil {
		line := n.Line
		if bound := (*boundError)(nil); errors.As(err, &bound) {
			line = bound.line
		}
		d.report(Error, mesh.Ref{}, line, "", err.Error())
		return
	}
	d.object(n.Content[0])
}

// object decodes one object, or each object of a list.
func (d *decoder) object(n *yaml.Node) {
	n = resolve(n)
	w := &walker{file: d.file}
	fields := w.fields(n, "")
	if n.Kind != yaml.MappingNode {
		d.report(Error, mesh.Ref{}, n.Line, "", "expected an object with apiVersion, kind, metadata and spec, found "+describe(n))
		return
	}
	apiVersion, kind := w.envelope(fields, "apiVersion"), w.envelope(fields, "kind")
	if apiVersion == "" || kind == "" {
		d.nameless(w, fields, n.Line, apiVersion, kind)
		return
	}
	if items, ok := listItems(apiVersion, kind, fields); ok {
		d.problems = append(d.problems, w.problems...)
		d.items(items)
		return
	}
	spec, known, fault := newSpec(apiVersion, kind)
	o := &Object{Key: Key{Kind: kind, Namespace: d.namespace}}
	o.Group, o.Version, _ = strings.Cut(apiVersion, "/")
	w.metadata(o, find(fields, "metadata"))
	o.Source = mesh.Ref{Kind: kind, Namespace: o.Namespace, Name: o.Name, File: d.file, Line: n.Line}
	if o.Name == "" {
		o.Source.Name = "(unnamed)"
	}
	isMesh := apiVersion == "v1" && o.IsMesh()
	kube, outdated := kubeKind(apiVersion, kind)
	switch {
	case outdated != "":
		d.report(Error, o.Source, n.Line, "", outdated)
		return
	case kube != "":
	case isMesh:
		spec = w.configMap(find(fields, "data"))
	case !known:
		field, why := unreadKind(o, apiVersion, find(fields, "data"))
		d.report(Warning, o.Source, n.Line, field, why)
		w.sort()
		o.lines = w.lines
		d.problems = append(d.problems, ownOnUnread(o)...)
		return
	case fault != "":
		d.report(Error, o.Source, n.Line, "", fault)
		return
	}
	if find(fields, "name").value == nil { // which is no field there, and says what was meant
		w.needName(o, n.Line)
	}
	if kube != "" {
		o.Spec = w.kube(kube, fields)
	} else {
		o.Spec = spec
		w.body(fields, spec, isMesh)
	}
	for _, p := range w.problems {
		p.Object = o.Source
		d.problems = append(d.problems, p)
	}
	w.sort()
	o.lines = slices.Clip(w.lines)
	if HasError(w.problems) {
		d.partial = append(d.partial, partial{o, w.unread})
		return
	}
	d.objects = append(d.objects, o)
}

// body reads the fields of an object beside those that name it. The data of the
// mesh-wide configuration was read before.
func (w *walker) body(fields []field, spec proto.Message, isMesh bool) {
	known := []string{"apiVersion", "kind", "metadata", "spec", "status"}
	if isMesh {
		known = []string{"apiVersion", "kind", "metadata", "data", "binaryData", "immutable"}
	}
	for _, f := range fields {
		switch {
		case f.name == "spec" && !isMesh:
			w.message(f.value, spec.ProtoReflect(), "spec")
		case slices.Contains(known, f.name):
		case !isMesh && spec.ProtoReflect().Descriptor().Fields().ByJSONName(f.name) != nil:
			w.misplaced(f, f.name, "spec", join("spec", f.name))
		case isMetadata(f.name):
			w.misplaced(f, f.name, "metadata", join("metadata", f.name))
		default:
			w.report(f.line, f.name, unknownField(f.name, known))
			w.meant(fields, known, "")
		}
	}
}

// nameless reports that what an object is called does not say what it is.
func (d *decoder) nameless(w *walker, fields []field, line int, apiVersion, kind string) {
	var source mesh.Ref
	faults := w.problems
	if apiVersion+kind != "" {
		o := &Object{Key: Key{Kind: kind, Namespace: d.namespace}}
		w.metadata(o, find(fields, "metadata"))
		source = mesh.Ref{Kind: kind, Namespace: o.Namespace, Name: o.Name, File: d.file, Line: line}
		if kind == "" || o.Name == "" {
			source = mesh.Ref{}
		}
	}
	d.problems = append(d.problems, faults...)
	d.report(Error, source, line, "", missing(apiVersion, kind))
}

// missing says what an object lacks and, where that can be known, what to write.
func missing(apiVersion, kind string) string {
	switch {
	case apiVersion != "":
		domain, _, _ := strings.Cut(apiVersion, "/")
		if domain == "networking.istio.io" {
			return "has no kind; write it beside apiVersion, such as kind: " + KindServiceEntry
		}
		return "has no kind; write it beside apiVersion"
	case kind != "":
		if of := apiVersionOf(kind); of != "" {
			return "has no apiVersion; write apiVersion: " + of
		}
		return "has no apiVersion; write it beside kind"
	}
	return "has neither apiVersion nor kind: this is no object"
}

// unreadKind says that an object of a kind that is not read is left out, and
// what it was perhaps meant to be.
func unreadKind(o *Object, apiVersion string, data field) (fieldPath, why string) {
	if apiVersion != "v1" || o.Kind != KindConfigMap {
		return "", "ignored: Fairlead does not read " + apiVersion + " " + o.Kind
	}
	why = "ignored: of ConfigMaps only " + meshNamespace + "/" + meshName + ", the mesh-wide configuration, is read"
	hasMesh := false
	if data.value != nil && data.value.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(data.value.Content); i += 2 {
			hasMesh = hasMesh || data.value.Content[i].Value == "mesh"
		}
	}
	switch near := Nearest(o.Name, []string{meshName}); {
	case o.Name == meshName:
		return "metadata.namespace", why + "; did you mean namespace " + meshNamespace + "?"
	case near != "" || hasMesh:
		return "metadata.name", why + "; did you mean " + meshNamespace + "/" + meshName + "?"
	}
	return "", why
}

// ownOnUnread finds the extensions of Fairlead's own on an object that is left out.
func ownOnUnread(o *Object) []Problem {
	v := &validator{object: o}
	for _, key := range slices.Sorted(maps.Keys(o.Annotations)) {
		if strings.HasPrefix(key, annotationPrefix) {
			v.extension(join("metadata.annotations", key), key, o.Annotations[key])
		}
	}
	return v.problems
}

// listItems returns the items of a v1 List, or of a ServiceEntryList and the like.
func listItems(apiVersion, kind string, fields []field) (*yaml.Node, bool) {
	of, isList := strings.CutSuffix(kind, "List")
	if !isList {
		return nil, false
	}
	if of != "" || apiVersion != "v1" {
		spec, _, _ := newSpec(apiVersion, of)
		if kube, _ := kubeKind(apiVersion, of); spec == nil && kube == "" {
			return nil, false
		}
	}
	return find(fields, "items").value, true
}

func (d *decoder) items(items *yaml.Node) {
	switch {
	case items == nil || isNull(items):
	case items.Kind != yaml.SequenceNode:
		d.report(Error, mesh.Ref{}, items.Line, "items", "expected a list of objects, found "+describe(items))
	default:
		for _, item := range items.Content {
			d.object(item)
		}
	}
}

// envelope returns a field of the object that must be text, or "".
func (w *walker) envelope(fields []field, name string) string {
	f := find(fields, name)
	if f.value == nil {
		return ""
	}
	s, _ := w.text(f.value, name)
	return s
}

// metadata reads the object's name, namespace, labels, annotations and age.
func (w *walker) metadata(o *Object, m field) {
	if m.value == nil || isNull(m.value) {
		return
	}
	for _, f := range w.fields(m.value, "metadata") {
		path := "metadata." + f.name
		w.mark(f.line, path)
		switch f.name {
		case "name":
			o.Name, _ = w.text(f.value, path)
		case "namespace":
			if s, ok := w.text(f.value, path); ok && s != "" {
				o.Namespace = s
				if fault := labelFault(s); fault != "" {
					w.report(f.line, path, quote(s)+" is no namespace: "+fault)
				}
			}
		case "labels":
			o.Labels = w.textMap(f.value, path)
		case "annotations":
			o.Annotations = w.textMap(f.value, path)
		case "creationTimestamp":
			o.Created = w.time(f.value, path)
		case "uid", "resourceVersion", "generation", "generateName", "managedFields", "ownerReferences", "finalizers",
			"selfLink", "clusterName", "deletionTimestamp", "deletionGracePeriodSeconds":
		case "spec", "apiVersion", "kind":
			w.report(f.line, path, "belongs beside metadata, not in it: check the indentation")
			w.unread = append(w.unread, f.name)
		default:
			w.report(f.line, path, unknownField(f.name, metadataFields()))
		}
	}
}

// metadataFields are those of metadata that an operator writes.
func metadataFields() []string { return []string{"name", "namespace", "labels", "annotations"} }

func isMetadata(name string) bool { return slices.Contains(metadataFields(), name) }

func (w *walker) needName(o *Object, line int) {
	switch fault := subdomainFault(o.Name); {
	case HasError(w.problems): // the name may be what could not be read
	case o.Name == "":
		w.report(line, "metadata.name", "the object has no name; give it one")
	case fault != "":
		w.report((&Object{lines: w.lines, Source: mesh.Ref{Line: line}}).Line("metadata.name"), "metadata.name", quote(o.Name)+" is no name of an object: "+fault)
	}
}

func (w *walker) time(n *yaml.Node, path string) time.Time {
	if isNull(n) {
		return time.Time{}
	}
	t, err := time.Parse(time.RFC3339, n.Value)
	if n.Kind != yaml.ScalarNode || err != nil {
		w.report(n.Line, path, "expected a time such as 2026-01-31T12:00:00Z, found "+describe(n))
	}
	return t
}

// labelFault says what keeps s from being a DNS-1123 label, or "".
func labelFault(s string) string {
	switch {
	case s == "":
		return "it is empty"
	case len(s) > 63:
		return "it is longer than 63 characters"
	case s[0] == '-' || s[len(s)-1] == '-':
		return "it begins or ends with a hyphen"
	case strings.TrimLeft(s, "abcdefghijklmnopqrstuvwxyz0123456789-") != "":
		return "only lower-case letters, digits and hyphens are allowed"
	}
	return ""
}

// subdomainFault says what keeps s from being a DNS-1123 subdomain, or "".
func subdomainFault(s string) string {
	if len(s) > 253 {
		return "it is longer than 253 characters"
	}
	for label := range strings.SplitSeq(s, ".") {
		if fault := labelFault(label); fault != "" {
			return fault
		}
	}
	return ""
}
