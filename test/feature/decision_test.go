package feature

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/proxy/listener"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
	"github.com/fairlead/fairlead/internal/proxy/route"
	"github.com/fairlead/fairlead/internal/xds"
)

// decisions answers questions in their order: one line for both policies where
// they agree.
func decisions(t *testing.T, sc *scene, questions [][]string) string {
	t.Helper()
	var b strings.Builder
	asker, found := workload("default"), finder{}
	if len(questions) > 0 && questions[0][0] != "in" {
		b.WriteString("== asked in default\n")
	}
	for _, q := range questions {
		switch q[0] {
		case "in":
			asker = workload(strings.Join(q[1:], " "))
			fmt.Fprintf(&b, "== asked in %s\n", asker)
			continue
		case "answer":
			found[q[1]] = nil
			for _, a := range q[2:] {
				found[q[1]] = append(found[q[1]], netip.MustParseAddr(a))
			}
			fmt.Fprintf(&b, "%s\n", strings.Join(q, " "))
			continue
		}
		open := decide(t, sc.config(asker, mesh.AllowAny), found, mesh.AllowAny, q)
		closed := decide(t, sc.config(asker, mesh.RegistryOnly), found, mesh.RegistryOnly, q)
		fmt.Fprintf(&b, "%s\n", strings.Join(q, " "))
		if open == closed || q[0] == "xds" {
			fmt.Fprintf(&b, "    %s\n", open)
		} else {
			fmt.Fprintf(&b, "    ALLOW_ANY: %s\n    REGISTRY_ONLY: %s\n", open, closed)
		}
	}
	return b.String()
}

func decide(t *testing.T, c *config.Config, found finder, policy mesh.OutboundPolicy, q []string) string {
	t.Helper()
	switch {
	case q[0] == "early" && len(q) == 3:
		return ask(t, nil, policy, q[1], q[2])
	case q[0] == "dns" && len(q) == 3:
		return ask(t, c, policy, q[1], q[2])
	case q[0] == "xds" && len(q) == 3:
		return resource(t, c, q[1], q[2])
	case (q[0] == "tcp" || q[0] == "silent") && len(q) == 2, len(q) == 3 && slices.Contains([]string{"http", "http10", "h2c", "tls"}, q[0]):
		dst, ok := destination(t, c, found, q[1])
		if !ok {
			return "no connection: its host has no address"
		}
		told, _, _ := strings.Cut(q[1], ":") // nothing if it begins with an address
		held := listener.Meant(c, dst.Addr(), told).Refuses(dst)
		said, taken := connection(t, c, found, dst, held != nil, q)
		if held != nil && (taken || !held.RequestsPass) {
			return "refused: held by " + held.Holder + " of " + held.Entry.String()
		}
		return said
	}
	t.Fatalf("no such question: %q", q)
	return ""
}

// destination finds the address that a workload would connect to.
func destination(t *testing.T, c *config.Config, found finder, text string) (netip.AddrPort, bool) {
	t.Helper()
	if dst, err := netip.ParseAddrPort(text); err == nil {
		return dst, true
	}
	host, port, _ := strings.Cut(text, ":")
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	addrs := found[host]
	if name := c.Name(host); name != nil && len(name.Addresses) > 0 {
		addrs = name.Addresses
	}
	if len(addrs) == 0 {
		return netip.AddrPort{}, false
	}
	return netip.AddrPortFrom(addrs[0], uint16(n)), true
}

