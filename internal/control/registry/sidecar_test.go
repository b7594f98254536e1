package registry

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
)

func TestWhichSidecarApplies(t *testing.T) {
	const egress = `: egress: [{hosts: ["./*"]}]`
	const forX = `: workloadSelector: {labels: {app: x}}, egress: [{hosts: ["./*"]}]`
	x := map[string]string{"app": "x"}
	for name, c := range map[string]struct {
		sidecars  []string
		namespace string
		labels    map[string]string
		want      string
	}{
		"none":                                {nil, "a", x, ""},
		"that of the namespace":               {[]string{"Sidecar a/s" + egress}, "a", x, "a/s"},
		"not that of another":                 {[]string{"Sidecar b/s" + egress}, "a", x, ""},
		"one that selects goes first":         {[]string{"Sidecar a/a" + egress, "Sidecar a/z" + forX}, "a", x, "a/z"},
		"one that selects others does not":    {[]string{"Sidecar a/a" + egress, "Sidecar a/z" + forX}, "a", nil, "a/a"},
		"the root namespace's as a default":   {[]string{"Sidecar istio-system/s" + egress}, "a", x, "istio-system/s"},
		"after the namespace's own":           {[]string{"Sidecar istio-system/s" + egress, "Sidecar a/s" + egress}, "a", x, "a/s"},
		"the root's selection is for its own": {[]string{"Sidecar istio-system/s" + forX}, "a", x, ""},
		"of two the first by name":            {[]string{"Sidecar a/s2" + egress, "Sidecar a/s1" + egress}, "a", x, "a/s1"},
	} {
		t.Run(name, func(t *testing.T) {
			var changes []Change
			for _, line := range c.sidecars {
				changes = append(changes, object(t, line))
			}
			s, d := New(config.Default()).Apply(epoch, changes)
			got := ""
			if found := s.Sidecar(c.namespace, c.labels); found != nil {
				got = found.Source.Namespace + "/" + found.Source.Name
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
			if d.Sidecars != (len(changes) > 0) {
				t.Errorf("the delta says %v", d.Sidecars)
			}
		})
	}
}

func TestWhatIsSeenThroughASidecar(t *testing.T) {
	entry := func(namespace, host string) string {
		return "ServiceEntry " + namespace + "/" + strings.Trim(host, "*.") + ": hosts: [\"" + host + "\"], resolution: NONE, " + http80
	}
	objects := []string{
		entry("a", "own.example"), entry("b", "b.example"), entry("c", "c.example"), entry("c", "*.wild.example"),
		entry("b", "two.example"), entry("c", "two.example"),
		"ServiceEntry b/private: hosts: [private.example], exportTo: [\".\"], resolution: NONE, " + http80,
	}
	for name, c := range map[string]struct{ hosts, want string }{
		"its own":                   {`"./*"`, "a/own.example"},
		"all":                       {`"*/*"`, "c/*.wild.example b/b.example c/c.example a/own.example b/two.example"},
		"none":                      {`"~/*"`, ""},
		"a namespace":               {`"c/*"`, "c/*.wild.example c/c.example c/two.example"},
		"a host":                    {`"*/b.example"`, "b/b.example"},
		"a domain":                  {`"*/*.example"`, "c/*.wild.example b/b.example c/c.example a/own.example b/two.example"},
		"a narrower domain":         {`"*/*.wild.example"`, "c/*.wild.example"},
		"all but one namespace":     {`"*/*", "~b/*"`, "c/*.wild.example c/c.example a/own.example c/two.example"},
		"all but one host":          {`"*/*", "~/two.example"`, "c/*.wild.example b/b.example c/c.example a/own.example"},
		"nothing that is not shown": {`"b/private.example"`, ""},
	} {
		t.Run(name, func(t *testing.T) {
			changes := []Change{object(t, "Sidecar a/s: egress: [{hosts: ["+c.hosts+"]}]")}
			for _, line := range objects {
				changes = append(changes, object(t, line))
			}
			s, _ := New(config.Default()).Apply(epoch, changes)
			if got := seen(s.Through(s.Sidecar("a", nil), mesh.Capture{}), "a"); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func seen(s Scope, namespace string) string {
	var all []string
	for service := range s.Services(namespace) {
		all = append(all, service.Namespace+"/"+string(service.Host))
	}
	return strings.Join(all, " ")
}

// TestTheFirstListenerThatImportsAHostDecides whose it is.
func TestTheFirstListenerThatImportsAHostDecides(t *testing.T) {
	s, _ := New(config.Default()).Apply(epoch, []Change{
		object(t, "ServiceEntry b/e: hosts: [x.example], resolution: NONE, "+http80),
		object(t, "ServiceEntry c/e: hosts: [x.example], resolution: NONE, "+http80),
		object(t, `Sidecar a/s: egress: [{port: {number: 80, protocol: HTTP, name: http}, hosts: ["c/*"]}, {hosts: ["*/*"]}]`),
	})
	if got := seen(s.Through(s.Sidecar("a", nil), mesh.Capture{}), "a"); got != "c/x.example" {
		t.Errorf("got %s", got)
	}
	if got := seen(s.Through(nil, mesh.Capture{}), "a"); got != "b/x.example" {
		t.Errorf("without a Sidecar: got %s", got)
	}
}

// TestAListenersPortIsTheOnlyOne on which its hosts are reached.
func TestAListenersPortIsTheOnlyOne(t *testing.T) {
	const ports = "ports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}, {number: 3306, name: db, protocol: TCP}]"
	for name, c := range map[string]struct{ egress, want string }{
		"all":                       {`{hosts: ["*/*"]}`, "b/x.example 80 443 3306 virtual, c/y.example 80 443 3306 virtual"},
		"one port":                  {`{port: {number: 80, protocol: HTTP, name: http}, hosts: ["*/*"]}`, "b/x.example 80 virtual, c/y.example 80 virtual"},
		"one port and the rest":     {`{port: {number: 80, protocol: HTTP, name: http}, hosts: ["b/*"]}, {hosts: ["*/*"]}`, "b/x.example 80 443 3306 virtual, c/y.example 443 3306 virtual"},
		"two ports":                 {`{port: {number: 80, protocol: HTTP, name: http}, hosts: ["b/*"]}, {port: {number: 3306, protocol: TCP, name: db}, hosts: ["b/*"]}`, "b/x.example 80 3306 virtual"},
		"the owner is of the first": {`{port: {number: 3306, protocol: TCP, name: db}, hosts: ["c/*"]}, {hosts: ["b/*"]}`, "b/x.example 80 443 virtual, c/y.example 3306 virtual"},
		"past the proxy":            {`{port: {number: 3306, protocol: TCP, name: db}, captureMode: NONE, bind: 127.0.0.1, hosts: ["b/*"]}, {hosts: ["*/*"]}`, "b/x.example 80 443, c/y.example 80 443 3306 virtual"},
		"all past the proxy":        {`{captureMode: NONE, hosts: ["b/*"]}`, "b/x.example"},
		"a socket":                  {`{port: {protocol: HTTP, name: http}, bind: "unix:///run/a", hosts: ["b/*"]}, {hosts: ["c/*"]}`, "c/y.example 80 443 3306 virtual"},
		"a socket alone":            {`{port: {protocol: HTTP, name: http}, bind: "unix:///run/a", hosts: ["b/*"]}`, ""},
		"an HTTP proxy":             {`{port: {number: 15080, protocol: HTTP_PROXY, name: p}, hosts: ["*/*"]}, {hosts: ["c/*"]}`, "c/y.example 80 443 3306 virtual"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _ := New(config.Default()).Apply(epoch, []Change{
				object(t, "ServiceEntry b/e: hosts: [x.example], resolution: DNS, "+ports),
				object(t, "ServiceEntry c/e: hosts: [y.example], resolution: DNS, "+ports),
				object(t, "Sidecar a/s: egress: ["+c.egress+"]"),
			})
			var all []string
			for service := range s.Through(s.Sidecar("a", nil), mesh.Capture{}).Services("a") {
				text := service.Namespace + "/" + string(service.Host)
				for _, p := range service.Ports {
					text += fmt.Sprintf(" %d", p.Number)
				}
				if len(service.VIPs) > 0 {
					text += " virtual"
				}
				all = append(all, text)
			}
			if got := strings.Join(all, ", "); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

// TestWhatASidecarImportsInVainIsNoted with what was meant.
func TestWhatASidecarImportsInVainIsNoted(t *testing.T) {
	for name, c := range map[string]struct{ sidecar, want string }{
		"a host":                  {`Sidecar a/s: egress: [{hosts: ["b/x.example"]}]`, ""},
		"any namespace's":         {`Sidecar a/s: egress: [{hosts: ["*/x.example"]}]`, ""},
		"a domain":                {`Sidecar a/s: egress: [{hosts: ["*/*.example"]}]`, ""},
		"all of a namespace":      {`Sidecar a/s: egress: [{hosts: ["istio-system/*", "./*", "nowhere/*"]}]`, ""},
		"what is not there":       {`Sidecar a/s: egress: [{hosts: ["*/zebra.org"]}]`, "spec.egress[0].hosts: */zebra.org imports nothing: nothing declares such a host"},
		"what was misspelt":       {`Sidecar a/s: egress: [{hosts: ["./*", "*/private.exmaple"]}]`, "*/private.exmaple imports nothing: nothing declares such a host; did you mean private.example?"},
		"another namespace's":     {`Sidecar a/s: egress: [{hosts: ["c/x.example"]}]`, "c/x.example imports nothing: it is declared in namespace b; write b/x.example"},
		"not its own":             {`Sidecar a/s: egress: [{hosts: ["./x.example"]}]`, "./x.example imports nothing: it is declared in namespace b; write b/x.example"},
		"what is not shown":       {`Sidecar a/s: egress: [{hosts: ["b/private.example"]}]`, "b/private.example imports nothing: the exportTo of ServiceEntry b/private (private.yaml:1) does not show it to namespace a"},
		"a port that it has not":  {`Sidecar a/s: egress: [{port: {number: 81, protocol: HTTP, name: p}, hosts: ["b/x.example"]}]`, "ServiceEntry b/e (e.yaml:1) does not declare port 81, for which the listener is"},
		"a domain without hosts":  {`Sidecar a/s: egress: [{hosts: ["*/*.org"]}]`, "*/*.org imports nothing: nothing declares such a host"},
		"the root's, anyone's":    {`Sidecar istio-system/s: egress: [{hosts: ["./private.example", "*/x.example"]}]`, ""},
		"the root's, nobody's":    {`Sidecar istio-system/s: egress: [{hosts: ["*/zebra.org"]}]`, "*/zebra.org imports nothing"},
		"what it leaves out":      {`Sidecar a/s: egress: [{hosts: ["*/*", "~/zebra.org"]}]`, ""},
		"the second listener's":   {`Sidecar a/s: egress: [{port: {number: 80, protocol: HTTP, name: p}, hosts: ["*/*"]}, {hosts: ["*/zebra.org"]}]`, "spec.egress[1].hosts: */zebra.org"},
		"what others have":        {`Sidecar a/s: egress: [{port: {number: 80, protocol: HTTP, name: p}, hosts: ["c/*"]}, {hosts: ["b/x.example"]}]`, "spec.egress[1].hosts: b/x.example imports nothing: every port that ServiceEntry b/e (e.yaml:1) declares has a listener of its own, and this one has the others; list the host there"},
		"what others leave":       {`Sidecar a/s: egress: [{port: {number: 81, protocol: HTTP, name: p}, hosts: ["*/*"]}, {hosts: ["b/x.example"]}]`, ""},
		"what goes past others":   {`Sidecar a/s: egress: [{port: {number: 80, protocol: HTTP, name: p}, captureMode: NONE, hosts: ["c/*"]}, {hosts: ["b/x.example"]}]`, ""},
		"in a listener for a few": {`Sidecar a/s: workloadSelector: {labels: {app: x}}, egress: [{hosts: ["*/zebra.org"]}]`, "*/zebra.org imports nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			r := New(config.Default())
			r.Apply(epoch, []Change{
				object(t, "ServiceEntry b/e: hosts: [x.example], resolution: DNS, "+http80),
				object(t, "ServiceEntry b/private: hosts: [private.example], resolution: DNS, exportTo: [b], "+http80),
				object(t, c.sidecar),
			})
			var told []string
			for _, note := range r.Notes() {
				if note.Object.Kind == "Sidecar" {
					told = append(told, note.String())
				}
			}
			got := strings.Join(told, "\n")
			if (c.want == "") != (got == "") || !strings.Contains(got, c.want) || len(told) > 1 {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestAnIdleSidecarIsTold(t *testing.T) {
	r := New(config.Default())
	_, d := r.Apply(epoch, []Change{
		object(t, `Sidecar a/s1: egress: [{hosts: ["./*"]}]`), object(t, `Sidecar a/s2: egress: [{hosts: ["*/*"]}]`),
	})
	if told := problems(d); !strings.Contains(told, "Sidecar a/s2: is not used: Sidecar a/s1") || strings.Count(told, "\n") != 1 {
		t.Errorf("told %q", told)
	}
}

// TestASidecarThatSelectsNothingOfItsOwnIsTold where one before it selects all of
// its workloads.
func TestASidecarThatSelectsNothingOfItsOwnIsTold(t *testing.T) {
	const first, other = `workloadSelector: {labels: {app: x}}, egress: [{hosts: ["./*"]}]`, `workloadSelector: {labels: {app: z}}, egress: [{hosts: ["./*"]}]`
	for second, hidden := range map[string]bool{
		first: true,
		`workloadSelector: {labels: {app: x, tier: a}}, egress: [{hosts: ["*/*"]}]`: true,
		`workloadSelector: {labels: {tier: a}}, egress: [{hosts: ["*/*"]}]`:         false,
		`egress: [{hosts: ["*/*"]}]`: false,
	} {
		_, d := New(config.Default()).Apply(epoch, []Change{
			object(t, "Sidecar a/s0: "+other), object(t, "Sidecar a/s1: "+first), object(t, "Sidecar a/s2: "+second), object(t, "Sidecar b/s2: "+second),
		})
		told := problems(d)
		if strings.Contains(told, "Sidecar a/s2: spec.workloadSelector: is not used: Sidecar a/s1") != hidden || strings.Count(told, "\n") > 1 || !hidden && told != "" {
			t.Errorf("%s: told %q", second, told)
		}
	}
}

func TestASidecarsPolicy(t *testing.T) {
	s, _ := New(config.Default()).Apply(epoch, []Change{
		object(t, "Sidecar a/s: outboundTrafficPolicy: {mode: ALLOW_ANY}"),
		object(t, "Sidecar b/s: outboundTrafficPolicy: {}"),
		object(t, `Sidecar c/s: egress: [{hosts: ["./*"]}]`),
	})
	allow, deny := mesh.AllowAny, mesh.RegistryOnly
	for namespace, want := range map[string]*mesh.OutboundPolicy{"a": &allow, "b": &deny, "c": nil} {
		got := s.Sidecar(namespace, nil).Policy
		if (got == nil) != (want == nil) || got != nil && *got != *want {
			t.Errorf("%s: got %v, want %v", namespace, got, want)
		}
	}
}

// TestASidecarComesAndGoes and what was handed out before stays as it was.
func TestASidecarComesAndGoes(t *testing.T) {
	r := New(config.Default())
	c := object(t, `Sidecar a/s: egress: [{hosts: ["./*"]}]`)
	with, _ := r.Apply(epoch, []Change{c})
	without, d := r.Apply(epoch, []Change{{Key: c.Key}})
	if with.Sidecar("a", nil) == nil || without.Sidecar("a", nil) != nil || !d.Sidecars {
		t.Errorf("with: %v, without: %v, delta %v", with.Sidecar("a", nil), without.Sidecar("a", nil), d)
	}
	if _, d := r.Apply(epoch, []Change{{Key: c.Key}}); d.Sidecars {
		t.Errorf("removing it again changes %v", d)
	}
}
