package archtest

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
)

// faults are the numbers, first and last, of the faults that a test each has to
// show: HTTP and TLS, and the process and its resources.
var faults = [][2]int{{34, 51}, {64, 71}}

// faultNumbers finds the numbers in names like TestFault34To37And40Words.
var faultNumbers = regexp.MustCompile(`^TestFault(\d+(?:(?:To|And)\d+)*)`)

// shownBy returns the numbers that a test's name says it shows.
func shownBy(name string) (numbers []int) {
	m := faultNumbers.FindStringSubmatch(name)
	if m == nil {
		return nil
	}
	for part := range strings.SplitSeq(m[1], "And") {
		from, to, isRange := strings.Cut(part, "To")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, lerr := strconv.Atoi(to)
		for n := first; err == nil && lerr == nil && n <= last; n++ {
			numbers = append(numbers, n)
		}
	}
	return numbers
}

func TestEveryFaultHasItsTest(t *testing.T) {
	shown := map[int]bool{}
	if err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range f.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				for _, n := range shownBy(fn.Name.Name) {
					shown[n] = true
				}
			}
		}
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	for _, r := range faults {
		for n := r[0]; n <= r[1]; n++ {
			if !shown[n] {
				t.Errorf("no test is called TestFault%d…", n)
			}
		}
	}
}

func TestNamesOfTestsHaveNumbers(t *testing.T) {
	for name, want := range map[string]string{
		"TestFault51Words":                  "51",
		"TestFault34To37Nothing":            "34 35 36 37",
		"TestFault34And36And37Are":          "34 36 37",
		"TestFault57And62":                  "57 62",
		"TestFaultsAre":                     "",
		"TestOfFault51":                     "",
		"TestFault64AndThen":                "64",
		"TestFault99999999999999999999Many": "",
	} {
		var got []string
		for _, n := range shownBy(name) {
			got = append(got, strconv.Itoa(n))
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", name, got, want)
		}
	}
}
