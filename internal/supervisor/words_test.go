package supervisor

import (
	"testing"

	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/mesh"
)

// TestTheStartLineSaysByWhomThePolicyHolds where not all agree.
func TestTheStartLineSaysByWhomThePolicyHolds(t *testing.T) {
	for want, r := range map[string]control.Ruling{
		"ALLOW_ANY: what no entry declares passes through":                             {Policy: mesh.AllowAny},
		"REGISTRY_ONLY (by ConfigMap a/b, which …): what no entry declares is refused": {Policy: mesh.RegistryOnly, By: "by ConfigMap a/b, which …"},
	} {
		if got := inWords(r); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}

func TestWhatDidNotStartSaysHowManyErrorsWhy(t *testing.T) {
	for n, want := range map[int]string{1: "the command did not start, for the error above", 3: "the command did not start, for the 3 errors above"} {
		if got := didNotStart(n).Error(); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
	}
}
