package api

import (
	"encoding/base64"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// A walker carries one object from its tree of nodes into a message, noting
// the line of every field and every fault on the way.
type walker struct {
	file     string
	lines    []fieldLine
	problems []Problem
	unread   []string // fields that cannot be judged: see partial
	open     []level  // messages being read, the outermost first
}

// A level is a message being read.
type level struct {
	path   string
	fields protoreflect.FieldDescriptors
}

func (w *walker) sort() {
	slices.SortFunc(w.lines, func(a, b fieldLine) int { return strings.Compare(a.field, b.field) })
}

// misplaced reports a field that exists under another one than that in which it
// stands. What it means cannot be judged.
func (w *walker) misplaced(f field, path, under, means string) {
	w.report(f.line, path, "belongs under "+under+": check the indentation")
	w.unread = append(w.unread, means)
}

// elsewhere returns the path of the message, one of those that hold the innermost
// or a part of it, that has a field of the name, "" if none has; and what of the
// object the field means.
func (w *walker) elsewhere(name string) (under, means string) {
	here := w.open[len(w.open)-1]
	for i := len(w.open) - 2; i >= 0; i-- {
		if w.open[i].fields.ByJSONName(name) != nil {
			return w.open[i].path, join(w.open[i].path, name)
		}
	}
	for _, part := range jsonNames(here.fields) {
		fd := here.fields.ByJSONName(part)
		if fd.Message() != nil && !fd.IsMap() && fd.Message().Fields().ByJSONName(name) != nil &&
			!strings.HasPrefix(string(fd.Message().FullName()), "google.protobuf.") {
			return join(here.path, part), join(here.path, part)
		}
	}
	return "", ""
}

// A field is one pair of a mapping; value is what an alias stands for. The zero
// field is none.
type field struct {
	name  string
	line  int
	value *yaml.Node
}

func find(fields []field, name string) field {
	for _, f := range fields {
		if f.name == name {
			return f
		}
	}
	return field{}
}

func (w *walker) report(line int, path, message string) {
	w.problems = append(w.problems, Problem{Severity: Error, File: w.file, Line: line, Field: path, Message: message})
	w.unread = append(w.unread, strings.TrimSuffix(path, ".<<"))
}

// meant notes what an unknown field may have stood for: any that is not there.
func (w *walker) meant(fields []field, known []string, path string) {
	for _, name := range known {
		if find(fields, name).value == nil {
			w.unread = append(w.unread, join(path, name))
		}
	}
}

func (w *walker) warn(line int, path, message string) {
	w.problems = append(w.problems, Problem{Severity: Warning, File: w.file, Line: line, Field: path, Message: message})
}

func (w *walker) mark(line int, path string) {
	w.lines = append(w.lines, fieldLine{path, line})
}

func (w *walker) expected(n *yaml.Node, path, what string) {
	w.report(n.Line, path, "expected "+what+", found "+describe(n))
}

func unknownField(name string, known []string) string {
	if near := Nearest(name, known); near != "" {
		return "unknown field; did you mean " + near + "?"
	}
	return "unknown field"
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func index(path string, i int) string { return path + "[" + strconv.Itoa(i) + "]" }

// fields returns the pairs of a mapping with merges (<<) resolved: what the
// mapping says itself wins. A key given twice is an error.
func (w *walker) fields(n *yaml.Node, path string) []field {
	if n.Kind != yaml.MappingNode {
		if path != "" {
			w.expected(n, path, "an object")
		}
		return nil
	}
	var own, merged []field
	seen := make(map[string]int, len(n.Content)/2)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := resolve(n.Content[i]), resolve(n.Content[i+1])
		if key.Kind != yaml.ScalarNode {
			w.report(n.Content[i].Line, path, "a key must be text, not "+describe(key))
			continue
		}
		if key.ShortTag() == "!!merge" {
			merged = append(merged, w.merge(value, path)...)
			continue
		}
		line := n.Content[i].Line
		if ambiguous(key) {
			w.report(line, path, "kubectl reads the key "+key.Value+" as a truth value; put it in quotes")
			continue
		}
		if first, ok := seen[key.Value]; ok {
			w.report(line, join(path, key.Value), "given twice, first in line "+strconv.Itoa(first)+"; remove one")
			continue
		}
		seen[key.Value] = line
		own = append(own, field{key.Value, line, value})
	}
	for _, f := range merged {
		if _, ok := seen[f.name]; !ok {
			seen[f.name] = f.line
			own = append(own, f)
		}
	}
	return own
}

func (w *walker) merge(n *yaml.Node, path string) []field {
	if n.Kind != yaml.SequenceNode {
		return w.fields(n, join(path, "<<"))
	}
	var all []field
	for _, one := range n.Content {
		all = append(all, w.fields(resolve(one), join(path, "<<"))...)
	}
	return all
}

// message fills m from a mapping.
func (w *walker) message(n *yaml.Node, m protoreflect.Message, path string) {
	n = resolve(n)
	w.mark(n.Line, path)
	if isNull(n) {
		return
	}
	if strings.HasPrefix(string(m.Descriptor().FullName()), "google.protobuf.") {
		w.wellKnown(n, m, path)
		return
	}
	descriptors := m.Descriptor().Fields()
	w.open = append(w.open, level{path, descriptors})
	defer func() { w.open = w.open[:len(w.open)-1] }()
	fields := w.fields(n, path)
	unknown := false
	for _, f := range fields {
		fieldPath := join(path, f.name)
		fd := descriptors.ByJSONName(f.name)
		if fd == nil {
			if under, means := w.elsewhere(f.name); under != "" && Nearest(f.name, jsonNames(descriptors)) == "" {
				w.misplaced(f, fieldPath, under, means)
				continue
			}
			w.report(f.line, fieldPath, unknownField(f.name, jsonNames(descriptors)))
			unknown = true
			continue
		}
		if isNull(f.value) {
			continue // as if it were not there
		}
		if one := fd.ContainingOneof(); one != nil && m.WhichOneof(one) != nil {
			w.report(f.line, fieldPath, "excludes "+m.WhichOneof(one).JSONName()+", which is given too; remove one")
			continue
		}
		w.mark(f.line, fieldPath)
		w.field(f.value, m, fd, fieldPath)
	}
	if unknown {
		w.meant(fields, jsonNames(descriptors), path)
	}
}

func jsonNames(descriptors protoreflect.FieldDescriptors) []string {
	names := make([]string, descriptors.Len())
	for i := range names {
		names[i] = descriptors.Get(i).JSONName()
	}
	slices.Sort(names)
	return names
}

func (w *walker) field(n *yaml.Node, m protoreflect.Message, fd protoreflect.FieldDescriptor, path string) {
	switch {
	case fd.IsMap():
		w.mapping(n, m.Mutable(fd).Map(), fd, path)
	case fd.IsList():
		w.list(n, m.Mutable(fd).List(), fd, path)
	case fd.Message() != nil:
		w.message(n, m.Mutable(fd).Message(), path)
	default:
		if v, ok := w.scalar(n, fd, path); ok {
			m.Set(fd, v)
		}
	}
}

func (w *walker) list(n *yaml.Node, list protoreflect.List, fd protoreflect.FieldDescriptor, path string) {
	if n.Kind != yaml.SequenceNode {
		w.expected(n, path, "a list")
		return
	}
	for i, item := range n.Content {
		item, itemPath := resolve(item), index(path, i)
		if isNull(item) {
			w.report(item.Line, itemPath, "the item is empty; fill it or remove it")
			list.Append(list.NewElement()) // what follows keeps its number
			continue
		}
		if fd.Message() != nil {
			w.message(item, list.AppendMutable().Message(), itemPath)
			continue
		}
		w.mark(item.Line, itemPath)
		v, ok := w.scalar(item, fd, itemPath)
		if !ok {
			v = list.NewElement()
		}
		list.Append(v)
	}
}

func (w *walker) mapping(n *yaml.Node, m protoreflect.Map, fd protoreflect.FieldDescriptor, path string) {
	for _, f := range w.fields(n, path) {
		fieldPath := join(path, f.name)
		if isNull(f.value) {
			w.report(f.line, fieldPath, "the value is empty; fill it or remove the key")
			continue
		}
		key, ok := w.mapKey(f, fd.MapKey(), fieldPath)
		if !ok {
			continue
		}
		w.mark(f.line, fieldPath)
		if fd.MapValue().Message() != nil {
			w.message(f.value, m.Mutable(key).Message(), fieldPath)
		} else if v, ok := w.scalar(f.value, fd.MapValue(), fieldPath); ok {
			m.Set(key, v)
		}
	}
}

func (w *walker) mapKey(f field, fd protoreflect.FieldDescriptor, path string) (protoreflect.MapKey, bool) {
	if fd.Kind() == protoreflect.StringKind {
		return protoreflect.ValueOfString(f.name).MapKey(), true
	}
	if number, err := strconv.ParseInt(f.name, 10, 64); err != nil || strconv.FormatInt(number, 10) != f.name {
		w.report(f.line, path, "the key "+quote(f.name)+" is no whole number, written with digits only")
		return protoreflect.MapKey{}, false
	}
	v, ok := w.integer(&yaml.Node{Kind: yaml.ScalarNode, Value: f.name, Line: f.line}, fd.Kind(), path)
	if !ok {
		return protoreflect.MapKey{}, false
	}
	return v.MapKey(), true
}

// scalar reads one value as the field wants it. Quotes count, as they do for
// the API server: "80" is text, 80 is a number.
func (w *walker) scalar(n *yaml.Node, fd protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	switch fd.Kind() {
	case protoreflect.StringKind:
		s, ok := w.text(n, path)
		return protoreflect.ValueOfString(s), ok
	case protoreflect.BytesKind:
		s, ok := w.text(n, path)
		b, err := base64.StdEncoding.DecodeString(s)
		if ok && err != nil {
			w.expected(n, path, "base64")
		}
		return protoreflect.ValueOfBytes(b), ok && err == nil
	case protoreflect.BoolKind:
		var b bool
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(&b) != nil {
			w.expected(n, path, "true or false")
			return protoreflect.Value{}, false
		}
		return protoreflect.ValueOfBool(b), true
	case protoreflect.EnumKind:
		return w.enum(n, fd, path)
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		var f float64
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" && n.ShortTag() != "!!float" || n.Decode(&f) != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			w.expected(n, path, "a number")
			return protoreflect.Value{}, false
		}
		if fd.Kind() == protoreflect.FloatKind {
			return protoreflect.ValueOfFloat32(float32(f)), true
		}
		return protoreflect.ValueOfFloat64(f), true
	default:
		return w.integer(n, fd.Kind(), path)
	}
}

