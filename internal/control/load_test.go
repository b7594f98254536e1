package control

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheLogSaysHowManyObjectsThereWereAtFirst(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(write("a", "HTTP")+write("b", "HTTP")), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	p, _, err := New(Options{Paths: []string{path}, Namespace: "default", Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(said.String(), `msg="objects loaded" count=2`); n != 1 || p.Errors() != 0 {
		t.Errorf("said %d times, with %d errors:\n%s", n, p.Errors(), &said)
	}
}
