package registry

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

func meshConfig(t *testing.T, text string) Change {
	t.Helper()
	objects, problems := api.Read("mesh.yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata: {mesh: '"+text+"'}\n"), "default")
	if api.HasError(problems) || len(objects) != 1 {
		t.Fatalf("%s: %v", text, problems)
	}
	return Change{Key: objects[0].Key, Object: objects[0]}
}

func TestTheMeshIsConfiguredByAnObject(t *testing.T) {
	r := New(config.Default())
	c := meshConfig(t, `{outboundTrafficPolicy: {mode: REGISTRY_ONLY}, connectTimeout: 3s, dnsRefreshRate: 5s, rootNamespace: root, defaultServiceExportTo: ["."]}`)
	s, d := r.Apply(epoch, []Change{c})
	want := config.Mesh{
		OutboundTrafficPolicy: mesh.RegistryOnly, ConnectTimeout: 3 * time.Second, DNSRefreshRate: 5 * time.Second,
		RootNamespace: "root", DefaultServiceExportTo: []string{"."}, DNSCapture: true,
		VirtualIPv4: config.Default().VirtualIPv4, VirtualIPv6: config.Default().VirtualIPv6,
	}
	if diff := cmp.Diff(want, s.Mesh(), addresses); diff != "" || !d.Mesh {
		t.Errorf("delta %v, (-want +got):\n%s", d.Mesh, diff)
	}
	if _, d := r.Apply(epoch, []Change{c}); d.Mesh {
		t.Error("saying it again is a change")
	}
	s, d = r.Apply(epoch, []Change{meshConfig(t, "{connectTimeout: 4s}")})
	want = config.Default()
	want.ConnectTimeout = 4 * time.Second
	if diff := cmp.Diff(want, s.Mesh(), addresses); diff != "" || !d.Mesh {
		t.Errorf("what is not said is not the default: delta %v, (-want +got):\n%s", d.Mesh, diff)
	}
	s, d = r.Apply(epoch, []Change{{Key: c.Key}})
	if diff := cmp.Diff(config.Default(), s.Mesh(), addresses); diff != "" || !d.Mesh {
		t.Errorf("gone: delta %v, (-want +got):\n%s", d.Mesh, diff)
	}
}

func TestTheDefaultOfExportToFollowsItsObject(t *testing.T) {
	r := New(config.Default())
	r.Apply(epoch, []Change{
		object(t, "ServiceEntry a/e: hosts: [x.example], resolution: DNS, "+http80),
		object(t, `ServiceEntry a/f: hosts: [y.example], exportTo: ["*"], resolution: DNS, `+http80),
	})
	s, d := r.Apply(epoch, []Change{meshConfig(t, `{defaultServiceExportTo: ["."]}`)})
	if s.Service("b", "x.example") != nil || s.Service("a", "x.example") == nil || s.Service("b", "y.example") == nil || names(d.Hosts) != "x.example" {
		t.Errorf("private by default: touched %v", d.Hosts)
	}
	s, d = r.Apply(epoch, []Change{meshConfig(t, "{}")})
	if s.Service("b", "x.example") == nil || names(d.Hosts) != "x.example" {
		t.Errorf("public again: touched %v", d.Hosts)
	}
}

func TestTheRootNamespaceFollowsItsObject(t *testing.T) {
	r := New(config.Default())
	sidecar := object(t, `Sidecar root/s: egress: [{hosts: ["./*"]}]`)
	before, _ := r.Apply(epoch, []Change{sidecar})
	after, _ := r.Apply(epoch, []Change{meshConfig(t, "{rootNamespace: root}")})
	if before.Sidecar("a", nil) != nil || after.Sidecar("a", nil) == nil {
		t.Errorf("before %v, after %v", before.Sidecar("a", nil), after.Sidecar("a", nil))
	}
}
