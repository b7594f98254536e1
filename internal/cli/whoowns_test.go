package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/supervisor"
)

func TestWhichRunIsMeant(t *testing.T) {
	runs := func(names ...string) (all []supervisor.Status) {
		for _, n := range names {
			namespace, name, _ := strings.Cut(n, "/")
			all = append(all, supervisor.Status{Name: name, Namespace: namespace})
		}
		return all
	}
	for _, tt := range []struct {
		runs      []supervisor.Status
		namespace string
		want      string // name, and "" or " as" for another namespace
		err       string
	}{
		{runs("shop/a"), "", "a", ""},
		{runs("shop/a"), "shop", "a", ""},
		{runs("shop/a"), "prd", "a as", ""},
		{runs("shop/a", "prd/b"), "prd", "b", ""},
		{runs("shop/a", "prd/b"), "", "", "there are several runs: prd/b, shop/a; say which one is meant, as in: --from prd/b"},
		{runs("shop/a", "prd/b", "shop/c"), "shop", "", "there are several runs in namespace shop: shop/a, shop/c; say which one is meant, as in: --from shop/a"},
		{runs("shop/a", "shop/c"), "prd", "", "no run is in namespace prd, and there are several elsewhere: shop/a, shop/c; say which one is meant, as in: --from shop/a"},
		{nil, "", "", "no run is there to be asked; start one, or give the objects, as in: -f entries/"},
	} {
		got, own, err := chooseRun(tt.runs, tt.namespace)
		if !own && err == nil {
			got += " as"
		}
		if said := fmt.Sprint(err); got != tt.want || (err == nil) != (tt.err == "") || err != nil && said != tt.err {
			t.Errorf("%v, namespace %q: got %q, %v; want %q, %s", tt.runs, tt.namespace, got, err, tt.want, tt.err)
		}
	}
}

// answering is a run that answers questions, as far as they are asked of its socket.
func answering(t *testing.T, namespace string) (run string) {
	t.Helper()
	run = fmt.Sprintf("answering-%d", os.Getpid())
	ln, err := peer.Listen(peer.Name(os.Getuid(), run, "control"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() {
		done <- admin.ServeControl(ctx, ln, admin.Control{WhoOwns: func(q admin.Question) (admin.Decision, error) {
			if q.Namespace != "" {
				return admin.Decision{}, fmt.Errorf("asked about namespace %q, not about itself", q.Namespace)
			}
			return admin.Decision{
				Host: q.Host, Port: q.Port, Namespace: namespace, Run: run, Workload: run, Others: []admin.Standing{}, Wildcards: []admin.Standing{},
				Policy: "REGISTRY_ONLY", Undeclared: "refused",
			}, nil
		}}, slog.New(slog.DiscardHandler))
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("ServeControl = %v", err)
		}
	})
	return run
}

// typed runs a command line and returns what it said.
func typed(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var files [2]*os.File
	for i := range files {
		f, err := os.Create(filepath.Join(t.TempDir(), "out"))
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		files[i] = f
	}
	code = Main(args, Env{In: os.Stdin, Out: files[0], Err: files[1], StateHome: t.TempDir()})
	var text [2]string
	for i, f := range files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		text[i] = string(b)
	}
	return code, text[0], text[1]
}

func TestARunIsAskedAboutItself(t *testing.T) {
	run := answering(t, "shop")
	ask := func(args ...string) (code int, out, errs string) {
		t.Helper()
		return typed(t, append([]string{"who-owns"}, args...)...)
	}

	code, out, errs := ask("x.example", "--from", "shop/"+run)
	if want := "No entry that namespace shop sees declares x.example: by outbound policy REGISTRY_ONLY it is refused.\n"; code != 0 || out != want {
		t.Errorf("got %d %q %q, want %q", code, out, errs, want)
	}
	code, out, errs = ask("https://x.example/v1", "--from", "shop/"+run, "-o", "json")
	if code != 0 || !strings.Contains(out, `"port": 443`) || !strings.Contains(out, `"run": "`+run+`"`) {
		t.Errorf("as JSON: got %d %q %q", code, out, errs)
	}
	code, out, errs = ask("x.example", "--from", "prd/"+run)
	if want := fmt.Sprintf("fairlead: the run %q is in namespace shop, not prd: write --from shop/%[1]s\n", run); code != 1 || errs != want || out != "" {
		t.Errorf("in another namespace: got %d %q %q, want %q", code, out, errs, want)
	}
}

// TestNamesOfRunsAreCompleted has a run that says no more than its status.
func TestNamesOfRunsAreCompleted(t *testing.T) {
	run := fmt.Sprintf("completed-%d", os.Getpid())
	ln, err := peer.Listen(peer.Name(os.Getuid(), run, "run"))
	if err != nil {
		t.Fatal(err)
	}
	served := make(chan struct{})
	go func() {
		defer close(served)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			_, _ = fmt.Fprintf(c, `{"name":%q,"namespace":"shop"}`, run) // the test says what did not come
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
		<-served
	})
	for _, tt := range []struct{ line, want string }{
		{"exec", run},
		{"logs", run},
		{"proxy-status", run},
		{"proxy-config cluster", run},
		{"proxy-config all", run},
		{"who-owns x.example --from", "shop/" + run},
	} {
		_, out, errs := typed(t, append(append([]string{"__complete"}, strings.Fields(tt.line)...), "")...)
		lines := strings.Split(out, "\n")
		if !slices.Contains(lines, tt.want) || !slices.Contains(lines, ":4") { // no files beside
			t.Errorf("%s: got %q %q, want %s", tt.line, out, errs, tt.want)
		}
	}
}

// TestEveryCommandShowsHowItIsUsed walks what there is, so that nothing new is
// forgotten.
func TestEveryCommandShowsHowItIsUsed(t *testing.T) {
	var walk func(cmd *cobra.Command)
	walk = func(cmd *cobra.Command) {
		for _, c := range cmd.Commands() {
			if c.Name() == "help" {
				continue
			}
			if c.Example == "" {
				t.Errorf("%s shows no example", c.CommandPath())
			}
			if f := c.Flags().Lookup("output"); f != nil {
				if _, ok := c.GetFlagCompletionFunc("output"); !ok {
					t.Errorf("%s does not complete -o", c.CommandPath())
				}
			}
			if c.Name() != "completion" { // whose own commands are a library's
				walk(c)
			}
		}
	}
	walk(newRoot(Env{In: os.Stdin, Out: os.Stdout, Err: os.Stderr}))
}
