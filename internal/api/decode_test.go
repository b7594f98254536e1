package api

import (
	intcmp "cmp"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
	"google.golang.org/protobuf/proto"
	networking "istio.io/api/networking/v1alpha3"
)

const entry = `# a comment
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: svc-entry
  namespace: shop
  labels: {app: x}
  annotations: {note: "y"}
spec:
  hosts:
  - www.baidu.com
  ports:
  - number: 80
    name: http
    protocol: HTTP
  location: MESH_EXTERNAL
  resolution: DNS
`

// one decodes a text that must hold one sound object.
func one(t *testing.T, text string) *Object {
	t.Helper()
	objects, problems := Read("a.yaml", []byte(text), "default")
	if len(problems) > 0 || len(objects) != 1 {
		t.Fatalf("got %d objects and problems %v", len(objects), problems)
	}
	return objects[0]
}

func TestDecodeCarriesEveryField(t *testing.T) {
	o := one(t, entry)
	want := &networking.ServiceEntry{
		Hosts:      []string{"www.baidu.com"},
		Ports:      []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}},
		Location:   networking.ServiceEntry_MESH_EXTERNAL,
		Resolution: networking.ServiceEntry_DNS,
	}
	if spec, _ := o.Spec.(*networking.ServiceEntry); !proto.Equal(spec, want) {
		t.Errorf("spec %v, want %v", o.Spec, want)
	}
	if o.Key != (Key{"ServiceEntry", "shop", "svc-entry"}) || o.Version != "v1" || o.Labels["app"] != "x" || o.Annotations["note"] != "y" {
		t.Errorf("got %+v", o)
	}
	if got, want := o.Source.Where(), "ServiceEntry shop/svc-entry (a.yaml:2)"; got != want {
		t.Errorf("source %s, want %s", got, want)
	}
}

func TestLineFallsBackToTheClosestParent(t *testing.T) {
	o := one(t, entry)
	for field, want := range map[string]int{
		"spec.ports[0].protocol":   15,
		"spec.ports[0].targetPort": 13,
		"spec.ports[7].name":       12,
		"spec.hosts[0]":            11,
		"spec.exportTo[1]":         10,
		"metadata.name":            5,
		"metadata.labels.app":      7,
		"nowhere":                  2,
		"":                         2,
	} {
		if got := o.Line(field); got != want {
			t.Errorf("Line(%q) = %d, want %d", field, got, want)
		}
	}
}

func TestFormsOfTextThatMeanTheSame(t *testing.T) {
	want := one(t, entry)
	for name, text := range map[string]string{
		"byte order mark": "\ufeff" + entry,
		"CRLF":            strings.ReplaceAll(entry, "\n", "\r\n"),
		"document marks":  "---\n" + entry + "...\n",
		"empty documents": "---\n---\n" + entry + "---\n# end\n---\n",
	} {
		t.Run(name, func(t *testing.T) {
			if got := one(t, text); !got.Equal(want) {
				t.Errorf("got %v, want %v", got.Spec, want.Spec)
			}
		})
	}
}

func TestEqualIgnoresOnlyTheLine(t *testing.T) {
	a := one(t, entry)
	if moved := one(t, "\n\n"+entry); !a.Equal(moved) {
		t.Error("an object that moved in its file has changed")
	}
	for _, edit := range []string{"www.baidu.com|www.example.com", "app: x|app: z", `"y"|"z"`, "number: 80|number: 81"} {
		from, to, _ := strings.Cut(edit, "|")
		if changed := one(t, strings.Replace(entry, from, to, 1)); a.Equal(changed) {
			t.Errorf("%s to %s is no change", from, to)
		}
	}
	if a.Equal(nil) || !(*Object)(nil).Equal(nil) {
		t.Error("nil equals only nil")
	}
}

func TestEveryCutOfAFileIsReportedOrWhole(t *testing.T) {
	for i := len("# a comment\n") + 1; i < len(entry); i++ {
		objects, problems := Read("a.yaml", []byte(entry[:i]), "default")
		if len(objects) == 0 && !HasError(problems) {
			t.Errorf("cut after %q: no object and no error", entry[:i])
		}
	}
}

