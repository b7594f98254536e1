package file

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/registry"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// entry is a ServiceEntry with one host.
func entry(name, host string) string {
	return "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: " + name + "}\n" +
		"spec: {hosts: [" + host + "], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n"
}

// A folder is a place for files that go away with the test.
type folder struct {
	t    *testing.T
	path string
}

func newFolder(t *testing.T, files ...string) folder {
	t.Helper()
	d := folder{t, t.TempDir()}
	for i := 0; i < len(files); i += 2 {
		d.write(files[i], files[i+1])
	}
	return d
}

func (d folder) at(name string) string { return filepath.Join(d.path, name) }

func (d folder) write(name, text string) {
	d.t.Helper()
	d.must(os.MkdirAll(filepath.Dir(d.at(name)), 0o700))
	d.must(os.WriteFile(d.at(name), []byte(text), 0o600))
}

// replace does what careful editors do.
func (d folder) replace(name, text string) {
	d.t.Helper()
	d.write(name+".tmp~", text)
	d.must(os.Rename(d.at(name+".tmp~"), d.at(name)))
}

func (d folder) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// A follower keeps what a running Source has told it.
type follower struct {
	t       *testing.T
	mu      sync.Mutex
	objects map[api.Key]*api.Object // guarded by mu
	rounds  [][]registry.Change     // guarded by mu
	output  bytes.Buffer            // guarded by mu
}

func (f *follower) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.output.Write(p)
}

func (f *follower) apply(changes []registry.Change) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rounds = append(f.rounds, changes)
	for _, c := range changes {
		if c.Object == nil {
			delete(f.objects, c.Key)
		} else {
			f.objects[c.Key] = c.Object
		}
	}
}

// follow loads the paths and follows them until the test ends.
func follow(t *testing.T, paths ...string) *follower {
	t.Helper()
	return followFor(t, settle, paths...)
}

// followFor is follow with another time of doubt.
func followFor(t *testing.T, settle time.Duration, paths ...string) *follower {
	t.Helper()
	f := &follower{t: t, objects: map[api.Key]*api.Object{}}
	source, changes, problems, err := Load(Options{Paths: paths, Namespace: "default", Log: slog.New(slog.NewTextHandler(f, nil))})
	if err != nil {
		t.Fatalf("%v %v", err, problems)
	}
	f.apply(changes)
	source.settle = settle
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- source.Run(ctx, f.apply) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return f
}

// state is "name=host name=host".
func (f *follower) state() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return render(f.objects)
}

func render(objects map[api.Key]*api.Object) string {
	var list []string
	for _, key := range slices.SortedFunc(maps.Keys(objects), api.Key.Compare) {
		if se, ok := objects[key].Spec.(*networking.ServiceEntry); ok {
			list = append(list, key.Name+"="+strings.Join(se.Hosts, ","))
		}
	}
	return strings.Join(list, " ")
}

func (f *follower) said() string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.output.String()
}

func (f *follower) roundCount() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.rounds)
}

func (f *follower) await(want string) {
	f.t.Helper()
	eventually(f.t, func() bool { return f.state() == want }, func() string {
		return fmt.Sprintf("state %q, want %q; log:\n%s", f.state(), want, f.said())
	})
}

func (f *follower) awaitLog(want string) {
	f.t.Helper()
	eventually(f.t, func() bool { return strings.Contains(f.said(), want) }, func() string {
		return fmt.Sprintf("no %q in the log:\n%s", want, f.said())
	})
}

func eventually(t *testing.T, ok func() bool, failure func() string) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(failure())
		}
	}
}

