package control

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// stdin is a Plane of objects that no watch follows.
func stdin(t *testing.T, policy mesh.OutboundPolicy, yaml string) *Plane {
	t.Helper()
	p, _, err := New(Options{Paths: []string{"-"}, Stdin: strings.NewReader(yaml), Namespace: "default", Policy: policy, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	return p
}

// change reads objects and applies them.
func change(t *testing.T, p *Plane, yaml string) {
	t.Helper()
	objects, problems := api.Read("-", []byte(yaml), "default")
	if api.HasError(problems) {
		t.Fatal(problems)
	}
	var changes []registry.Change
	for _, o := range objects {
		changes = append(changes, registry.Change{Key: o.Key, Object: o})
	}
	p.Apply(changes)
}

func remove(p *Plane, kind, name string) {
	p.Apply([]registry.Change{{Key: api.Key{Kind: kind, Namespace: "default", Name: name}}})
}

// A client holds what a proxy was told.
type client struct {
	set   *translate.Set
	calls int
	last  []translate.Key
}

func join(t *testing.T, p *Plane, labels map[string]string) *client {
	t.Helper()
	c := &client{}
	leave := p.Join(ads.Node{ID: "x", Namespace: "default", Labels: labels}, func(s *translate.Set, keys []translate.Key) {
		if c.calls > 0 && !slices.Equal(keys, translate.Diff(c.set, s)) {
			t.Errorf("told of %v, and different are %v", keys, translate.Diff(c.set, s))
		}
		c.set, c.last = s, keys
		c.calls++
	})
	t.Cleanup(leave)
	return c
}

// tells lists the hosts a client knows and what happens to others.
func (c *client) tells() string {
	var all []string
	for r := range c.set.WithPrefix(xds.NameType, "") {
		all = append(all, r.Name)
	}
	policy := "open"
	if c.set.Get(translate.Key{Type: xds.VirtualHostType, Name: xds.VirtualHostResource("80", xds.BlockAll)}) != nil {
		policy = "closed"
	}
	return strings.Join(append(all, policy), " ")
}

func httpEntry(namespace, name string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: %s, namespace: %s}\nspec: {hosts: [%s.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n", name, namespace, name)
}

func sidecar(name, spec string) string {
	return fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: %s}\nspec: {%s}\n---\n", name, spec)
}

func TestEachProxyFollowsItsSidecar(t *testing.T) {
	p := stdin(t, mesh.AllowAny, httpEntry("default", "own")+httpEntry("other", "other"))
	x, y := join(t, p, map[string]string{"app": "x"}), join(t, p, map[string]string{"app": "z"})
	check := func(step, wantX, wantY string) {
		t.Helper()
		if diff := cmp.Diff([]string{wantX, wantY}, []string{x.tells(), y.tells()}); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step, diff)
		}
	}
	check("at first", "other.example own.example open", "other.example own.example open")
	change(t, p, sidecar("x", `workloadSelector: {labels: {app: x}}, egress: [{hosts: ["./*"]}], outboundTrafficPolicy: {mode: REGISTRY_ONLY}`))
	check("one for x", "own.example closed", "other.example own.example open")
	if y.calls != 1 {
		t.Errorf("y was told %d times, want once", y.calls)
	}
	change(t, p, httpEntry("default", "more")+httpEntry("other", "hidden"))
	check("entries come", "more.example own.example closed", "hidden.example more.example other.example own.example open")
	change(t, p, sidecar("all", `egress: [{hosts: ["other/*"]}]`))
	check("one for all", "more.example own.example closed", "hidden.example other.example open")
	remove(p, "Sidecar", "x")
	check("x has that for all", "hidden.example other.example open", "hidden.example other.example open")
	if x.set != y.set {
		t.Error("proxies with one Sidecar do not share their set")
	}
	remove(p, "Sidecar", "all")
	check("none", "hidden.example more.example other.example own.example open", "hidden.example more.example other.example own.example open")
	if len(p.views) != 1 {
		t.Errorf("%d views are kept", len(p.views))
	}
}

// TestNoSidecarOpensWhatWasClosed holds what --closed promises.
func TestNoSidecarOpensWhatWasClosed(t *testing.T) {
	p := stdin(t, mesh.RegistryOnly, httpEntry("default", "own")+sidecar("s", "outboundTrafficPolicy: {mode: ALLOW_ANY}"))
	if got := join(t, p, nil).tells(); got != "own.example closed" {
		t.Errorf("got %s", got)
	}
}

func TestAPolicyWithoutAModeCloses(t *testing.T) {
	p := stdin(t, mesh.AllowAny, httpEntry("default", "own")+sidecar("s", "outboundTrafficPolicy: {}"))
	if got := join(t, p, nil).tells(); got != "own.example closed" {
		t.Errorf("got %s", got)
	}
}
