package feature

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/mesh"
	proxyads "github.com/fairlead/fairlead/internal/proxy/ads"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// A ring is the way from objects to a proxy's configuration in one process,
// with the real stream between the halves.
type ring struct {
	t        testing.TB
	folder   string
	plane    *control.Plane
	warnings []api.Problem
	socket   string
	log      *lines

	mu      sync.Mutex
	config  *config.Config // guarded by mu
	deltas  []config.Delta // guarded by mu
	changed chan struct{}  // a token when config changed
}

// objects starts a ring with the YAML given in one file.
func objects(t testing.TB, policy mesh.OutboundPolicy, yaml string) *ring {
	t.Helper()
	r := &ring{t: t, folder: t.TempDir(), changed: make(chan struct{}, 1), log: &lines{}}
	r.write("a.yaml", yaml)
	r.start(policy)
	return r
}

func (r *ring) start(policy mesh.OutboundPolicy) {
	r.t.Helper()
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	r.t.Cleanup(wg.Wait)
	r.t.Cleanup(cancel)
	r.begin(ctx, &wg, policy)
	r.follow()
	r.await("the first configuration", func(c *config.Config) bool { return c != nil })
}

// begin makes a plane of the folder and serves it until ctx ends.
func (r *ring) begin(ctx context.Context, wg *sync.WaitGroup, policy mesh.OutboundPolicy) {
	r.t.Helper()
	p, warnings, err := control.New(control.Options{
		Paths: []string{r.folder}, Namespace: "default", Policy: policy, Log: slog.New(slog.NewTextHandler(r.log, nil)),
	})
	if err != nil {
		r.t.Fatal(err)
	}
	r.plane, r.warnings = p, warnings
	if r.socket == "" {
		r.socket = "@fairlead-feature/" + strings.ReplaceAll(r.folder, "/", "-")
	}
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "unix", r.socket)
	if err != nil {
		r.t.Fatal(err)
	}
	wg.Go(func() {
		if err := p.Serve(ctx, ln); err != nil {
			r.t.Errorf("plane: %v", err)
		}
	})
}

// follow runs a client of the plane until the test ends.
func (r *ring) follow() {
	client := proxyads.New(proxyads.Options{
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", r.socket)
		},
		Workload: mesh.Workload{Name: "w", Namespace: "default", Labels: map[string]string{"app": "w"}},
		Apply:    r.apply,
		Ready:    func() {},
		Log:      slog.New(slog.NewTextHandler(r.log, nil)),
	})
	ctx, cancel := context.WithCancel(r.t.Context())
	var wg sync.WaitGroup
	wg.Go(func() { _ = client.Run(ctx) })
	r.t.Cleanup(wg.Wait)
	r.t.Cleanup(cancel)
}

func (r *ring) apply(d config.Delta) {
	r.mu.Lock()
	r.config = r.config.Apply(d)
	r.deltas = append(r.deltas, d)
	r.mu.Unlock()
	select {
	case r.changed <- struct{}{}:
	default:
	}
}

func (r *ring) write(name, yaml string) {
	r.t.Helper()
	if err := os.WriteFile(filepath.Join(r.folder, name), []byte(yaml), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *ring) remove(name string) {
	r.t.Helper()
	if err := os.Remove(filepath.Join(r.folder, name)); err != nil {
		r.t.Fatal(err)
	}
}

// now returns the configuration as it is.
func (r *ring) now() *config.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.config
}

// await waits until the configuration is as wanted.
func (r *ring) await(what string, ok func(*config.Config) bool) *config.Config {
	r.t.Helper()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for {
		if c := r.now(); ok(c) {
			return c
		}
		select {
		case <-r.changed:
		case <-limit.C:
			r.t.Fatalf("waited in vain for %s; log:\n%s", what, r.log)
		}
	}
}

// lines is a log that can be read while it is written.
type lines struct {
	mu sync.Mutex
	b  strings.Builder // guarded by mu
}