func TestLoadReadsFilesFoldersAndStdin(t *testing.T) {
	d := newFolder(t,
		"folder/b.yaml", entry("b", "b.example"), "folder/a.yml", entry("a", "a.example"), "folder/c.json", strings.TrimSuffix(entry("c", "c.example"), "---\n"),
		"folder/.hidden.yaml", "broken", "folder/notes.txt", "broken", "folder/sub/x.yaml", "broken", "folder/x.yaml.bak", "broken",
		"single", entry("single", "s.example")+entry("other", "o.example"),
	)
	source, changes, problems, err := Load(Options{
		Paths: []string{d.at("folder"), d.at("single"), "-", d.at("folder/b.yaml")}, Stdin: strings.NewReader(entry("in", "in.example")), Namespace: "shop",
	})
	if err != nil || len(problems) > 0 {
		t.Fatal(err, problems)
	}
	if got, want := render(source.objects), "a=a.example b=b.example c=c.example in=in.example other=o.example single=s.example"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if len(changes) != 6 || changes[0].Key != (api.Key{Kind: "ServiceEntry", Namespace: "shop", Name: "a"}) {
		t.Errorf("changes %v", changes)
	}
}

func TestLoadRefusesWhatHasErrors(t *testing.T) {
	d := newFolder(t,
		"good.yaml", entry("a", "a.example"), "again.yaml", "# one line\n"+entry("a", "b.example"),
		"typo.yaml", strings.Replace(entry("b", "b.example"), "protocol", "protocoll", 1), "cut.yaml", "apiVersion: [",
		"twice.yaml", entry("c", "c.example")+entry("c", "c.example"), "warning.yaml", strings.Replace(entry("w", "w.example"), "resolution: DNS", "resolution: STATIC", 1),
	)
	for name, c := range map[string]struct {
		paths []string
		want  string
	}{
		"missing":       {[]string{"nothing.yaml"}, "error: nothing.yaml: there is no such file or folder\n"},
		"unknown field": {[]string{"typo.yaml"}, "error: typo.yaml:4: ServiceEntry default/b: spec.ports[0].protocoll: unknown field; did you mean protocol?\n"},
		"syntax":        {[]string{"cut.yaml"}, "error: cut.yaml:1: not YAML or JSON: did not find expected node content; the rest of the file was not read\n"},
		"two files":     {[]string{"good.yaml", "again.yaml"}, "error: again.yaml:2: ServiceEntry default/a: metadata.name: defined in good.yaml:1 already, which holds; rename or remove one of them\n"},
		"one file":      {[]string{"twice.yaml"}, "error: twice.yaml:6: ServiceEntry default/c: metadata.name: defined in twice.yaml:1 already, which holds; rename or remove one of them\n"},
		"with warnings": {[]string{"warning.yaml", "nothing.yaml"}, "error: nothing.yaml: there is no such file or folder\nwarning: warning.yaml:4: ServiceEntry default/w: spec.resolution: STATIC without endpoints: every request is answered 503; add spec.endpoints\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Chdir(d.path)
			_, changes, problems, err := Load(Options{Paths: c.paths, Namespace: "default"})
			var b strings.Builder
			for _, p := range problems {
				b.WriteString(p.Severity.String() + ": " + p.String() + "\n")
			}
			if diff := cmp.Diff(c.want, b.String()); diff != "" || err == nil || changes != nil {
				t.Errorf("error %v, changes %v, problems (-want +got)\n%s", err, changes, diff)
			}
		})
	}
}

func TestWarningsDoNotKeepALoadBack(t *testing.T) {
	d := newFolder(t, "w.yaml", strings.Replace(entry("w", "w.example"), "resolution: DNS", "resolution: STATIC", 1))
	_, changes, problems, err := Load(Options{Paths: []string{d.path}, Namespace: "default"})
	if err != nil || len(changes) != 1 || len(problems) != 1 {
		t.Errorf("%v %v %v", changes, problems, err)
	}
}

