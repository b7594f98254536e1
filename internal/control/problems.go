package control

import (
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/control/registry"
)

// What is wrong with objects together is logged when it begins, when an object
// that has it changes and has it still, and when it is over. What that costs is
// what a change began and ended.

// keyOf is the key of the object that has a problem.
func keyOf(x api.Problem) api.Key {
	return api.Key{Kind: x.Object.Kind, Namespace: x.Object.Namespace, Name: x.Object.Name}
}

// reportLocked logs the problems that did not hold before, and those of objects
// that changed.
func (p *Plane) reportLocked(problems []api.Problem, changes []registry.Change) {
	if len(problems) == 0 {
		return
	}
	changed := make(map[api.Key]bool, len(changes))
	for _, c := range changes {
		changed[c.Key] = true
	}
	said := make(map[api.Problem]struct{})
	for _, x := range problems {
		if !p.addLocked(x) && !changed[keyOf(x)] {
			continue
		}
		if _, twice := said[x]; !twice {
			said[x] = struct{}{}
			file.Report(p.log, x)
		}
	}
}

// addLocked notes that a problem holds, and reports whether it did not before.
func (p *Plane) addLocked(x api.Problem) bool {
	if _, known := p.problems[x]; known {
		return false
	}
	p.problems[x] = struct{}{}
	if x.Severity == api.Error {
		p.errors++
	}
	return true
}

// endLocked forgets the problems, of those that ended somewhere, that hold in no
// view, and returns them.
func (p *Plane) endLocked(ended []api.Problem) (over []api.Problem) {
next:
	for _, x := range ended {
		if _, known := p.problems[x]; !known {
			continue
		}
		for _, v := range p.views {
			if v.Holds(x) {
				continue next
			}
		}
		delete(p.problems, x)
		if x.Severity == api.Error {
			p.errors--
		}
		over = append(over, x)
	}
	return over
}

// overLocked logs that problems are over and by which change, unless the same
// field of their object has another now.
func (p *Plane) overLocked(over, problems []api.Problem, changes []registry.Change) {
	if len(over) == 0 {
		return
	}
	type place struct {
		object api.Key
		field  string
	}
	wrong := make(map[place]bool, len(problems))
	for _, x := range problems {
		wrong[place{keyOf(x), x.Field}] = true
	}
	for _, x := range over {
		if !wrong[place{keyOf(x), x.Field}] {
			p.log.Info("solved", "since", by(x, changes), "was", x.Message, "object", x.Object.String(), "field", x.Field)
		}
	}
}

// by names the change that a problem ended with: that of its own object, or of
// one that it names.
func by(x api.Problem, changes []registry.Change) string {
	for _, c := range changes {
		if c.Key != keyOf(x) && !strings.Contains(x.Message, c.Key.String()+" ") {
			continue
		}
		if c.Object == nil {
			return c.Key.String() + " is gone"
		}
		return c.Key.String() + " has changed"
	}
	return ""
}
