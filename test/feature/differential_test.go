package feature

import (
	"fmt"
	"iter"
	"maps"
	"math/rand/v2"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	meshconfig "github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/control/vip"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/decode"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestTwoThousandChangesLeaveWhatTheirObjectsMake changes objects at random and
// compares what came of it, step by step, with what the objects that are left
// make from scratch: what each view sees and every resource of it.
func TestTwoThousandChangesLeaveWhatTheirObjectsMake(t *testing.T) {
	for seed := range uint64(3) {
		t.Run(fmt.Sprint("seed ", seed), func(t *testing.T) {
			t.Parallel()
			random := newObjects(t, rand.New(rand.NewPCG(seed, 33)), true)
			now := newHistory(t)
			displaced := 0
			for changes := 0; changes < 2000; {
				// Many at once, as a folder that is copied brings them; then few,
				// as people make them: what those leave stale nothing repairs.
				for end := changes + 360; changes < end; {
					changes += now.apply(random.changes(min(1+random.IntN(150), end-changes)))
				}
				for end := changes + 40; changes < end; {
					changes += now.apply(random.changes(min(1+random.IntN(3), end-changes)))
				}
				displaced += now.compare(random.all())
				if t.Failed() {
					t.Fatalf("after %d changes", changes)
				}
			}
			t.Logf("%d objects at the end, %d addresses were another host's", len(random.have), displaced)
		})
	}
}

// narrowed are Sidecars of views. They are not among the objects.
const narrowed = `apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: some, namespace: a}
spec: {egress: [{hosts: ["./*", "b/*.example.com", "c/*", "~*/*.w1.example.com"]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: few, namespace: b}
spec: {egress: [{hosts: ["*/h1.example.com", "*/h2.example.com", "a/*"]}]}
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: ports, namespace: a}
spec:
  egress:
  - {port: {number: 3306, protocol: TCP, name: db}, hosts: ["b/*", "./*.example.com"]}
  - {port: {number: 443, protocol: TLS, name: tls}, captureMode: NONE, hosts: ["*/h3.example.com", "c/*"]}
  - {port: {number: 80, protocol: HTTP, name: http}, hosts: ["c/*"]}
  - {hosts: ["*/*", "~/*.w2.example.com"]}
`

// captures are what of workloads' traffic comes to their proxies: each is that
// of one view more.
func captures(t *testing.T) []mesh.Capture {
	t.Helper()
	const prefix = "traffic.sidecar.istio.io/"
	var all []mesh.Capture
	for _, c := range []struct {
		mode, dns   string
		annotations map[string]string
	}{
		{"NONE", "", nil},
		{"", "false", nil},
		{"", "", map[string]string{prefix + "excludeOutboundPorts": "3306,443"}},
		{"", "", map[string]string{prefix + "includeOutboundIPRanges": "240.240.0.0/17", prefix + "includeOutboundPorts": "80,6379"}},
	} {
		capture, err := mesh.ParseCapture(c.mode, c.dns, c.annotations)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, capture)
	}
	return all
}

// A history is a registry and some views of it, all kept up to date.
type history struct {
	t        *testing.T
	registry *registry.Registry
	snapshot *registry.Snapshot
	views    []translate.View
	made     []*translate.Translator
	told     map[api.Problem]bool // that hold of what was joined
}

func newHistory(t *testing.T) *history {
	t.Helper()
	h := &history{t: t, registry: registry.New(meshconfig.Default()), told: map[api.Problem]bool{}, views: []translate.View{
		{Namespace: "a"},
		{Namespace: "b", Policy: mesh.RegistryOnly},
		{Namespace: "elsewhere"},
	}}
	sidecars, problems := api.Read("sidecars.yaml", []byte(narrowed), "")
	if api.HasError(problems) {
		t.Fatal(problems)
	}
	for _, o := range sidecars {
		h.views = append(h.views, translate.View{Namespace: o.Namespace, Sidecar: api.Sidecar(o)})
	}
	for _, c := range captures(t) {
		h.views = append(h.views, translate.View{Namespace: "a", Capture: c})
	}
	both := h.views[len(h.views)-1]
	both.Sidecar = api.Sidecar(sidecars[len(sidecars)-1])
	h.views = append(h.views, both)
	h.snapshot, _ = h.registry.Apply(someday, nil)
	for _, v := range h.views {
		tr, _ := translate.New(v, h.snapshot.Through(v.Sidecar, v.Capture))
		h.made = append(h.made, tr)
	}
	return h
}

