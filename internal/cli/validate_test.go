package cli

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/mesh"
)

func TestAVerdictCountsAndColours(t *testing.T) {
	ref := mesh.Ref{Kind: "ServiceEntry", Namespace: "a", Name: "e", File: "a.yaml", Line: 1}
	fault := api.Problem{Severity: api.Error, Object: ref, File: "a.yaml", Line: 4, Field: "spec.hosts", Message: "bad\x1b[2J"}
	doubt := api.Problem{File: "b.yaml", Message: "odd"}
	for name, c := range map[string]struct {
		verdict verdict
		colour  bool
		want    string
	}{
		"nothing": {newVerdict(0, nil, nil), true, "no objects, no errors, no warnings\n"},
		"plain": {
			newVerdict(12, []api.Problem{fault, doubt, doubt}, []api.Problem{doubt}), false,
			"error: a.yaml:4: ServiceEntry a/e: spec.hosts: bad\uFFFD[2J\nwarning: b.yaml: odd\nwarning: b.yaml: odd\nnote: b.yaml: odd\n12 objects, 1 error, 2 warnings, 1 note\n",
		},
		"in colour": {
			newVerdict(1, []api.Problem{doubt}, []api.Problem{doubt}), true,
			"\x1b[33mwarning\x1b[0m: b.yaml: odd\nnote: b.yaml: odd\n1 object, no errors, 1 warning, 1 note\n",
		},
		"with a remark": {verdict{Objects: 2, Remark: "Not all."}, false, "Not all.\n2 objects, no errors, no warnings\n"},
	} {
		var b strings.Builder
		c.verdict.text(&b, c.colour)
		if diff := cmp.Diff(c.want, b.String()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}