// TestFollow makes one kind of change each, and waits for what must come of it.
func TestFollow(t *testing.T) {
	a, b := entry("a", "a.example"), entry("b", "b.example")
	for name, c := range map[string]struct {
		file bool // follow entries/a.yaml, not entries
		edit func(d folder)
		want string
	}{
		"a write":            {edit: func(d folder) { d.write("entries/a.yaml", entry("a", "new.example")) }, want: "a=new.example"},
		"a shorter write":    {edit: func(d folder) { d.write("entries/a.yaml", entry("a", "x")) }, want: "a=x"},
		"of the same length": {edit: func(d folder) { d.write("entries/a.yaml", entry("a", "z.example")) }, want: "a=z.example"},
		"a replacement":      {edit: func(d folder) { d.replace("entries/a.yaml", entry("a", "new.example")) }, want: "a=new.example"},
		"a new file":         {edit: func(d folder) { d.write("entries/b.yaml", b) }, want: "a=a.example b=b.example"},
		"a file removed":     {edit: func(d folder) { d.must(os.Remove(d.at("entries/a.yaml"))) }, want: ""},
		"a file emptied":     {edit: func(d folder) { d.write("entries/a.yaml", "") }, want: ""},
		"a file renamed":     {edit: func(d folder) { d.must(os.Rename(d.at("entries/a.yaml"), d.at("entries/b.json"))) }, want: "a=a.example"},
		"out of sight":       {edit: func(d folder) { d.must(os.Rename(d.at("entries/a.yaml"), d.at("entries/.a.yaml"))) }, want: ""},
		"one of two objects": {edit: func(d folder) { d.write("entries/a.yaml", a+b); d.replace("entries/a.yaml", b) }, want: "b=b.example"},
		"a single file":      {file: true, edit: func(d folder) { d.replace("entries/a.yaml", a+b) }, want: "a=a.example b=b.example"},
		"its neighbour":      {file: true, edit: func(d folder) { d.write("entries/b.yaml", b); d.write("entries/a.yaml", a+entry("c", "c.example")) }, want: "a=a.example c=c.example"},
		"a single file gone": {file: true, edit: func(d folder) { d.must(os.Remove(d.at("entries/a.yaml"))) }, want: ""},
		"the folder gone":    {edit: func(d folder) { d.must(os.RemoveAll(d.at("entries"))) }, want: ""},
		"the folder swapped": {edit: func(d folder) {
			d.write("other/b.yaml", b)
			d.must(os.Rename(d.at("entries"), d.at("old")))
			d.must(os.Rename(d.at("other"), d.at("entries")))
		}, want: "b=b.example"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newFolder(t, "entries/a.yaml", a)
			path := "entries"
			if c.file {
				path = "entries/a.yaml"
			}
			f := follow(t, d.at(path))
			f.await("a=a.example")
			c.edit(d)
			f.await(c.want)
		})
	}
}

func TestWhatVanishedMayComeBack(t *testing.T) {
	for _, path := range []string{"entries", "entries/a.yaml"} {
		t.Run(path, func(t *testing.T) {
			d := newFolder(t, "entries/a.yaml", entry("a", "a.example"))
			f := follow(t, d.at(path))
			for i := range 3 {
				d.must(os.RemoveAll(d.at("entries")))
				f.await("")
				host := fmt.Sprintf("a%d.example", i)
				d.write("entries/a.yaml", entry("a", host))
				f.await("a=" + host)
				d.write("entries/a.yaml", entry("a", "again."+host))
				f.await("a=again." + host)
			}
		})
	}
}

// TestAMountedConfigMapIsSwapped does what the kubelet does: the files are
// links through a link that is replaced.
func TestAMountedConfigMapIsSwapped(t *testing.T) {
	for _, path := range []string{"mount", "mount/a.yaml"} {
		t.Run(path, func(t *testing.T) {
			d := newFolder(t, "mount/..1/a.yaml", entry("a", "one.example"))
			d.must(os.Symlink("..1", d.at("mount/..data")))
			d.must(os.Symlink("..data/a.yaml", d.at("mount/a.yaml")))
			f := follow(t, d.at(path))
			f.await("a=one.example")
			for i, host := range []string{"two.example", "three.example"} {
				version := fmt.Sprintf("..%d", i+2)
				d.write("mount/"+version+"/a.yaml", entry("a", host))
				d.must(os.Symlink(version, d.at("mount/..tmp")))
				d.must(os.Rename(d.at("mount/..tmp"), d.at("mount/..data")))
				f.await("a=" + host)
			}
		})
	}
}