func (l *lines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// tell writes a configuration as text: one line per thing, in the order of the
// way through it.
func tell(c *config.Config) string {
	var b strings.Builder
	for l := range c.Listeners() {
		fmt.Fprintf(&b, "listener %s", l.Name)
		for _, a := range l.Addresses {
			fmt.Fprintf(&b, " %s", a)
		}
		if l.InspectTLS {
			b.WriteString(" tls?")
		}
		if l.InspectHTTP {
			b.WriteString(" http?")
		}
		if l.ServerNames {
			b.WriteString(" names?")
		}
		b.WriteByte('\n')
		for _, ch := range l.Chains {
			tellChain(&b, ch)
		}
		if l.Default != nil {
			b.WriteString("  else")
			tellTarget(&b, l.Default)
		}
	}
	for n := range c.ServerNames() {
		fmt.Fprintf(&b, "server name on port %d\n", n.Port)
		tellChain(&b, n.Chain)
	}
	for t := range c.RouteTables() {
		fmt.Fprintf(&b, "table %s\n", t.Name)
		for h := range t.VirtualHosts() {
			fmt.Fprintf(&b, "  %s", strings.Join(h.Domains, ", "))
			for _, r := range h.Routes {
				if r.Direct != nil {
					fmt.Fprintf(&b, " -> %s answers %d", r.Name, r.Direct.Status)
				} else {
					fmt.Fprintf(&b, " -> %s to %s, %d retries", r.Name, r.Cluster, r.Retry.Attempts)
				}
			}
			fmt.Fprintf(&b, " (%s)\n", h.Entry)
		}
	}
	for x := range c.Clusters() {
		fmt.Fprintf(&b, "cluster %s %s", x.Name, [...]string{"EDS", "STRICT_DNS", "LOGICAL_DNS", "ORIGINAL_DST", "STATIC"}[x.Type])
		if x.PortOverride != 0 {
			fmt.Fprintf(&b, " port %d", x.PortOverride)
		}
		if x.Type == config.EDS {
			if a := c.Assignment(x.ServiceName); a != nil {
				tellEndpoints(&b, a)
			} else {
				b.WriteString(" no assignment")
			}
		}
		if x.Inline != nil {
			tellEndpoints(&b, x.Inline)
		}
		fmt.Fprintf(&b, " (%s)\n", x.Entry)
	}
	for n := range c.Names() {
		fmt.Fprintf(&b, "name %s %v (%s)\n", n.Host, n.Addresses, n.Entry)
		for _, p := range n.Refused {
			tellRefused(&b, p)
		}
	}
	return b.String()
}

func tellRefused(b *strings.Builder, p config.RefusedPort) {
	fmt.Fprintf(b, "  port %d", p.Port)
	for _, x := range p.Within {
		fmt.Fprintf(b, " at %s", x)
	}
	b.WriteString(" refused")
	if p.RequestsPass {
		b.WriteString(" to all but requests")
	}
	fmt.Fprintf(b, ": held by %s (%s)\n", p.Holder, p.Entry)
}

func tellEndpoints(b *strings.Builder, a *config.Assignment) {
	for _, e := range a.Endpoints {
		fmt.Fprintf(b, " %s:%d*%d", e.Host, e.Port, e.Weight)
	}
}

func tellChain(b *strings.Builder, c *config.FilterChain) {
	b.WriteString("  if")
	for _, p := range c.Match.Prefixes {
		fmt.Fprintf(b, " to %s", p)
	}
	if len(c.Match.ServerNames) > 0 {
		fmt.Fprintf(b, " sni %s", strings.Join(c.Match.ServerNames, ","))
	}
	if len(c.Match.Applications) > 0 {
		fmt.Fprintf(b, " %s", strings.Join(c.Match.Applications, ","))
	}
	tellTarget(b, c)
}

func tellTarget(b *strings.Builder, c *config.FilterChain) {
	switch {
	case c.TCP != nil:
		fmt.Fprintf(b, " bytes to %s (%s)\n", c.TCP.Cluster, c.TCP.Entry)
	case c.HTTP.Inline != nil:
		names := []string{}
		for h := range c.HTTP.Inline.VirtualHosts() {
			names = append(names, h.Name)
		}
		fmt.Fprintf(b, " requests by %s\n", strings.Join(names, ","))
	default:
		fmt.Fprintf(b, " requests by table %s\n", c.HTTP.RouteName)
	}
}

// synced waits until the only proxy has acknowledged everything.
func (r *ring) synced() ads.ProxyStatus {
	r.t.Helper()
	limit := time.Now().Add(time.Minute)
	for time.Now().Before(limit) {
		if all := r.plane.Status(); len(all) == 1 && !slices.ContainsFunc(all[0].Types, func(s ads.TypeStatus) bool { return s.State() != ads.Synced }) {
			return all[0]
		}
		select {
		case <-r.changed:
		case <-time.NewTimer(time.Millisecond).C:
		}
	}
	r.t.Fatalf("never in sync: %+v", r.plane.Status())
	return ads.ProxyStatus{}
}
