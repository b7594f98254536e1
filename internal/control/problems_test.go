package control

import (
	"bytes"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/mesh"
)

// logged is a Plane and what it logged since it was asked last.
type logged struct {
	*Plane
	said bytes.Buffer
}

func logging(t *testing.T, yaml string) *logged {
	t.Helper()
	l := &logged{}
	p, _, err := New(Options{Paths: []string{"-"}, Stdin: strings.NewReader(yaml), Namespace: "default", Policy: mesh.RegistryOnly, Log: slog.New(slog.NewTextHandler(&l.said, nil))})
	if p == nil {
		t.Fatal(err)
	}
	l.Plane = p
	p.prepare()
	l.said.Reset()
	return l
}

// lines returns the levels of the lines logged since, that contain the text.
func (l *logged) lines(text string) string {
	var levels []string
	for line := range strings.Lines(l.said.String()) {
		if strings.Contains(line, text) {
			_, level, _ := strings.Cut(line, "level=")
			level, _, _ = strings.Cut(level, " ")
			levels = append(levels, level)
		}
	}
	l.said.Reset()
	return strings.Join(levels, " ")
}

// TestALoserIsToldEachTimeItLoses though nothing of its own changed, and that it
// is over; and what it lost is counted while it is so.
func TestALoserIsToldEachTimeItLoses(t *testing.T) {
	const host = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: NAME}\nspec: {hosts: [x.example.com], resolution: RESOLUTION, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n"
	same := func(name, resolution string) string {
		return strings.NewReplacer("NAME", name, "RESOLUTION", resolution).Replace(host)
	}
	for name, c := range map[string]struct {
		winner, loser, text, level string
		errors                     int
	}{
		"a port": {write("a", "TCP"), write("b", "TCP"), "port 5432 of host b.example.com is refused", "ERROR", 1},
		"a host": {same("a", "DNS"), same("b", "NONE"), "host x.example.com belongs to ServiceEntry default/a", "WARN", 0},
	} {
		t.Run(name, func(t *testing.T) {
			p := logging(t, c.winner+c.loser)
			if p.Errors() != c.errors {
				t.Errorf("at first %d errors, want %d", p.Errors(), c.errors)
			}
			t.Cleanup(p.Join(ads.Node{ID: "x", Namespace: "default"}, func(*translate.Set, []translate.Key) {}))
			if got := p.lines(c.text); got != "" {
				t.Errorf("said again to a proxy: %s", got)
			}
			for _, location := range []string{"MESH_EXTERNAL", "MESH_INTERNAL", "MESH_EXTERNAL"} {
				remove(p.Plane, api.KindServiceEntry, "a")
				if got := p.lines(c.text); got != "INFO" || p.Errors() != 0 || len(p.problems) != 0 {
					t.Errorf("without the winner: said %q, %d errors, %v", got, p.Errors(), p.problems)
				}
				change(t, p.Plane, c.winner)
				if got := p.lines(c.text); got != c.level || p.Errors() != c.errors {
					t.Errorf("with the winner: said %q, %d errors", got, p.Errors())
				}
				change(t, p.Plane, write("other", "HTTP"))
				remove(p.Plane, api.KindServiceEntry, "other")
				if got := p.lines(c.text); got != "" {
					t.Errorf("what others do: said %q", got)
				}
				change(t, p.Plane, strings.ReplaceAll(c.loser, "resolution:", "location: "+location+", resolution:"))
				if got := p.lines(c.text); got != c.level || p.Errors() != c.errors {
					t.Errorf("the loser changes and loses: said %q, %d errors", got, p.Errors())
				}
			}
			remove(p.Plane, api.KindServiceEntry, "b")
			if got := p.lines(c.text); got != "INFO" || p.Errors() != 0 {
				t.Errorf("without the loser: said %q, %d errors", got, p.Errors())
			}
		})
	}
}

// TestWhatHoldsInAViewEndsWithIt when its Sidecar goes.
func TestWhatHoldsInAViewEndsWithIt(t *testing.T) {
	both := private(in("shop", write("a", "TCP")+write("b", "TCP")))
	p := logging(t, both)
	const text = "port 5432 of host b.example.com is refused"
	leave := p.Join(ads.Node{ID: "x", Namespace: "shop"}, func(*translate.Set, []translate.Key) {})
	if got := p.lines(text); got != "ERROR" || p.Errors() != 1 {
		t.Errorf("a proxy there: said %q, %d errors", got, p.Errors())
	}
	change(t, p.Plane, in("shop", sidecar("s", "egress: [{hosts: [\"./a.example.com\"]}]")))
	if got := p.lines(text); got != "INFO" || p.Errors() != 0 {
		t.Errorf("through a Sidecar without it: said %q, %d errors", got, p.Errors())
	}
	leave()
}

// TestASidecarThatIsHiddenIsToldAgain each time.
func TestASidecarThatIsHiddenIsToldAgain(t *testing.T) {
	const all = "egress: [{hosts: [\"*/*\"]}]"
	p := logging(t, sidecar("a", all)+sidecar("b", all))
	var got []string
	for range 2 {
		remove(p.Plane, api.KindSidecar, "a")
		got = append(got, p.lines("is not used: Sidecar default/a"))
		change(t, p.Plane, sidecar("a", all))
		got = append(got, p.lines("is not used: Sidecar default/a"))
	}
	if want := []string{"INFO", "WARN", "INFO", "WARN"}; !slices.Equal(got, want) {
		t.Errorf("said %q, want %q", got, want)
	}
}

// TestAQuestionMakesNoView that would be kept and updated.
func TestAQuestionMakesNoView(t *testing.T) {
	p := logging(t, write("a", "TCP"))
	views := len(p.views)
	if e, sight := p.Explain("shop", nil, "a.example.com"); e.Owner == nil || sight.Services.Service("shop", "a.example.com") == nil {
		t.Error("shop does not see what is public")
	}
	if got := p.said.String(); len(p.views) != views || got != "" {
		t.Errorf("%d views more, logged %q", len(p.views)-views, got)
	}
}
