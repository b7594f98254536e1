package file

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/api"
)

const (
	// settle is how long a file must look half-written before it is believed.
	settle = 150 * time.Millisecond
	// young is how old a write must be before the time of the file tells it
	// from the next: file systems count in ticks.
	young = 50 * time.Millisecond
)

// A stamp tells whether a file is still the one that was read.
type stamp struct {
	modified time.Time
	size     int64
	inode    uint64
}

// A tracked is one file and what is known of it.
type tracked struct {
	path     string // as the operator wrote it
	order    int    // place among the paths given
	once     bool   // standard input or a pipe: read and never again
	stamp    stamp
	fresh    bool // written so shortly before it was read that its stamp proves nothing
	sum      [sha256.Size]byte
	objects  []*api.Object // of the last good state
	problems []api.Problem // of the present state
	unread   bool          // the last attempt to open it failed
	doubt    doubt
}

// A doubt is a state that may be one of the moments of a write.
type doubt struct {
	since time.Time // zero: none
	of    state
}

// A state is what one look at a file found.
type state struct {
	gone  bool
	stamp stamp
	sum   [sha256.Size]byte
}

// A reading is a state with its content taken apart.
type reading struct {
	state
	objects  []*api.Object
	problems []api.Problem
	unread   bool
	fresh    bool
}

func (r *reading) broken() bool { return api.HasError(r.problems) }

// scan looks at every path and takes over what changed. It returns the problems
// of all files, old and new, and how long to wait for a file in doubt. With
// first it believes everything, and a path that is not there is a problem.
func (s *Source) scan(now time.Time, first bool) (problems []api.Problem, again time.Duration) {
	seen := map[string]bool{}
	for order, path := range s.options.Paths {
		names, fault := s.list(path, first)
		if fault != "" {
			problems = append(problems, api.Problem{Severity: api.Error, File: path, Message: fault})
		} else if first {
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
			f := s.files[key]
			if f == nil {
				f = &tracked{path: name, order: order}
				s.files[key] = f
			}
			again = sooner(again, s.look(f, now, first))
		}
	}
	for key, f := range s.files {
		if seen[key] || f.once {
			continue
		}
		wait, gone := f.judge(&reading{state: state{gone: true}}, now, s.settle)
		if gone {
			delete(s.files, key)
		}
		again = sooner(again, wait)
	}
	for _, f := range s.files {
		problems = append(problems, f.problems...)
	}
	return problems, again
}

// idle says of a path that it adds nothing.
func (s *Source) idle(order int, path string, names []string) []api.Problem {
	var message string
	switch {
	case len(names) == 0:
		message = "the folder holds no *.yaml, *.yml or *.json (those below it and dotfiles do not count), so it declares nothing; a file that is added to it will be read"
	case path == Stdin && slices.Contains(s.options.Paths[:order], Stdin):
		message = "standard input is given twice; it is read once"
	default:
		return nil
	}
	return []api.Problem{{Severity: api.Warning, File: path, Message: message}}
}

func sooner(a, b time.Duration) time.Duration {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// list returns the files of a path: itself, or those of a folder. A fault is a
// sentence; what the path held before then stays.
func (s *Source) list(path string, first bool) (names []string, fault string) {
	if path == Stdin {
		return []string{Stdin}, ""
	}
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if first {
			return nil, "there is no such file or folder"
		}
		return nil, "" // its files are gone
	case err != nil:
		return s.known(path), "cannot be read: " + cause(err)
	case info.IsDir():
	case info.Mode().IsRegular(), info.Mode()&fs.ModeNamedPipe != 0:
		return []string{path}, ""
	case first:
		return nil, "is " + special(info.Mode()) + "; objects are read from files, folders, pipes and - (standard input)"
	default:
		return s.known(path), "is " + special(info.Mode()) + " now; what it held stays in force"
	}
	entries, err := os.ReadDir(path)
	if err != nil {
		return s.known(path), "the folder cannot be read: " + cause(err)
	}
	for _, e := range entries { // sorted by name
		if e.IsDir() || !isObjectFile(e.Name()) {
			continue
		}
		name := filepath.Join(path, e.Name())
		if e.Type().IsRegular() || e.Type() == fs.ModeSymlink && leadsToFile(name) {
			names = append(names, name)
		}
	}
	return names, ""
}

// special names what is no file to read objects from.
func special(mode fs.FileMode) string {
	switch {
	case mode&fs.ModeNamedPipe != 0:
		return "a pipe"
	case mode&fs.ModeSocket != 0:
		return "a socket"
	case mode&fs.ModeDevice != 0:
		return "a device"
	}
	return "no file"
}

// leadsToFile reports whether a link names a file, or one that cannot be looked
// at, which is for the reader to say.
func leadsToFile(name string) bool {
	info, err := os.Stat(name)
	if err != nil {
		return !errors.Is(err, fs.ErrNotExist)
	}
	return info.Mode().IsRegular()
}

// known returns the files tracked under a path that cannot be listed just now.
func (s *Source) known(path string) []string {
	var names []string
	for _, f := range s.files {
		if f.path == path || filepath.Dir(f.path) == filepath.Clean(path) {
			names = append(names, f.path)
		}
	}
	slices.Sort(names)
	return names
}

