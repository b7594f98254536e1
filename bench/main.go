// Bench measures what Fairlead costs beside its peers: CPU time of the proxy's
// processes per request, connection or byte, memory per idle connection, added
// latency, and what the control plane needs for a change.
//
// Every scenario is a contest. Its contestants stand between the same load and
// the same backend and take turns round by round, so that a noisy machine is
// noisy to all of them. With two cores or more, load and backend have the first
// and the proxy the second. A contestant that is not installed or fails says so
// in its line of the table and the others go on.
//
// docs/bench/README.md says how to run it and how to read what it prints.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "part" {
		if err := part(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", os.Args[2], err)
			os.Exit(1)
		}
		return
	}
	if err := run(); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// A plan says how much is measured.
type plan struct {
	rounds int
	scale  float64 // of all amounts
}

// amount is n as the plan has it, at least one.
func (p plan) amount(n int) int { return max(1, int(float64(n)*p.scale)) }

// A scenario is one question of the bench, answered by one or more contests.
type scenario struct {
	name     string
	contests func(context.Context, plan) ([]contest, error)
	// rounds are at least so many, where a round is cheap or noisy.
	rounds int
}

func scenarios() []scenario {
	return []scenario{
		{"h1", h1, 0},
		{"h2", h2, 0},
		{"grpc", grpcUnary, 0},
		{"tcp", bulk, 0},
		{"connect", connect, 0},
		{"idle", idle, 0},
		{"latency", latency, 0},
		{"start", start, 11},
		{"control", controlPlane, 0},
	}
}

func run() error {
	all := scenarios()
	var names []string
	for _, s := range all {
		names = append(names, s.name)
	}
	var p plan
	wanted := flag.String("run", strings.Join(names, ","), "scenarios")
	flag.IntVar(&p.rounds, "rounds", 5, "interleaved rounds, after one to warm up")
	flag.Float64Var(&p.scale, "scale", 1, "factor of all amounts: requests, bytes, connections, seconds; 0.02 shows that the rig works")
	keep := flag.String("keep", "", "also write docs/bench/<date>-`name`.txt")
	flag.Parse()
	if p.rounds < 1 || p.scale <= 0 {
		return errors.New("-rounds and -scale have to be positive")
	}
	var chosen []scenario
	for name := range strings.SplitSeq(*wanted, ",") {
		i := slices.IndexFunc(all, func(s scenario) bool { return s.name == name })
		if i < 0 {
			return fmt.Errorf("no scenario %q; there are %s", name, strings.Join(names, ", "))
		}
		chosen = append(chosen, all[i])
	}
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer cancel()
	if err := raiseDescriptors(); err != nil {
		return err
	}

	var out io.Writer = os.Stdout
	if *keep != "" {
		f, err := os.Create(filepath.Join("docs", "bench", time.Now().UTC().Format(time.DateOnly)+"-"+*keep+".txt"))
		if err != nil {
			return err
		}
		defer f.Close()
		out = io.MultiWriter(out, f)
	}
	header(ctx, out, p)
	return compete(ctx, out, p, chosen)
}

// compete runs the scenarios one after the other. What one cannot do is in its
// tables; the error is what kept a whole scenario from being tried.
func compete(ctx context.Context, out io.Writer, p plan, chosen []scenario) error {
	var errs []error
	for _, s := range chosen {
		contests, err := s.contests(ctx, p)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", s.name, err))
			fmt.Fprintf(out, "== %s: not measured: %v\n\n", s.name, err)
			continue
		}
		for _, c := range contests {
			rounds := p.rounds
			if p.scale >= 1 {
				rounds = max(rounds, s.rounds)
			}
			results := c.run(ctx, rounds)
			if ctx.Err() != nil {
				return errors.Join(append(errs, errors.New("interrupted"))...)
			}
			c.print(out, s.name, rounds, results)
		}
	}
	return errors.Join(errs...)
}

// header says on what was measured, and how quiet it was.
func header(ctx context.Context, out io.Writer, p plan) {
	fmt.Fprintf(out, "%s, %s, %d cores of %s, kernel %s, load %s", time.Now().UTC().Format(time.DateTime), runtime.Version(), runtime.NumCPU(),
		cpuModel(), firstWord("/proc/sys/kernel/osrelease"), firstWord("/proc/loadavg"))
	if revision, err := exec.CommandContext(ctx, "git", "describe", "--always", "--dirty").Output(); err == nil {
		fmt.Fprintf(out, ", fairlead %s", bytes.TrimSpace(revision))
	}
	if p.scale != 1 {
		fmt.Fprintf(out, "; amounts scaled by %g", p.scale)
	}
	fmt.Fprintln(out)
	var peers []string
	for _, command := range [][]string{{"haproxy", "-v"}, {"nginx", "-v"}, {"caddy", "version"}, {"gcc", "--version"}} {
		told, err := exec.CommandContext(ctx, command[0], command[1:]...).CombinedOutput()
		version := regexp.MustCompile(`\d+\.\d+\.\d+`).Find(told)
		if err != nil || version == nil {
			version = []byte("not installed")
		}
		peers = append(peers, command[0]+" "+string(version))
	}
	fmt.Fprintf(out, "%s\n\n", strings.Join(peers, ", "))
}

func firstWord(file string) string {
	b, err := os.ReadFile(file)
	if words := strings.Fields(string(b)); err == nil && len(words) > 0 {
		return words[0]
	}
	return "unknown"
}

func cpuModel() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // its absence is told below
	if m := regexp.MustCompile(`(?m)^model name\s*: (.*)$`).FindSubmatch(b); m != nil {
		return string(m[1])
	}
	return "unknown make"
}
