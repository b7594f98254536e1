package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

func (s Standing) brief() string {
	text := fmt.Sprintf("%s %s: %s", s.Service.Host, s.Service.Source, s.Reason)
	for _, m := range s.Merged {
		text += " +" + m.Name
	}
	return text + "\n"
}

func brief(e Explanation) string {
	var b strings.Builder
	if e.Owner != nil {
		b.WriteString("owner " + e.Owner.brief())
	}
	for _, s := range e.Others {
		b.WriteString("other " + s.brief())
	}
	for _, s := range e.Wildcards {
		b.WriteString("wildcard " + s.brief())
	}
	return b.String()
}

// TestTheDecisionIsExplained has what `fairlead who-owns` says, from the view
// of namespace a.
func TestTheDecisionIsExplained(t *testing.T) {
	const x = "hosts: [x.example], resolution: DNS, " + http80
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"nobody": {[]string{"a/e: hosts: [y.example], resolution: DNS, " + http80}, ""},
		"public": {[]string{"b/e: " + x}, "owner x.example ServiceEntry b/e: it is exported to every namespace\n"},
		"own namespace": {
			[]string{"a/e: " + x, "b/e: " + x},
			"owner x.example ServiceEntry a/e: it lies in namespace a\n" +
				"other x.example ServiceEntry b/e: ServiceEntry a/e lies in that namespace\n",
		},
		"by name": {
			[]string{"b/e: " + x, "c/e: " + x + ", exportTo: [a]"},
			"owner x.example ServiceEntry c/e: it is exported to namespace a by name\n" +
				"other x.example ServiceEntry b/e: ServiceEntry c/e is exported to that namespace by name\n",
		},
		"age": {
			[]string{"b/e@2025: " + x, "c/e@2020: " + x},
			"owner x.example ServiceEntry c/e: it is exported to every namespace\n" +
				"other x.example ServiceEntry b/e: ServiceEntry c/e is older\n",
		},
		"merged": {
			[]string{"a/e1: " + x, "a/e2: hosts: [x.example], resolution: DNS, " + https443},
			"owner x.example ServiceEntry a/e1: it lies in namespace a +e1 +e2\n",
		},
		"not merged": {
			[]string{"a/e1: " + x, "a/e2: hosts: [x.example], resolution: NONE, " + https443},
			"owner x.example ServiceEntry a/e1: it lies in namespace a\n" +
				"other x.example ServiceEntry a/e2: ServiceEntry a/e1 comes first by name and is not merged with this one because its resolution is another\n",
		},
		"hidden": {
			[]string{"b/e: " + x + ", exportTo: [\".\"]", "c/e: " + x + ", exportTo: [\"~\"]"},
			"other x.example ServiceEntry b/e: its exportTo does not show it to namespace a: only b can see it\n" +
				"other x.example ServiceEntry c/e: its exportTo does not show it to namespace a: nobody sees it\n",
		},
		"wildcards": {
			[]string{
				"b/all: hosts: [\"*e\"], resolution: NONE, " + http80, "b/one: hosts: [\"*.example\"], resolution: NONE, " + http80,
				"b/not: hosts: [\"*.w.example\"], resolution: NONE, " + http80, "c/one: hosts: [\"*.example\"], resolution: NONE, exportTo: [a], " + http80, "b/e: " + x,
			},
			"owner x.example ServiceEntry b/e: it is exported to every namespace\n" +
				"other *.example ServiceEntry b/one: ServiceEntry c/one is exported to that namespace by name\n" +
				"wildcard *.example ServiceEntry c/one: it is exported to namespace a by name\n" +
				"wildcard *e ServiceEntry b/all: it is exported to every namespace\n",
		},
		"a hidden wildcard": {
			[]string{"b/one: hosts: [\"*.example\"], resolution: NONE, exportTo: [\".\"], " + http80},
			"other *.example ServiceEntry b/one: its exportTo does not show it to namespace a: only b can see it\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(config.Default())
			r.Apply(epoch, entries(t, c.entries...))
			if diff := cmp.Diff(c.want, brief(r.Explain("a", nil, "x.example"))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestTheExplanationKnowsTheSidecar(t *testing.T) {
	const x = ": hosts: [x.example], resolution: DNS, " + http80
	for name, c := range map[string]struct {
		egress string
		want   string
	}{
		"nothing narrowed": {
			`outboundTrafficPolicy: {mode: REGISTRY_ONLY}`,
			"owner x.example ServiceEntry a/e: it lies in namespace a\n" +
				"other x.example ServiceEntry b/e: ServiceEntry a/e lies in that namespace\n",
		},
		"only another's": {
			`egress: [{hosts: ["b/*"]}]`,
			"owner x.example ServiceEntry b/e: it is exported to every namespace\n" +
				"other x.example ServiceEntry a/e: Sidecar a/s (stdin:1) does not import the host from namespace a\n",
		},
		"another's first": {
			`egress: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["b/*"]}, {hosts: ["./*"]}]`,
			"owner x.example ServiceEntry b/e: it is exported to every namespace\n" +
				"other x.example ServiceEntry a/e: Sidecar a/s (stdin:1) imports the host from ServiceEntry b/e first\n",
		},
		"a port that it has not": {
			`egress: [{port: {number: 81, name: http, protocol: HTTP}, hosts: ["./*"]}, {hosts: ["b/*"]}]`,
			"owner x.example ServiceEntry b/e: it is exported to every namespace\n" +
				"other x.example ServiceEntry a/e: Sidecar a/s (stdin:1) imports the host from namespace a on port 81 alone, which the entry does not declare\n",
		},
		"a port of its that others have": {
			`egress: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ["c/*"]}, {hosts: ["./*"]}]`,
			"other x.example ServiceEntry a/e: Sidecar a/s (stdin:1) has listeners of their own for the ports that the entry declares, and those do not import the host\n" +
				"other x.example ServiceEntry b/e: Sidecar a/s (stdin:1) does not import the host from namespace b\n",
		},
		"past the proxy": {
			`egress: [{captureMode: NONE, hosts: ["b/*"]}]`,
			"owner x.example ServiceEntry b/e: it is exported to every namespace; Sidecar a/s (stdin:1) has captureMode NONE for port 80 of it, which the proxy does not take\n" +
				"other x.example ServiceEntry a/e: Sidecar a/s (stdin:1) does not import the host from namespace a\n",
		},
		"nobody's": {
			`egress: [{hosts: ["c/*"]}]`,
			"other x.example ServiceEntry a/e: Sidecar a/s (stdin:1) does not import the host from namespace a\n" +
				"other x.example ServiceEntry b/e: Sidecar a/s (stdin:1) does not import the host from namespace b\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			objects, found := api.Read("stdin", []byte("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s, namespace: a}\nspec: {"+c.egress+"}\n"), "a")
			if api.HasError(found) {
				t.Fatal(found)
			}
			r := New(config.Default())
			s, _ := r.Apply(epoch, append(entries(t, "a/e"+x, "b/e"+x), Change{Key: objects[0].Key, Object: objects[0]}))
			sidecar := s.Sidecar("a", nil)
			e := r.Explain("a", sidecar, "x.example")
			if diff := cmp.Diff(c.want, brief(e)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
			if service := s.Through(sidecar, mesh.Capture{}).Service("a", "x.example"); (service != nil) != (e.Owner != nil) || service != nil && !cmp.Equal(service, e.Owner.Service, addresses) {
				t.Errorf("explained %v, decided %v", e.Owner, service)
			}
		})
	}
}

// TestTheExplanationIsTheDecision holds Explain against what proxies are given.
func TestTheExplanationIsTheDecision(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := New(config.Default())
		s, _ := r.Apply(epoch, nil)
		for range rapid.IntRange(0, 8).Draw(t, "objects") {
			o := drawEntry(t)
			s, _ = r.Apply(epoch, []Change{{Key: o.Key, Object: o}})
		}
		for _, host := range []hostname.Name{"x.example", "y.example", "z.example", "*.w.example", "v.w.example"} {
			for _, namespace := range []string{"a", "b", "c", "elsewhere"} {
				e, want := r.Explain(namespace, nil, host), s.Service(namespace, host)
				if (e.Owner != nil) != (want != nil) || want != nil && e.Owner.Service != want {
					t.Fatalf("%s in %s: %+v, want %+v", host, namespace, e.Owner, want)
				}
				if got := len(e.Wildcards); host == "v.w.example" && (got > 0) != (s.Service(namespace, "*.w.example") != nil) {
					t.Fatalf("%s in %s falls under %d wildcards", host, namespace, got)
				}
			}
		}
	})
}

