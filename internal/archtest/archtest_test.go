// Package archtest holds the tree to its plan: floors.txt says which package
// may import which, what a floor may do, and where foreign code is let in.
package archtest

import (
	"bufio"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fairlead/fairlead/"

// A tree is what the tests look at: packages by path below the module.
type tree map[string]*pkg

type pkg struct {
	files   []string
	doc     bool
	imports []string
}

// A plan is floors.txt, read.
type plan struct {
	floor  map[string]int // package -> height
	pure   map[int]bool
	beside map[string]bool // "a b": a may import b on its own floor
	apart  [][2]string
	only   map[string][]string // import prefix -> packages let in
}

func TestTreeFollowsThePlan(t *testing.T) {
	got, p := readTree(t), readPlan(t)
	for _, v := range violations(got, p) {
		t.Error(v)
	}
	for name := range p.floor {
		if got[name] == nil {
			t.Errorf("floors.txt names %s, which is not in the tree", name)
		}
	}
}

// TestPlanHasTeeth gives violations small wrong trees.
func TestPlanHasTeeth(t *testing.T) {
	p, err := parsePlan(strings.NewReader(`
floor low pure
	a
	b
floor high
	left/x
	right/y
beside a b
apart left right
only example.org/guest left/x
`))
	if err != nil {
		t.Fatal(err)
	}
	one := func(name string, imports ...string) tree { return tree{name: {doc: true, imports: imports}} }
	for _, tt := range []struct {
		name string
		tree tree
		want string // in the only violation; empty: none
	}{
		{"downward", one("left/x", module+"a"), ""},
		{"upward", one("a", module+"left/x"), "upward"},
		{"beside, allowed", one("a", module+"b"), ""},
		{"beside, not allowed", one("b", module+"a"), "beside"},
		{"across", one("left/x", module+"right/y"), "apart"},
		{"guest let in", one("left/x", "example.org/guest/v2"), ""},
		{"guest elsewhere", one("right/y", "example.org/guest/v2"), "may not import"},
		{"no floor", one("c"), "no floor"},
		{"no comment", tree{"a": {}}, "package comment"},
		{"door in a pure floor", one("a", "net"), "pure"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := violations(tt.tree, p)
			if tt.want == "" && len(got) != 0 || tt.want != "" && (len(got) != 1 || !strings.Contains(got[0], tt.want)) {
				t.Errorf("violations = %q, want one with %q", got, tt.want)
			}
		})
	}
}

// TestImpureCodeIsFound gives the purity check a file that does what it must not.
func TestImpureCodeIsFound(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "x.go")
	src := `package x
import (
	"context"
	clock "time"
)
func f() { go f(); wg.Go(f); _ = clock.Now(); context.AfterFunc(nil, f) }
`
	if err := os.WriteFile(file, []byte(src), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := impure("x", &pkg{files: []string{file}}); len(got) != 4 {
		t.Errorf("impure = %q, want two goroutines, the clock and AfterFunc", got)
	}
}

func violations(got tree, p plan) (out []string) {
	say := func(format string, args ...any) { out = append(out, fmt.Sprintf(format, args...)) }
	for name, pk := range got {
		height, ok := p.floor[name]
		if !ok {
			say("%s stands on no floor: add it to floors.txt", name)
			continue
		}
		if !pk.doc {
			say("%s has no package comment", name)
		}
		for _, imp := range pk.imports {
			to, ours := strings.CutPrefix(imp, module)
			if !ours {
				for prefix, allowed := range p.only {
					if strings.HasPrefix(imp, prefix) && !slices.Contains(allowed, name) {
						say("%s may not import %s", name, imp)
					}
				}
				continue
			}
			switch h := p.floor[to]; {
			case p.areApart(name, to):
				say("%s and %s must stay apart", name, to)
			case h > height:
				say("%s imports upward: %s", name, to)
			case h == height && !p.beside[name+" "+to]:
				say("%s imports %s beside it without leave", name, to)
			}
		}
		if p.pure[height] {
			out = append(out, impure(name, pk)...)
		}
	}
	slices.Sort(out)
	return out
}

func (p plan) areApart(a, b string) bool {
	under := func(path, root string) bool { return path == root || strings.HasPrefix(path, root+"/") }
	return slices.ContainsFunc(p.apart, func(x [2]string) bool {
		return under(a, x[0]) && under(b, x[1]) || under(a, x[1]) && under(b, x[0])
	})
}

