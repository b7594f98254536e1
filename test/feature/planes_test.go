package feature

import (
	"cmp"
	"encoding/json"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestPlanesAgreeWhateverTheirPast changes objects of every kind at random,
// Sidecars and the mesh-wide configuration among them, and compares what proxies
// are told of it, step by step, with what a Plane tells that only ever had the
// objects that are left.
func TestPlanesAgreeWhateverTheirPast(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := newObjects(t, rand.New(rand.NewPCG(seed, 34)), true)
			random.frames, random.ranges = true, []string{"240.240.0.0/16", "241.77.0.0/16", "240.241.0.0/20,2001:2:0:9::/64"} // which sort alike, as domains are sorted
			now := newPlane(t)
			for changes := 0; changes < 2000; {
				most := 1 + random.IntN(60)
				if random.IntN(2) == 0 {
					most = 2 // what few leave stale nothing repairs
				}
				for range 5 {
					all := random.changes(min(1+random.IntN(most), 2000-changes+1))
					now.Apply(all)
					changes += len(all)
				}
				if changes > 200 && random.IntN(3) > 0 {
					continue
				}
				then := newPlane(t)
				then.Apply(random.all())
				now.compare(t, then)
				if t.Failed() {
					t.Fatalf("after %d changes", changes)
				}
			}
		})
	}
}

// A followed Plane has proxies, and what they were told.
type followed struct {
	*control.Plane
	sets []*translate.Set
}

// proxies are those of a followed Plane.
func proxies() []ads.Node {
	return []ads.Node{
		{ID: "0", Namespace: "a"},
		{ID: "1", Namespace: "a", Labels: map[string]string{"app": "x"}},
		{ID: "2", Namespace: "b"},
		{ID: "3", Namespace: "elsewhere", DNSUnsaid: true},
	}
}

func newPlane(t *testing.T) *followed {
	t.Helper()
	p, _, err := control.New(control.Options{Namespace: "default", Policy: mesh.AllowAny, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	f := &followed{Plane: p, sets: make([]*translate.Set, len(proxies()))}
	for i, n := range proxies() {
		t.Cleanup(p.Join(n, func(s *translate.Set, _ []translate.Key) { f.sets[i] = s }))
	}
	return f
}

// virtual are the virtual addresses of hosts, as proxies were told.
func (f *followed) virtual(t *testing.T) map[hostname.Name][]netip.Addr {
	t.Helper()
	all := map[hostname.Name][]netip.Addr{}
	for _, set := range f.sets {
		for r := range set.WithPrefix(xds.NameType, "") {
			text, err := decode.JSON(r.Type, r.Body.GetValue())
			var name struct {
				Addresses []netip.Addr
				Virtual   bool
			}
			if err := cmp.Or(err, json.Unmarshal(text, &name)); err != nil {
				t.Fatal(err)
			}
			if name.Virtual {
				all[hostname.Name(r.Name)] = name.Addresses
			}
		}
	}
	return all
}

// compare compares what proxies of two Planes have, but for the virtual addresses
// that hosts kept.
func (f *followed) compare(t *testing.T, scratch *followed) {
	t.Helper()
	aliasHere, aliasThere := aliases(f.virtual(t), scratch.virtual(t))
	for i, n := range proxies() {
		if diff := difference(t, scratch.sets[i], f.sets[i], replacer(aliasThere), replacer(aliasHere)); diff != "" {
			t.Errorf("resources of %s in %s (-from scratch +by changes):\n%s", n.ID, n.Namespace, diff)
		}
		if here, there := f.Policy(n.Namespace, n.Labels), scratch.Policy(n.Namespace, n.Labels); here != there {
			t.Errorf("%s has policy %s, from scratch %s", n.ID, here, there)
		}
	}
	if here, there := f.Errors(), scratch.Errors(); here != there {
		t.Errorf("%d errors, from scratch %d", here, there)
	}
}

func (o *randomObjects) sidecar() string {
	var b strings.Builder
	if o.IntN(3) == 0 {
		fmt.Fprintf(&b, "  workloadSelector: {labels: {app: %s}}\n", o.one("x", "y"))
	}
	if o.IntN(3) == 0 {
		fmt.Fprintf(&b, "  outboundTrafficPolicy: {mode: %s}\n", o.one("ALLOW_ANY", "REGISTRY_ONLY"))
	}
	b.WriteString("  egress:\n")
	hosts := func() string {
		return o.some(3, func() string {
			return fmt.Sprintf("%q", o.one("./*", "*/*", "b/*", "c/*.example.com", "*/*.w1.example.com", "a/h1.example.com", "~*/*.w2.example.com"))
		})
	}
	numbers := []int{80, 443, 3306}
	for _, p := range o.Perm(len(numbers))[:o.IntN(3)] {
		fmt.Fprintf(&b, "  - {port: {number: %d, protocol: TCP, name: p%d}, captureMode: %s, hosts: %s}\n", numbers[p], p, o.one("DEFAULT", "DEFAULT", "NONE"), hosts())
	}
	fmt.Fprintf(&b, "  - {hosts: %s}\n", hosts())
	return b.String()
}

func (o *randomObjects) mesh() string {
	annotations := ""
	if len(o.ranges) > 0 && o.IntN(2) == 0 {
		annotations = fmt.Sprintf(", annotations: {%s: %q}", api.VirtualAddresses, o.one(o.ranges...))
	}
	var b strings.Builder
	for _, line := range []string{
		"outboundTrafficPolicy: {mode: REGISTRY_ONLY}", "defaultServiceExportTo: [.]", "defaultServiceExportTo: [b]", "rootNamespace: a",
		"connectTimeout: 3s", "protocolDetectionTimeout: 1s", `defaultConfig: {proxyMetadata: {ISTIO_META_DNS_CAPTURE: "false"}}`,
	} {
		key, _, _ := strings.Cut(line, ":")
		if o.IntN(4) == 0 && !strings.Contains(b.String(), key) {
			b.WriteString("    " + line + "\n")
		}
	}
	return fmt.Sprintf("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system%s}\ndata:\n  mesh: |\n    trustDomain: t%d\n%s", annotations, o.IntN(2), b.String())
}
