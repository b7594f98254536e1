package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// A subject is one proxy under load and what was measured of it.
type subject struct {
	name   string
	server *server
	cpu    []float64 // µs per request, one per round
	allocs []float64 // per request; none if it does not count them
	rate   []float64 // requests per second
}

// exchanges measures all subjects and prints the table.
func exchanges(ctx context.Context, out io.Writer, p plan) (err error) {
	back, err := startPart(ctx, loadCore, "backend")
	if err != nil {
		return err
	}
	defer back.stop()
	var subjects []*subject
	for _, s := range []struct{ name, part string }{
		{"fairlead", "fairlead"},
		{"fairlead, no access log", "fairlead-nolog"},
		{"haproxy, no log", "haproxy"},
		{"httputil.ReverseProxy", "reverseproxy"},
		{"blind relay in Go", "relay"},
	} {
		start := func() (*server, error) { return startPart(ctx, proxyCore, s.part, back.addr) }
		if s.part == "haproxy" {
			start = func() (*server, error) { return startHAProxy(ctx, back.addr) }
		}
		srv, serr := start()
		if serr != nil {
			err = errors.Join(err, fmt.Errorf("start %s: %w", s.name, serr))
			continue
		}
		defer srv.stop()
		subjects = append(subjects, &subject{name: s.name, server: srv})
	}
	for round := range p.rounds + 1 {
		n := p.requests
		if round == 0 {
			n = p.requests / 4 // to warm up; not counted
		}
		for _, s := range subjects {
			if merr := s.measure(ctx, n, p.conns, round > 0); merr != nil {
				return errors.Join(err, fmt.Errorf("%s: %w", s.name, merr))
			}
		}
	}
	table(out, p, subjects)
	return err
}

func (s *subject) measure(ctx context.Context, requests, conns int, counts bool) error {
	mallocs, err := s.server.mallocs()
	if err != nil {
		return err
	}
	cpu, err := cpuOf(s.server.pid)
	if err != nil {
		return err
	}
	self, err := os.Executable()
	if err != nil {
		return err
	}
	cmd := onCore(ctx, loadCore, self, "part", "load", s.server.addr, strconv.Itoa(requests), strconv.Itoa(conns))
	cmd.Stderr = os.Stderr
	took, err := cmd.Output()
	if err != nil {
		return fmt.Errorf("load: %w", err)
	}
	after, err := cpuOf(s.server.pid)
	if err != nil {
		return err
	}
	mallocsAfter, err := s.server.mallocs()
	if err != nil {
		return err
	}
	ns, err := strconv.ParseFloat(strings.TrimSpace(string(took)), 64)
	if err != nil || !counts {
		return err
	}
	n := float64(requests)
	s.cpu = append(s.cpu, float64((after-cpu).Nanoseconds())/1e3/n)
	s.rate = append(s.rate, n/ns*1e9)
	if s.server.counts {
		s.allocs = append(s.allocs, (mallocsAfter-mallocs)/n)
	}
	return nil
}

// cpuOf is the CPU time of a process, all threads, to the nanosecond: the
// kernel has a clock for each.
func cpuOf(pid int) (time.Duration, error) {
	const sched = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|sched), &ts); err != nil { //nolint:gosec // pids fit
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()), nil
}

func table(out io.Writer, p plan, subjects []*subject) {
	fmt.Fprintf(out, "HTTP/1.1, GET, 1 KiB answers, %d connections, %d interleaved rounds of %d requests: median (least to most)\n\n", p.conns, p.rounds, p.requests)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "proxy\tCPU µs/request\tallocations/request\trequests/s\tof ReverseProxy")
	base := 0.0
	for _, s := range subjects {
		if strings.HasSuffix(s.name, "ReverseProxy") {
			base = median(s.cpu)
		}
	}
	for _, s := range subjects {
		allocs, share := "-", "-"
		if len(s.allocs) > 0 {
			allocs = fmt.Sprintf("%.2f", median(s.allocs))
		}
		if base > 0 {
			share = fmt.Sprintf("%.2f", median(s.cpu)/base)
		}
		fmt.Fprintf(w, "%s\t%.1f (%.1f to %.1f)\t%s\t%.0f\t%s\n",
			s.name, median(s.cpu), slices.Min(s.cpu), slices.Max(s.cpu), allocs, median(s.rate), share)
	}
	_ = w.Flush()
	fmt.Fprintln(out)
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

// The cores of the two sides.
const (
	loadCore  = 0
	proxyCore = 1
)

// onCore prepares a program pinned to a core, where there are several.
func onCore(ctx context.Context, core int, name string, args ...string) *exec.Cmd {
	if runtime.NumCPU() > 1 {
		args = append([]string{"-c", strconv.Itoa(core), name}, args...)
		name = "taskset"
	}
	return exec.CommandContext(ctx, name, args...)
}

// A server is a running part, or a peer.
type server struct {
	cmd    *exec.Cmd
	pid    int
	addr   string
	counts bool // it counts its allocations
	in     io.WriteCloser
	out    *bufio.Reader
	end    func()
}

func startPart(ctx context.Context, core int, name string, args ...string) (*server, error) {
	// Not /proc/self/exe: taskset would find itself there.
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	s := &server{cmd: onCore(ctx, core, self, append([]string{"part", name}, args...)...), counts: true}
	s.cmd.Stderr = os.Stderr
	out, err := s.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if s.in, err = s.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	s.out = bufio.NewReader(out)
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	s.pid = s.cmd.Process.Pid // taskset becomes the program
	if s.addr, err = s.out.ReadString('\n'); err != nil {
		s.stop()
		return nil, fmt.Errorf("it did not say where it listens: %w", err)
	}
	s.addr = strings.TrimSpace(s.addr)
	return s, nil
}

func (s *server) mallocs() (float64, error) {
	if !s.counts {
		return 0, nil
	}
	if _, err := io.WriteString(s.in, "?\n"); err != nil {
		return 0, err
	}
	line, err := s.out.ReadString('\n')
	if err != nil {
		return 0, err
	}
	return strconv.ParseFloat(strings.TrimSpace(line), 64)
}

func (s *server) stop() {
	_ = s.cmd.Process.Kill() // it may have ended
	_ = s.cmd.Wait()
	if s.end != nil {
		s.end()
	}
}

const haproxyConfig = `global
  nbthread 1
  maxconn 4000
defaults
  mode http
  timeout connect 5s
  timeout client 1m
  timeout server 1m
  http-reuse always
frontend in
  bind %s
  default_backend out
backend out
  server one %s
`

func startHAProxy(ctx context.Context, to string) (*server, error) {
	addr, err := freeAddress()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "bench-haproxy-")
	if err != nil {
		return nil, err
	}
	file := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(file, fmt.Appendf(nil, haproxyConfig, addr, to), 0o600); err != nil {
		return nil, err
	}
	s := &server{addr: addr, cmd: onCore(ctx, proxyCore, "haproxy", "-q", "-db", "-f", file), end: func() { _ = os.RemoveAll(dir) }}
	s.cmd.Stderr = os.Stderr
	if err := s.cmd.Start(); err != nil {
		s.end()
		return nil, err
	}
	s.pid = s.cmd.Process.Pid
	for range 250 {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			return s, c.Close()
		}
		time.Sleep(20 * time.Millisecond)
	}
	s.stop()
	return nil, fmt.Errorf("nobody listens on %s", addr)
}

func freeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return l.Addr().String(), l.Close()
}