// connection follows a connection through the pure parts of the proxy. It
// reports whether whoever has its address has it.
func connection(t *testing.T, c *config.Config, found finder, dst netip.AddrPort, held bool, q []string) (said string, taken bool) {
	t.Helper()
	l := c.ListenerFor(dst)
	if l == nil {
		l = c.Listener(xds.VirtualOutbound)
	}
	if q[0] == "silent" {
		if v := listener.Silent(l, dst.Addr(), listener.Policy(c), held); v.Waits {
			said, x := "listener "+l.Name+" waits for the first bytes, ", v.Ask
			switch {
			case x != nil:
				return fmt.Sprintf("%sfrom %v on of the server too: bytes%s", said, v.Patience, to(t, c, found, dst, x.TCP.Cluster, x.TCP.Entry, "nothing")), false
			case v.Patience > 0:
				return said + "for " + v.Patience.String(), false
			}
			return said + "without limit", false
		}
	}
	f := listener.Facts{Destination: dst.Addr(), Transport: "raw_buffer"}
	switch {
	case q[0] == "tls" && l.InspectTLS:
		f.Transport = "tls"
		if q[2] != "-" {
			f.ServerName = q[2]
		}
	case q[0] == "http" && l.InspectHTTP:
		f.Applications = []string{"http/1.1"}
	case q[0] == "http10" && l.InspectHTTP:
		f.Applications = []string{"http/1.0"}
	case q[0] == "h2c" && l.InspectHTTP:
		f.Applications = []string{"h2c"}
	}
	said = "listener " + l.Name
	chain := listener.Match(c, l, f)
	switch {
	case chain == nil:
		return said + ", no chain: reset", false
	case chain.TCP != nil:
		return said + ", bytes" + to(t, c, found, dst, chain.TCP.Cluster, chain.TCP.Entry, "reset"), listener.Taken(chain)
	}
	if !strings.HasPrefix(q[0], "h") {
		return said + ", 400: it is not HTTP", false
	}
	table := chain.HTTP.Inline
	if table == nil {
		table = c.RouteTable(chain.HTTP.RouteName)
	}
	host, _, err := hostname.SplitAuthority(q[2])
	if err != nil {
		t.Fatal(err)
	}
	vh, r := route.Match(table, route.Request{Host: []byte(host), Path: []byte("/")})
	switch {
	case vh == nil || r == nil:
		return said + ", requests, no route: 404", false
	case r.Direct != nil:
		return fmt.Sprintf("%s, requests, host %s, route %s: %d", said, vh.Name, r.Name, r.Direct.Status), false
	}
	return fmt.Sprintf("%s, requests, host %s, route %s%s", said, vh.Name, r.Name, to(t, c, found, dst, r.Cluster, vh.Entry, "503")), false
}

// to tells where a cluster leads. How it ends without an endpoint is fail.
func to(t *testing.T, c *config.Config, found finder, dst netip.AddrPort, name string, entry mesh.Ref, fail string) string {
	t.Helper()
	said := " to " + name
	if entry.Name != "" {
		said += " of " + entry.String()
	}
	watches := &teller{finder: found}
	set := cluster.New(watches, slog.New(slog.DiscardHandler))
	defer set.Close()
	set.Update(c, whole(c))
	watches.told.Wait()
	x := set.Get(name)
	if x == nil {
		return said + ", no such cluster: " + fail + " NC"
	}
	e, err := x.Pick(dst, nil, new(decision.Record))
	if err != nil {
		return said + ", " + err.Error() + ": " + fail + " UH"
	}
	defer e.Done()
	if x.Config().Type == config.OriginalDst {
		return said + " at " + e.String()
	}
	var all []string
	for _, s := range x.Endpoints() {
		if s.Addr.IsValid() {
			all = append(all, s.Addr.String())
		} else {
			all = append(all, s.Name)
		}
	}
	return said + " at " + strings.Join(all, " or ")
}

// resource shows a resource as it came.
func resource(t *testing.T, c *config.Config, kind, name string) string {
	t.Helper()
	var url string
	var raw []byte
	switch kind {
	case "Cluster":
		url, raw = xds.ClusterType, c.Cluster(name).Raw
	case "Listener":
		url, raw = xds.ListenerType, c.Listener(name).Raw
	default:
		t.Fatalf("no such type: %s", kind)
	}
	text, err := decode.JSON(url, raw)
	if err != nil {
		t.Fatal(err)
	}
	var indented bytes.Buffer
	if err := json.Indent(&indented, text, "    ", "  "); err != nil {
		t.Fatal(err)
	}
	return indented.String()
}

// whole is the delta from nothing to what clusters are made of.
func whole(c *config.Config) config.Delta {
	return config.Delta{Clusters: slices.Collect(c.Clusters()), Assignments: slices.Collect(c.Assignments())}
}

// A finder is a resolver that knows what it was told, and that other names have
// no address.
type finder map[string][]netip.Addr

// Lookup implements cluster.Resolver.
func (f finder) Lookup(_ context.Context, name string) resolve.Answer { return f.find(name) }

func (f finder) find(name string) resolve.Answer {
	if addrs := f[name]; len(addrs) > 0 {
		return resolve.Answer{Addrs: addrs, State: decision.Fresh}
	}
	return resolve.Answer{State: decision.Negative}
}

// A teller answers each watch once.
type teller struct {
	finder
	told sync.WaitGroup
}

// Watch implements cluster.Resolver.
func (w *teller) Watch(name string, on func(resolve.Answer)) (stop func()) {
	w.told.Go(func() { on(w.find(name)) })
	return w.told.Wait
}