// apply makes the changes and returns how many they are.
func (h *history) apply(changes []registry.Change) int {
	snapshot, delta := h.registry.Apply(someday, changes)
	h.snapshot = snapshot
	h.tell(delta)
	for i, v := range h.views {
		h.made[i].Update(snapshot.Through(v.Sidecar, v.Capture), delta.Hosts)
	}
	return len(changes)
}

// counted pairs each with true.
func counted[T any](all iter.Seq[T]) iter.Seq2[T, bool] {
	return func(yield func(T, bool) bool) {
		for x := range all {
			if !yield(x, true) {
				return
			}
		}
	}
}

// tell follows which problems hold.
func (h *history) tell(d registry.Delta) {
	for _, x := range d.Ended {
		delete(h.told, x)
	}
	for _, x := range d.Problems {
		h.told[x] = true
	}
}

// compare compares with a history that only ever had the objects given, and
// returns how many virtual addresses differ: of two hosts that want one, the
// first has it, so those hosts are compared apart from their addresses.
func (h *history) compare(objects []registry.Change) (displaced int) {
	h.t.Helper()
	fresh := newHistory(h.t)
	var delta registry.Delta
	fresh.snapshot, delta = fresh.registry.Apply(someday, objects)
	fresh.tell(delta)
	if diff := cmp.Diff(fresh.told, h.told); diff != "" {
		h.t.Errorf("what is told of objects that were joined (-from scratch +by changes):\n%s", diff)
	}
	for i, v := range h.views {
		fresh.made[i], _ = translate.New(v, fresh.snapshot.Through(v.Sidecar, v.Capture))
	}
	aliasOld, aliasNew := aliases(h.virtual(), fresh.virtual())
	for i, v := range h.views {
		got, want := seen(h.snapshot, v, aliasOld), seen(fresh.snapshot, v, aliasNew)
		if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }), cmp.Comparer(func(a, b netip.Addr) bool { return a == b })); diff != "" {
			h.t.Errorf("what %s sees (-from scratch +by changes):\n%s", v.Namespace, diff)
		}
		if diff := difference(h.t, fresh.made[i].Set(), h.made[i].Set(), replacer(aliasNew), replacer(aliasOld)); diff != "" {
			h.t.Errorf("resources of %s (-from scratch +by changes):\n%s", v.Namespace, diff)
		}
		if diff := cmp.Diff(maps.Collect(counted(fresh.made[i].Holding())), maps.Collect(counted(h.made[i].Holding()))); diff != "" {
			h.t.Errorf("what is told of ports of %s (-from scratch +by changes):\n%s", v.Namespace, diff)
		}
	}
	return len(aliasOld)
}

// virtual are the virtual addresses of hosts. A host has the same ones wherever
// it has any.
func (h *history) virtual() map[hostname.Name][]netip.Addr {
	all := map[hostname.Name][]netip.Addr{}
	for _, v := range h.views {
		for s := range h.snapshot.Through(v.Sidecar, v.Capture).Services(v.Namespace) {
			if len(s.VIPs) > 0 {
				all[s.Host] = s.VIPs
			}
		}
	}
	return all
}

// aliases gives names to the virtual addresses that a host has only here or
// only there.
func aliases(a, b map[hostname.Name][]netip.Addr) (inA, inB map[string]string) {
	inA, inB = map[string]string{}, map[string]string{}
	for host, here := range a {
		there := b[host]
		if len(here) != len(there) || slices.Equal(here, there) {
			continue
		}
		for i := range here {
			alias := fmt.Sprintf("<virtual address %d of %s>", i, host)
			inA[here[i].String()], inB[there[i].String()] = alias, alias
		}
	}
	return inA, inB
}