// TestNoTypoIsSilent misspells each key of an entry that uses every field, in
// three ways, and wants to hear of each.
func TestNoTypoIsSilent(t *testing.T) {
	const full = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: full
  namespace: shop
  labels: {app: x}
  annotations: {note: "y"}
  creationTimestamp: 2026-01-31T12:00:00Z
spec:
  hosts: [a.example]
  addresses: [192.0.2.1]
  ports:
  - number: 80
    name: http
    protocol: HTTP
    targetPort: 8080
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints:
  - address: 192.0.2.2
    ports: {http: 8081}
    labels: {v: one}
    weight: 2
  exportTo: ["."]
`
	one(t, full)
	lines := strings.SplitAfter(full, "\n")
	for i, line := range lines {
		key, rest, _ := strings.Cut(line, ":")
		if strings.TrimSpace(key) == "" {
			continue
		}
		last := len(key) - 1
		for _, wrong := range []string{key[:last], key + key[last:], key[:last-1] + key[last:] + key[last-1:last]} {
			if wrong == key {
				continue
			}
			text := strings.Join(lines[:i], "") + wrong + ":" + rest + strings.Join(lines[i+1:], "")
			if _, problems := Read("a.yaml", []byte(text), "default"); len(problems) == 0 {
				t.Errorf("nothing is said of %q for %q", wrong, key)
			}
		}
	}
}

func TestAnUnknownProtocolIsOneFault(t *testing.T) {
	for _, hosts := range []string{"  - www.baidu.com\n", "  - www.baidu.com\n  - other.example\n"} {
		text := strings.Replace(entry, "protocol: HTTP", "protocol: HTP", 1)
		text = strings.Replace(text, "  - www.baidu.com\n", hosts, 1)
		_, problems := Read("a.yaml", []byte(text), "default")
		if len(problems) != 1 || problems[0].Field != "spec.ports[0].protocol" || problems[0].Severity != Error {
			t.Errorf("hosts:\n%s\n%s", hosts, listed(problems))
		}
	}
}

// TestHostileFilesAreRefused holds files that would take for ever, or all memory,
// if their size alone were bounded.
func TestHostileFilesAreRefused(t *testing.T) {
	laughs := "a: &a [x,x,x,x,x,x,x,x,x,x]\n"
	for c := 'b'; c <= 'z'; c++ {
		last := "*" + string(c-1)
		laughs += string(c) + ": &" + string(c) + " [" + strings.Repeat(last+",", 9) + last + "]\n"
	}
	for name, text := range map[string]string{
		"too large":      strings.Repeat("# comment\n", MaxFileSize/10+1),
		"laughs":         laughs,
		"laughs, merged": "a: &a {k: v}\nb: &b {<<: [*a, *a, *a], x: *a}\nc: &c {<<: [*b, *b], l: *c}\n",
		"nested lists":   strings.Repeat("[", 100_000),
		"nested objects": strings.Repeat(`{"a":`, 100_000),
		"nested blocks":  strings.Repeat("- ", 100_000),
		"control bytes":  "a: b\nc: \x01\n",
		"little to read": "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n  resolution: X\n" +
			"  hosts: [" + strings.Repeat("1,", 60) + strings.Repeat("'*',", 200_000) + "]\n",
		"nothing to read": "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: a}\nspec:\n  hosts: [" + strings.Repeat("1,", 200_000) + "]\n",
		"not UTF-8":       "a: b\nc: \xff\xfe\n",
	} {
		t.Run(name, func(t *testing.T) {
			objects, problems := Read("a.yaml", []byte(text), "default")
			if len(objects) > 0 || !HasError(problems) {
				t.Errorf("got %d objects and %v", len(objects), problems)
			}
			for _, p := range problems {
				if len(p.Message) > 500 {
					t.Errorf("message of %d bytes", len(p.Message))
				}
			}
		})
	}
}

func TestSyntaxErrorsNameTheLine(t *testing.T) {
	for text, want := range map[string]int{
		"a: b\nc: \x01\n":        2,
		"a: b\nc: \xff\n":        2,
		"a: b\nc: *nothing\n":    2,
		"a: b\nc: [\n":           2,
		"a: b\n\tc: d\n":         2,
		"a: b\nc: d: e\n":        2,
		"a: b\nc: \"d\ne: f\n":   2,
		"a: b\n c: d\n":          2,
		"{\"a\": \"b\"\n\"c\": ": 2,
		"a: b: c\n":              1,

		strings.Repeat("[", 10_001):               1,
		"a: b\nc: " + strings.Repeat("[", 10_001): 2,
	} {
		_, problems := Decode("a.yaml", []byte(text), "default")
		if len(problems) == 0 {
			t.Errorf("%q: no problem", text)
			continue
		}
		if got := problems[len(problems)-1].Line; got != want {
			t.Errorf("%q: line %d, want %d: %s", text, got, want, problems[len(problems)-1])
		}
	}
}

func TestFieldsAreSortedWithTheirNumbers(t *testing.T) {
	fields := []string{"", "a", "a.b", "a[0]", "a[1]", "a[1].x", "a[2]", "a[9]", "a[10]", "a[10].x", "a[99999999999999999999]", "b1", "b01", "b001", "b2"}
	for i, x := range fields {
		for j, y := range fields {
			if got, want := compareFields(x, y), intcmp.Compare(i, j); got != want {
				t.Errorf("%q to %q: %d, want %d", x, y, got, want)
			}
		}
	}
}

func TestNearest(t *testing.T) {
	names := []string{"hosts", "ports", "protocol", "resolution", "targetPort"}
	for text, want := range map[string]string{
		"host": "hosts", "protocoll": "protocol", "protoclo": "protocol", "target_port": "targetPort",
		"RESOLUTION": "resolution", "x": "", "": "", "somethingelse": "", "prots": "ports",
	} {
		if got := Nearest(text, names); got != want {
			t.Errorf("Nearest(%q) = %q, want %q", text, got, want)
		}
	}
}

func TestProblemsAreWrittenSorted(t *testing.T) {
	problems := []Problem{
		{Severity: Warning, File: "b.yaml", Line: 1, Message: "later"},
		{Severity: Error, File: "a.yaml", Line: 12, Object: one(t, entry).Source, Field: "spec.ports[1].protocol", Message: "wrong"},
		{Severity: Error, File: "a.yaml", Message: "whole"},
	}
	Sort(problems)
	want := "error: a.yaml: whole\nerror: a.yaml:12: ServiceEntry shop/svc-entry: spec.ports[1].protocol: wrong\nwarning: b.yaml:1: later\n"
	if diff := cmp.Diff(want, listed(problems)); diff != "" {
		t.Error(diff)
	}
}

// listed is one line for each problem.
func listed(problems []Problem) string {
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Severity.String() + ": " + p.String() + "\n")
	}
	return b.String()
}

// FuzzDecode checks that no bytes make Read fail, and that what it lets
// through is named, carries no error and becomes services without further ado.
func FuzzDecode(f *testing.F) {
	archives, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		f.Fatal(err)
	}
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			f.Fatal(err)
		}
		for _, file := range archive.Files {
			if !strings.HasSuffix(file.Name, ".want") {
				f.Add(file.Data)
			}
		}
	}
	f.Add([]byte("\ufeff" + strings.ReplaceAll(entry, "\n", "\r\n")))
	f.Add([]byte(entry[:len(entry)/2]))
	f.Fuzz(func(t *testing.T, data []byte) {
		objects, problems := Read("a.yaml", data, "default")
		for _, p := range problems {
			if p.Message == "" || p.String() == "" || p.Line < 0 {
				t.Errorf("empty problem %+v", p)
			}
		}
		for _, o := range objects {
			if o.Name == "" || o.Namespace == "" || o.Spec == nil {
				t.Errorf("object without a name or spec: %+v", o)
			}
			if HasError(Validate(o)) {
				t.Errorf("%s has errors and was let through", o.Key)
			}
			for _, s := range Services(o) {
				if s.Host == "" || s.Host == "*" {
					t.Errorf("%s declares host %q", o.Key, s.Host)
				}
				for _, p := range s.Ports {
					if p.Number == 0 || p.Name == "" && (o.Kind != KindService || len(s.Ports) > 1) {
						t.Errorf("%s declares port %+v", o.Key, p)
					}
				}
			}
		}
	})
}