func TestNotesNameWhatIsNobodysFault(t *testing.T) {
	const (
		x = "hosts: [x.example], resolution: DNS, " + http80
		w = "hosts: [\"*.example\"], resolution: NONE, "
	)
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"nothing":      {[]string{"a/e: " + x, "b/f: " + x + ", exportTo: [a]"}, ""},
		"for nobody":   {[]string{"a/e: " + x + ", exportTo: [\"~\"]"}, "0.yaml:1: ServiceEntry a/e: spec.exportTo: exportTo names nobody, so no namespace sees this entry\n"},
		"for no one":   {[]string{"a/e: " + x + ", exportTo: [prd]"}, "0.yaml:1: ServiceEntry a/e: spec.exportTo: only namespace prd sees this entry, and no object lies there; is the name right?\n"},
		"for some one": {[]string{"a/e: " + x + ", exportTo: [prd, b]", "b/e: " + x}, ""},
		"one of ours":  {[]string{"a/e: " + w + http80, "a/f: " + x}, ""},
		"of another": {
			[]string{"a/e: " + w + http80, "b/f: " + x},
			"0.yaml:1: ServiceEntry a/e: spec.hosts: host x.example of ServiceEntry b/f (1.yaml:1), which namespace a sees as well, takes what goes to it on port 80 from *.example: the longer name wins\n",
		},
		"ours before another's": {[]string{"a/e: " + w + http80, "a/f: " + x, "b/f: " + x}, ""},
		"other ports":           {[]string{"a/e: " + w + https443, "b/f: " + x}, ""},
		"unseen":                {[]string{"a/e: " + w + http80, "b/f: " + x + ", exportTo: [\".\"]"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(config.Default())
			r.Apply(epoch, entries(t, c.entries...))
			var b strings.Builder
			for _, n := range r.Notes() {
				if n.Severity != api.Warning {
					t.Errorf("%s has severity %s", n, n.Severity)
				}
				b.WriteString(n.String() + "\n")
			}
			if diff := cmp.Diff(c.want, b.String()); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}
