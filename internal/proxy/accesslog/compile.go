package accesslog

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// CompileText compiles a line of text with operators between percent signs. A
// line ends as the format says; one without a newline at its end gets one. The
// error names the operator and what it may be.
func CompileText(format string, omitEmpty bool) (*Format, error) {
	parts, err := parse(format)
	if err != nil {
		return nil, err
	}
	if !strings.HasSuffix(format, "\n") {
		parts = append(parts, part{literal: "\n"})
	}
	return &Format{text: parts, omit: omitEmpty, answer: slices.ContainsFunc(parts, showsAnswer)}, nil
}

// A member is one key of a JSON line.
type member struct {
	key    string
	inner  []member // of an object
	list   []member // of a list; keys are empty
	kind   memberKind
	parts  []part
	number string // a number or word as it stands, for kind literal
}

type memberKind uint8

const (
	value   memberKind = iota // parts make a string, or a number where a lone operator is one
	object                    // of inner
	array                     // of list
	literal                   // number, true, false, null
)

// CompileJSON compiles an object whose strings may hold operators. Values may be
// strings, numbers, booleans, nil, lists and objects, as a protobuf Struct or
// decoded JSON has them. Members are written in the order of their keys. A
// string that is one operator alone keeps the type of its value.
func CompileJSON(fields map[string]any, omitEmpty bool) (*Format, error) {
	c := compiler{}
	members, err := c.members(fields, 0)
	if err != nil {
		return nil, err
	}
	return &Format{object: members, isJSON: true, omit: omitEmpty, answer: c.answer}, nil
}

func showsAnswer(p part) bool { return p.answer }

type compiler struct {
	parts  int
	answer bool // some part shows an answer
}

func (c *compiler) members(fields map[string]any, depth int) ([]member, error) {
	if depth == maxDepth {
		return nil, fmt.Errorf("the format nests more than %d objects", maxDepth)
	}
	members := make([]member, 0, len(fields))
	for key, v := range fields {
		m, err := c.member(v, depth)
		if err != nil {
			return nil, fmt.Errorf("key %q: %w", key, err)
		}
		m.key = string(appendJSON(nil, []byte(key)))
		members = append(members, m)
	}
	slices.SortFunc(members, func(a, b member) int { return strings.Compare(a.key, b.key) })
	return members, nil
}

func (c *compiler) member(v any, depth int) (member, error) {
	if c.parts++; c.parts > maxParts {
		return member{}, fmt.Errorf("the format has more than %d values", maxParts)
	}
	switch v := v.(type) {
	case string:
		parts, err := parse(v)
		c.answer = c.answer || slices.ContainsFunc(parts, showsAnswer)
		for i := range parts {
			parts[i].literal = string(appendJSON(nil, []byte(parts[i].literal)))
		}
		return member{kind: value, parts: parts}, err
	case map[string]any:
		inner, err := c.members(v, depth+1)
		return member{kind: object, inner: inner}, err
	case []any:
		if depth+1 == maxDepth {
			return member{}, fmt.Errorf("the format nests more than %d objects", maxDepth)
		}
		m := member{kind: array}
		for _, x := range v {
			e, err := c.member(x, depth+1)
			if err != nil {
				return member{}, err
			}
			m.list = append(m.list, e)
		}
		return m, nil
	case float64:
		return member{kind: literal, number: strconv.FormatFloat(v, 'f', -1, 64)}, nil
	case bool:
		return member{kind: literal, number: strconv.FormatBool(v)}, nil
	case nil:
		return member{kind: literal, number: "null"}, nil
	}
	return member{}, fmt.Errorf("a value of type %T has no place in an access log", v)
}

// parse takes a format apart.
func parse(format string) ([]part, error) {
	if len(format) > maxFormat {
		return nil, fmt.Errorf("the format is longer than %d bytes", maxFormat)
	}
	var parts []part
	var text strings.Builder
	flush := func() {
		if text.Len() > 0 {
			parts = append(parts, part{literal: text.String()})
			text.Reset()
		}
	}
	for rest := format; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		text.WriteString(before)
		if !found {
			break
		}
		if strings.HasPrefix(after, "%") {
			text.WriteByte('%')
			rest = after[1:]
			continue
		}
		end := operatorEnd(after)
		if end < 0 {
			return nil, fmt.Errorf("operator %q has no percent sign at its end; write %%%% for a percent sign itself", "%"+clip(after))
		}
		p, err := compileOperator(after[:end])
		if err != nil {
			return nil, err
		}
		flush()
		parts = append(parts, p)
		if len(parts) > maxParts {
			return nil, fmt.Errorf("the format has more than %d operators", maxParts)
		}
		rest = after[end+1:]
	}
	flush()
	return parts, nil
}

// operatorEnd finds the percent sign that ends an operator: the first one that
// is not part of its argument in parentheses.
func operatorEnd(s string) int {
	depth := 0
	for i := range len(s) {
		switch s[i] {
		case '(':
			depth++
		case ')':
			depth--
		case '%':
			if depth <= 0 {
				return i
			}
		}
	}
	return -1
}

// compileOperator compiles NAME, NAME(ARGUMENT) or NAME(ARGUMENT):LENGTH.
func compileOperator(text string) (part, error) {
	name, rest := text, ""
	if i := strings.IndexAny(text, "(:"); i >= 0 {
		name, rest = text[:i], text[i:]
	}
	argument, hasArgument := "", false
	if strings.HasPrefix(rest, "(") {
		end := strings.LastIndexByte(rest, ')')
		if end < 0 {
			return part{}, fmt.Errorf("operator %%%s%%: its parenthesis is not closed", clip(text))
		}
		argument, hasArgument, rest = rest[1:end], true, rest[end+1:]
	}
	p := part{}
	if rest != "" {
		n, err := strconv.Atoi(strings.TrimPrefix(rest, ":"))
		if err != nil || n <= 0 || !strings.HasPrefix(rest, ":") {
			return part{}, fmt.Errorf("operator %%%s%%: %q is no length; write a colon and a number", clip(text), clip(rest))
		}
		p.max = min(n, maxPath)
	}
	found, err := lookup(name, argument, hasArgument)
	if err != nil {
		return part{}, fmt.Errorf("operator %%%s%%: %w", clip(text), err)
	}
	if p.max == 0 {
		p.max = found.max
	}
	p.op, p.numeric = found.op, found.numeric
	switch name {
	case "RESP":
		p.answer = !strings.EqualFold(argument, serviceTime)
	case "TRAILER", "GRPC_STATUS", "GRPC_STATUS_NUMBER":
		p.answer = true
	}
	return p, nil
}

func clip(s string) string {
	if len(s) > 60 {
		return s[:60] + "…"
	}
	return s
}