// seen is what a view sees, by host.
func seen(snapshot *registry.Snapshot, v translate.View, alias map[string]string) map[hostname.Name]mesh.Service {
	all := map[hostname.Name]mesh.Service{}
	for s := range snapshot.Through(v.Sidecar, v.Capture).Services(v.Namespace) {
		c := *s
		if len(c.VIPs) > 0 && alias[c.VIPs[0].String()] != "" {
			c.VIPs = nil
		}
		all[s.Host] = c
	}
	return all
}

// resources are a set by type and name, in which addresses have their aliases.
func resources(set *translate.Set, alias *strings.Replacer) map[string]*translate.Resource {
	all := map[string]*translate.Resource{}
	for _, kind := range xds.Types {
		for r := range set.WithPrefix(kind, "") {
			all[xds.ShortType(kind)+" "+alias.Replace(r.Name)] = r
		}
	}
	return all
}

func replacer(alias map[string]string) *strings.Replacer {
	var pairs []string
	for _, a := range slices.Sorted(maps.Keys(alias)) {
		pairs = append(pairs, a, alias[a])
	}
	return strings.NewReplacer(pairs...)
}

// difference tells what is not the same in two sets, or nothing. A version is a
// hash of the content, so contents are looked at only where versions differ.
func difference(t *testing.T, want, got *translate.Set, aliasWant, aliasGot *strings.Replacer) string {
	t.Helper()
	wanted, had := resources(want, aliasWant), resources(got, aliasGot)
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		w, g := wanted[name], had[name]
		switch {
		case g == nil:
			fmt.Fprintf(&b, "%s is missing\n", name)
		case w.Version != g.Version:
			b.WriteString(cmp.Diff(content(t, w, aliasWant), content(t, g, aliasGot)))
		}
		delete(had, name)
	}
	for _, name := range slices.Sorted(maps.Keys(had)) {
		fmt.Fprintf(&b, "%s is too much\n", name)
	}
	return b.String()
}

func content(t *testing.T, r *translate.Resource, alias *strings.Replacer) string {
	t.Helper()
	text, err := decode.JSON(r.Type, r.Body.GetValue())
	if err != nil {
		t.Fatal(err)
	}
	return alias.Replace(string(text))
}

// objects are what a random hand creates, updates and deletes.
type randomObjects struct {
	*rand.Rand
	t     *testing.T
	hosts []string
	have  map[api.Key]*api.Object

	frames bool     // Sidecars and the mesh-wide configuration are among them
	ranges []string // of virtual addresses, that the latter may have
}

// newObjects returns none yet. Some of their hosts are rivals, if that is wanted.
func newObjects(t *testing.T, r *rand.Rand, rivalry bool) *randomObjects {
	t.Helper()
	o := &randomObjects{Rand: r, t: t, have: map[api.Key]*api.Object{}}
	for i := range 24 {
		o.hosts = append(o.hosts, fmt.Sprintf("h%d.example.com", i))
	}
	for i := range 6 {
		o.hosts = append(o.hosts, fmt.Sprintf("*.w%d.example.com", i), fmt.Sprintf("h.w%d.example.com", i))
	}
	o.hosts = append(o.hosts, "web.a.svc.cluster.local", "web.a.svc.cluster.local", "db.b.svc.cluster.local", "web", "db.b")
	o.hosts = append(o.hosts, "*suffix.test", "Upper.Example.COM.", "192.0.2.1")
	if rivalry {
		one, other := rivals(t)
		o.hosts = append(o.hosts, one, one, one, other, other, other)
	}
	return o
}

// rivals are two hosts that want the same virtual address.
func rivals(t *testing.T) (one, other string) {
	t.Helper()
	wanted := map[netip.Addr]string{}
	for i := range 5000 {
		name := fmt.Sprintf("rival%d.example.com", i)
		pair, err := vip.New(meshconfig.Default().VirtualIPv4, meshconfig.Default().VirtualIPv6).Assign(hostname.Name(name), someday)
		if err != nil {
			t.Fatal(err)
		}
		if wanted[pair.V4] != "" {
			return wanted[pair.V4], name
		}
		wanted[pair.V4] = name
	}
	t.Fatal("no two of 5000 names want the same address")
	return "", ""
}

