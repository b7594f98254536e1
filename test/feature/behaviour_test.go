package feature

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	meshconfig "github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/golden"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestBehaviour shows the exact behaviours of ServiceEntry, by their numbers.
// Each file in testdata/numbered holds objects and, in comments that begin with
// #?, questions about them; the file beside it says what was found wrong with
// the objects, what proxies are configured with and how they decide.
//
// The questions, one a line:
//
//	in NAMESPACE [KEY=VALUE...]  where the workload is that the next ones are about, and its
//	                         labels; "default" without any at first
//	answer NAME ADDRESS...   what the proxy's resolver finds for a name
//	http DEST HOST           a request for HOST on a connection to DEST
//	http10 DEST HOST         the same in HTTP/1.0
//	h2c DEST HOST            the same in HTTP/2, without TLS
//	tls DEST SNI             a ClientHello; "-": without a name
//	tcp DEST                 bytes that are neither
//	silent DEST              a caller that waits for the server to speak
//	xds TYPE NAME            a resource as it is sent
//	dns TYPE NAME            a question to the workload's name server
//	early TYPE NAME          the same before the proxy has a configuration
//
// DEST is an address or a name with a port; a name means the first address
// that the name server declares for it, else that answer gave, and that the
// workload was told that address for this name last.
func TestBehaviour(t *testing.T) {
	files, err := filepath.Glob("testdata/numbered/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects: %v", err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			golden.Check(t, strings.TrimSuffix(file, ".yaml")+".golden", answersTo(t, file))
		})
	}
}

func answersTo(t *testing.T, file string) string {
	t.Helper()
	data, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	sc := newScene(t, filepath.Base(file), data)
	questions := questionsIn(string(data))
	workloads := []workload{"default"}
	for _, q := range questions {
		if w := workload(strings.Join(q[1:], " ")); q[0] == "in" && !slices.Contains(workloads, w) {
			workloads = append(workloads, w)
		}
	}
	var b strings.Builder
	for _, w := range workloads {
		open := tell(sc.config(w, mesh.AllowAny))
		fmt.Fprintf(&b, "== %s, ALLOW_ANY\n%s", w, open)
		if w == workloads[0] { // the difference is no other elsewhere
			fmt.Fprintf(&b, "== %s, REGISTRY_ONLY, where it differs\n%s", w, beyond(open, tell(sc.config(w, mesh.RegistryOnly))))
		}
	}
	decided := decisions(t, sc, questions)
	return problemsAsText(sc.problems) + b.String() + decided
}

// problemsAsText lists what was said of the objects, each once.
func problemsAsText(all []api.Problem) string {
	var b strings.Builder
	api.Sort(all)
	seen := map[string]bool{}
	for _, p := range all {
		line := p.Severity.String() + " " + p.String() + "\n"
		if !seen[line] {
			b.WriteString(line)
		}
		seen[line] = true
	}
	return b.String()
}

// questionsIn returns the words of every question.
func questionsIn(text string) [][]string {
	var all [][]string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, "#?"); ok {
			all = append(all, strings.Fields(rest))
		}
	}
	return all
}

// beyond returns the lines of b that are not in a, each below the last line
// before it that begins a paragraph.
func beyond(a, b string) string {
	var out strings.Builder
	had, paragraph := map[string]bool{}, ""
	note := func(line string) string {
		if !strings.HasPrefix(line, " ") {
			paragraph = line
		}
		return paragraph + line
	}
	for line := range strings.Lines(a) {
		had[note(line)] = true
	}
	last := ""
	for line := range strings.Lines(b) {
		if had[note(line)] {
			continue
		}
		if paragraph != line && paragraph != last {
			out.WriteString(paragraph)
		}
		last = paragraph
		out.WriteString(line)
	}
	return out.String()
}

// A scene is objects and what the control plane makes of them.
type scene struct {
	t        testing.TB
	snapshot *registry.Snapshot
	problems []api.Problem
	configs  map[translate.View]*config.Config
}

// someday is the time at which virtual addresses are given.
var someday = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

func newScene(t testing.TB, file string, data []byte) *scene {
	t.Helper()
	found, problems := api.Read(file, data, "default")
	changes := make([]registry.Change, 0, len(found))
	for _, o := range found {
		changes = append(changes, registry.Change{Key: o.Key, Object: o})
	}
	snapshot, delta := registry.New(meshconfig.Default()).Apply(someday, changes)
	return &scene{t: t, snapshot: snapshot, problems: append(problems, delta.Problems...), configs: map[translate.View]*config.Config{}}
}

// A workload is a namespace and the labels of a workload in it: "default app=a".
type workload string

func (w workload) parts() (namespace string, labels map[string]string) {
	words := strings.Fields(string(w))
	labels = map[string]string{}
	for _, x := range words[1:] {
		key, value, _ := strings.Cut(x, "=")
		labels[key] = value
	}
	return words[0], labels
}

// config returns what the proxy of a workload has where the mesh has that
// policy.
func (sc *scene) config(w workload, policy mesh.OutboundPolicy) *config.Config {
	sc.t.Helper()
	namespace, labels := w.parts()
	view := translate.View{Namespace: namespace, Sidecar: sc.snapshot.Sidecar(namespace, labels), Policy: policy}
	if s := view.Sidecar; s != nil && s.Policy != nil {
		view.Policy = *s.Policy
	}
	if c := sc.configs[view]; c != nil {
		return c
	}
	tr, problems := translate.New(view, sc.snapshot.Through(view.Sidecar, view.Capture))
	sc.problems = append(sc.problems, problems...)
	var none *config.Config
	c := none.Apply(decoded(sc.t, tr.Set()))
	sc.configs[view] = c
	return c
}

// decoded is a whole set of resources as the proxy reads it.
func decoded(t testing.TB, set *translate.Set) config.Delta {
	t.Helper()
	var d config.Delta
	each(t, set, xds.ClusterType, decode.Cluster, &d.Clusters)
	each(t, set, xds.EndpointType, decode.Assignment, &d.Assignments)
	each(t, set, xds.ListenerType, decode.Listener, &d.Listeners)
	each(t, set, xds.RouteType, func(name string, raw []byte) (*config.RouteTable, error) {
		table, err := decode.RouteTable(name, raw)
		return table.RouteTable, err
	}, &d.Tables)
	each(t, set, xds.VirtualHostType, decode.VirtualHost, &d.VirtualHosts)
	each(t, set, xds.NameType, decode.Name, &d.Names)
	each(t, set, xds.ServerNameType, decode.ServerName, &d.ServerNames)
	return d
}

func each[T any](t testing.TB, set *translate.Set, kind string, read func(string, []byte) (T, error), all *[]T) {
	t.Helper()
	for r := range set.WithPrefix(kind, "") {
		x, err := read(r.Name, r.Body.GetValue())
		if err != nil {
			t.Fatalf("the proxy does not take %s %s: %v", xds.ShortType(kind), r.Name, err)
		}
		*all = append(*all, x)
	}
}
