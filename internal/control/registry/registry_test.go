package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	meshv1 "istio.io/api/mesh/v1alpha1"
	networking "istio.io/api/networking/v1alpha3"
	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// epoch is when everything in these tests happens.
var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// addresses compares what cmp cannot look into.
var addresses = cmp.Options{
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
}

// entries reads objects written as "namespace/name: spec in flow style".
func entries(t *testing.T, lines ...string) []Change {
	t.Helper()
	var changes []Change
	for i, line := range lines {
		id, spec, _ := strings.Cut(line, ": ")
		namespace, name, _ := strings.Cut(id, "/")
		name, created, dated := strings.Cut(name, "@")
		meta := fmt.Sprintf("{name: %s, namespace: %s}", name, namespace)
		if dated {
			meta = fmt.Sprintf("{name: %s, namespace: %s, creationTimestamp: %s-01-01T00:00:00Z}", name, namespace, created)
		}
		text := "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: " + meta + "\nspec: {" + spec + "}\n"
		objects, problems := api.Read(fmt.Sprintf("%d.yaml", i), []byte(text), "default")
		if api.HasError(problems) || len(objects) != 1 {
			t.Fatalf("%s: %v", line, problems)
		}
		changes = append(changes, Change{Key: objects[0].Key, Object: objects[0]})
	}
	return changes
}

func problems(d Delta) string {
	var b strings.Builder
	for _, p := range d.Problems {
		b.WriteString(p.String() + "\n")
	}
	return b.String()
}

const (
	http80   = "ports: [{number: 80, name: http, protocol: HTTP}]"
	https443 = "ports: [{number: 443, name: https, protocol: HTTPS}]"
)

// TestWhoOwnsAHost gives each namespace the entry it asks for, in every order
// of arrival.
func TestWhoOwnsAHost(t *testing.T) {
	const x = "hosts: [x.example], resolution: DNS, " + http80
	for name, c := range map[string]struct {
		entries []string
		want    map[string]string // client's namespace -> owner, "" for none
	}{
		"public by default":            {[]string{"a/e: " + x}, map[string]string{"a": "a/e", "b": "a/e"}},
		"own namespace only":           {[]string{"a/e: " + x + ", exportTo: [\".\"]"}, map[string]string{"a": "a/e", "b": ""}},
		"to nobody":                    {[]string{"a/e: " + x + ", exportTo: [\"~\"]"}, map[string]string{"a": "", "b": ""}},
		"exported away":                {[]string{"a/e: " + x + ", exportTo: [b]"}, map[string]string{"a": "", "b": "a/e", "c": ""}},
		"own goes before all":          {[]string{"a/e: " + x, "b/z: " + x, "c/a: " + x + ", exportTo: [b]"}, map[string]string{"a": "a/e", "b": "b/z", "c": "a/e"}},
		"named goes before public":     {[]string{"a/e@2020: " + x, "b/f@2025: " + x + ", exportTo: [c]"}, map[string]string{"c": "b/f", "d": "a/e"}},
		"age decides among the public": {[]string{"a/e@2025: " + x, "b/f@2020: " + x}, map[string]string{"a": "a/e", "b": "b/f", "c": "b/f"}},
		"then the name":                {[]string{"a/f: " + x, "b/e: " + x}, map[string]string{"c": "b/e"}},
		"then the namespace":           {[]string{"b/e: " + x, "a/e: " + x}, map[string]string{"c": "a/e"}},
		"a hostile public entry":       {[]string{"evil/a@2000: " + x, "shop/z@2026: " + x + ", exportTo: [\".\"]"}, map[string]string{"shop": "shop/z", "other": "evil/a"}},
		"private ones do not meet":     {[]string{"a/e: " + x + ", exportTo: [\".\"]", "b/f: " + x + ", exportTo: [\".\"]"}, map[string]string{"a": "a/e", "b": "b/f", "c": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, order := range [][]string{c.entries, reversed(c.entries)} {
				s, _ := New(config.Default()).Apply(epoch, entries(t, order...))
				for namespace, want := range c.want {
					got := ""
					if service := s.Service(namespace, "x.example"); service != nil {
						got = service.Source.Namespace + "/" + service.Source.Name
					}
					if got != want {
						t.Errorf("%s gets %q, want %q", namespace, got, want)
					}
				}
			}
		})
	}
}

