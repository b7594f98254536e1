package api

import (
	"encoding/json"
	"math"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// wellKnown reads durations, wrapped scalars and free-form values, whose text
// form protobuf itself defines.
func (w *walker) wellKnown(n *yaml.Node, m protoreflect.Message, path string) {
	if d, ok := m.Interface().(*durationpb.Duration); ok {
		w.duration(n, d, path)
		return
	}
	before := len(w.problems)
	value := w.plain(n, path)
	if len(w.problems) > before {
		return
	}
	data, err := json.Marshal(value)
	if err == nil {
		err = protojson.Unmarshal(data, m.Interface())
	}
	if err != nil {
		w.expected(n, path, wellKnownForm(m.Descriptor().Name()))
	}
}

// duration reads one as Istio does: what protobuf takes, and units and sums of
// them beside, such as "1h30m".
func (w *walker) duration(n *yaml.Node, d *durationpb.Duration, path string) {
	t, err := time.ParseDuration(n.Value)
	if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!str" || err != nil {
		w.expected(n, path, wellKnownForm("Duration"))
		return
	}
	d.Seconds, d.Nanos = int64(t/time.Second), int32(t%time.Second) //nolint:gosec // less than a second
}

func wellKnownForm(name protoreflect.Name) string {
	switch name {
	case "Duration":
		return `a duration such as "10s"`
	case "Timestamp":
		return "a time such as 2026-01-31T12:00:00Z"
	case "BoolValue":
		return "true or false"
	case "StringValue":
		return "text"
	case "Struct":
		return "an object"
	case "ListValue":
		return "a list"
	}
	return "a number"
}

// plain turns a tree into the values encoding/json knows.
func (w *walker) plain(n *yaml.Node, path string) any {
	n = resolve(n)
	switch n.Kind {
	case yaml.MappingNode:
		fields := w.fields(n, path)
		m := make(map[string]any, len(fields))
		for _, f := range fields {
			m[f.name] = w.plain(f.value, join(path, f.name))
		}
		return m
	case yaml.SequenceNode:
		list := make([]any, len(n.Content))
		for i, item := range n.Content {
			list[i] = w.plain(item, index(path, i))
		}
		return list
	case yaml.ScalarNode:
		return w.plainScalar(n, path)
	case yaml.DocumentNode, yaml.AliasNode:
	}
	return nil
}

func (w *walker) plainScalar(n *yaml.Node, path string) any {
	switch n.ShortTag() {
	case "!!null":
		return nil
	case "!!bool":
		return n.Value == "true" || n.Value == "True" || n.Value == "TRUE"
	case "!!int", "!!float":
		var f float64
		if n.Decode(&f) == nil && !math.IsNaN(f) && !math.IsInf(f, 0) {
			return f
		}
		w.report(n.Line, path, quote(n.Value)+" is no number that can be carried")
		return nil
	}
	return n.Value
}
