package supervisor

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/supervisor/whoowns"
	"github.com/fairlead/fairlead/internal/xds"
)

// A Status is what a run says of itself.
type Status struct {
	Name      string       `json:"name"`
	Namespace string       `json:"namespace"`
	PID       int          `json:"pid"`
	Command   []string     `json:"command"`
	Policy    string       `json:"policy"`
	Started   time.Time    `json:"started"`
	ProxyPID  int          `json:"proxyPid"` // 0 while there is none
	Restarts  int          `json:"restarts"` // of the proxy
	Logs      string       `json:"logs"`     // folder
	AccessLog string       `json:"accessLog"`
	LogOff    bool         `json:"accessLogOff,omitempty"` // no lines are written to it
	Errors    int          `json:"errors"`                 // that objects have now; what was good before holds
	Problems  []Problem    `json:"problems"`               // those errors and the warnings there are: errors first, 100 at most
	Types     []TypeStatus `json:"types"`
	Refused   Refused      `json:"refused"`
	// Error says why nothing but the name is known; empty as a rule.
	Error string `json:"error,omitempty"`
}

// A Problem is one thing that is wrong with the objects of a run.
type Problem struct {
	Severity string `json:"severity"` // error, warning
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Object   string `json:"object,omitempty"`
	Field    string `json:"field,omitempty"`
	Message  string `json:"message"`
}

// Refused counts the packets that the sandbox refused.
type Refused struct {
	UDP   uint64 `json:"udp"`   // to any port but 53: QUIC, NTP, …
	ICMP  uint64 `json:"icmp"`  // ping
	Loop  uint64 `json:"loop"`  // TCP to the proxy's own port
	Other uint64 `json:"other"` // SCTP, raw sockets, anything else
}

// A TypeStatus says how far the proxy is with one type of resource.
type TypeStatus struct {
	Type      string `json:"type"`  // short: Cluster
	State     string `json:"state"` // SYNCED, STALE, NOT SENT, REFUSED
	Resources int    `json:"resources"`
	Error     string `json:"error,omitempty"`
}

// maxStatus bounds what AskStatus reads.
const maxStatus = 16 << 20

