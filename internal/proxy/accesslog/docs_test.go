package accesslog

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// between is what lies between two texts of a file.
func between(t *testing.T, path, from, to string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(b), from)
	part, _, ended := strings.Cut(rest, to)
	if !found || !ended {
		t.Fatalf("%s has no %q and %q any more", path, from, to)
	}
	return part
}

// TestDocumentsNameEveryOperator and none that there is not.
func TestDocumentsNameEveryOperator(t *testing.T) {
	var documented, known []string
	for row := range strings.Lines(between(t, "../../../docs/run.md", "### Operators\n", "\n## ")) {
		if !strings.HasPrefix(row, "| `") {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z0-9_]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			documented = append(documented, m[1])
			if _, err := CompileText("%"+m[1]+"(X)%", false); err == nil {
				continue
			}
			if _, err := CompileText("%"+m[1]+"%", false); err != nil {
				t.Errorf("the documents name %s: %v", m[1], err)
			}
		}
	}
	for _, m := range regexp.MustCompile(`"([A-Z][A-Z0-9_]+)"`).FindAllStringSubmatch(between(t, "operators.go", "func withArgument(", "\nfunc protocol("), -1) {
		if m[1] != "NUMBER" && !slices.Contains(known, m[1]) {
			known = append(known, m[1])
		}
	}
	if len(known) < 40 {
		t.Fatalf("operators.go has %d operators; is its form another?", len(known))
	}
	for _, name := range known {
		if !slices.Contains(documented, name) {
			t.Errorf("the documents do not name %s", name)
		}
	}
}
