package registry

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

// object reads one object of any kind, written as "Kind namespace/name: spec in
// flow style"; what follows a "|" in the name are its labels.
func object(t *testing.T, line string) Change {
	t.Helper()
	kind, rest, _ := strings.Cut(line, " ")
	id, spec, _ := strings.Cut(rest, ": ")
	namespace, name, _ := strings.Cut(id, "/")
	name, labels, _ := strings.Cut(name, "|")
	text := fmt.Sprintf("apiVersion: networking.istio.io/v1\nkind: %s\nmetadata: {name: %s, namespace: %s, labels: {%s}}\nspec: {%s}\n",
		kind, name, namespace, strings.ReplaceAll(labels, "=", ": "), spec)
	objects, problems := api.Read(name+".yaml", []byte(text), "default")
	if api.HasError(problems) || len(objects) != 1 {
		t.Fatalf("%s: %v", line, problems)
	}
	return Change{Key: objects[0].Key, Object: objects[0]}
}

func TestAnEntryHasTheWorkloadsItSelects(t *testing.T) {
	const selecting = "ServiceEntry a/e: hosts: [x.example], workloadSelector: {labels: {app: x}}, " + http80
	for name, c := range map[string]struct {
		resolution string
		workloads  []string
		want       []string
		told       string
	}{
		"by labels":                      {"STATIC", []string{"WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x, v: one}"}, []string{"192.0.2.1"}, ""},
		"in the order of names":          {"STATIC", []string{"WorkloadEntry a/w2: address: 192.0.2.2, labels: {app: x}", "WorkloadEntry a/w1: address: 192.0.2.1, labels: {app: x}"}, []string{"192.0.2.1", "192.0.2.2"}, ""},
		"labels of the metadata win":     {"STATIC", []string{"WorkloadEntry a/w|app=x: address: 192.0.2.1, labels: {app: w}", "WorkloadEntry a/v|app=w: address: 192.0.2.2, labels: {app: x}"}, []string{"192.0.2.1"}, ""},
		"none of another namespace":      {"STATIC", []string{"WorkloadEntry b/w: address: 192.0.2.1, labels: {app: x}"}, nil, "selects no WorkloadEntry of namespace a"},
		"none with other labels":         {"STATIC", []string{"WorkloadEntry a/w: address: 192.0.2.1, labels: {app: w}"}, nil, "selects no WorkloadEntry of namespace a"},
		"none at all, not even itself":   {"DNS", nil, nil, "selects no WorkloadEntry of namespace a"},
		"names under DNS":                {"DNS", []string{"WorkloadEntry a/w: address: Y.example, labels: {app: x}"}, []string{"y.example"}, ""},
		"addresses under DNS":            {"DNS", []string{"WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x}"}, []string{"192.0.2.1"}, ""},
		"no names under STATIC":          {"STATIC", []string{"WorkloadEntry a/w: address: y.example, labels: {app: x}"}, nil, "STATIC does not resolve names"},
		"a socket under STATIC":          {"STATIC", []string{`WorkloadEntry a/w: address: "unix:///run/x", labels: {app: x}`}, []string{"unix:///run/x"}, ""},
		"no socket under DNS":            {"DNS", []string{`WorkloadEntry a/w: address: "unix:///run/x", labels: {app: x}`}, nil, "a unix socket needs resolution STATIC, not DNS"},
		"one under DNS_ROUND_ROBIN":      {"DNS_ROUND_ROBIN", []string{"WorkloadEntry a/w1: address: y.example, labels: {app: x}", "WorkloadEntry a/w2: address: z.example, labels: {app: x}"}, []string{"y.example"}, "DNS_ROUND_ROBIN takes one endpoint only, and has y.example"},
		"no endpoints under NONE":        {"NONE", []string{"WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x}"}, nil, ""},
		"none without an address":        {"STATIC", []string{"WorkloadEntry a/w: network: n1, labels: {app: x}"}, nil, "selects no WorkloadEntry of namespace a"},
		"not one that a group describes": {"STATIC", []string{"WorkloadGroup a/w: template: {labels: {app: x}}"}, nil, "selects no WorkloadEntry of namespace a"},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []Change{object(t, selecting+", resolution: "+c.resolution)}
			for _, w := range c.workloads {
				changes = append(changes, object(t, w))
			}
			for range 2 { // the entry first, then last
				s, d := New(config.Default()).Apply(epoch, changes)
				var got []string
				for _, e := range s.Service("a", "x.example").Endpoints {
					got = append(got, e.Address)
				}
				if diff := cmp.Diff(c.want, got); diff != "" {
					t.Errorf("endpoints (-want +got):\n%s", diff)
				}
				if told := problems(d); (c.told == "") != (told == "") || !strings.Contains(told, c.told) {
					t.Errorf("told %q, want %q", told, c.told)
				}
				slices.Reverse(changes)
			}
		})
	}
}