func reversed(s []string) []string {
	s = slices.Clone(s)
	slices.Reverse(s)
	return s
}

func TestTheDefaultOfExportToIsTheMeshs(t *testing.T) {
	m := config.Default()
	m.DefaultServiceExportTo = []string{"."}
	s, _ := New(m).Apply(epoch, entries(t, "a/e: hosts: [x.example], resolution: DNS, "+http80))
	if s.Service("a", "x.example") == nil || s.Service("b", "x.example") != nil {
		t.Error("an entry without exportTo is not seen by its own namespace alone")
	}
}

func TestEntriesOfOneHostAreMerged(t *testing.T) {
	s, d := New(config.Default()).Apply(epoch, entries(t,
		"a/e1: hosts: [x.example], resolution: STATIC, addresses: [192.0.2.1], ports: [{number: 80, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}, {address: 10.0.0.2}]",
		"a/e2: hosts: [X.example.], resolution: STATIC, addresses: [192.0.2.2], ports: [{number: 443, name: https, protocol: HTTPS, targetPort: 8443}], endpoints: [{address: 10.0.0.1}]",
		"a/e3: hosts: [x.example], resolution: STATIC, addresses: [192.0.2.1], ports: [{number: 80, name: web, protocol: HTTP, targetPort: 8080}, {number: 8080, name: http, protocol: HTTP}], endpoints: [{address: 10.0.0.1}, {address: 10.0.0.3, ports: {http: 99}}]",
	))
	want := &mesh.Service{
		Host: "x.example", Namespace: "a", Resolution: mesh.Static,
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32")},
		Ports: []mesh.Port{
			{Name: "http", Number: 80, Protocol: mesh.HTTP},
			{Name: "https", Number: 443, Protocol: mesh.HTTPS, TargetPort: 8443},
			{Name: "http-8080", Number: 8080, Protocol: mesh.HTTP},
		},
		Endpoints: []mesh.Endpoint{
			{Address: "10.0.0.1", Weight: 1, Serves: []uint16{80}},
			{Address: "10.0.0.2", Weight: 1, Serves: []uint16{80}},
			{Address: "10.0.0.1", Weight: 1, Serves: []uint16{443}},
			{Address: "10.0.0.1", Weight: 1, Serves: []uint16{80, 8080}, Ports: map[string]uint16{"http": 8080}},
			{Address: "10.0.0.3", Weight: 1, Serves: []uint16{80, 8080}, Ports: map[string]uint16{"http": 8080, "http-8080": 99}},
		},
		Source: mesh.Ref{Kind: "ServiceEntry", Namespace: "a", Name: "e1", File: "0.yaml", Line: 1},
	}
	if diff := cmp.Diff(want, s.Service("b", "x.example"), addresses); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if got := problems(d); got != "" {
		t.Errorf("problems where nothing is lost:\n%s", got)
	}
}