// AskStatus asks a run of this user for its status.
func AskStatus(ctx context.Context, name string) (s Status, err error) {
	conn, err := peer.Dial(ctx, peer.Name(os.Getuid(), name, "run"))
	if err != nil {
		return s, fmt.Errorf("no run named %q: %w", name, err)
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	b, err := io.ReadAll(io.LimitReader(conn, maxStatus))
	if ctx.Err() != nil {
		return s, fmt.Errorf("the run %q does not answer: %w", name, ctx.Err())
	}
	if err != nil {
		return s, fmt.Errorf("ask the run %q: %w", name, err)
	}
	if len(b) == 0 {
		err = io.ErrUnexpectedEOF // it ended
	} else {
		err = json.Unmarshal(b, &s)
	}
	if err != nil {
		return s, fmt.Errorf("ask the run %q: %w", name, err)
	}
	return s, nil
}

// Names lists this user's runs, sorted.
func Names() ([]string, error) {
	sockets, err := peer.List(peer.Prefix(os.Getuid()))
	if err != nil {
		return nil, err
	}
	var names []string
	for _, s := range sockets {
		if _, run, what, ok := peer.SplitName(s); ok && what == "run" {
			names = append(names, run)
		}
	}
	return names, nil
}

// AskWhoOwns asks a run of this user whose a host is.
func AskWhoOwns(ctx context.Context, name string, q admin.Question) (admin.Decision, error) {
	c := admin.NewClient(peer.Name(os.Getuid(), name, "control"))
	defer c.Close()
	return c.WhoOwns(ctx, q)
}

// serveQuestions answers what is asked of the control plane.
func (w *workload) serveQuestions(ctx context.Context, ln net.Listener) error {
	return admin.ServeControl(ctx, ln, admin.Control{WhoOwns: w.whoOwns}, w.log)
}

// whoOwns answers for the run's own workload, unless another namespace is asked
// about: then for workloads without labels.
func (w *workload) whoOwns(q admin.Question) (admin.Decision, error) {
	var labels map[string]string
	own := q.Namespace == ""
	if own {
		q.Namespace, labels = w.Workload.Namespace, w.Workload.Labels
	}
	d, err := whoowns.Ask(w.plane, q, labels)
	d.Run = w.Workload.Name
	switch {
	case own:
		d.Workload = w.Workload.Name
	case q.Namespace != w.Workload.Namespace:
		d.Remark = strings.TrimSpace(whoowns.Stranger(w.plane, q.Namespace) + " " + d.Remark)
	}
	return d, err
}

// serveStatus answers every connection with the status, and closes it.
func (w *workload) serveStatus(ctx context.Context, ln net.Listener) error {
	return accept(ctx, ln, w.log, func(_ context.Context, c net.Conn) {
		defer c.Close()
		b, err := json.Marshal(w.status())
		if err != nil {
			w.log.Error("status cannot be encoded", "error", err)
			return
		}
		// A client that has gone loses nothing but the answer; one that does not
		// read gets a moment.
		if err := c.SetWriteDeadline(time.Now().Add(5 * time.Second)); err == nil {
			_, _ = c.Write(b)
		}
	})
}

func (w *workload) status() Status {
	s := Status{
		Name:      w.Workload.Name,
		Namespace: w.Workload.Namespace,
		PID:       os.Getpid(),
		Command:   w.Command,
		Policy:    w.ruling().Policy.String(),
		Started:   w.started,
		ProxyPID:  int(w.proxies.pid.Load()),
		Restarts:  int(w.proxies.restarts.Load()),
		Logs:      w.dir,
		AccessLog: w.AccessLog,
		LogOff:    w.LogForm == "" && w.plane.AccessLogOff(),
		Errors:    w.plane.Errors(),
		Problems:  []Problem{},
	}
	for _, p := range w.plane.Problems() {
		s.Problems = append(s.Problems, Problem{p.Severity.String(), p.File, p.Line, p.Object.String(), p.Field, p.Message})
	}
	for _, p := range w.plane.Status() {
		for _, t := range p.Types {
			s.Types = append(s.Types, TypeStatus{Type: xds.ShortType(t.Type), State: t.State().String(), Resources: t.Resources, Error: t.Error})
		}
	}
	counters, err := w.sandbox.Counters()
	if s.Refused = Refused(counters); err != nil && !errors.Is(err, net.ErrClosed) {
		w.log.Warn("the sandbox's counters cannot be read", "error", err)
	}
	return s
}

// The pause after a failed Accept, doubled while it goes on failing.
const (
	acceptAfter = 5 * time.Millisecond
	acceptMax   = time.Second
)

// sleep returns nil after the pause, or ctx's error when that ends.
func sleep(ctx context.Context, pause time.Duration) error {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// accept serves each connection of ln in a goroutine of its own until ctx ends,
// then closes ln and returns when the last is served.
//
// Whatever Accept fails with, descriptors that ran out or a client that has
// gone, the run goes on: it is tried again, after a pause.
func accept(ctx context.Context, ln net.Listener, log *slog.Logger, serve func(context.Context, net.Conn)) error {
	stop := context.AfterFunc(ctx, func() { ln.Close() })
	defer stop()
	var wg sync.WaitGroup
	defer wg.Wait()
	for pause := time.Duration(0); ; {
		c, err := ln.Accept()
		if ctx.Err() != nil {
			if err == nil {
				c.Close()
			}
			return ctx.Err()
		}
		if err != nil {
			if pause == 0 {
				log.Warn("cannot accept connections for now; they wait", "socket", ln.Addr().String(), "error", err)
			}
			pause = min(max(2*pause, acceptAfter), acceptMax)
			if err := sleep(ctx, pause); err != nil {
				return err
			}
			continue
		}
		pause = 0
		wg.Go(func() { serve(ctx, c) })
	}
}