func TestASelectedWorkloadKeepsWhatItSays(t *testing.T) {
	s, _ := New(config.Default()).Apply(epoch, []Change{
		object(t, "ServiceEntry a/e: hosts: [x.example], resolution: STATIC, workloadSelector: {labels: {app: x}}, "+http80),
		object(t, "WorkloadEntry a/w|team=t: address: 192.0.2.1, labels: {app: x}, ports: {http: 8080, other: 9}, weight: 7, locality: r/z, network: n1, serviceAccount: sa"),
	})
	want := mesh.Endpoint{
		Address: "192.0.2.1", Ports: map[string]uint16{"http": 8080, "other": 9}, Labels: map[string]string{"app": "x", "team": "t"},
		Network: "n1", Locality: "r/z", Weight: 7, ServiceAccount: "sa",
	}
	service := s.Service("a", "x.example")
	if diff := cmp.Diff([]mesh.Endpoint{want}, service.Endpoints); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if port, _ := service.Endpoints[0].PortFor(service.Ports[0]); port != 8080 {
		t.Errorf("it serves at %d", port)
	}
}

// TestAWorkloadTouchesTheHostsThatSelectIt and no other.
func TestAWorkloadTouchesTheHostsThatSelectIt(t *testing.T) {
	r := New(config.Default())
	entry := func(namespace, host, app string) string {
		return fmt.Sprintf("ServiceEntry %s/%s: hosts: [%s.example], resolution: STATIC, workloadSelector: {labels: {app: %s}}, %s", namespace, host, host, app, http80)
	}
	r.Apply(epoch, []Change{
		object(t, entry("a", "x", "x")), object(t, entry("a", "y1", "w")), object(t, entry("b", "z", "x")),
		object(t, "ServiceEntry a/plain: hosts: [p.example], resolution: STATIC, endpoints: [{address: 192.0.2.9}], "+http80),
	})
	w := object(t, "WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x}")
	for _, step := range []struct {
		name   string
		change Change
		want   string
	}{
		{"comes", w, "x.example"},
		{"stays", w, ""},
		{"changes", object(t, "WorkloadEntry a/w: address: 192.0.2.2, labels: {app: x}"), "x.example"},
		{"moves to another", object(t, "WorkloadEntry a/w: address: 192.0.2.2, labels: {app: w}"), "x.example y1.example"},
		{"moves to none", object(t, "WorkloadEntry a/w: address: 192.0.2.2, labels: {app: z}"), "y1.example"},
		{"comes back", w, "x.example"},
		{"goes", Change{Key: w.Key}, "x.example"},
	} {
		_, d := r.Apply(epoch, []Change{step.change})
		if got := names(d.Hosts); got != step.want {
			t.Errorf("%s: touched %q, want %q", step.name, got, step.want)
		}
	}
}

func TestEntriesWithOneSelectorAreMerged(t *testing.T) {
	const selector = "resolution: STATIC, workloadSelector: {labels: {app: x}}, "
	s, d := New(config.Default()).Apply(epoch, []Change{
		object(t, "ServiceEntry a/e1: hosts: [x.example], "+selector+http80),
		object(t, "ServiceEntry a/e2: hosts: [x.example], "+selector+https443),
		object(t, "WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x}, ports: {https: 8443}"),
	})
	service := s.Service("a", "x.example")
	if len(service.Ports) != 2 || problems(d) != "" {
		t.Fatalf("%+v\n%s", service, problems(d))
	}
	var got []string
	for _, p := range service.Ports {
		for _, e := range service.Endpoints {
			if port, ok := e.PortFor(p); ok {
				got = append(got, fmt.Sprintf("%s: %s:%d", p.Name, e.Address, port))
			}
		}
	}
	if diff := cmp.Diff([]string{"http: 192.0.2.1:80", "https: 192.0.2.1:8443"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestAWorkloadThatNothingSelectsIsNoted(t *testing.T) {
	const selector = "workloadSelector: {labels: {app: x}}, "
	for _, c := range []struct {
		name, entry, workload, want string
	}{
		{"selected", "ServiceEntry a/e: hosts: [x.example], resolution: STATIC, " + selector, "WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x, tier: back}", ""},
		{"selected, of no use", "ServiceEntry a/e: hosts: [x.example], resolution: STATIC, " + selector, "WorkloadEntry a/w: address: x.example, labels: {app: x}", ""},
		{"by nobody", "ServiceEntry a/e: hosts: [x.example], resolution: STATIC, " + selector, "WorkloadEntry a/w: address: 192.0.2.1, labels: {app: z}", "spec.labels: no ServiceEntry and no Service of namespace a selects it"},
		{"in another namespace", "ServiceEntry b/e: hosts: [x.example], resolution: STATIC, " + selector, "WorkloadEntry a/w: address: 192.0.2.1, labels: {app: x}", "spec.labels: no ServiceEntry and no Service of namespace a selects it"},
		{"without labels", "ServiceEntry a/e: hosts: [x.example], resolution: STATIC, " + selector, "WorkloadEntry a/w: address: 192.0.2.1", "it has no labels by which"},
	} {
		r := New(config.Default())
		r.Apply(epoch, []Change{object(t, c.entry+http80), object(t, c.workload)})
		var noted []string
		for _, n := range r.Notes() {
			if n.Object.Kind == "WorkloadEntry" {
				noted = append(noted, n.String())
			}
		}
		if told := strings.Join(noted, "\n"); !strings.Contains(told, c.want) || c.want == "" && told != "" {
			t.Errorf("%s: noted %q, want %q", c.name, told, c.want)
		}
	}
}
