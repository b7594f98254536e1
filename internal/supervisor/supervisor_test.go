package supervisor

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/state"
)

// TestMain is also what a proxy is in these tests.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == ProxyCommand {
		os.Exit(proxyMain())
	}
	os.Exit(m.Run())
}

func TestCheckName(t *testing.T) {
	for name, ok := range map[string]bool{
		"a": true, "client": true, "a-1": true, "9": true, strings.Repeat("x", 63): true,
		"": false, "-a": false, "a-": false, "A": false, "a.b": false, "a/b": false, "a b": false, "ä": false, strings.Repeat("x", 64): false, "a\n": false,
	} {
		if err := CheckName("name", name); (err == nil) != ok {
			t.Errorf("%q: %v, want it to be allowed: %v", name, err, ok)
		} else if err != nil && !strings.HasPrefix(err.Error(), fmt.Sprintf("name %q: use ", name)) {
			t.Errorf("%q: %v does not say what to use", name, err)
		}
	}
}

func TestNewNameIsOneAndSaysWhatRuns(t *testing.T) {
	for command, base := range map[string]string{
		"curl": "curl", "/usr/bin/Curl": "curl", "./a.out": "a-out", "_": "run", "": "run", "/": "run", "żółw": "w",
		strings.Repeat("x", 300): strings.Repeat("x", 40), strings.Repeat("x", 39) + "--y": strings.Repeat("x", 39),
	} {
		name := NewName(command)
		if err := CheckName("name", name); err != nil {
			t.Errorf("for %q: %v", command, err)
		}
		if want := regexp.MustCompile("^" + base + "-[a-z0-9]{5}$"); !want.MatchString(name) {
			t.Errorf("for %q: %s, want %s", command, name, want)
		}
		if again := NewName(command); again == name {
			t.Errorf("%s twice", name)
		}
	}
}

func TestProxiesThatDieEarlyAreReplacedEverMoreSlowly(t *testing.T) {
	var got []time.Duration
	pause := time.Duration(0)
	for _, wasReady := range []bool{true, true, false, false, false, false, false, false, false, false, false, true, false} {
		pause = restartPause(pause, wasReady)
		got = append(got, pause/time.Millisecond)
	}
	want := []time.Duration{20, 20, 40, 80, 160, 320, 640, 1280, 2000, 2000, 2000, 20, 40}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("milliseconds (-want +got):\n%s", diff)
	}
	if first := restartPause(0, false); first != restartAfter {
		t.Errorf("the first pause is %s, want %s", first, restartAfter)
	}
}

// A faulty listener fails as often as it is told, then has one connection.
type faulty struct {
	failures int
	conns    chan net.Conn
	closed   chan struct{}
}

func (f *faulty) Accept() (net.Conn, error) {
	if f.failures > 0 {
		f.failures--
		return nil, &net.OpError{Op: "accept", Err: syscall.EMFILE}
	}
	select {
	case c := <-f.conns:
		return c, nil
	case <-f.closed:
		return nil, net.ErrClosed
	}
}

func (f *faulty) Close() error   { close(f.closed); return nil }
func (f *faulty) Addr() net.Addr { return &net.UnixAddr{Net: "unix", Name: "@test"} }

func TestAFailedAcceptEndsNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours, theirs := net.Pipe()
		defer ours.Close()
		ln := &faulty{failures: 20, conns: make(chan net.Conn, 1), closed: make(chan struct{})}
		ln.conns <- theirs
		ctx, cancel := context.WithCancel(t.Context())
		var said bytes.Buffer
		began := time.Now()
		served := false
		err := accept(ctx, ln, slog.New(slog.NewTextHandler(&said, nil)), func(_ context.Context, c net.Conn) {
			served = true
			c.Close()
			cancel()
		})
		if !errors.Is(err, context.Canceled) || !served {
			t.Errorf("served: %v, %v", served, err)
		}
		// 5, 10, … 640 ms, then a second each.
		if took := time.Since(began); took != 1275*time.Millisecond+12*time.Second {
			t.Errorf("tried for %s", took)
		}
		if n := strings.Count(said.String(), "too many open files"); n != 1 {
			t.Errorf("said %d times:\n%s", n, said.String())
		}
	})
}

