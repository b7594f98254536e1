package control

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

func captured(t *testing.T, mode, dns string, exclude string) mesh.Capture {
	t.Helper()
	c, err := mesh.ParseCapture(mode, dns, map[string]string{"traffic.sidecar.istio.io/excludeOutboundPorts": exclude})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestProxiesShareWhatTheirCaptureLeavesAlike and follow changes of it.
func TestProxiesShareWhatTheirCaptureLeavesAlike(t *testing.T) {
	const db = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: db}\nspec: {hosts: [db.example], resolution: DNS, ports: [{number: 3306, name: db, protocol: TCP}]}\n---\n"
	p := stdin(t, mesh.AllowAny, db)
	sets := map[string]*client{}
	for name, c := range map[string]mesh.Capture{
		"whole": {}, "also whole": captured(t, "REDIRECT", "true", ""),
		"past": captured(t, "", "", "25,3306"), "also past": captured(t, "", "", "3306, 25"),
		"no TCP": captured(t, "NONE", "", ""), "no DNS": captured(t, "", "false", ""),
	} {
		cl := &client{}
		t.Cleanup(p.Join(ads.Node{ID: name, Namespace: "default", Capture: c}, func(s *translate.Set, keys []translate.Key) { cl.set, cl.last = s, keys }))
		sets[name] = cl
	}
	listeners := func(name string) string {
		var all []string
		for r := range sets[name].set.WithPrefix(xds.ListenerType, "") {
			all = append(all, r.Name)
		}
		return strings.Join(all, " ")
	}
	check := func(step string) {
		t.Helper()
		if sets["whole"].set != sets["also whole"].set || sets["past"].set != sets["also past"].set {
			t.Errorf("%s: proxies of one capture do not share their set", step)
		}
		if got := listeners("whole"); !strings.Contains(got, "240.240.") || strings.Contains(got, "0.0.0.0_3306") {
			t.Errorf("%s: with all captured there is %s", step, got)
		}
		for _, name := range []string{"past", "no TCP", "no DNS"} {
			if got := listeners(name); got != "0.0.0.0_3306 virtualOutbound" {
				t.Errorf("%s: %s: there is %s", step, name, got)
			}
			for r := range sets[name].set.WithPrefix(xds.NameType, "") {
				if bytes.Contains(r.Body.GetValue(), []byte("240.240.")) {
					t.Errorf("%s: %s: DNS answers with a virtual address: %q", step, name, r.Body.GetValue())
				}
			}
		}
		for name, cl := range sets {
			if n := cl.set.Len(xds.NameType); n != 1 {
				t.Errorf("%s: %s: %d names are known, want 1", step, name, n)
			}
		}
	}
	check("at first")
	change(t, p, db+httpEntry("default", "more")+sidecar("s", `egress: [{hosts: ["*/db.example"]}]`))
	check("through a Sidecar")
	if len(p.views) != 4 {
		t.Errorf("%d views, want 4", len(p.views))
	}
}

func TestWhatAProxyDoesNotGetIsLogged(t *testing.T) {
	var said bytes.Buffer
	p, _, err := New(Options{Paths: []string{"-"}, Stdin: strings.NewReader(httpEntry("default", "own")), Namespace: "default", Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []mesh.Capture{{}, captured(t, "", "", "3306")} {
		p.Join(ads.Node{ID: "x", Namespace: "default", Capture: c}, func(*translate.Set, []translate.Key) {})()
	}
	if strings.Count(said.String(), "not everything") != 1 || !strings.Contains(said.String(), "ports 3306 (excludeOutboundPorts)") {
		t.Errorf("said %s", said.String())
	}
}
