package registry

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

// kube reads objects written as "Service namespace/name: spec in flow style",
// "EndpointSlice namespace/name of SERVICE: the rest in flow style" and, with any
// other kind, as object does. A year may follow the name after an @.
func kube(t *testing.T, lines ...string) []Change {
	t.Helper()
	var changes []Change
	for i, line := range lines {
		kind, rest, _ := strings.Cut(line, " ")
		id, spec, _ := strings.Cut(rest, ": ")
		id, of, _ := strings.Cut(id, " of ")
		namespace, name, _ := strings.Cut(id, "/")
		name, created, _ := strings.Cut(name, "@")
		meta := fmt.Sprintf("name: %s, namespace: %s", name, namespace)
		if created != "" {
			meta += fmt.Sprintf(", creationTimestamp: %s-01-01T00:00:00Z", created)
		}
		var text string
		switch kind {
		case "Service":
			spec, exportTo, _ := strings.Cut(spec, "; exportTo ")
			text = fmt.Sprintf("apiVersion: v1\nkind: Service\nmetadata: {%s, annotations: {networking.istio.io/exportTo: %q}}\nspec: {%s}\n", meta, exportTo, spec)
		case "EndpointSlice":
			text = fmt.Sprintf("{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, metadata: {%s, labels: {kubernetes.io/service-name: %s}}, %s}\n", meta, of, spec)
		default:
			text = fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {%s}\nspec: {%s}\n", kind, meta, spec)
		}
		objects, problems := api.Read(fmt.Sprintf("%d.yaml", i), []byte(text), "default")
		if api.HasError(problems) || len(objects) != 1 {
			t.Fatalf("%s: %v", line, problems)
		}
		changes = append(changes, Change{Key: objects[0].Key, Object: objects[0]})
	}
	return changes
}

const (
	webHost  = "web.a.svc.cluster.local"
	webPorts = "ports: [{name: http, port: 80, targetPort: 8080}]"
	webEntry = "hosts: [web.a.svc.cluster.local], resolution: STATIC, " + http80
	webSlice = "addressType: IPv4, ports: [{name: http, port: 8080}], "
)

// TestWhereAServiceStands has who owns the host of a Service, for each order of
// arrival.
func TestWhereAServiceStands(t *testing.T) {
	const service = "Service a/web@2026: clusterIP: 10.96.0.1, " + webPorts
	for name, c := range map[string]struct {
		objects []string
		want    map[string]string
	}{
		"alone": {[]string{service}, map[string]string{"a": "Service a/web", "b": "Service a/web"}},
		"it precedes older entries of its namespace": {
			[]string{service, "ServiceEntry a/e@2020: " + webEntry}, map[string]string{"a": "Service a/web", "b": "Service a/web"},
		},
		"an entry of one's own precedes it": {
			[]string{service, "ServiceEntry b/e@2027: " + webEntry}, map[string]string{"a": "Service a/web", "b": "ServiceEntry b/e", "c": "Service a/web"},
		},
		"it precedes what is exported by name": {
			[]string{service, "ServiceEntry b/e@2020: " + webEntry + ", exportTo: [c]"}, map[string]string{"c": "Service a/web"},
		},
		"it precedes what is public": {
			[]string{service, "ServiceEntry b/e@2020: " + webEntry}, map[string]string{"c": "Service a/web"},
		},
		"where it is not seen": {
			[]string{service + "; exportTo .", "ServiceEntry b/e: " + webEntry, "ServiceEntry a/e: " + webEntry + ", exportTo: [c]"},
			map[string]string{"a": "Service a/web", "b": "ServiceEntry b/e", "c": "ServiceEntry a/e", "d": "ServiceEntry b/e"},
		},
		"seen by some":   {[]string{service + "; exportTo b, c"}, map[string]string{"a": "", "b": "Service a/web", "c": "Service a/web", "d": ""}},
		"seen by nobody": {[]string{service + "; exportTo ~"}, map[string]string{"a": "", "b": ""}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, order := range [][]string{c.objects, reversed(c.objects)} {
				r := New(config.Default())
				s, _ := r.Apply(epoch, kube(t, order...))
				for namespace, want := range c.want {
					got, explained := "", ""
					if service := s.Service(namespace, webHost); service != nil {
						got = service.Source.String()
					}
					if owner := r.Explain(namespace, nil, webHost).Owner; owner != nil {
						explained = owner.Service.Source.String()
					}
					if got != want || explained != want {
						t.Errorf("%s gets %q, and by its explanation %q, want %q", namespace, got, explained, want)
					}
				}
			}
		})
	}
}