// all are the objects there are, in random order.
func (o *randomObjects) all() []registry.Change {
	var all []registry.Change
	for _, k := range slices.SortedFunc(maps.Keys(o.have), api.Key.Compare) {
		all = append(all, registry.Change{Key: k, Object: o.have[k]})
	}
	o.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	return all
}

// changes are n changes.
func (o *randomObjects) changes(n int) []registry.Change {
	var all []registry.Change
	for range n {
		k := api.Key{Kind: "ServiceEntry", Namespace: o.one("a", "b", "c"), Name: fmt.Sprint("e", o.IntN(40))}
		switch o.IntN(12) {
		case 0, 1, 2:
			k.Kind, k.Name = "WorkloadEntry", fmt.Sprint("w", o.IntN(10))
		case 3:
			k.Kind, k.Name = api.KindService, o.one("web", "db", "other")
		case 4, 5:
			k.Kind, k.Name = api.KindEndpointSlice, fmt.Sprint("s", o.IntN(6))
		}
		if o.frames && o.IntN(12) == 0 {
			k = api.Key{Kind: api.KindSidecar, Namespace: o.one("a", "b", "istio-system"), Name: o.one("s0", "s1", "s2")}
			if o.IntN(3) == 0 {
				k = api.Key{Kind: api.KindConfigMap, Namespace: "istio-system", Name: "istio"}
			}
		}
		if _, ok := o.have[k]; ok && o.IntN(3) == 0 {
			delete(o.have, k)
			all = append(all, registry.Change{Key: k})
			continue
		}
		x := o.object(k)
		o.have[k] = x
		all = append(all, registry.Change{Key: k, Object: x})
	}
	return all
}

// object makes a valid object: what is not valid is thrown away.
func (o *randomObjects) object(k api.Key) *api.Object {
	for range 1000 {
		spec := o.entry()
		if k.Kind == "WorkloadEntry" {
			spec = o.workload()
		}
		created := ""
		if o.IntN(2) == 0 {
			created = fmt.Sprintf(`, creationTimestamp: "202%d-01-01T00:00:00Z"`, o.IntN(6))
		}
		label := ""
		if o.IntN(6) == 0 {
			label = `, labels: {networking.istio.io/enable-autoallocate-ip: "false"}`
		}
		text := fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {name: %s, namespace: %s%s%s}\nspec:\n%s", k.Kind, k.Name, k.Namespace, created, label, spec)
		switch k.Kind {
		case api.KindSidecar:
			text = fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: %s, namespace: %s%s}\nspec:\n%s", k.Name, k.Namespace, created, o.sidecar())
		case api.KindConfigMap:
			text = o.mesh()
		case api.KindService:
			text = fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {name: %s, namespace: %s%s, annotations: {networking.istio.io/exportTo: %q}}\nspec:\n%s",
				k.Name, k.Namespace, created, o.one("", "", "", ".", "b", "~"), o.service())
		case api.KindEndpointSlice:
			text = fmt.Sprintf("apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {name: %s, namespace: %s, labels: {kubernetes.io/service-name: %s}}\n%s",
				k.Name, k.Namespace, o.one("web", "web", "db", "none"), o.slice())
		}
		if found, problems := api.Read("random.yaml", []byte(text), ""); len(found) == 1 && !api.HasError(problems) {
			return found[0]
		}
	}
	o.t.Fatal("no valid object among 1000 random ones")
	return nil
}

func (o *randomObjects) one(of ...string) string { return of[o.IntN(len(of))] }

// some draws up to most, at least one, and writes them as a list.
func (o *randomObjects) some(most int, draw func() string) string {
	var all []string
	for range 1 + o.IntN(most) {
		if x := draw(); !slices.Contains(all, x) {
			all = append(all, x)
		}
	}
	return "[" + strings.Join(all, ", ") + "]"
}