var (
	doors  = []string{"os", "os/exec", "os/signal", "net", "net/http", "syscall", "golang.org/x/sys/unix", "log", "log/slog", "math/rand", "math/rand/v2", "crypto/rand"}
	clocks = []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "NewTimer", "NewTicker", "Tick"}
)

// impure finds doors to the outside, goroutines and clocks.
func impure(name string, pk *pkg) (out []string) {
	for _, imp := range pk.imports {
		if slices.Contains(doors, imp) {
			out = append(out, fmt.Sprintf("%s is pure and imports %s", name, imp))
		}
	}
	for _, file := range pk.files {
		fset := token.NewFileSet()
		f, err := parser.ParseFile(fset, file, nil, parser.SkipObjectResolution)
		if err != nil {
			return append(out, err.Error())
		}
		names := map[string]string{} // as the file calls them -> import path
		for _, imp := range f.Imports {
			path := strings.Trim(imp.Path.Value, `"`)
			name := path[strings.LastIndexByte(path, '/')+1:]
			if imp.Name != nil {
				name = imp.Name.Name
			}
			names[name] = path
		}
		ast.Inspect(f, func(n ast.Node) bool {
			switch n := n.(type) {
			case *ast.GoStmt:
				out = append(out, fmt.Sprintf("%s: goroutine in a pure package", fset.Position(n.Pos())))
			case *ast.SelectorExpr:
				x, _ := n.X.(*ast.Ident)
				switch {
				case n.Sel.Name == "Go": // of a WaitGroup or an errgroup
					out = append(out, fmt.Sprintf("%s: goroutine in a pure package", fset.Position(n.Pos())))
				case x == nil:
				case names[x.Name] == "time" && slices.Contains(clocks, n.Sel.Name),
					names[x.Name] == "context" && n.Sel.Name == "AfterFunc":
					out = append(out, fmt.Sprintf("%s: %s.%s in a pure package", fset.Position(n.Pos()), names[x.Name], n.Sel.Name))
				}
			}
			return true
		})
	}
	return out
}

// readTree parses the sources itself: what the go command told would be cached
// with the test's result and go stale.
func readTree(t *testing.T) tree {
	t.Helper()
	root := filepath.Join("..", "..")
	got := tree{}
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if d.IsDir() {
			if n := d.Name(); rel != "." && (n == "testdata" || n == "tools" || strings.HasPrefix(n, ".")) {
				return fs.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return nil
		}
		f, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly|parser.ParseComments)
		if err != nil {
			return err
		}
		name := filepath.ToSlash(filepath.Dir(rel))
		pk := got[name]
		if pk == nil {
			pk = &pkg{}
			got[name] = pk
		}
		pk.files = append(pk.files, path)
		pk.doc = pk.doc || f.Doc.Text() != ""
		for _, imp := range f.Imports {
			if path := strings.Trim(imp.Path.Value, `"`); !slices.Contains(pk.imports, path) {
				pk.imports = append(pk.imports, path)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func readPlan(t *testing.T) plan {
	t.Helper()
	f, err := os.Open("floors.txt")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	p, err := parsePlan(f)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func parsePlan(r io.Reader) (plan, error) {
	p := plan{floor: map[string]int{}, pure: map[int]bool{}, beside: map[string]bool{}, only: map[string][]string{}}
	height := 0
	sc := bufio.NewScanner(r)
	for sc.Scan() {
		w := strings.Fields(sc.Text())
		switch {
		case len(w) == 0 || strings.HasPrefix(w[0], "#"):
		case w[0] == "floor":
			height++
			p.pure[height] = slices.Contains(w[2:], "pure")
		case w[0] == "beside" && len(w) == 3:
			p.beside[w[1]+" "+w[2]] = true
		case w[0] == "apart" && len(w) == 3:
			p.apart = append(p.apart, [2]string{w[1], w[2]})
		case w[0] == "only":
			p.only[w[1]] = w[2:]
		case len(w) == 1:
			p.floor[w[0]] = height
		default:
			return p, fmt.Errorf("floors.txt: cannot read %q", sc.Text())
		}
	}
	return p, sc.Err()
}
