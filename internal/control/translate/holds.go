package translate

import (
	"iter"
	"maps"

	"github.com/fairlead/fairlead/internal/api"
)

// holds counts in how many places of a view each problem holds: listeners, and
// what single services declare.
type holds map[api.Problem]int

// exchange puts the problems of some places in the place of those that were
// theirs, and returns those that hold nowhere any more.
func (h holds) exchange(old, now []api.Problem) (ended []api.Problem) {
	for _, x := range now {
		h[x]++
	}
	for _, x := range old {
		if h[x]--; h[x] == 0 {
			delete(h, x)
			ended = append(ended, x)
		}
	}
	return ended
}

// Holds reports whether a problem that New or Update returned holds still.
func (t *Translator) Holds(x api.Problem) bool { return t.holds[x] > 0 }

// Ended returns the problems that held until the last Update, and no more.
func (t *Translator) Ended() []api.Problem { return t.ended }

// Holding yields the problems that hold, in any order.
func (t *Translator) Holding() iter.Seq[api.Problem] { return maps.Keys(t.holds) }
