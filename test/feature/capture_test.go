package feature

import (
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/api"
	meshconfig "github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/golden"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/sandbox"
)

// TestVirtualAddressesFollowTheCapture shows what a workload's proxy is
// configured with, and what was found wrong, by what of its traffic is captured.
// The objects are in testdata/capture.
func TestVirtualAddressesFollowTheCapture(t *testing.T) {
	const prefix = "traffic.sidecar.istio.io/"
	data, err := os.ReadFile("testdata/capture/objects.yaml")
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		mode, dns   string
		annotations map[string]string
	}{
		"everything":         {},
		"no-tcp":             {mode: "NONE"},
		"no-dns":             {dns: "false"},
		"one-port-excluded":  {annotations: map[string]string{prefix + "excludeOutboundPorts": "6379"}},
		"range-excluded":     {annotations: map[string]string{prefix + "excludeOutboundIPRanges": "240.0.0.0/4,2001:2::/48"}},
		"ipv6-past":          {annotations: map[string]string{prefix + "includeOutboundIPRanges": "0.0.0.0/0"}},
		"ports-and-no-range": {annotations: map[string]string{prefix + "includeOutboundIPRanges": "10.0.0.0/8", prefix + "includeOutboundPorts": "5432"}},
	} {
		t.Run(name, func(t *testing.T) {
			capture, err := mesh.ParseCapture(c.mode, c.dns, c.annotations)
			if err != nil {
				t.Fatal(err)
			}
			sc := newScene(t, "objects.yaml", data)
			tr, problems := translate.New(translate.View{Namespace: "default", Capture: capture}, sc.snapshot.Through(nil, capture))
			var none *config.Config
			golden.Check(t, "testdata/capture/"+name+".golden", fmt.Sprintf("past the proxy: %s\n", capture)+problemsAsText(problems)+tell(none.Apply(decoded(t, tr.Set()))))
		})
	}
}

// TestNoRangeOfVirtualAddressesHoldsTheSandboxsOwn, whatever is written.
func TestNoRangeOfVirtualAddressesHoldsTheSandboxsOwn(t *testing.T) {
	for _, own := range sandbox.Addresses() {
		for bits := 8; bits <= own.BitLen()-2; bits++ {
			p := netip.PrefixFrom(own, bits).Masked()
			_, problems := api.Read("mesh.yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\n  annotations: {fairlead.dev/virtual-addresses: \""+p.String()+"\"}\n"), "default")
			if !api.HasError(problems) {
				t.Errorf("%s is taken, which holds %s", p, own)
			}
		}
	}
}

// TestARangeThatIsUsedUp leaves hosts with their own address, and says which.
func TestARangeThatIsUsedUp(t *testing.T) {
	var yaml strings.Builder
	yaml.WriteString("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\n  annotations: {fairlead.dev/virtual-addresses: 240.1.0.0/30}\n")
	for i := range 3 {
		fmt.Fprintf(&yaml, "---\napiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db%d}\nspec:\n  hosts: [db%d.example.com]\n  resolution: STATIC\n  ports: [{number: %d, name: db, protocol: TCP}]\n  endpoints: [{address: 192.0.2.1}]\n", i, i, 3306+i)
	}
	objects, problems := api.Read("a.yaml", []byte(yaml.String()), "default")
	if len(problems) > 0 {
		t.Fatal(problems)
	}
	var changes []registry.Change
	for _, o := range objects {
		changes = append(changes, registry.Change{Key: o.Key, Object: o})
	}
	snapshot, delta := registry.New(meshconfig.Default()).Apply(someday, changes)
	tr, more := translate.New(translate.View{Namespace: "default"}, snapshot.Through(nil, mesh.Capture{}))
	if len(delta.Problems) != 1 || len(more) != 0 {
		t.Fatalf("found %v and %v, want one host without an address", delta.Problems, more)
	}
	var none *config.Config
	c := none.Apply(decoded(t, tr.Set()))
	for i := range 3 {
		host := fmt.Sprintf("db%d.example.com", i)
		without := delta.Problems[0].Object.Name == fmt.Sprintf("db%d", i)
		if got := len(c.Name(host).Addresses); without != (got == 0) {
			t.Errorf("%s is answered with %d addresses; told %s", host, got, delta.Problems[0])
		}
		if l := c.ListenerFor(netip.AddrPortFrom(netip.MustParseAddr("192.0.2.77"), uint16(3306+i))); without != (l != nil) {
			t.Errorf("%s: its own address leads to %v", host, l)
		}
	}
}