func TestMergedDNSEntriesKeepTheirOwnNames(t *testing.T) {
	s, _ := New(config.Default()).Apply(epoch, entries(t,
		"a/e1: hosts: [x.example], resolution: DNS, "+http80,
		"a/e2: hosts: [x.example], resolution: DNS, "+http80,
		"a/e3: hosts: [x.example], resolution: DNS, "+https443+", endpoints: [{address: y.example}]",
	))
	want := []mesh.Endpoint{
		{Address: "x.example", Weight: 1, Serves: []uint16{80}},
		{Address: "y.example", Weight: 1, Serves: []uint16{443}},
	}
	if diff := cmp.Diff(want, s.Service("a", "x.example").Endpoints); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestRoundRobinKeepsOneEndpointForAPort(t *testing.T) {
	s, _ := New(config.Default()).Apply(epoch, entries(t,
		"a/e1: hosts: [x.example], resolution: DNS_ROUND_ROBIN, "+http80+", endpoints: [{address: y.example}]",
		"a/e2: hosts: [x.example], resolution: DNS_ROUND_ROBIN, ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}], endpoints: [{address: z.example}]",
	))
	want := []mesh.Endpoint{
		{Address: "y.example", Weight: 1, Serves: []uint16{80}},
		{Address: "z.example", Weight: 1, Serves: []uint16{81}},
	}
	if diff := cmp.Diff(want, s.Service("a", "x.example").Endpoints); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestEveryLoserIsTold has the sentences that operators read.
func TestEveryLoserIsTold(t *testing.T) {
	const x = "hosts: [x.example], " + http80
	for name, c := range map[string]struct {
		entries []string
		want    string
	}{
		"other resolution": {
			[]string{"a/e1: " + x + ", resolution: DNS", "a/e2: " + x + ", resolution: STATIC, endpoints: [{address: 10.0.0.1}]"},
			"1.yaml:4: ServiceEntry a/e2: spec.hosts[0]: host x.example belongs to ServiceEntry a/e1 (0.yaml:1) in namespace a and every other namespace, which comes first by name and is not merged with this one because its resolution is another; this entry is not used there\n",
		},
		"other exportTo": {
			[]string{"a/e1: " + x + ", resolution: DNS, exportTo: [\".\"]", "a/e2: " + x + ", resolution: DNS"},
			"1.yaml:4: ServiceEntry a/e2: spec.hosts[0]: host x.example belongs to ServiceEntry a/e1 (0.yaml:1) in namespace a, which comes first by name and is not merged with this one because its exportTo is another; this entry is not used there\n",
		},
		"with and without addresses": {
			[]string{"a/e1@2021: " + x + ", resolution: DNS", "a/e2@2020: " + x + ", resolution: DNS, addresses: [192.0.2.1]"},
			"0.yaml:4: ServiceEntry a/e1: spec.hosts[0]: host x.example belongs to ServiceEntry a/e2 (1.yaml:1) in namespace a and every other namespace, which is older and is not merged with this one because only one of them has addresses; this entry is not used there\n",
		},
		"foreign": {
			[]string{"a/e: " + x + ", resolution: DNS", "b/e: " + x + ", resolution: DNS"},
			"0.yaml:4: ServiceEntry a/e: spec.hosts[0]: host x.example belongs to ServiceEntry b/e (1.yaml:1) in namespace b, which lies in that namespace; this entry is not used there\n" +
				"1.yaml:4: ServiceEntry b/e: spec.hosts[0]: host x.example belongs to ServiceEntry a/e (0.yaml:1) in every namespace that no such entry names, which comes first by name; this entry is not used there\n" +
				"1.yaml:4: ServiceEntry b/e: spec.hosts[0]: host x.example belongs to ServiceEntry a/e (0.yaml:1) in namespace a, which lies in that namespace; this entry is not used there\n",
		},
		"by name": {
			[]string{"a/e: " + x + ", resolution: DNS", "b/e: " + x + ", resolution: DNS, exportTo: [c]"},
			"0.yaml:4: ServiceEntry a/e: spec.hosts[0]: host x.example belongs to ServiceEntry b/e (1.yaml:1) in namespace c, which is exported to that namespace by name; this entry is not used there\n",
		},
		"port of another protocol": {
			[]string{"a/e1: " + x + ", resolution: DNS", "a/e2: hosts: [x.example], resolution: DNS, ports: [{number: 8080, name: http, protocol: HTTP}, {number: 80, name: tls, protocol: TLS}]"},
			"1.yaml:4: ServiceEntry a/e2: spec.ports[1]: port 80 of host x.example is HTTP by ServiceEntry a/e1 (0.yaml:1), with which this entry is merged; TLS is not used\n",
		},
		"location": {
			[]string{"a/e1: " + x + ", resolution: DNS", "a/e2: " + x + ", resolution: DNS, location: MESH_INTERNAL"},
			"1.yaml:4: ServiceEntry a/e2: spec.location: host x.example is MESH_EXTERNAL by ServiceEntry a/e1 (0.yaml:1), with which this entry is merged; that holds\n",
		},
		"nothing lost": {
			[]string{"a/e1: " + x + ", resolution: DNS, exportTo: [\".\"]", "b/e: " + x + ", resolution: DNS, exportTo: [\".\"]"},
			"",
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, d := New(config.Default()).Apply(epoch, entries(t, c.entries...))
			if diff := cmp.Diff(c.want, problems(d)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestADeltaNamesWhatChangedAndNothingElse(t *testing.T) {
	r := New(config.Default())
	all := entries(t,
		"a/e1: hosts: [x.example, y.example], resolution: DNS, "+http80,
		"a/e2: hosts: [z.example], resolution: DNS, "+http80,
		"a/e1: hosts: [y.example, w.example], resolution: DNS, "+http80,
	)
	// The object's place is part of a service: keep it, so that y stays the same.
	all[2].Object.Source = all[0].Object.Source
	for i, want := range []string{"x.example y.example", "z.example", "w.example x.example", "w.example y.example"} {
		c := Change{Key: all[0].Key}
		if i < len(all) {
			c = all[i]
		}
		_, d := r.Apply(epoch, []Change{c})
		if got := names(d.Hosts); got != want {
			t.Errorf("change %d touched %q, want %q", i, got, want)
		}
	}
	if _, d := r.Apply(epoch, []Change{{Key: api.Key{Kind: "ServiceEntry", Namespace: "no", Name: "such"}}}); len(d.Hosts) > 0 {
		t.Errorf("removing nothing touched %v", d.Hosts)
	}
}

func names(hosts []hostname.Name) string {
	var list []string
	for _, h := range hosts {
		list = append(list, string(h))
	}
	return strings.Join(list, " ")
}

func TestOldSnapshotsStayAsTheyWere(t *testing.T) {
	r := New(config.Default())
	all := entries(t, "a/e1: hosts: [x.example], resolution: DNS, "+http80, "a/e2: hosts: [x.example], resolution: DNS, "+https443)
	before, _ := r.Apply(epoch, all)
	want := fingerprint(before)
	after, _ := r.Apply(epoch, []Change{{Key: all[0].Key}})
	if got := fingerprint(before); got != want {
		t.Errorf("the old snapshot changed from\n%sto\n%s", want, got)
	}
	if fingerprint(after) == want {
		t.Error("the new snapshot is the old one")
	}
}

// fingerprint is everything three namespaces see, as text.
func fingerprint(s *Snapshot) string {
	var b strings.Builder
	for _, namespace := range []string{"a", "b", "elsewhere"} {
		last := hostname.Name("")
		for service := range s.Services(namespace) {
			if service.Host <= last || s.Service(namespace, service.Host) != service {
				b.WriteString("DISORDER ")
			}
			last = service.Host
			fmt.Fprintf(&b, "%s: %+v\n", namespace, *service)
		}
		through := s.Through(s.Sidecar(namespace, map[string]string{"app": "one"}), mesh.Capture{})
		last = ""
		for service := range through.Services(namespace) {
			if service.Host <= last || !cmp.Equal(through.Service(namespace, service.Host), service, addresses) {
				b.WriteString("DISORDER ")
			}
			last = service.Host
			fmt.Fprintf(&b, "%s through its Sidecar: %s of %s %v %v\n", namespace, service.Host, service.Source, service.Ports, service.VIPs)
		}
	}
	return b.String()
}

// drawEntry makes an object that is likely to meet others.
func drawEntry(t *rapid.T) *api.Object {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	se := &networking.ServiceEntry{
		Hosts:      rapid.SliceOfNDistinct(rapid.SampledFrom([]string{"x.example", "y.example", "Z.example.", "*.w.example", webHost}), 1, 2, rapid.ID).Draw(t, "hosts"),
		Resolution: rapid.SampledFrom([]networking.ServiceEntry_Resolution{networking.ServiceEntry_NONE, networking.ServiceEntry_STATIC}).Draw(t, "resolution"),
		Location:   rapid.SampledFrom([]networking.ServiceEntry_Location{0, 1}).Draw(t, "location"),
	}
	if to := pick("exportTo", "", "", ".", "*", "a", "b", "~"); to != "" {
		se.ExportTo = []string{to}
	}
	if address := pick("address", "", "192.0.2.1", "192.0.2.2"); address != "" {
		se.Addresses = []string{address}
	}
	for _, number := range rapid.SliceOfNDistinct(rapid.SampledFrom([]uint32{80, 81, 443}), 1, 3, rapid.ID).Draw(t, "ports") {
		se.Ports = append(se.Ports, &networking.ServicePort{
			Number: number, Name: fmt.Sprintf("p%d", len(se.Ports)), Protocol: pick("protocol", "HTTP", "TLS"),
			TargetPort: rapid.SampledFrom([]uint32{0, 8080}).Draw(t, "target"),
		})
	}
	if se.Resolution == networking.ServiceEntry_STATIC {
		for _, address := range rapid.SliceOfN(rapid.SampledFrom([]string{"10.0.0.1", "10.0.0.2"}), 0, 3).Draw(t, "endpoints") {
			se.Endpoints = append(se.Endpoints, &networking.WorkloadEntry{Address: address})
		}
		if app := pick("selector", "", "one", "two"); app != "" {
			se.Endpoints, se.WorkloadSelector = nil, &networking.WorkloadSelector{Labels: map[string]string{"app": app}}
		}
	}
	o := &api.Object{
		Key:  api.Key{Kind: "ServiceEntry", Namespace: pick("namespace", "a", "b", "c"), Name: pick("name", "e1", "e2", "e3")},
		Spec: se,
	}
	if year := rapid.IntRange(0, 2).Draw(t, "year"); year > 0 {
		o.Created = time.Date(2020+year, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	o.Source = mesh.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
	return o
}

// drawKube makes a Service of Kubernetes, or a slice of one, that entries are
// likely to meet.
func drawKube(t *rapid.T) *api.Object {
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	o := &api.Object{Key: api.Key{Kind: api.KindService, Namespace: pick("namespace", "a", "a", "b"), Name: pick("name", "web", "web", "db")}}
	if rapid.Bool().Draw(t, "slice") {
		o.Kind, o.Name = api.KindEndpointSlice, pick("slice's name", "s1", "s2")
		o.Labels = map[string]string{"kubernetes.io/service-name": pick("service", "web", "web", "db", "none")}
		o.Spec = &api.KubeSlice{
			AddressType: "IPv4", Ports: []api.KubeSlicePort{{Name: pick("port", "p0", "p1"), Number: 8080}},
			Endpoints: []api.KubeEndpoint{{Addresses: []string{pick("address", "10.0.2.1", "10.0.2.2")}, NotReady: rapid.Bool().Draw(t, "not ready")}},
		}
	} else {
		o.Annotations = map[string]string{"networking.istio.io/exportTo": pick("exportTo", "", "", ".", "*", "a", "b", "~")}
		spec := &api.KubeService{Type: pick("type", "", "", "ExternalName"), ExternalName: "ext.example", ClusterIP: pick("clusterIP", "", "None", "10.96.0.1")}
		spec.Ports = []api.KubePort{{Name: "p0", Number: 80}, {Name: "p1", Number: 81, AppProtocol: "http"}}[:rapid.IntRange(0, 2).Draw(t, "ports")]
		if app := pick("selector", "", "one", "two"); app != "" {
			spec.Selector = map[string]string{"app": app}
		}
		o.Spec = spec
		if year := rapid.IntRange(0, 2).Draw(t, "year"); year > 0 {
			o.Created = time.Date(2020+year, 1, 1, 0, 0, 0, 0, time.UTC)
		}
	}
	o.Source = mesh.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
	return o
}

// drawObject makes an entry, a Service, a slice, a workload that they select, a
// Sidecar or the mesh-wide configuration.
func drawObject(t *rapid.T) *api.Object {
	switch rapid.IntRange(0, 4).Draw(t, "kind") {
	case 1, 2:
		return drawEntry(t)
	case 3, 4:
		return drawKube(t)
	}
	pick := func(label string, of ...string) string { return rapid.SampledFrom(of).Draw(t, label) }
	if rapid.IntRange(0, 4).Draw(t, "mesh") == 0 {
		m := &meshv1.MeshConfig{RootNamespace: pick("root", "", "a"), DefaultServiceExportTo: []string{pick("default", ".", "*", "b")}}
		return &api.Object{Key: api.Key{Kind: "ConfigMap", Namespace: "istio-system", Name: "istio"}, Spec: m}
	}
	if rapid.Bool().Draw(t, "sidecar") {
		o := &api.Object{
			Key:  api.Key{Kind: "Sidecar", Namespace: pick("namespace", "a", "b", "istio-system"), Name: pick("name", "s1", "s2")},
			Spec: &networking.Sidecar{Egress: drawEgress(t)},
		}
		if spec, _ := o.Spec.(*networking.Sidecar); rapid.Bool().Draw(t, "selects") {
			spec.WorkloadSelector = &networking.WorkloadSelector{Labels: map[string]string{"app": pick("app", "one", "two")}}
		}
		o.Source = mesh.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
		return o
	}
	o := &api.Object{
		Key: api.Key{Kind: "WorkloadEntry", Namespace: pick("namespace", "a", "b", "c"), Name: pick("name", "w1", "w2", "w3")},
		Spec: &networking.WorkloadEntry{
			Address: pick("address", "10.0.1.1", "10.0.1.2", "w.example"),
			Labels:  map[string]string{"app": pick("app", "one", "two", "three")},
		},
	}
	o.Source = mesh.Ref{Kind: o.Kind, Namespace: o.Namespace, Name: o.Name}
	return o
}

// drawEgress makes listeners for ports, then perhaps one for the rest.
func drawEgress(t *rapid.T) []*networking.IstioEgressListener {
	var all []*networking.IstioEgressListener
	for _, port := range rapid.SliceOfNDistinct(rapid.SampledFrom([]uint32{80, 81, 443, 0}), 1, 3, rapid.ID).Draw(t, "listeners") {
		l := &networking.IstioEgressListener{
			Hosts:       rapid.SliceOfN(rapid.SampledFrom([]string{"./*", "*/x.example", "b/*", "~a/*", "c/*.example", "~/z.example"}), 1, 3).Draw(t, "egress"),
			CaptureMode: rapid.SampledFrom([]networking.CaptureMode{networking.CaptureMode_DEFAULT, networking.CaptureMode_DEFAULT, networking.CaptureMode_NONE}).Draw(t, "mode"),
		}
		if port != 0 {
			l.Port = &networking.SidecarPort{Number: port, Protocol: "TCP", Name: "p"}
		}
		all = append(all, l)
	}
	return all
}

// TestIncrementalEqualsFromScratch runs random changes and compares, after
// each, what came of them with what the objects alone give, in a random order.
// It also holds every Delta against what really differs.
func TestIncrementalEqualsFromScratch(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := New(config.Default())
		before, _ := r.Apply(epoch, nil)
		objects := map[api.Key]*api.Object{}
		for range rapid.IntRange(1, 12).Draw(t, "rounds") {
			var changes []Change
			for range rapid.IntRange(1, 3).Draw(t, "changes") {
				o := drawObject(t)
				if rapid.IntRange(0, 2).Draw(t, "remove") == 0 {
					delete(objects, o.Key)
					changes = append(changes, Change{Key: o.Key})
				} else {
					objects[o.Key] = o
					changes = append(changes, Change{Key: o.Key, Object: o})
				}
			}
			after, delta := r.Apply(epoch, changes)
			var all []Change
			for key, o := range objects { // in Go's random order
				all = append(all, Change{Key: key, Object: o})
			}
			scratch, told := New(config.Default()).Apply(epoch, all)
			if got, want := fingerprint(after), fingerprint(scratch); got != want {
				t.Fatalf("incremental and from scratch differ:\n%s", cmp.Diff(want, got))
			}
			checkDelta(t, before, after, delta, told)
			before = after
		}
	})
}

func checkDelta(t *rapid.T, before, after *Snapshot, delta, scratch Delta) {
	for _, host := range []hostname.Name{"x.example", "y.example", "z.example", "*.w.example", webHost, "db.a.svc.cluster.local", "web.b.svc.cluster.local"} {
		changed := false
		for _, namespace := range []string{"a", "b", "c", "elsewhere"} {
			changed = changed || !cmp.Equal(before.Service(namespace, host), after.Service(namespace, host), addresses)
		}
		if changed && !slices.Contains(delta.Hosts, host) {
			t.Fatalf("%s changed and the delta names %v", host, delta.Hosts)
		}
	}
	known := map[string]bool{}
	for _, p := range scratch.Problems {
		known[p.String()] = true
	}
	for _, p := range delta.Problems {
		if !known[p.String()] {
			t.Fatalf("problem %q is not one of %v", p, scratch.Problems)
		}
	}
}

// TestOwnershipAgainstAnOracle compares who wins with the rules applied to the
// bare entries, and holds that nobody gets what is not exported to them.
func TestOwnershipAgainstAnOracle(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		objects := map[api.Key]*api.Object{}
		for range rapid.IntRange(1, 8).Draw(t, "entries") {
			o := drawEntry(t)
			if rapid.IntRange(0, 3).Draw(t, "kind") == 0 {
				o = drawKube(t)
			}
			objects[o.Key] = o
		}
		var changes []Change
		for key, o := range objects {
			changes = append(changes, Change{Key: key, Object: o})
		}
		s, _ := New(config.Default()).Apply(epoch, changes)
		for _, namespace := range []string{"a", "b", "c", "elsewhere"} {
			for _, host := range []string{"x.example", "y.example", "Z.example.", "*.w.example", webHost} {
				want := oracle(objects, namespace, host)
				got := ""
				name, _ := hostname.Parse(host)
				if service := s.Service(namespace, name); service != nil {
					got = service.Source.String()
				}
				if got != want {
					t.Fatalf("%s in %s belongs to %q, want %q", host, namespace, got, want)
				}
			}
		}
	})
}

func oracle(objects map[api.Key]*api.Object, namespace, host string) string {
	best, bestRank := "", ""
	for _, o := range objects {
		to, kube := "*", 1
		switch spec := o.Spec.(type) {
		case *networking.ServiceEntry:
			if !slices.Contains(spec.Hosts, host) {
				continue
			}
			to = append(slices.Clone(spec.ExportTo), "*")[0]
		case *api.KubeService:
			if o.Name+"."+o.Namespace+".svc.cluster.local" != host {
				continue
			}
			kube = 0
			if s := o.Annotations["networking.istio.io/exportTo"]; s != "" {
				to = s
			}
		default:
			continue
		}
		if to == "." {
			to = o.Namespace
		}
		if to != "*" && to != namespace {
			continue
		}
		group := 2 + kube
		if to == namespace {
			group = 1 + kube
		}
		if o.Namespace == namespace {
			group = 0
		}
		if rank := fmt.Sprintf("%d %d %s %s %s", group, kube, o.Created.Format(time.RFC3339), o.Name, o.Namespace); best == "" || rank < bestRank {
			best, bestRank = o.Source.String(), rank
		}
	}
	return best
}

// TestManyClaimsToOneHostStayCheap has a thousand namespaces claim one host:
// what is said of it must not grow with their square.
func TestManyClaimsToOneHostStayCheap(t *testing.T) {
	var all []Change
	for i := range 1000 {
		c := numbered(i, "10.0.0.1")
		c.Key.Namespace = fmt.Sprintf("ns-%d", i)
		c.Object.Namespace = c.Key.Namespace
		c.Object.Source = mesh.Ref{Kind: c.Key.Kind, Namespace: c.Key.Namespace, Name: c.Key.Name}
		se, _ := c.Object.Spec.(*networking.ServiceEntry)
		se.Hosts = []string{"x.example"}
		all = append(all, c)
	}
	_, d := New(config.Default()).Apply(epoch, all)
	if n := len(d.Problems); n < 999 || n > 1000*(mostViewers+1) {
		t.Errorf("%d problems", n)
	}
}
