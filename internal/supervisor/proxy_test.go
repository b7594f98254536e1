package supervisor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/peer"
)

// What a proxy of these tests does, as the name of its workload: otherwise it
// ends at once.
const (
	drains = "drains" // on SIGTERM, until the run ends
	hangs  = "hangs"  // in a drain that does not end
)

// proxyMain is such a proxy.
func proxyMain() int {
	told := make(chan os.Signal, 1)
	signal.Notify(told, syscall.SIGTERM)
	control, err := peer.FileConn(os.NewFile(bootstrap.ControlFD, "control"))
	if err != nil {
		return 2
	}
	boot, _, err := bootstrap.Receive(control)
	if err != nil || boot.Workload.Name == "" {
		return 1
	}
	if _, err := io.WriteString(control, bootstrap.ReadyLine); err != nil {
		return 1
	}
	over := make(chan struct{})
	go func() {
		defer close(over)
		_, _ = io.Copy(io.Discard, control)
	}()
	select {
	case <-over:
		return 0
	case <-told:
	}
	if _, err := io.WriteString(control, bootstrap.DrainingLine); err != nil {
		return 1
	}
	if boot.Workload.Name == hangs {
		select {}
	}
	<-over
	return 0
}

// A line of proxies runs until the test ends, or stop is called.
type line struct {
	*proxies
	t    *testing.T
	log  string // path
	stop func()
}

// proxying starts a line of proxies of that kind, and returns when the first is ready.
func proxying(t *testing.T, kind string, drainWithin time.Duration) *line {
	t.Helper()
	w, err := prepare(options(t))
	if err != nil {
		t.Fatal(err)
	}
	p := newProxies(w.logFile, w.log)
	p.drainWithin = drainWithin
	p.serve(bootstrap.Proxy{Workload: mesh.Workload{Name: kind}}, nil)
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { _ = p.Run(ctx) })
	l := &line{p, t, w.logFile.Name(), func() { cancel(); running.Wait(); w.logFile.Close() }}
	t.Cleanup(l.stop)
	<-p.ready
	return l
}

func awaitThat(t *testing.T, what string, is func() bool) {
	t.Helper()
	for began := time.Now(); !is(); time.Sleep(time.Millisecond) {
		if time.Since(began) > 30*time.Second {
			t.Fatalf("waited for %s in vain", what)
		}
	}
}

// runs reports whether a process is there and not just waited for.
func runs(pid int) bool {
	b, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(b), ") Z ")
}

// terminate sends SIGTERM to the proxy there is and waits until the next is ready.
func (l *line) terminate() (last, next int) {
	l.t.Helper()
	last = int(l.pid.Load())
	if err := syscall.Kill(last, syscall.SIGTERM); err != nil {
		l.t.Fatal(err)
	}
	awaitThat(l.t, "the next proxy", func() bool {
		next = int(l.pid.Load())
		said, err := os.ReadFile(l.log)
		return next != last && err == nil && strings.Contains(string(said), fmt.Sprintf(`"proxy ready","pid":%d,`, next))
	})
	return last, next
}

func TestFault70TheNextProxyStartsWhenTheLastAcceptsNoMore(t *testing.T) {
	p := proxying(t, drains, drainWithin)
	var all []int
	for range 3 {
		last, next := p.terminate()
		all = append(all, last)
		if !runs(last) || !runs(next) {
			t.Errorf("the one that drains runs: %v; the next one: %v", runs(last), runs(next))
		}
	}
	if n := p.restarts.Load(); n != 3 {
		t.Errorf("%d restarts, want 3", n)
	}
	all = append(all, int(p.pid.Load()))
	p.stop()
	for _, pid := range all {
		if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("process %d after the end of the run: %v", pid, err)
		}
	}
	if pid := p.pid.Load(); pid != 0 {
		t.Errorf("the proxy is said to be process %d", pid)
	}
}

func TestFault69ADrainThatDoesNotEndIsEnded(t *testing.T) {
	p := proxying(t, hangs, 10*time.Millisecond)
	last, next := p.terminate()
	awaitThat(t, "the end of the one that hangs", func() bool { return !runs(last) })
	if now := int(p.pid.Load()); now != next || !runs(next) {
		t.Errorf("the proxy is process %d, want %d", now, next)
	}
}

// TestAProxyThatFinishedAtOnceDrained has what it said of itself and its end come
// together, which leaves a choice to chance.
func TestAProxyThatFinishedAtOnceDrained(t *testing.T) {
	p := newProxies(nil, slog.New(slog.DiscardHandler))
	defer p.draining.Wait()
	c := &child{left: make(chan struct{}), ended: make(chan struct{}), err: errors.New("it ended by itself")}
	c.ready.Store(true)
	close(c.left)
	close(c.ended)
	for range 64 {
		if how, err := p.follow(t.Context(), c); !how.drains || !how.wasReady {
			t.Fatalf("%+v, %v", how, err)
		}
	}
}