func TestSignals(t *testing.T) {
	for name, c := range map[string]struct {
		script      string // signals; "hand", "start": what the supervisor does
		delivered   string
		interrupted bool
	}{
		"before there is a command":    {"TERM", "", true},
		"which one may not want to be": {"TERM hand start INT", "", true},
		"not one that ends":            {"USR1 WINCH WINCH hand start", "USR1 WINCH", false},
		"while it starts":              {"hand INT INT USR2 start", "INT USR2", false},
		"while it runs":                {"hand start INT INT USR1", "INT INT USR1", false},
	} {
		t.Run(name, func(t *testing.T) {
			interrupted, interrupt := context.WithCancel(t.Context())
			defer interrupt()
			s := signals{end: interrupt}
			var delivered []string
			deliver := func(sig os.Signal) error {
				delivered = append(delivered, names[sig])
				return nil
			}
			for _, step := range strings.Fields(c.script) {
				switch step {
				case "hand":
					if err := s.hand(interrupted); err != nil {
						if !errors.Is(err, errInterrupted) || !c.interrupted {
							t.Error(err)
						}
						return // nothing is started
					}
				case "start":
					if err := s.to(deliver); err != nil {
						t.Error(err)
					}
				default:
					if err := s.take(signalOf(t, step)); err != nil {
						t.Error(err)
					}
				}
			}
			if got := strings.Join(delivered, " "); got != c.delivered || (interrupted.Err() != nil) != c.interrupted {
				t.Errorf("delivered %q, interrupted: %v; want %q, %v", got, interrupted.Err(), c.delivered, c.interrupted)
			}
		})
	}
}

var names = map[os.Signal]string{syscall.SIGTERM: "TERM", syscall.SIGINT: "INT", syscall.SIGUSR1: "USR1", syscall.SIGUSR2: "USR2", syscall.SIGWINCH: "WINCH"}

func signalOf(t *testing.T, name string) os.Signal {
	t.Helper()
	for sig, n := range names {
		if n == name {
			return sig
		}
	}
	t.Fatalf("no signal %s", name)
	return nil
}

func TestALineThatNobodyReadsHoldsNoInterruptionUp(t *testing.T) {
	r, stuck := io.Pipe()
	defer r.Close()
	w := &workload{Options: Options{Notices: stuck}}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := w.announce(ctx, control.Ruling{Policy: mesh.AllowAny}); !errors.Is(err, errInterrupted) {
		t.Errorf("got %v, want %v", err, errInterrupted)
	}
}

// options are those of a run with a name of its own.
func options(t *testing.T) Options {
	t.Helper()
	return Options{
		Workload: mesh.Workload{Name: fmt.Sprintf("t%d-%s", os.Getpid(), NewName("x")), Namespace: "default"},
		Command:  []string{"true"},
		State:    state.Root(t.TempDir()),
		Notices:  io.Discard,
	}
}

func TestARunThatWaitsForItsInputCanBeInterrupted(t *testing.T) {
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer w.Close()
	o := options(t)
	o.Paths, o.Stdin = []string{"-"}, r
	run, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	defer run.logFile.Close()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	loaded := run.load()
	if l := await(ctx, loaded); !errors.Is(l.err, errInterrupted) {
		t.Errorf("got %v, want %v", l.err, errInterrupted)
	}
	w.Close()
	if l := await(t.Context(), loaded); l.err != nil || l.plane == nil {
		t.Errorf("when the input ends: %v, %v", l.plane, l.err)
	}
}

func TestTheNameIsClaimedWithAllItsSockets(t *testing.T) {
	o := options(t)
	l, err := claim(o)
	if err != nil {
		t.Fatal(err)
	}
	for _, what := range []string{"run", "exec", "xds", "admin", "control"} {
		if ln, err := peer.Listen(socket(o, what)); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("%s can be taken by others: %v", what, err)
			if err == nil {
				ln.Close()
			}
		}
	}
	if _, err := claim(o); err == nil || !strings.Contains(err.Error(), "is there already") {
		t.Errorf("a second run of that name: %v", err)
	}
	l.close()

	squatter, err := peer.Listen(socket(o, "admin"))
	if err != nil {
		t.Fatal(err)
	}
	defer squatter.Close()
	if _, err := claim(o); err == nil || !strings.Contains(err.Error(), socket(o, "admin")) {
		t.Errorf("a name of which somebody has a socket: %v", err)
	}
	if names, err := Names(); err != nil || slices.Contains(names, o.Workload.Name) {
		t.Errorf("a run that failed is listed: %v, %v", names, err)
	}
}

func TestPrepareRemovesWhatEndedLongAgo(t *testing.T) {
	o := options(t)
	for i := range 25 {
		if _, err := o.State.Create(fmt.Sprint("old-", i)); err != nil {
			t.Fatal(err)
		}
	}
	w, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.logFile.Close()
	entries, err := os.ReadDir(string(o.State))
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 21 {
		t.Errorf("%d folders, want 20 and that of the run", len(entries))
	}
	if _, err := os.Stat(w.dir); err != nil {
		t.Error(err)
	}
}

