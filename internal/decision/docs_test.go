package decision

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
)

// TestDocumentsExplainEveryFlag once.
func TestDocumentsExplainEveryFlag(t *testing.T) {
	b, err := os.ReadFile("../../docs/why.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(b), "\n## Flags\n")
	table, _, _ = strings.Cut(table, "\n## ")
	var explained []string
	for row := range strings.Lines(table) {
		if !strings.HasPrefix(row, "| `") {
			continue
		}
		for _, m := range regexp.MustCompile("`([A-Z]+)`").FindAllStringSubmatch(strings.Split(row, "|")[1], -1) {
			explained = append(explained, m[1])
		}
	}
	slices.Sort(explained)
	if want := slices.Sorted(slices.Values(flagNames[:])); !slices.Equal(explained, want) {
		t.Errorf("docs/why.md explains %v; there are %v", explained, want)
	}
}
