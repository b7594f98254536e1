package crd

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"

	"github.com/fairlead/fairlead/internal/api"
)

// A file is one text with objects, and where it comes from.
type file struct {
	name string
	data []byte
}

// TestExamplesPassIstiosCRDs sends every example of the documentation and of the
// demonstration through the CRDs: each must be sound, accepted and kept whole.
func TestExamplesPassIstiosCRDs(t *testing.T) {
	files := append(fenced(t, "../../README.md", "../../docs/*.md"), whole(t, "../demo/entries/*.yaml")...)
	if len(files) < 3 {
		t.Fatalf("found %d examples only; where are they?", len(files))
	}
	s := newServer(t)
	for _, f := range files {
		if _, problems := api.Read(f.name, f.data, "default"); api.HasError(problems) {
			t.Errorf("%s: Fairlead refuses an example: %v", f.name, problems)
		}
		for _, v := range s.compare(t, f) {
			v.mustAgree(t)
		}
	}
}

// TestWhatIsSoundPassesIstiosCRDs sends the corpus of the validator through the
// CRDs. What Istio's definitions accept and Fairlead refuses is logged: those are
// rules of Istio's webhook, and ours.
func TestWhatIsSoundPassesIstiosCRDs(t *testing.T) {
	s := newServer(t)
	compared, stricter, excused := 0, 0, differs()
	for _, f := range corpus(t) {
		for _, v := range s.compare(t, f) {
			compared++
			if !v.sound {
				if len(v.answer.faults) == 0 && len(v.answer.pruned) == 0 {
					stricter++
					t.Logf("%s: Fairlead alone refuses %s", f.name, v.key)
				}
				continue
			}
			if reason, ok := excused[f.name]; ok {
				delete(excused, f.name)
				if len(v.answer.faults) == 0 && len(v.answer.pruned) == 0 {
					t.Errorf("%s: listed as different (%s), and is not", f.name, reason)
				}
				continue
			}
			v.mustAgree(t)
		}
	}
	for name := range excused {
		t.Errorf("%s is listed as different, and holds nothing that is sound", name)
	}
	t.Logf("%d objects compared, of which Fairlead alone refuses %d", compared, stricter)
}

// A verdict is what both say of one object.
type verdict struct {
	file   string
	key    api.Key
	sound  bool // for Fairlead
	answer answer
}

func (v verdict) mustAgree(t *testing.T) {
	t.Helper()
	if len(v.answer.faults) > 0 {
		t.Errorf("%s: %s is sound for Fairlead, and Istio's CRD refuses it:\n\t%s", v.file, v.key, strings.Join(v.answer.faults, "\n\t"))
	}
	if len(v.answer.pruned) > 0 {
		t.Errorf("%s: %s is sound for Fairlead, and Istio's CRD drops %s", v.file, v.key, strings.Join(v.answer.pruned, ", "))
	}
}

// compare gives one file to both. What is not YAML for kubectl must not be sound
// either, so nothing in such a file is compared but that.
func (s server) compare(t *testing.T, f file) (all []verdict) {
	t.Helper()
	sound, _ := api.Read(f.name, f.data, "default")
	isSound := map[api.Key]bool{}
	for _, o := range sound {
		isSound[o.Key] = true
	}
	found, err := objects(f.data)
	if err != nil && len(sound) > len(found) {
		t.Errorf("%s: sound for Fairlead, and kubectl cannot read it: %v", f.name, err)
	}
	for _, o := range found {
		a, known := s.create(t.Context(), o)
		if !known {
			continue
		}
		key := api.Key{Kind: o.GetKind(), Namespace: o.GetNamespace(), Name: o.GetName()}
		all = append(all, verdict{f.name, key, isSound[key], a})
	}
	return all
}

var fence = regexp.MustCompile("(?ms)^ *```ya?ml\n(.*?)^ *```")

// fenced returns every YAML example in the files.
func fenced(t *testing.T, patterns ...string) (all []file) {
	t.Helper()
	for _, f := range whole(t, patterns...) {
		for _, m := range fence.FindAllSubmatch(f.data, -1) {
			all = append(all, file{f.name, m[1]})
		}
	}
	return all
}

func whole(t *testing.T, patterns ...string) (all []file) {
	t.Helper()
	for _, pattern := range patterns {
		paths, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, path := range paths {
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			all = append(all, file{path, data})
		}
	}
	return all
}

// corpus returns every object file of the validator's corpus.
func corpus(t *testing.T) (all []file) {
	t.Helper()
	for _, f := range whole(t, "../../internal/api/testdata/corpus/*.txtar") {
		topic := strings.TrimSuffix(filepath.Base(f.name), ".txtar")
		for _, member := range txtar.Parse(f.data).Files {
			if !strings.HasSuffix(member.Name, ".want") {
				all = append(all, file{topic + "/" + member.Name, member.Data})
			}
		}
	}
	return all
}
