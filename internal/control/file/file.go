// Package file is the source of objects that reads files and folders, and
// follows their changes.
//
// A file is believed as it is read, with one exception: while something is
// being written it is often empty, cut short or gone for a moment. So a file
// that vanished, became shorter in place or cannot be decoded is believed only
// after it has stayed that way for a short while (see settle); until then its
// last good objects hold. A file that stays broken keeps them for as long as it
// is broken; one that stays empty or gone loses them.
package file

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/registry"
)

// Stdin is the path that stands for the standard input.
const Stdin = "-"

// Options of a Source.
type Options struct {
	Paths     []string  // files, folders, or "-" for Stdin
	Stdin     io.Reader // read once
	Namespace string    // of objects that name none
	Log       *slog.Logger
}

// A Source reads objects from files. It is not safe for concurrent use, but for
// Errors and Problems: call Run once, after Load.
type Source struct {
	options  Options
	files    map[string]*tracked           // by absolute path
	objects  map[api.Key]*api.Object       // as last handed over
	since    map[api.Key]time.Time         // when those appeared that Load did not find
	settle   time.Duration                 // see the constant; tests wait longer
	reported map[api.Problem]struct{}      // said in the log, or by Load
	errors   atomic.Int64                  // what Errors returns
	current  atomic.Pointer[[]api.Problem] // what Problems returns
	loaded   int                           // what Loaded returns
}

// Loaded returns how many objects the files had when they were read first, those
// that change nothing included.
func (s *Source) Loaded() int { return s.loaded }

// Errors returns how many problems of severity Error the files have now: 0
// after Load.
func (s *Source) Errors() int { return int(s.errors.Load()) }

// Problems returns the problems that the files have now, sorted, which the caller
// must not change.
func (s *Source) Problems() []api.Problem {
	if all := s.current.Load(); all != nil {
		return *all
	}
	return nil
}

// Load reads everything once. Any problem of severity Error makes err non-nil;
// problems has the warnings too, sorted.
func Load(o Options) (s *Source, changes []registry.Change, problems []api.Problem, err error) {
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	s = &Source{
		options:  o,
		files:    map[string]*tracked{},
		objects:  map[api.Key]*api.Object{},
		since:    map[api.Key]time.Time{},
		settle:   settle,
		reported: map[api.Problem]struct{}{},
	}
	problems, _ = s.scan(time.Time{}, true)
	desired, doubles := join(s.ordered())
	problems = append(problems, doubles...)
	api.Sort(problems)
	s.remember(problems)
	if errs := slices.DeleteFunc(slices.Clone(problems), func(p api.Problem) bool { return p.Severity != api.Error }); len(errs) > 0 {
		return nil, nil, problems, summary(errs)
	}
	s.loaded = count(s.ordered(), problems)
	return s, s.replace(desired, time.Time{}), problems, nil
}

func summary(errs []api.Problem) error {
	if len(errs) == 1 {
		return errors.New(errs[0].String())
	}
	return fmt.Errorf("%s (and %d more errors)", errs[0], len(errs)-1)
}

// Run follows the files until ctx ends and calls apply, from one goroutine,
// with what changed. A file that is broken is reported, once per state, through
// the log and keeps its last good objects; a file that is gone takes its objects along.
// A change is handed over a few hundredths of a second after the last write.
func (s *Source) Run(ctx context.Context, apply func([]registry.Change)) error {
	w := newWatch(s.options.Log)
	defer w.close()
	w.follow(s.followed())
	return w.run(ctx, func(now time.Time) (again time.Duration) {
		again = s.round(now, apply)
		if w.follow(s.followed()) && again == 0 {
			again = quiet // something may have changed before the new watch was there
		}
		return again
	})
}

// round brings the Source up to date and returns when to look again, 0 for
// when something changes.
func (s *Source) round(now time.Time, apply func([]registry.Change)) time.Duration {
	problems, again := s.scan(now, false)
	desired, doubles := join(s.ordered())
	problems = append(problems, doubles...)
	api.Sort(problems)
	s.log(problems)
	if changes := s.replace(desired, now); len(changes) > 0 {
		apply(changes)
	}
	return again
}