// TestWhatAServiceHas joins a Service with what else there is.
func TestWhatAServiceHas(t *testing.T) {
	const (
		service = "Service a/web: clusterIP: 10.96.0.1, selector: {app: web}, " + webPorts
		slice   = "EndpointSlice a/web-1 of web: " + webSlice + "endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2], conditions: {ready: false}}]"
	)
	for name, c := range map[string]struct {
		objects []string
		want    string
		told    string
	}{
		"nothing":                  {[]string{service}, "10.96.0.1 STATIC", ""},
		"a slice":                  {[]string{service, slice}, "10.96.0.1 STATIC http:80=10.0.0.1:8080", ""},
		"slices in order of names": {[]string{service, strings.Replace(slice, "web-1", "web-2", 1), "EndpointSlice a/web-1 of web: " + webSlice + "endpoints: [{addresses: [10.0.0.9]}, {addresses: [10.0.0.1]}]"}, "10.96.0.1 STATIC http:80=10.0.0.9:8080 http:80=10.0.0.1:8080", ""},
		"a slice of another":       {[]string{service, strings.Replace(slice, "of web", "of wab", 1)}, "10.96.0.1 STATIC", "1.yaml:1: EndpointSlice a/web-1: metadata.labels: belongs to the Service of host wab.a.svc.cluster.local, which no object declares: it changes nothing\n"},
		"a slice elsewhere":        {[]string{service, strings.Replace(slice, "a/web", "b/web", 1)}, "10.96.0.1 STATIC", "belongs to the Service of host web.b.svc.cluster.local"},
		"those not ready too":      {[]string{strings.Replace(service, "selector", "publishNotReadyAddresses: true, selector", 1), slice}, "10.96.0.1 STATIC http:80=10.0.0.1:8080 http:80=10.0.0.2:8080", ""},
		"workloads it selects": {
			[]string{service, slice, "WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: web}", "WorkloadEntry a/other: address: 192.0.2.2, labels: {app: x}", "WorkloadEntry b/vm: address: 192.0.2.3, labels: {app: web}"},
			"10.96.0.1 STATIC http:80=10.0.0.1:8080 http:80=192.0.2.1:8080", "",
		},
		"a workload's own port":      {[]string{service, "WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: web}, ports: {http: 9}"}, "10.96.0.1 STATIC http:80=192.0.2.1:9", ""},
		"a target by name":           {[]string{strings.Replace(service, "8080", "web", 1), "WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: web}, ports: {web: 9}"}, "10.96.0.1 STATIC http:80=192.0.2.1:9", ""},
		"a target nobody names":      {[]string{strings.Replace(service, "8080", "web", 1), "WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: web}"}, "10.96.0.1 STATIC", ""},
		"not a workload with a name": {[]string{service, "WorkloadEntry a/vm: address: vm.example, labels: {app: web}"}, "10.96.0.1 STATIC", "the names of a Service's endpoints are not resolved"},
		"endpoints an entry lends": {
			[]string{service, slice, "ServiceEntry a/e: " + webEntry + ", endpoints: [{address: 192.0.2.1}, {address: 192.0.2.2, ports: {http: 81}}], subjectAltNames: [san.example]"},
			"10.96.0.1 STATIC http:80=10.0.0.1:8080 http:80=192.0.2.1:80 http:80=192.0.2.2:81 san.example",
			"2.yaml:4: ServiceEntry a/e: spec.hosts[0]: host web.a.svc.cluster.local belongs to Service a/web (0.yaml:1) in namespace a and every other namespace, which is a Kubernetes Service, which goes before the entries of its namespace; of this entry only the endpoints, for ports of the same name, and the subjectAltNames are used, for that Service\n",
		},
		"and by a selector":           {[]string{service, "ServiceEntry a/e: " + webEntry + ", workloadSelector: {labels: {app: x}}", "WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: x}"}, "10.96.0.1 STATIC http:80=192.0.2.1:80", "belongs to Service a/web"},
		"for ports of that name only": {[]string{service, "ServiceEntry a/e: hosts: [" + webHost + "], resolution: STATIC, endpoints: [{address: 192.0.2.1}], ports: [{number: 80, name: web, protocol: HTTP}]"}, "10.96.0.1 STATIC", "none has the name of a port of Service a/web (0.yaml:1)"},
		"whatever their number":       {[]string{service, "ServiceEntry a/e: hosts: [" + webHost + "], resolution: STATIC, endpoints: [{address: 192.0.2.1}], ports: [{number: 8000, name: http, protocol: TCP}, {number: 443, name: tls, protocol: TLS}]"}, "10.96.0.1 STATIC http:80=192.0.2.1:8000", "belongs to Service a/web"},
		"none of another namespace":   {[]string{service, "ServiceEntry b/e: " + webEntry + ", exportTo: [a], endpoints: [{address: 192.0.2.1}], subjectAltNames: [san.example]"}, "10.96.0.1 STATIC", "1.yaml:4: ServiceEntry b/e: spec.hosts[0]: host web.a.svc.cluster.local belongs to Service a/web (0.yaml:1) in namespace a, which lies in that namespace; this entry is not used there\n"},
		"no names":                    {[]string{service, "ServiceEntry a/e: hosts: [" + webHost + "], resolution: DNS, endpoints: [{address: x.example}], " + http80}, "10.96.0.1 STATIC", "x.example is not added to Service a/web (0.yaml:1)"},
		"not its own name":            {[]string{service, "ServiceEntry a/e: hosts: [" + webHost + "], resolution: DNS, subjectAltNames: [san.example], " + http80}, "10.96.0.1 STATIC san.example", "belongs to Service a/web"},
		"headless":                    {[]string{"Service a/web: clusterIP: None, " + webPorts, slice, "WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: web}"}, "10.0.0.1 NONE http:80", ""},
		"headless without endpoints":  {[]string{"Service a/web: clusterIP: None, ports: [{name: http, port: 80}, {name: db, port: 3306}, {name: tls, port: 443}, {name: what, port: 9}]"}, "STATIC http:80 tls:443", ""},
		"headless without ports":      {[]string{"Service a/web: clusterIP: None", slice}, "10.0.0.1 NONE", ""},
		"another name":                {[]string{"Service a/web: type: ExternalName, externalName: x.example, ports: [{name: http, port: 80}]", slice}, "240. DNS http:80=x.example:80", ""},
		"another name takes none":     {[]string{"Service a/web: type: ExternalName, externalName: x.example, ports: [{name: http, port: 80}]", "ServiceEntry a/e: " + webEntry + ", endpoints: [{address: 192.0.2.1}]"}, "240. DNS http:80=x.example:80", "are not added to Service a/web (0.yaml:1): it stands for the external name x.example"},
		"not merged with one alike":   {[]string{"Service a/web: " + webPorts, slice, "ServiceEntry a/e: hosts: [" + webHost + "], resolution: STATIC, ports: [{number: 443, name: tls, protocol: TLS}]"}, "240. STATIC http:80=10.0.0.1:8080", "belongs to Service a/web"},
		"no address yet":              {[]string{"Service a/web: " + webPorts, slice}, "240. STATIC http:80=10.0.0.1:8080", ""},
	} {
		t.Run(name, func(t *testing.T) {
			changes := kube(t, c.objects...)
			s, d := New(config.Default()).Apply(epoch, changes)
			if got := has(s.Service("a", webHost)); got != c.want {
				t.Errorf("it has %q, want %q", got, c.want)
			}
			if told := problems(d); (c.told == "") != (told == "") || !strings.Contains(told, c.told) {
				t.Errorf("told %q, want %q", told, c.told)
			}
		})
	}
}

