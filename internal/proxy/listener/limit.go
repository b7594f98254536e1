package listener

import (
	"fmt"

	"github.com/fairlead/fairlead/internal/decision"
)

// A room says what there is for one more connection.
type room uint8

const (
	some room = iota // it is served
	word             // its requests are told why they are not
	none
)

// enter counts a connection, which leaves by subtracting it, and says what room
// there is for it.
func (l *Listener) enter() room {
	limit, n := int64(l.o.Limit), l.open.Add(1)
	switch {
	case limit <= 0:
		return some
	case n <= limit:
		if n < limit-limit/10 && l.full.Load() {
			l.full.Store(false) // well below: the next time is worth telling again
		}
		return some
	}
	if l.full.CompareAndSwap(false, true) {
		l.o.Logger.Warn("refusing connections: as many are served as may be", "limit", limit)
	}
	if n <= limit+max(limit/10, 1) {
		return word
	}
	return none
}

// Open is how many connections are open.
func (l *Listener) Open() int { return int(l.open.Load()) }

// crowded says in rec that a connection is one too many.
func (l *Listener) crowded(rec *decision.Record) {
	rec.Flags |= decision.OM
	rec.Reason, rec.Details = decision.Overload, "connection_limit"
	rec.Err = fmt.Sprintf("%d connections are served already, as many as it may", l.o.Limit)
}