// followed returns the paths that can change.
func (s *Source) followed() []string {
	return slices.DeleteFunc(slices.Clone(s.options.Paths), func(path string) bool {
		f := s.files[absolute(path)]
		return path == Stdin || f != nil && f.once
	})
}

// ordered returns the files in the order in which the paths name them.
func (s *Source) ordered() []*tracked {
	return slices.SortedFunc(maps.Values(s.files), func(a, b *tracked) int {
		return cmp.Or(cmp.Compare(a.order, b.order), strings.Compare(a.path, b.path))
	})
}

// join puts the objects of all files together. Where two define the same, the
// first holds and the other is a problem.
func join(files []*tracked) (map[api.Key]*api.Object, []api.Problem) {
	objects := map[api.Key]*api.Object{}
	var problems []api.Problem
	for _, f := range files {
		for _, o := range f.objects {
			first, ok := objects[o.Key]
			if !ok {
				objects[o.Key] = o
				continue
			}
			problems = append(problems, api.Problem{
				Severity: api.Error,
				Object:   o.Source,
				File:     o.Source.File,
				Line:     o.Source.Line,
				Field:    "metadata.name",
				Message:  fmt.Sprintf("defined in %s:%d already, which holds; rename or remove one of them", first.Source.File, first.Source.Line),
			})
		}
	}
	return objects, problems
}

// replace makes desired the objects handed over and returns the difference,
// ordered by key. The time is that at which what is new appeared.
func (s *Source) replace(desired map[api.Key]*api.Object, now time.Time) []registry.Change {
	var changes []registry.Change
	for key := range s.objects {
		if _, ok := desired[key]; !ok {
			delete(s.objects, key)
			delete(s.since, key)
			changes = append(changes, registry.Change{Key: key})
		}
	}
	for key, o := range desired {
		old := s.objects[key]
		if old == nil && !now.IsZero() {
			s.since[key] = now
		}
		o = s.dated(o)
		same := o.Equal(old)
		if same && o.SamePlace(old) {
			continue
		}
		s.objects[key] = o
		changes = append(changes, registry.Change{Key: key, Object: o, Moved: same})
	}
	slices.SortFunc(changes, func(a, b registry.Change) int { return a.Key.Compare(b.Key) })
	return changes
}

// dated gives an object that states no date the time at which it appeared. Those
// that were there at first have none, and so are older: who comes later takes
// nothing from who is there.
func (s *Source) dated(o *api.Object) *api.Object {
	since, late := s.since[o.Key]
	if !late || !o.Created.IsZero() {
		return o
	}
	dated := *o
	dated.Created = since
	return &dated
}

// log says each problem that it did not say in the last round, and which files
// have no error any more.
func (s *Source) log(problems []api.Problem) {
	faulty := map[string]bool{}
	count := 0
	for _, p := range problems {
		if p.Severity == api.Error {
			faulty[p.File] = true
			count++
		}
	}
	s.errors.Store(int64(count))
	cured := map[string]bool{}
	for p := range s.reported {
		if p.Severity == api.Error && !faulty[p.File] {
			cured[p.File] = true
		}
	}
	for _, f := range s.ordered() {
		if cured[f.path] { // one that is gone is not good
			s.options.Log.Info("the file is good again", "file", f.path)
		}
	}
	for _, p := range problems {
		if _, ok := s.reported[p]; ok {
			continue
		}
		Report(s.options.Log, p)
	}
	s.remember(problems)
}

// Report logs one problem as one event: its sentence with the place in attributes.
func Report(log *slog.Logger, p api.Problem) {
	say := log.Warn
	if p.Severity == api.Error {
		say = log.Error
	}
	var place []any // what is known of it
	if p.File != "" {
		place = append(place, "file", p.File)
	}
	if p.Line > 0 {
		place = append(place, "line", p.Line)
	}
	if object := p.Object.String(); object != "" {
		place = append(place, "object", object)
	}
	if p.Field != "" {
		place = append(place, "field", p.Field)
	}
	say(p.Message, place...)
}

func (s *Source) remember(problems []api.Problem) {
	s.reported = make(map[api.Problem]struct{}, len(problems))
	for _, p := range problems {
		s.reported[p] = struct{}{}
	}
	s.current.Store(&problems)
}

// absolute is the identity of a path: one file named twice is one file.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return filepath.Clean(path)
}