func TestALinkIsFollowedToItsTarget(t *testing.T) {
	d := newFolder(t, "real/a.yaml", entry("a", "one.example"))
	d.must(os.MkdirAll(d.at("links"), 0o700))
	d.must(os.Symlink(d.at("real/a.yaml"), d.at("links/a.yaml")))
	f := follow(t, d.at("links/a.yaml"))
	d.write("real/a.yaml", entry("a", "two.example"))
	f.await("a=two.example")
}

func TestABrokenFileKeepsItsLastGoodState(t *testing.T) {
	d := newFolder(t, "a.yaml", entry("a", "a.example"), "b.yaml", entry("b", "b.example"))
	f := follow(t, d.path)
	d.write("a.yaml", strings.Replace(entry("a", "new.example"), "protocol", "protocoll", 1))
	f.awaitLog("did you mean protocol?")
	d.write("b.yaml", entry("b", "other.example"))
	f.await("a=a.example b=other.example")
	if got := strings.Count(f.said(), "did you mean protocol?"); got != 1 {
		t.Errorf("said %d times:\n%s", got, f.said())
	}
	for _, attr := range []string{"level=ERROR", `file=` + d.at("a.yaml"), "line=4", "field=spec.ports[0].protocoll", `object="ServiceEntry default/a"`, "the file has errors, so its last good object stays in force"} {
		if !strings.Contains(f.said(), attr) {
			t.Errorf("no %s in the log:\n%s", attr, f.said())
		}
	}
	d.write("a.yaml", entry("a", "new.example"))
	f.await("a=new.example b=other.example")
	d.write("a.yaml", strings.Replace(entry("a", "new.example"), "protocol", "protocoll", 1))
	eventually(t, func() bool { return strings.Count(f.said(), "did you mean protocol?") == 2 }, f.said)
}

func TestANewFileThatIsBrokenIsReported(t *testing.T) {
	d := newFolder(t, "a.yaml", entry("a", "a.example"))
	f := follow(t, d.path)
	d.write("b.yaml", "kind: [")
	f.awaitLog("not YAML or JSON")
	f.await("a=a.example")
	d.write("b.yaml", entry("b", "b.example"))
	f.await("a=a.example b=b.example")
}

func TestASlowWriterNeverTakesObjectsAway(t *testing.T) {
	text := entry("a", "a.example") + entry("b", "b.example") + entry("c", "c.example")
	const all = "a=a.example b=b.example c=c.example"
	d := newFolder(t, "a.yaml", text)
	f := followFor(t, time.Hour, d.path) // however slow this machine is
	for range 3 {
		text += "# longer\n"
		file, err := os.Create(d.at("a.yaml"))
		d.must(err)
		for part := range slices.Chunk([]byte(text), len(text)/6) {
			time.Sleep(2 * quiet) // long enough for each part to be read by itself
			_, err := file.Write(part)
			d.must(err)
		}
		d.must(file.Close())
	}
	d.write("z.yaml", entry("z", "z.example"))
	f.await(all + " z=z.example")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, round := range f.rounds {
		for _, c := range round {
			if c.Object == nil {
				t.Errorf("%s was taken away", c.Key)
			}
		}
	}
	if strings.Contains(f.output.String(), "ERROR") {
		t.Errorf("a half-written file was reported:\n%s", f.output.String())
	}
}

func TestOfTwoDefinitionsTheFirstHolds(t *testing.T) {
	d := newFolder(t, "a.yaml", entry("a", "one.example"), "b.yaml", entry("b", "b.example"))
	f := follow(t, d.path)
	d.write("b.yaml", entry("b", "b.example")+entry("a", "two.example"))
	f.awaitLog("defined in " + d.at("a.yaml") + ":1 already")
	f.await("a=one.example b=b.example")
	d.must(os.Remove(d.at("a.yaml")))
	f.await("a=two.example b=b.example")
}

