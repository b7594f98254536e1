package control

import (
	"strings"
	"testing"

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
