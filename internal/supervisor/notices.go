package supervisor

import (
	"fmt"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
)

const (
	alikeApart = 3 // so many warnings of one text are each said in a line of their own
	alikeNamed = 3 // of more than those so many are named
)

// notices are the lines in which problems are said at the start: each by itself, but
// for warnings that say the same of many objects, which are one line where the first
// of them would be. The log and the status have all of them.
func notices(problems []api.Problem) (lines []string) {
	alike := map[string][]api.Problem{}
	for _, p := range problems {
		if p.Severity != api.Error {
			alike[p.Message] = append(alike[p.Message], p)
		}
	}
	for _, p := range problems {
		same := alike[p.Message]
		switch {
		case p.Severity == api.Error, len(same) <= alikeApart:
			lines = append(lines, fmt.Sprintf("%s: %s", p.Severity, p))
		case p == same[0]:
			lines = append(lines, fmt.Sprintf("%s: %s: %s", p.Severity, places(same), p.Message))
		}
	}
	return lines
}

// places names the first of what a warning is about, and counts the rest.
func places(same []api.Problem) string {
	var names []string
	for _, p := range same {
		p.Message = ""
		if name := strings.TrimSuffix(p.String(), ": "); !slices.Contains(names, name) {
			names = append(names, name)
		}
		if len(names) == alikeNamed {
			break
		}
	}
	return fmt.Sprintf("%d times, of %s, …", len(same), strings.Join(names, ", "))
}
