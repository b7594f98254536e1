package dns

import (
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

// The bounds of what one workload can make us log.
const (
	noteEvery = time.Minute // lines about one name
	noteNames = 1024        // names whose last line is remembered
	noteRate  = 10          // lines a second, whatever the names
)

// notes writes the log lines that a workload can provoke, not more than a
// reader can bear. It is safe for concurrent use.
type notes struct {
	log   *slog.Logger
	limit *rate.Limiter

	mu   sync.Mutex // guards the variables below
	last map[string]time.Time
}

func newNotes(log *slog.Logger) *notes {
	return &notes{log: log, limit: rate.NewLimiter(noteRate, 5*noteRate), last: map[string]time.Time{}}
}

// refused notes that a name was not looked up. The name is in DNS's text form,
// in which everything but printable ASCII is escaped.
func (n *notes) refused(name, qtype string, total uint64) {
	if n.due("refused " + name) {
		n.log.Warn("refused to look up a name that no ServiceEntry declares; the outbound policy is REGISTRY_ONLY",
			"name", printable(name), "type", qtype, "refused_total", total)
	}
}

// unanswered notes that a name could not be looked up.
func (n *notes) unanswered(name, qtype string, err error) {
	if errors.Is(err, exchange.ErrNoServer) {
		if n.due("no server") {
			n.log.Error("cannot forward questions of the workload", "error", err)
		}
		return
	}
	if n.due("unanswered " + name) {
		n.log.Warn("no name server answered a question of the workload", "name", printable(name), "type", qtype, "error", err)
	}
}

// failed notes a fault of our own, found in a question or an answer to one.
func (n *notes) failed(p any, stack []byte) {
	if n.due("failed") {
		n.log.Error("a question of the workload made the proxy fail; it was answered SERVFAIL", "panic", fmt.Sprint(p), "stack", string(stack))
	}
}

// due reports whether a line about key may be written now.
func (n *notes) due(key string) bool {
	now := time.Now()
	n.mu.Lock()
	defer n.mu.Unlock()
	if at, ok := n.last[key]; ok && now.Sub(at) < noteEvery || !n.limit.AllowN(now, 1) {
		return false
	}
	if len(n.last) >= noteNames {
		clear(n.last)
	}
	n.last[key] = now
	return true
}

// printable is name without anything a terminal or a log reader would act on.
func printable(name string) string {
	if len(name) > maxName {
		name = name[:maxName] + "…"
	}
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, name)
}