func (o *randomObjects) entry() string {
	var b strings.Builder
	fmt.Fprintf(&b, "  hosts: %s\n", o.some(2, func() string { return fmt.Sprintf("%q", o.one(o.hosts...)) }))
	resolution := o.one("NONE", "STATIC", "STATIC", "DNS", "DNS", "DNS_ROUND_ROBIN")
	fmt.Fprintf(&b, "  resolution: %s\n  location: %s\n", resolution, o.one("MESH_EXTERNAL", "MESH_INTERNAL"))
	if o.IntN(3) == 0 {
		fmt.Fprintf(&b, "  addresses: %s\n", o.some(3, func() string {
			return fmt.Sprintf("%q", o.one("192.0.2.7", "192.0.2.8/32", "198.51.100.0/24", "198.51.100.0/25", "2001:db8::1", "2001:db8:1::/48"))
		}))
	}
	if o.IntN(3) == 0 {
		fmt.Fprintf(&b, "  exportTo: [%s]\n", o.one("'*'", ".", "b", "., c", "a, elsewhere", "'~'"))
	}
	if o.IntN(6) == 0 {
		fmt.Fprintf(&b, "  workloadSelector: {labels: {app: %s}}\n", o.one("x", "y", "z"))
	} else if endpoints := o.endpoints(resolution); endpoints != "" {
		fmt.Fprintf(&b, "  endpoints: %s\n", endpoints)
	}
	b.WriteString("  ports:\n")
	numbers := []int{80, 443, 3306, 5432, 6379, 8080, 9000, 9443}
	for i, p := range o.Perm(len(numbers))[:1+o.IntN(3)] {
		fmt.Fprintf(&b, "  - {number: %d, name: p%d", numbers[p], i)
		if protocol := o.one("HTTP", "HTTP", "HTTPS", "TLS", "TCP", "MySQL", "Mongo", "GRPC", "UDP", ""); protocol != "" {
			fmt.Fprintf(&b, ", protocol: %s", protocol)
		}
		if o.IntN(4) == 0 {
			fmt.Fprintf(&b, ", targetPort: %d", 8000+o.IntN(3))
		}
		b.WriteString("}\n")
	}
	return b.String()
}

func (o *randomObjects) endpoints(resolution string) string {
	addresses := []string{"192.0.2.100", "192.0.2.101", "192.0.2.102", "'unix:///run/a.sock'"}
	most := 4
	switch resolution {
	case "NONE":
		return ""
	case "DNS":
		addresses = []string{"one.example.net", "two.example.net", "192.0.2.100"}
	case "DNS_ROUND_ROBIN":
		addresses, most = []string{"one.example.net", "two.example.net"}, 1
	}
	if o.IntN(5) == 0 {
		return ""
	}
	return o.some(most, func() string {
		return fmt.Sprintf("{address: %s%s}", o.one(addresses...), o.one("", "", ", weight: 3", ", ports: {p0: 9000}", ", labels: {app: x}"))
	})
}

func (o *randomObjects) workload() string {
	return fmt.Sprintf("  address: %s\n  labels: {app: %s}\n%s", o.one("192.0.2.200", "192.0.2.201", "vm.example.net"), o.one("x", "y", "z"), o.one("", "  weight: 2\n", "  ports: {p0: 9100}\n"))
}

func (o *randomObjects) service() string {
	if o.IntN(5) == 0 {
		return "  type: ExternalName\n  externalName: one.example.net\n  ports: [{name: p0, port: 80}]\n"
	}
	ports := []string{"{name: p0, port: 80, targetPort: 8080, appProtocol: http}", "{name: p1, port: 3306}", "{name: tls-p2, port: 443, targetPort: named}", "{name: p3, port: 9000}"}
	return fmt.Sprintf("  clusterIP: %s\n%s  ports: %s\n", o.one("10.96.0.1", "10.96.0.2", `""`, "None"), o.one("", "  selector: {app: x}\n", "  selector: {app: z}\n"), o.some(3, func() string { return o.one(ports...) }))
}

func (o *randomObjects) slice() string {
	return fmt.Sprintf("addressType: IPv4\nports: %s\nendpoints: %s\n",
		o.some(3, func() string { return o.one("{name: p0, port: 8080}", "{name: p1}", "{name: tls-p2, port: 8443}") }),
		o.some(3, func() string {
			return fmt.Sprintf("{addresses: [10.0.0.%d]%s}", o.IntN(5), o.one("", "", ", conditions: {ready: false}"))
		}))
}
