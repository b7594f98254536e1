package supervisor

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

func TestWarningsThatAreAlikeAreOneLine(t *testing.T) {
	var problems []api.Problem
	say := func(s api.Severity, n int, message string) {
		for i := range n {
			problems = append(problems, api.Problem{Severity: s, Object: mesh.Ref{Kind: "ServiceEntry", Namespace: "a", Name: fmt.Sprint(i)}, File: "f.yaml", Line: i + 1, Field: "spec", Message: message})
		}
	}
	say(api.Warning, 1, "alone")
	say(api.Warning, 20, "of many")
	say(api.Error, 4, "wrong")
	say(api.Warning, 1, "behind")
	want := []string{
		"warning: f.yaml:1: ServiceEntry a/0: spec: alone",
		"warning: 20 times, of f.yaml:1: ServiceEntry a/0: spec, f.yaml:2: ServiceEntry a/1: spec, f.yaml:3: ServiceEntry a/2: spec, …: of many",
		"error: f.yaml:1: ServiceEntry a/0: spec: wrong",
		"error: f.yaml:2: ServiceEntry a/1: spec: wrong",
		"error: f.yaml:3: ServiceEntry a/2: spec: wrong",
		"error: f.yaml:4: ServiceEntry a/3: spec: wrong",
		"warning: f.yaml:1: ServiceEntry a/0: spec: behind",
	}
	if diff := cmp.Diff(want, notices(problems)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := notices(problems[:4]); len(got) != 4 { // few enough to be said each
		t.Errorf("%q", got)
	}
}
