package cli

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
)

// shown is a command in a document and what the document says it answers.
type shown struct{ command, answer string }

// offline are the commands that need nothing but files.
var offline = regexp.MustCompile(`^\$ (fairlead (?:validate|analyze|who-owns) .*-f .*)$`)

// commandsIn returns the commands of that kind in the fenced blocks of a document.
func commandsIn(t *testing.T, path string) (all []shown) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	fenced, answering := false, false
	for lines := bufio.NewScanner(f); lines.Scan(); {
		line := lines.Text()
		switch m := offline.FindStringSubmatch(line); {
		case strings.HasPrefix(line, "```"):
			fenced, answering = !fenced, false
		case !fenced:
		case m != nil:
			all, answering = append(all, shown{command: m[1]}), true
		case strings.HasPrefix(line, "$ "):
			answering = false
		case answering:
			all[len(all)-1].answer += line + "\n"
		}
	}
	return all
}

// TestDocumentsShowWhatIsAnswered types what the documents show, among the
// entries of the demo.
func TestDocumentsShowWhatIsAnswered(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	var all []shown
	for _, path := range append(documents, "../../README.md") {
		all = append(all, commandsIn(t, path)...)
	}
	if len(all) < 4 {
		t.Fatalf("the documents show %d such commands; is their form another?", len(all))
	}
	t.Chdir("../../test/demo/entries")
	for _, s := range all {
		out, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		Main(strings.Fields(s.command)[1:], Env{In: os.Stdin, Out: out, Err: out})
		if _, err := out.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(out)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(s.answer, string(got)); diff != "" {
			t.Errorf("%s (-document +answer):\n%s", s.command, diff)
		}
		if err := out.Close(); err != nil {
			t.Error(err)
		}
	}
}

// TestExamplesInDocumentsAreSound each by itself: without an error, and without a
// warning in the file that says so.
func TestExamplesInDocumentsAreSound(t *testing.T) {
	documents, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	examples := 0
	for _, path := range append(documents, "../../README.md") {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```").FindAllSubmatch(text, -1) {
			examples++
			objects, problems := api.Read(filepath.Base(path), m[1], "default")
			if len(objects) == 0 || api.HasError(problems) || len(problems) > 0 && filepath.Base(path) == "examples.md" {
				t.Errorf("%s: %d objects, %v, of\n%s", path, len(objects), problems, m[1])
			}
		}
	}
	if examples < 9 {
		t.Errorf("the documents have %d examples; is their form another?", examples)
	}
}
