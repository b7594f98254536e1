package api

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/txtar"
)

// TestCorpus reads every file of testdata/corpus. An archive holds pairs: an
// object file, and X.want for it with what Read says: each problem, then each
// object that is sound. UPDATE=1 rewrites the wants.
func TestCorpus(t *testing.T) {
	archives, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil || len(archives) == 0 {
		t.Fatalf("no corpus: %v", err)
	}
	for _, path := range archives {
		topic := strings.TrimSuffix(filepath.Base(path), ".txtar")
		t.Run(topic, func(t *testing.T) { checkArchive(t, path) })
	}
}

func checkArchive(t *testing.T, path string) {
	t.Helper()
	archive, err := txtar.ParseFile(path)
	if err != nil {
		t.Fatal(err)
	}
	wants := map[string]string{}
	for _, f := range archive.Files {
		if name, ok := strings.CutSuffix(f.Name, ".want"); ok {
			wants[name] = string(f.Data)
		}
	}
	updated := &txtar.Archive{Comment: archive.Comment}
	for _, f := range archive.Files {
		if strings.HasSuffix(f.Name, ".want") {
			continue
		}
		got := verdict(t, f.Name, f.Data)
		updated.Files = append(updated.Files, f, txtar.File{Name: f.Name + ".want", Data: []byte(got)})
		want, ok := wants[f.Name]
		if os.Getenv("UPDATE") != "" {
			continue
		}
		if diff := cmp.Diff(want, got); !ok || diff != "" {
			t.Errorf("%s in %s (-want +got, UPDATE=1 rewrites):\n%s", f.Name, path, diff)
		}
	}
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(path, txtar.Format(updated), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// verdict is what Read makes of a file, as text.
func verdict(t *testing.T, name string, data []byte) string {
	t.Helper()
	objects, problems := Read(name, data, "default")
	var b bytes.Buffer
	b.WriteString(listed(problems))
	for _, o := range objects {
		b.WriteString("ok: " + o.String() + "\n")
	}
	return b.String()
}

// TestCorpusIsLarge keeps the corpus from shrinking unseen.
func TestCorpusIsLarge(t *testing.T) {
	archives, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	cases := 0
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		cases += len(archive.Files) / 2
	}
	if cases < 744 {
		t.Errorf("the corpus has %d cases, want at least 744", cases)
	}
}
