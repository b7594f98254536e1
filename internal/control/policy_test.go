package control

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

// TestARulingSaysWhoIsNotHeard of the command line, the mesh and the Sidecar.
func TestARulingSaysWhoIsNotHeard(t *testing.T) {
	const (
		open, closed = "outboundTrafficPolicy: {mode: ALLOW_ANY}", "outboundTrafficPolicy: {mode: REGISTRY_ONLY}"
		meshIs       = "ConfigMap istio-system/istio"
	)
	for name, c := range map[string]struct {
		flag        mesh.OutboundPolicy
		yaml        string
		policy, why string
	}{
		"nobody says anything":     {mesh.AllowAny, "", "ALLOW_ANY", ""},
		"all open":                 {mesh.AllowAny, meshObject(open) + sidecar("s", open), "ALLOW_ANY", ""},
		"all closed":               {mesh.RegistryOnly, meshObject(closed) + sidecar("s", closed), "REGISTRY_ONLY", ""},
		"the mesh says else":       {mesh.AllowAny, meshObject("connectTimeout: 1s"), "ALLOW_ANY", ""},
		"the mesh closes":          {mesh.AllowAny, meshObject(closed), "REGISTRY_ONLY", "by " + meshIs + ", which closes what the command line leaves open"},
		"the mesh opens in vain":   {mesh.RegistryOnly, meshObject(open), "REGISTRY_ONLY", "by the command line, which no object opens: " + meshIs + " says ALLOW_ANY in vain"},
		"a Sidecar opens":          {mesh.AllowAny, meshObject(closed) + sidecar("s", open), "ALLOW_ANY", "by Sidecar default/s, which goes before " + meshIs},
		"a Sidecar closes":         {mesh.AllowAny, sidecar("s", closed), "REGISTRY_ONLY", "by Sidecar default/s, which goes before the mesh's policy and closes what the command line leaves open"},
		"a Sidecar opens in vain":  {mesh.RegistryOnly, sidecar("s", open), "REGISTRY_ONLY", "by the command line, which no object opens: Sidecar default/s says ALLOW_ANY in vain"},
		"a Sidecar for the hosts":  {mesh.AllowAny, meshObject(closed) + sidecar("s", "egress: [{hosts: [\"*/*\"]}]"), "REGISTRY_ONLY", "by " + meshIs + ", which closes what the command line leaves open"},
		"a Sidecar hides the mesh": {mesh.RegistryOnly, meshObject(open) + sidecar("s", closed), "REGISTRY_ONLY", ""},
	} {
		t.Run(name, func(t *testing.T) {
			p := stdin(t, c.flag, httpEntry("default", "own")+"---\n"+c.yaml)
			got := p.Ruling("default", nil)
			got.By = regexp.MustCompile(` \(stdin:\d+\)`).ReplaceAllString(got.By, "")
			if got.Policy.String() != c.policy || got.By != c.why {
				t.Errorf("got %s, %q; want %s, %q", got.Policy, got.By, c.policy, c.why)
			}
			if p.Policy("default", nil) != got.Policy {
				t.Errorf("Policy says %s", p.Policy("default", nil))
			}
		})
	}
}

func TestAChangeOfThePolicyIsLoggedWithItsReason(t *testing.T) {
	var said bytes.Buffer
	p, _, err := New(Options{Paths: []string{"-"}, Stdin: strings.NewReader(httpEntry("default", "own")), Namespace: "default", Policy: mesh.AllowAny, Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, step := range []struct{ mode, want string }{
		{"REGISTRY_ONLY", `policy=REGISTRY_ONLY reason="by ConfigMap istio-system/istio`},
		{"ALLOW_ANY", "policy=ALLOW_ANY\n"},
	} {
		said.Reset()
		change(t, p, meshObject("outboundTrafficPolicy: {mode: "+step.mode+"}"))
		change(t, p, httpEntry("default", "another"+strings.ToLower(step.mode[:1])))
		if n := strings.Count(said.String(), "the outbound policy changed"); n != 1 || !strings.Contains(said.String(), step.want) {
			t.Errorf("to %s: said %d times, want once %q:\n%s", step.mode, n, step.want, &said)
		}
	}
}

// TestTheProblemsThereAreCanBeAskedFor those of files and those of objects together.
func TestTheProblemsThereAreCanBeAskedFor(t *testing.T) {
	p := logging(t, write("a", "TCP")+write("b", "TCP"))
	var errs []string
	for _, x := range p.Problems() {
		if x.Severity == api.Error {
			errs = append(errs, x.Message)
		}
	}
	if len(errs) != 1 || !strings.Contains(errs[0], "is refused") || p.Problems()[0].Severity != api.Error {
		t.Errorf("got %v", p.Problems())
	}
	remove(p.Plane, api.KindServiceEntry, "a")
	for _, x := range p.Problems() {
		if x.Severity == api.Error {
			t.Errorf("still there: %s", x)
		}
	}
	if !strings.Contains(p.said.String(), `msg=solved since="ServiceEntry default/a is gone" was="port 5432`) {
		t.Errorf("the end is not told as good news:\n%s", &p.said)
	}
}