// wholeNumber also matches those that YAML reads as a fraction for their size.
var wholeNumber = regexp.MustCompile(`^[-+]?[0-9]+$`)

func (w *walker) integer(n *yaml.Node, kind protoreflect.Kind, path string) (v protoreflect.Value, ok bool) {
	if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!float" && wholeNumber.MatchString(n.Value) {
		w.report(n.Line, path, quote(n.Value)+" is too large")
		return v, false
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!int" {
		what := "a whole number"
		if _, err := strconv.ParseInt(n.Value, 10, 64); err == nil && n.Kind == yaml.ScalarNode {
			what = "a whole number without quotes"
		}
		w.expected(n, path, what)
		return v, false
	}
	switch kind {
	case protoreflect.Uint32Kind, protoreflect.Fixed32Kind:
		var u uint32
		ok = n.Decode(&u) == nil
		v = protoreflect.ValueOfUint32(u)
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		var u uint64
		ok = n.Decode(&u) == nil
		v = protoreflect.ValueOfUint64(u)
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		var i int64
		ok = n.Decode(&i) == nil
		v = protoreflect.ValueOfInt64(i)
	default:
		var i int32
		ok = n.Decode(&i) == nil
		v = protoreflect.ValueOfInt32(i)
	}
	switch {
	case ok:
	case strings.HasPrefix(n.Value, "-"):
		w.report(n.Line, path, n.Value+" is negative or too small")
	default:
		w.report(n.Line, path, quote(n.Value)+" is too large")
	}
	return v, ok
}