func isObjectFile(name string) bool {
	if strings.HasPrefix(name, ".") {
		return false
	}
	switch filepath.Ext(name) {
	case ".yaml", ".yml", ".json":
		return true
	}
	return false
}

// look reads a file if it may have changed, and returns how long to wait
// before another look is due.
func (s *Source) look(f *tracked, now time.Time, first bool) time.Duration {
	settle := s.settle
	if first {
		settle = 0
	}
	if f.once {
		return 0
	}
	if f.path == Stdin {
		f.once = true
		f.judge(s.read(Stdin, s.options.Stdin), now, 0)
		return 0
	}
	info, err := os.Stat(f.path)
	if err != nil {
		wait, _ := f.judge(unreadable(f.path, err), now, settle)
		return wait
	}
	if !first && !info.Mode().IsRegular() { // to read it could take for ever
		wait, _ := f.judge(&reading{unread: true, problems: []api.Problem{{
			Severity: api.Error, File: f.path,
			Message: "is " + special(info.Mode()) + " now, and such are read when a run starts only; what it held stays in force",
		}}}, now, settle)
		return wait
	}
	p := stampOf(info)
	if !first && !f.unread && !f.fresh && f.doubt.since.IsZero() && p == f.stamp {
		return 0
	}
	r := s.open(f, info)
	r.stamp = p
	r.fresh = time.Since(p.modified) < young
	wait, _ := f.judge(r, now, settle)
	return wait
}

func (s *Source) open(f *tracked, info fs.FileInfo) *reading {
	flags := os.O_RDONLY
	if !info.Mode().IsRegular() {
		f.once = true
		flags |= syscall.O_NONBLOCK // opening a pipe waits for a writer, who may never come
	}
	file, err := os.OpenFile(f.path, flags, 0)
	if err != nil {
		return unreadable(f.path, err)
	}
	defer file.Close()
	r := s.read(f.path, file)
	if f.once && r.sum == sha256.Sum256(nil) && !r.unread {
		r.problems = []api.Problem{{Severity: api.Error, File: f.path, Message: "is a pipe out of which nothing came; whoever writes into it must have opened it before it is read"}}
	}
	return r
}

func unreadable(path string, err error) *reading {
	if errors.Is(err, fs.ErrNotExist) {
		return &reading{state: state{gone: true}}
	}
	return &reading{unread: true, problems: []api.Problem{{Severity: api.Error, File: path, Message: "cannot be read: " + cause(err)}}}
}

// read takes in at most one byte more than an object file may have.
func (s *Source) read(path string, r io.Reader) *reading {
	name := path
	if path == Stdin {
		name = "stdin"
	}
	if r == nil {
		r = strings.NewReader("")
	}
	data, err := io.ReadAll(io.LimitReader(r, api.MaxFileSize+1))
	if err != nil {
		return unreadable(name, err)
	}
	out := &reading{state: state{sum: sha256.Sum256(data)}}
	out.objects, out.problems = api.Read(name, data, s.options.Namespace)
	if len(out.objects) == 0 && len(out.problems) == 0 {
		out.problems = []api.Problem{{Severity: api.Warning, File: name, Message: "holds no object, so it declares nothing"}}
	}
	return out
}

func cause(err error) string {
	if path := (*fs.PathError)(nil); errors.As(err, &path) {
		return path.Err.Error()
	}
	return err.Error()
}

func stampOf(info fs.FileInfo) stamp {
	p := stamp{modified: info.ModTime(), size: info.Size()}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok {
		p.inode = stat.Ino
	}
	return p
}

// judge takes a reading over, or doubts it until it has been the same for the
// time given, 0 for not at all. It returns how long the doubt lasts, and whether
// the file is to be forgotten.
func (f *tracked) judge(r *reading, now time.Time, settle time.Duration) (wait time.Duration, gone bool) {
	same := !r.gone && !r.unread && !f.unread && r.sum == f.sum && f.stamp != stamp{}
	shrunk := r.stamp.inode == f.stamp.inode && r.stamp.size < f.stamp.size
	if settle > 0 && !same && (r.gone || r.broken() || shrunk) {
		if f.doubt.since.IsZero() || f.doubt.of != r.state {
			f.doubt = doubt{now, r.state}
		}
		if left := settle - now.Sub(f.doubt.since); left > 0 {
			return left, false
		}
	}
	f.doubt = doubt{}
	f.unread = r.unread
	if r.gone {
		f.objects, f.problems = nil, nil
		return 0, true
	}
	if r.unread {
		f.problems = r.problems
		return 0, false
	}
	f.stamp, f.sum, f.fresh = r.stamp, r.sum, r.fresh
	f.problems = r.problems
	if !r.broken() {
		f.objects = r.objects
	} else if len(f.objects) > 0 {
		f.problems = append(f.problems, kept(f, r))
	}
	return 0, false
}

// kept says that a broken file does not take effect.
func kept(f *tracked, r *reading) api.Problem {
	objects := "its last good object stays"
	if n := len(f.objects); n > 1 {
		objects = fmt.Sprintf("its last %d good objects stay", n)
	}
	return api.Problem{
		Severity: api.Warning,
		File:     r.problems[0].File,
		Message:  "the file has errors, so " + objects + " in force",
	}
}
