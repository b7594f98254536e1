package file

import (
	"bytes"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/registry"
)

func TestWhatDeclaresNothingIsNamed(t *testing.T) {
	d := newFolder(t, "notes.txt", "text", "below/a.yaml", entry("a", "a.example"), "empty.yaml", "", "comment.yaml", "# nothing\n---\n")
	for _, tt := range []struct {
		paths []string
		stdin string
		want  []string // of each warning
	}{
		{[]string{d.at("empty.yaml")}, "", []string{"empty.yaml: holds no object"}},
		{[]string{d.at("comment.yaml")}, "", []string{"comment.yaml: holds no object"}},
		{[]string{"-"}, "", []string{"stdin: holds no object"}},
		{[]string{"-", "-"}, entry("a", "a.example"), []string{"-: standard input is given twice"}},
		{[]string{newFolder(t, "notes.txt", "text", "below/a.yaml", "").path}, "", []string{": the folder holds no *.yaml, *.yml or *.json"}},
		{[]string{d.path, "-"}, entry("a", "a.example"), []string{"comment.yaml: holds no object", "empty.yaml: holds no object"}},
	} {
		_, _, problems, err := Load(Options{Paths: tt.paths, Stdin: strings.NewReader(tt.stdin), Namespace: "default"})
		if err != nil || len(problems) != len(tt.want) {
			t.Errorf("%q: %v, %v", tt.paths, problems, err)
			continue
		}
		for i, p := range problems {
			if p.Severity != api.Warning || !strings.Contains(p.String(), tt.want[i]) {
				t.Errorf("%q: %s, want %s", tt.paths, p, tt.want[i])
			}
		}
	}
}

func TestAFileThatIsGoodAgainIsNamedAndItsErrorsAreCounted(t *testing.T) {
	d := newFolder(t, "a.yaml", entry("a", "a.example"), "b.yaml", entry("b", "b.example"))
	var said bytes.Buffer
	s, _, _, err := Load(Options{Paths: []string{d.path}, Namespace: "default", Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	s.settle = 0
	for _, step := range []struct {
		a, b   string // empty: removed
		errors int
		good   int // lines so far
	}{
		{"no: [yaml", entry("b", "*"), 2, 0},
		{"no: [yaml", entry("b", "b.example"), 1, 1},
		{entry("a", "b.example"), entry("b", "b.example"), 0, 2},
		{entry("a", "b.example"), "no: [yaml", 1, 2},
		{entry("a", "b.example"), "", 0, 2},
	} {
		d.replace("a.yaml", step.a)
		if step.b == "" {
			d.must(os.Remove(d.at("b.yaml")))
		} else {
			d.replace("b.yaml", step.b)
		}
		s.round(time.Now(), func([]registry.Change) {})
		if n := strings.Count(said.String(), "level=INFO msg=\"the file is good again\""); s.Errors() != step.errors || n != step.good {
			t.Errorf("%d errors, want %d; good again %d times, want %d:\n%s", s.Errors(), step.errors, n, step.good, &said)
		}
	}
}