func (w *walker) enum(n *yaml.Node, fd protoreflect.FieldDescriptor, path string) (protoreflect.Value, bool) {
	values := fd.Enum().Values()
	names := make([]string, values.Len())
	for i := range names {
		names[i] = string(values.Get(i).Name())
	}
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" {
		w.expected(n, path, "one of "+strings.Join(names, ", "))
		return protoreflect.Value{}, false
	}
	if i := slices.Index(names, n.Value); i >= 0 {
		return protoreflect.ValueOfEnum(values.Get(i).Number()), true
	}
	if near := Nearest(n.Value, names); near != "" {
		w.report(n.Line, path, quote(n.Value)+" is no value here; did you mean "+near+"?")
	} else {
		w.report(n.Line, path, quote(n.Value)+" is no value here; use one of "+strings.Join(names, ", "))
	}
	return protoreflect.Value{}, false
}

// text reads a string. A date is text too; a number or truth value is not.
func (w *walker) text(n *yaml.Node, path string) (string, bool) {
	if n.Kind == yaml.ScalarNode {
		switch n.ShortTag() {
		case "!!str", "!!timestamp":
			if ambiguous(n) {
				w.report(n.Line, path, "kubectl reads "+n.Value+" as a truth value; put it in quotes")
				return "", false
			}
			return n.Value, true
		case "!!int", "!!float", "!!bool":
			w.report(n.Line, path, "expected text, found "+describe(n)+"; put it in quotes")
			return "", false
		}
	}
	w.expected(n, path, "text")
	return "", false
}

// ambiguous reports whether a word without quotes is text by the rules of YAML
// 1.2, and a truth value by those of YAML 1.1, which kubectl has.
func ambiguous(n *yaml.Node) bool {
	const quoted = yaml.SingleQuotedStyle | yaml.DoubleQuotedStyle | yaml.LiteralStyle | yaml.FoldedStyle | yaml.TaggedStyle
	if n.Kind != yaml.ScalarNode || n.Style&quoted != 0 {
		return false
	}
	switch n.Value {
	case "y", "Y", "yes", "Yes", "YES", "n", "N", "no", "No", "NO", "on", "On", "ON", "off", "Off", "OFF":
		return true
	}
	return false
}

func (w *walker) textMap(n *yaml.Node, path string) map[string]string {
	if isNull(n) {
		return nil
	}
	fields := w.fields(n, path)
	m := make(map[string]string, len(fields))
	for _, f := range fields {
		fieldPath := join(path, f.name)
		w.mark(f.line, fieldPath)
		if s, ok := w.text(f.value, fieldPath); ok {
			m[f.name] = s
		}
	}
	return m
}
