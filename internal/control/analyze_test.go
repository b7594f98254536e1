package control

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func in(namespace, yaml string) string {
	return strings.ReplaceAll(yaml, "metadata: {", "metadata: {namespace: "+namespace+", ")
}

func private(yaml string) string {
	return strings.ReplaceAll(yaml, "resolution: DNS", "exportTo: [.], resolution: DNS")
}

// TestAnalyzeLooksThroughEveryNamespace has two entries meet on a port where
// the namespace of the run does not see them, and says nothing twice.
func TestAnalyzeLooksThroughEveryNamespace(t *testing.T) {
	for name, c := range map[string]struct {
		yaml         string
		first, later int // ports lost that New and Analyze tell
	}{
		"in the namespace given":      {write("a", "TCP") + write("b", "TCP"), 1, 0},
		"everywhere":                  {in("x", write("a", "TCP")) + in("z", write("b", "TCP")), 1, 0},
		"in another":                  {private(in("x", write("a", "TCP")+write("b", "TCP"))), 0, 1},
		"in two others":               {private(in("x", write("a", "TCP")+write("b", "TCP")) + in("z", write("c", "TCP")+write("d", "TCP"))), 0, 2},
		"nowhere, for nobody is both": {private(in("x", write("a", "TCP")) + in("z", write("b", "TCP"))), 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			p, told, err := plane(t, c.yaml)
			if (err != nil) != (c.first > 0) {
				t.Fatal(err)
			}
			told = slices.DeleteFunc(told, func(s string) bool { return !strings.Contains(s, "is refused") })
			problems, _, skipped := p.Analyze()
			if len(told) != c.first || len(problems) != c.later || skipped != 0 {
				t.Errorf("New says %v, Analyze %v (%d skipped)", told, problems, skipped)
			}
		})
	}
}

func TestAnalyzeSaysHowManyNamespacesItLeftOut(t *testing.T) {
	var all strings.Builder
	for i := range 10 {
		all.WriteString(in(fmt.Sprintf("n%d", i), private(write(fmt.Sprintf("a%d", i), "HTTP"))))
		all.WriteString(in(fmt.Sprintf("like-others%d", i), write(fmt.Sprintf("b%d", i), "HTTP")))
	}
	p, _, err := plane(t, all.String())
	if err != nil {
		t.Fatal(err)
	}
	for most, want := range map[int]int{
		maxJudged:      0,
		10 + 10*11:     0, // what all see, and that with an own one ten times
		10 + 10*11 - 1: 1,
		9:              20, // too much for any
	} {
		if _, _, skipped := p.analyze(most); skipped != want {
			t.Errorf("with %d services to judge %d are left out, want %d", most, skipped, want)
		}
	}
}