func TestAnObjectThatMovedIsHandedOverAsThat(t *testing.T) {
	d := newFolder(t, "a.yaml", entry("a", "a.example"))
	f := follow(t, d.path)
	rounds := f.roundCount()
	d.replace("a.yaml", "# a comment\n"+entry("b", "b.example")+entry("a", "a.example"))
	f.await("a=a.example b=b.example")
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, round := range f.rounds[rounds:] {
		for _, c := range round {
			if a := c.Key.Name == "a"; a != c.Moved {
				t.Errorf("%s is handed over as moved: %v, want %v", c.Key, c.Moved, a)
			}
			if c.Key.Name == "a" && c.Object.Source.Line != 7 {
				t.Errorf("%s is in line %d, want 7", c.Key, c.Object.Source.Line)
			}
		}
	}
}

func TestWhereNothingCanBeWatchedTheFilesArePolled(t *testing.T) {
	var looks int
	w := &watch{log: slog.New(slog.DiscardHandler), polling: true}
	ctx, cancel := context.WithCancel(t.Context())
	if err := w.run(ctx, func(time.Time) time.Duration {
		if looks++; looks == 2 {
			cancel()
		}
		return 0
	}); err != nil || looks != 2 {
		t.Errorf("%d looks, %v", looks, err)
	}
}

func TestAReportLeavesOutWhatIsNotKnown(t *testing.T) {
	for _, c := range []struct {
		problem api.Problem
		want    string
	}{
		{api.Problem{Severity: api.Warning, File: "a.yaml", Message: "whole"}, "level=WARN msg=whole file=a.yaml\n"},
		{api.Problem{Severity: api.Error, File: "a.yaml", Line: 3, Field: "spec", Message: "wrong"}, "level=ERROR msg=wrong file=a.yaml line=3 field=spec\n"},
	} {
		var b bytes.Buffer
		Report(slog.New(slog.NewTextHandler(&b, nil)), c.problem)
		if _, got, _ := strings.Cut(b.String(), " "); got != c.want {
			t.Errorf("got %q, want %q", got, c.want)
		}
	}
}

func TestALinkInAFolderIsFollowedToItsTarget(t *testing.T) {
	d := newFolder(t, "real/x.yaml", entry("a", "one.example"), "entries/b.yaml", entry("b", "b.example"))
	d.must(os.Symlink("../real/x.yaml", d.at("entries/a.yaml")))
	f := follow(t, d.at("entries"))
	f.await("a=one.example b=b.example")
	d.write("real/x.yaml", entry("a", "two.example"))
	f.await("a=two.example b=b.example")
	d.replace("real/x.yaml", entry("a", "three.example"))
	f.await("a=three.example b=b.example")
	// A link that comes later is followed too.
	d.write("other/y.yaml", entry("c", "c.example"))
	d.must(os.Symlink("../other/y.yaml", d.at("entries/c.yaml")))
	f.await("a=three.example b=b.example c=c.example")
	d.write("other/y.yaml", entry("c", "new.example"))
	f.await("a=three.example b=b.example c=new.example")
}

func TestRealIsWhereTheObjectsAre(t *testing.T) {
	d := newFolder(t, "real/x.yaml", "", "real/notes.txt", "", "entries/b.yaml", "", "entries/sub/c.yaml", "", "entries-2/x", "", "single", "")
	for link, target := range map[string]string{
		"entries/a.yaml": "../real/x.yaml", "entries/again.yaml": "a.yaml", "entries/notes.txt": "../real/notes.txt",
		"entries/gone.yaml": "../nothing.yaml", "entries/dir.yaml": "sub", "links": "entries", "one": "links/a.yaml", "entries/d.yaml": "sub/c.yaml",
	} {
		d.must(os.Symlink(target, d.at(link)))
	}
	t.Chdir(d.path)
	var got []string
	for _, path := range Real([]string{"links", "entries-2", "-", "single", "one", "entries/b.yaml", "nothing"}) {
		rel, err := filepath.Rel(d.path, path)
		d.must(err)
		got = append(got, rel)
	}
	if diff := cmp.Diff([]string{"entries", "entries-2", "real/x.yaml", "single"}, got); diff != "" {
		t.Error(diff)
	}
}
