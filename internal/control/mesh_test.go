package control

import (
	"bytes"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

func meshObject(text string) string {
	return "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + strings.ReplaceAll(text, "\n", "\n    ") + "\n---\n"
}

func TestTheMeshsConfigurationIsFollowed(t *testing.T) {
	p := stdin(t, mesh.AllowAny, httpEntry("default", "own")+httpEntry("other", "other")+meshObject("outboundTrafficPolicy: {mode: REGISTRY_ONLY}"))
	c := join(t, p, nil)
	check := func(step, want string) {
		t.Helper()
		if got := c.tells(); got != want {
			t.Errorf("%s: got %s, want %s", step, got, want)
		}
	}
	check("closed at first", "other.example own.example closed")
	if p.Policy("default", nil) != mesh.RegistryOnly {
		t.Errorf("the policy is %s", p.Policy("default", nil))
	}
	change(t, p, meshObject("outboundTrafficPolicy: {mode: ALLOW_ANY}"))
	check("opened", "other.example own.example open")
	change(t, p, meshObject("defaultServiceExportTo: [.]"))
	check("private by default", "own.example open")
	change(t, p, meshObject("trustDomain: a"))
	check("public again", "other.example own.example open")

	calls := c.calls
	change(t, p, meshObject("trustDomain: b"))
	if c.calls != calls {
		t.Error("told of a change that is none")
	}
	change(t, p, meshObject("connectTimeout: 3s"))
	if c.calls != calls+1 {
		t.Errorf("told %d times of a new timeout, want once", c.calls-calls)
	}
	for _, key := range c.last {
		if key.Type != xds.ClusterType {
			t.Errorf("a timeout changes %v", key)
		}
	}
	if len(c.last) != 4 {
		t.Errorf("a timeout changes %v, want four clusters", c.last)
	}
}

func TestASidecarGoesBeforeTheMesh(t *testing.T) {
	p := stdin(t, mesh.AllowAny, httpEntry("default", "own")+meshObject("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")+sidecar("s", "outboundTrafficPolicy: {mode: ALLOW_ANY}"))
	if got := join(t, p, nil).tells(); got != "own.example open" {
		t.Errorf("got %s", got)
	}
}

func TestNoMeshOpensWhatWasClosed(t *testing.T) {
	p := stdin(t, mesh.RegistryOnly, httpEntry("default", "own")+meshObject("outboundTrafficPolicy: {mode: ALLOW_ANY}"))
	if got := join(t, p, nil).tells(); got != "own.example closed" || p.Policy("default", nil) != mesh.RegistryOnly {
		t.Errorf("got %s, policy %s", got, p.Policy("default", nil))
	}
}

// TestTheMeshSaysWhetherDNSIsCaptured where a proxy does not.
func TestTheMeshSaysWhetherDNSIsCaptured(t *testing.T) {
	const db = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db}\nspec: {hosts: [db.example], resolution: DNS, ports: [{number: 3306, name: db, protocol: TCP}]}\n---\n"
	off := meshObject(`defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: "false"}}`)
	p := stdin(t, mesh.AllowAny, db)
	clients := map[string]*client{}
	for name, n := range map[string]ads.Node{"says nothing": {DNSUnsaid: true}, "is asked": {}} {
		cl := &client{}
		n.ID, n.Namespace = name, "default"
		t.Cleanup(p.Join(n, func(s *translate.Set, keys []translate.Key) { cl.set, cl.last = s, keys }))
		clients[name] = cl
	}
	check := func(step string, want map[string]bool) {
		t.Helper()
		for name, virtual := range want {
			r := clients[name].set.Get(translate.Key{Type: xds.NameType, Name: "db.example"})
			if r == nil || bytes.Contains(r.Body.GetValue(), []byte("240.240.")) != virtual {
				t.Errorf("%s: the proxy that %s gets the name %v, virtual: want %v", step, name, r, virtual)
			}
		}
		e, _ := p.Explain("default", nil, "db.example")
		if virtual := len(e.Owner.Service.VIPs) > 0; virtual != want["says nothing"] {
			t.Errorf("%s: who-owns shows virtual addresses: %v", step, virtual)
		}
	}
	check("at first", map[string]bool{"says nothing": true, "is asked": true})
	change(t, p, db+off)
	check("off", map[string]bool{"says nothing": false, "is asked": true})
	change(t, p, meshObject("trustDomain: a"))
	check("on again", map[string]bool{"says nothing": true, "is asked": true})
}