func TestWhatIsWrittenAndReadIsProtected(t *testing.T) {
	dir, err := filepath.EvalSymlinks(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := options(t)
	o.AccessLog = filepath.Join(dir, "access.log")
	w, err := prepare(o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.logFile.Close()
	if info, err := os.Stat(o.AccessLog); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the access log is not there: %v, %v", info, err)
	}
	got, err := w.readOnly([]string{"/objects"})
	if diff := cmp.Diff([]string{w.dir, "/objects", o.AccessLog}, got); diff != "" || err != nil {
		t.Errorf("%v (-want +got):\n%s", err, diff)
	}

	w.AccessLog = filepath.Join(dir, "pipe")
	if err := errors.Join(syscall.Mkfifo(w.AccessLog, 0o600), create(w.AccessLog)); err != nil {
		t.Fatal(err)
	}
	got, err = w.readOnly(nil)
	if diff := cmp.Diff([]string{w.dir}, got); diff != "" || err != nil {
		t.Errorf("with a pipe: %v (-want +got):\n%s", err, diff)
	}
	if err := unprotected([]string{"/a", "/b"}, []string{"/a/new"}); err != nil {
		t.Error(err)
	}
	if err := unprotected([]string{"/a"}, []string{"/a", "/ab"}); err == nil || !strings.HasPrefix(err.Error(), "/ab became part") {
		t.Errorf("a file that came too late: %v", err)
	}
}

func TestAStatusThatDoesNotCome(t *testing.T) {
	o := options(t)
	ln, err := peer.Listen(socket(o, "run"))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := AskStatus(ctx, o.Workload.Name); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a run that is stopped: %v", err)
	}
	var accepting sync.WaitGroup
	defer func() { ln.Close(); accepting.Wait() }()
	accepting.Go(func() {
		for { // the first came above, if it came
			c, err := ln.Accept()
			if err != nil {
				return
			}
			c.Close()
		}
	})
	if _, err := AskStatus(t.Context(), o.Workload.Name); !errors.Is(err, io.ErrUnexpectedEOF) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("a run that ends: %v", err)
	}
}

func TestAProxyThatIsNeverReadyEndsTheRun(t *testing.T) {
	w, err := prepare(options(t))
	if err != nil {
		t.Fatal(err)
	}
	defer w.logFile.Close()
	w.proxies = newProxies(w.logFile, w.log)
	w.proxies.serve(bootstrap.Proxy{}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var proxies sync.WaitGroup
	proxies.Go(func() { _ = w.proxies.Run(ctx) })
	w.log.With("part", "proxy").Error("proxy failed", "error", "no memory")
	_, err = w.command(t.Context(), t.Context())
	cancel()
	proxies.Wait()
	want := "the proxy ended 3 times before it was ready: proxy failed: no memory; `fairlead logs " + w.Workload.Name + "` says more"
	if err == nil || err.Error() != want {
		t.Errorf("got  %v\nwant %s", err, want)
	}
}

func TestInsideARunIsWhereTheFirstProcessIsASandbox(t *testing.T) {
	path := filepath.Join(t.TempDir(), "cmdline")
	if inside(path) {
		t.Error("without a first process")
	}
	for line, want := range map[string]bool{
		"fairlead\x00sandbox\x00init\x00": true,
		"/sbin/init\x00":                  false,
		"fairlead\x00run\x00":             false,
		"fairlead\x00sandboxes\x00":       false,
		"":                                false,
	} {
		if err := os.WriteFile(path, []byte(line), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := inside(path); got != want {
			t.Errorf("%q: %v, want %v", line, got, want)
		}
	}
}

// TestARunAnswersAsItsWorkload has a Sidecar that is for the run's labels, and
// so not for whoever else is asked about.
func TestARunAnswersAsItsWorkload(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	objects := `apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: narrow, namespace: shop}
spec:
  workloadSelector: {labels: {app: client}}
  egress: [{hosts: ["./*"]}]
  outboundTrafficPolicy: {mode: REGISTRY_ONLY}
`
	if err := os.WriteFile(path, []byte(objects), 0o600); err != nil {
		t.Fatal(err)
	}
	plane, _, err := control.New(control.Options{Paths: []string{path}, Namespace: "shop", Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := &workload{plane: plane, Options: Options{Workload: mesh.Workload{Name: "client", Namespace: "shop", Labels: map[string]string{"app": "client"}}}}
	for _, tt := range []struct{ namespace, means, workload, policy string }{
		{"", "shop", "client", "REGISTRY_ONLY"},
		{"shop", "shop", "", "ALLOW_ANY"},
		{"prd", "prd", "", "ALLOW_ANY"},
	} {
		d, err := w.whoOwns(admin.Question{Host: "x.example", Namespace: tt.namespace})
		if err != nil || d.Run != "client" || d.Namespace != tt.means || d.Workload != tt.workload || d.Policy != tt.policy {
			t.Errorf("about namespace %q: got %+v, %v; want %+v", tt.namespace, d, err, tt)
		}
	}
}