// has tells what a service has. A virtual address is cut short.
func has(s *mesh.Service) string {
	var all []string
	for _, a := range s.Addresses {
		all = append(all, a.Addr().String())
	}
	if len(s.VIPs) > 0 {
		all = append(all, s.VIPs[0].String()[:4])
	}
	all = append(all, s.Resolution.String())
	for _, p := range s.Ports {
		named := fmt.Sprintf("%s:%d", p.Name, p.Number)
		if len(s.Endpoints) == 0 && (s.Resolution == mesh.None || len(s.Addresses)+len(s.VIPs) == 0) {
			all = append(all, named)
		}
		for _, e := range s.Endpoints {
			if port, ok := e.PortFor(p); ok {
				all = append(all, fmt.Sprintf("%s=%s:%d", named, e.Address, port))
			}
		}
	}
	return strings.Join(append(all, s.SubjectAltNames...), " ")
}

func TestAServiceOfTwoFamiliesHasBothAddresses(t *testing.T) {
	s, _ := New(config.Default()).Apply(epoch, kube(t,
		`Service a/web: clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00::1"], `+webPorts,
		`EndpointSlice a/web-6 of web: addressType: IPv6, ports: [{name: http, port: 8080}], endpoints: [{addresses: ["fd00::9"]}]`,
		"EndpointSlice a/web-4 of web: "+webSlice+"endpoints: [{addresses: [10.0.0.9]}]",
	))
	if got, want := has(s.Service("b", webHost)), "10.96.0.1 fd00::1 STATIC http:80=10.0.0.9:8080 http:80=fd00::9:8080"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// TestASliceTouchesTheHostOfItsService and no other.
func TestASliceTouchesTheHostOfItsService(t *testing.T) {
	r := New(config.Default())
	r.Apply(epoch, kube(t, "Service a/web: clusterIP: 10.96.0.1, "+webPorts, "Service a/db: clusterIP: 10.96.0.2, "+webPorts, "Service b/web: clusterIP: 10.96.0.3, "+webPorts))
	of := func(service, endpoints string) Change {
		return kube(t, "EndpointSlice a/s of "+service+": "+webSlice+"endpoints: ["+endpoints+"]")[0]
	}
	for _, step := range []struct {
		name   string
		change Change
		want   string
	}{
		{"comes", of("web", "{addresses: [10.0.0.1]}"), webHost},
		{"stays", of("web", "{addresses: [10.0.0.1], zone: z}"), ""},
		{"changes", of("web", "{addresses: [10.0.0.2]}"), webHost},
		{"becomes another's", of("db", "{addresses: [10.0.0.2]}"), "db.a.svc.cluster.local " + webHost},
		{"is empty", of("db", ""), "db.a.svc.cluster.local"},
		{"is nobody's", of("none", "{addresses: [10.0.0.2]}"), ""},
		{"comes back", of("web", "{addresses: [10.0.0.1]}"), webHost},
		{"goes", Change{Key: of("web", "").Key}, webHost},
	} {
		_, d := r.Apply(epoch, []Change{step.change})
		if got := names(d.Hosts); got != step.want {
			t.Errorf("%s: touched %q, want %q", step.name, got, step.want)
		}
	}
	if len(r.slices) != 0 || len(r.sliceOf) != 0 {
		t.Errorf("left behind: %v %v", r.slices, r.sliceOf)
	}
}

func TestTheDecisionKnowsServices(t *testing.T) {
	const service = "Service a/web: clusterIP: 10.96.0.1, " + webPorts
	for name, c := range map[string]struct {
		objects []string
		from    string
		want    string
	}{
		"its namespace": {
			[]string{service, "ServiceEntry a/e: " + webEntry},
			"a",
			"owner " + webHost + " Service a/web: it lies in namespace a\n" +
				"other " + webHost + " ServiceEntry a/e: Service a/web is a Kubernetes Service, which goes before the entries of its namespace; only endpoints, for ports of the same name, and subjectAltNames are used, for that Service\n",
		},
		"elsewhere": {
			[]string{service, "ServiceEntry b/e: " + webEntry + ", exportTo: [c]"},
			"c",
			"owner " + webHost + " Service a/web: it is a Kubernetes Service that namespace c sees\n" +
				"other " + webHost + " ServiceEntry b/e: Service a/web is a Kubernetes Service, which goes before entries of other namespaces\n",
		},
		"where an entry precedes it": {
			[]string{service, "ServiceEntry b/e: " + webEntry},
			"b",
			"owner " + webHost + " ServiceEntry b/e: it lies in namespace b\n" +
				"other " + webHost + " Service a/web: ServiceEntry b/e lies in that namespace\n",
		},
		"hidden": {
			[]string{service + "; exportTo ."},
			"b",
			"other " + webHost + " Service a/web: its exportTo does not show it to namespace b: only a can see it\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(config.Default())
			r.Apply(epoch, kube(t, c.objects...))
			if diff := cmp.Diff(c.want, brief(r.Explain(c.from, nil, webHost))); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestAServiceThatLosesIsToldToo(t *testing.T) {
	_, d := New(config.Default()).Apply(epoch, kube(t, "Service a/web: clusterIP: 10.96.0.1, "+webPorts, "ServiceEntry b/e: "+webEntry+", exportTo: [\".\"]"))
	want := "0.yaml:3: Service a/web: metadata.name: host web.a.svc.cluster.local belongs to ServiceEntry b/e (1.yaml:1) in namespace b, which lies in that namespace; this Service is not used there\n"
	if diff := cmp.Diff(want, problems(d)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAServiceNobodySeesIsNoted(t *testing.T) {
	r := New(config.Default())
	r.Apply(epoch, kube(t, "Service a/web: clusterIP: 10.96.0.1, "+webPorts+"; exportTo ~", "Service a/db: clusterIP: 10.96.0.2, "+webPorts+"; exportTo shopp"))
	want := "0.yaml:1: Service a/web: metadata.annotations: exportTo names nobody, so no namespace sees this Service\n" +
		"1.yaml:1: Service a/db: metadata.annotations: only namespace shopp sees this Service, and no object lies there; is the name right?\n"
	if diff := cmp.Diff(want, problems(Delta{Problems: r.Notes()})); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestTheOrderOfArrivalIsWithoutEffectForServices shuffles Services, slices,
// workloads and entries, one change at a time and all at once.
func TestTheOrderOfArrivalIsWithoutEffectForServices(t *testing.T) {
	const slice = webSlice + "endpoints: [{addresses: "
	all := kube(t,
		"Service a/web@2026: clusterIP: 10.96.0.1, selector: {app: web}, "+webPorts, "Service b/web: clusterIP: None, "+webPorts+"; exportTo b",
		"EndpointSlice a/s1 of web: "+slice+"[10.0.0.1]}]", "EndpointSlice a/s2 of web: "+slice+"[10.0.0.2, 10.0.0.1]}]",
		"EndpointSlice b/s1 of web: "+slice+"[10.0.0.3]}]", "EndpointSlice b/s2 of nothing: "+slice+"[10.0.0.4]}]",
		"WorkloadEntry a/vm: address: 192.0.2.1, labels: {app: web}",
		"ServiceEntry a/e1@2020: "+webEntry+", endpoints: [{address: 192.0.2.2}], subjectAltNames: [one.example]",
		"ServiceEntry a/e2: "+webEntry+", endpoints: [{address: 192.0.2.3}, {address: 192.0.2.2}], exportTo: [b], subjectAltNames: [two.example]",
		"ServiceEntry b/e@2020: "+webEntry, "ServiceEntry c/e@2020: "+webEntry+", exportTo: [d]",
	)
	shown := func(s *Snapshot) string {
		var b strings.Builder
		for _, namespace := range []string{"a", "b", "c", "d", "e"} {
			for service := range s.Services(namespace) {
				fmt.Fprintf(&b, "%s: %s of %s: %s\n", namespace, service.Host, service.Source, has(service))
			}
		}
		return b.String()
	}
	first, told := New(config.Default()).Apply(epoch, all)
	want, wantProblems := shown(first), problems(told)
	random := rand.New(rand.NewPCG(3, 4)) //nolint:gosec // a test that can be repeated
	for range 1000 {
		random.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
		s, d := New(config.Default()).Apply(epoch, all)
		one := New(config.Default())
		var last *Snapshot
		for _, c := range all {
			last, _ = one.Apply(epoch, []Change{c})
		}
		if shown(s) != want || shown(last) != want || problems(d) != wantProblems {
			t.Fatalf("order %v gives another result:\n%s", all, cmp.Diff(want+wantProblems, shown(s)+problems(d)))
		}
	}
	if !strings.Contains(want, "a: "+webHost+" of Service a/web: 10.96.0.1 STATIC http:80=10.0.0.1:8080 http:80=10.0.0.2:8080 http:80=192.0.2.1:8080 http:80=192.0.2.3:80 http:80=192.0.2.2:80 two.example one.example\n") {
		t.Errorf("got\n%s", want)
	}
}
