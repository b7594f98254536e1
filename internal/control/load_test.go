package control

import (
	"bytes"
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/mesh"
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

// TestANewcomerTakesNothingFromWhoIsThere though its name comes first.
func TestANewcomerTakesNothingFromWhoIsThere(t *testing.T) {
	dir := t.TempDir()
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	put("m.yaml", write("m", "TCP"))
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	said := make(lines, 100)
	p, _, err := New(Options{Paths: []string{dir}, Namespace: "default", Policy: mesh.RegistryOnly, Log: slog.New(slog.NewTextHandler(said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan error, 1)
	go func() { served <- p.Serve(ctx, ln) }()
	put("a.yaml", write("a", "TCP"))
	for line := range said {
		if strings.Contains(line, "is refused") {
			if !strings.Contains(line, "port 5432 of host a.example.com is refused: host m.example.com") {
				t.Errorf("said %s", line)
			}
			break
		}
	}
	stop()
	if err := <-served; err != nil {
		t.Error(err)
	}
}

// lines is a Writer of lines to whoever reads them.
type lines chan string

func (l lines) Write(p []byte) (int, error) {
	l <- string(p)
	return len(p), nil
}
