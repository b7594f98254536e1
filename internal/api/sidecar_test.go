package api

import (
	"strings"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
)

// TestWhatASidecarImports asks of a workload of namespace own which hosts it
// sees: an exclusion takes away what any entry imports.
func TestWhatASidecarImports(t *testing.T) {
	all := []string{"own/a.example", "own/b.example", "other/a.example", "other/b.example"}
	for hosts, want := range map[string]string{
		"*/*":                        "own/a.example own/b.example other/a.example other/b.example",
		"./*":                        "own/a.example own/b.example",
		"~/*":                        "",
		"*/* ~/*":                    "",
		"~*/* */*":                   "",
		"*/* ~/a.example":            "own/b.example other/b.example",
		"*/* ~*/a.example":           "own/b.example other/b.example",
		"*/* ~./a.example":           "own/b.example other/a.example other/b.example",
		"*/* ~./*":                   "other/a.example other/b.example",
		"*/* ~other/*":               "own/a.example own/b.example",
		"~other/*.example */*":       "own/a.example own/b.example",
		"./a.example ~other/*":       "own/a.example",
		"./* other/* ~own/b.example": "own/a.example other/a.example other/b.example",
		"~other/*":                   "",
	} {
		spec := &networking.Sidecar{Egress: []*networking.IstioEgressListener{{Hosts: strings.Fields(hosts)}}}
		s := Sidecar(&Object{Key: Key{Kind: KindSidecar, Namespace: "own"}, Spec: spec})
		var seen []string
		for _, x := range all {
			namespace, host, _ := strings.Cut(x, "/")
			if s.Egress[0].Imports("own", namespace, hostname.Name(host)) {
				seen = append(seen, x)
			}
		}
		if got := strings.Join(seen, " "); got != want {
			t.Errorf("%q imports %q, want %q", hosts, got, want)
		}
	}
}
