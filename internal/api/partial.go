package api

import (
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

// A partial is an object of which some fields could not be read. It is judged
// by the others, so that one round of mending is enough.
type partial struct {
	object *Object
	unread []string // what was faulty, and what may have been meant by unknown fields
}

// Bounds of what is judged: a file that is no objects at all is not worth it.
const (
	maxUnread = 64
	maxFields = 20_000
)

// judge returns the errors that hold whatever the unread fields were to say.
// Warnings wait: most are of what is not there. So do kinds whose rules
// compare far more than one field with another.
func (p partial) judge() []Problem {
	switch p.object.Kind {
	case KindServiceEntry, KindWorkloadEntry, KindSidecar, KindConfigMap, "WorkloadGroup":
	default:
		return nil
	}
	if len(p.unread) > maxUnread || len(p.object.lines) > maxFields {
		return nil
	}
	found := p.errors(p.object)
	se, ok := p.object.Spec.(*networking.ServiceEntry)
	if !ok || !slices.Contains(p.unread, "spec.resolution") {
		return found
	}
	for value := range networking.ServiceEntry_Resolution_name {
		assumed := *p.object
		spec, _ := proto.Clone(se).(*networking.ServiceEntry)
		spec.Resolution = networking.ServiceEntry_Resolution(value)
		assumed.Spec = spec
		also := map[Problem]bool{}
		for _, f := range p.errors(&assumed) {
			also[f] = true
		}
		found = slices.DeleteFunc(found, func(f Problem) bool { return !also[f] })
	}
	return found
}

// errors returns the errors of an object that lean on nothing unread.
func (p partial) errors(o *Object) []Problem {
	return slices.DeleteFunc(Validate(o), func(f Problem) bool {
		return f.Severity != Error || slices.ContainsFunc(p.unread, func(unread string) bool {
			return concerns(f.Field, unread) || leans(o.Kind, f.Field, unread)
		})
	})
}

// concerns reports whether what is said of a field may be about the unread one:
// it is the same, or one holds the other. What is said of a list is about its
// items, not about fields of theirs.
func concerns(field, unread string) bool {
	if isIn(field, unread) {
		return true
	}
	if !isIn(unread, field) {
		return false
	}
	rest := unread[len(field):]
	return !strings.HasPrefix(rest, "[") || strings.HasSuffix(rest, "]") && strings.Count(rest, "[") == 1
}

// isIn reports whether a field is the other or below it.
func isIn(field, other string) bool {
	rest, ok := strings.CutPrefix(field, other)
	return ok && (other == "" || rest == "" || rest[0] == '.' || rest[0] == '[')
}

// leans reports whether a rule looks at the unread field to say something of
// another.
func leans(kind, field, unread string) bool {
	if above, ok := strings.CutSuffix(unread, "network"); ok && field == above+"address" {
		return true
	}
	switch kind {
	case KindServiceEntry:
		switch item, below := listItem(unread, "spec.ports"), strings.HasSuffix(unread, "].name"); {
		case item:
			return isIn(field, "spec.endpoints")
		case below && isIn(unread, "spec.ports"):
			return isIn(field, "spec.endpoints") && strings.Contains(field, "].ports.")
		case listItem(unread, "spec.hosts"): // their number
			return listItem(field, "spec.ports")
		case listItem(unread, "spec.endpoints"):
			return isIn(field, "spec.hosts")
		}
	case KindSidecar:
		const policy = "spec.outboundTrafficPolicy"
		if isIn(unread, policy) {
			return isIn(field, policy)
		}
		list, rest, ok := strings.Cut(unread, "]")
		if !ok || strings.HasPrefix(rest, ".hosts") {
			return false
		}
		return strings.HasSuffix(field, ".port") || // listeners are compared by their place
			isIn(field, list+"]") && !isIn(field, list+"].hosts")
	}
	return false
}

// listItem reports whether a field is the list or one item of it.
func listItem(field, list string) bool {
	rest, ok := strings.CutPrefix(field, list)
	return ok && (rest == "" || rest[0] == '[' && strings.HasSuffix(rest, "]") && strings.Count(rest, "[") == 1)
}
