package file

import (
	"os"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

// Check reads everything once, as Load does, and returns how many objects there
// are, sound or not, and every problem, sorted.
func Check(o Options) (objects int, problems []api.Problem) {
	s := &Source{options: o, files: map[string]*tracked{}}
	seen := map[string]bool{}
	var files []*tracked
	for order, path := range o.Paths {
		names, fault := s.list(path, true)
		if fault != "" {
			problems = append(problems, api.Problem{Severity: api.Error, File: path, Message: fault})
		} else {
			problems = append(problems, s.idle(order, path, names)...)
		}
		for _, name := range names {
			key := absolute(name)
			if name == Stdin {
				key = Stdin
			}
			if seen[key] {
				continue
			}
			seen[key] = true
			f := &tracked{path: name, order: order}
			r := s.whole(f)
			f.objects = r.objects
			files = append(files, f)
			problems = append(problems, r.problems...)
		}
	}
	_, doubles := join(files)
	problems = append(problems, doubles...)
	api.Sort(problems)
	return count(files, problems), problems
}

// whole reads one file, whatever is known of it.
func (s *Source) whole(f *tracked) *reading {
	if f.path == Stdin {
		return s.read(Stdin, s.options.Stdin)
	}
	info, err := os.Stat(f.path)
	if err != nil {
		return &reading{problems: []api.Problem{{Severity: api.Error, File: f.path, Message: "cannot be read: " + cause(err)}}}
	}
	return s.open(f, info)
}

// count counts the sound objects and those that only problems name.
func count(files []*tracked, problems []api.Problem) int {
	all := map[mesh.Ref]struct{}{}
	for _, f := range files {
		for _, o := range f.objects {
			all[o.Source] = struct{}{}
		}
	}
	for _, p := range problems {
		if p.Object != (mesh.Ref{}) {
			all[p.Object] = struct{}{}
		}
	}
	return len(all)
}
