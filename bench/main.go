// Bench measures what a 1 KiB HTTP/1.1 exchange costs in Fairlead's proxy
// beside its peers, in CPU time of the proxy's process and in allocations, and
// how long an empty run takes.
//
// All subjects stand between the same load and the same backend, and take
// turns round by round, so that a noisy machine is noisy to all of them. With
// two cores or more, load and backend have the first and the proxy the second.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"time"
)

func main() {
	if len(os.Args) > 2 && os.Args[1] == "part" {
		if err := part(os.Args[2], os.Args[3:]); err != nil {
			fmt.Fprintf(os.Stderr, "bench %s: %v\n", os.Args[2], err)
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
	rounds   int
	requests int // per subject and round
	conns    int
	starts   int // of `run -- true`
}

func run() error {
	var p plan
	flag.IntVar(&p.rounds, "rounds", 5, "interleaved rounds")
	flag.IntVar(&p.requests, "requests", 40000, "requests per subject and round")
	flag.IntVar(&p.conns, "conns", 64, "connections")
	flag.IntVar(&p.starts, "starts", 11, "runs of `true`; 0: none")
	record := flag.Bool("record", false, "also write docs/bench/<date>-http1.txt")
	flag.Parse()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()

	var out io.Writer = os.Stdout
	if *record {
		name := filepath.Join("docs", "bench", time.Now().UTC().Format(time.DateOnly)+"-http1.txt")
		if err := os.MkdirAll(filepath.Dir(name), 0o755); err != nil {
			return err
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		out = io.MultiWriter(out, f)
	}
	fmt.Fprintf(out, "%s, %s, %d cores, kernel %s\n\n", time.Now().UTC().Format(time.DateTime), runtime.Version(), runtime.NumCPU(), kernel())
	return errors.Join(exchanges(ctx, out, p), starts(ctx, out, p.starts))
}

func kernel() string {
	b, err := os.ReadFile("/proc/sys/kernel/osrelease")
	if err != nil {
		return "unknown"
	}
	return string(b[:len(b)-1])
}
