package feature

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/golden"
	"github.com/fairlead/fairlead/internal/mesh"
)

// TestObjectsBecomeConfiguration reads each YAML file in testdata and compares
// what a proxy has of it, under both outbound policies, with the file beside it.
func TestObjectsBecomeConfiguration(t *testing.T) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) == 0 {
		t.Fatalf("no objects: %v", err)
	}
	for _, file := range files {
		for policy, ext := range map[mesh.OutboundPolicy]string{mesh.AllowAny: ".open", mesh.RegistryOnly: ".closed"} {
			name := strings.TrimSuffix(file, ".yaml") + ext
			t.Run(filepath.Base(name), func(t *testing.T) {
				yaml, err := os.ReadFile(file)
				if err != nil {
					t.Fatal(err)
				}
				r := objects(t, policy, string(yaml))
				r.synced()
				got := tell(r.now())
				for _, w := range r.warnings {
					got += "warning " + w.Object.String() + ": " + w.Field + ": " + strings.ReplaceAll(w.Message, r.folder, "FOLDER") + "\n"
				}
				golden.Check(t, name, got)
			})
		}
	}
}
