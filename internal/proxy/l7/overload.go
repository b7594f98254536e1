package l7

import (
	"fmt"

	"github.com/fairlead/fairlead/internal/decision"
)

// crowded reports whether there is no room for the request, and judges it: the
// listener has said so of its connection, or memory is short: that of the process,
// or that of streams, of which the caller's connection holds more than its share. A
// caller whose connection is one too many is asked to end it.
func (x *exchange) crowded() bool {
	if x.rec.Reason == decision.Overload {
		x.caller.giveUp()
		return true
	}
	if c, streams := x.caller.(*h2Caller); streams {
		if err := c.stream.Short(); err != nil {
			x.judge(overloaded, err.Error())
			return true
		}
	}
	used := x.server.guard.Over()
	if used == 0 {
		return false
	}
	x.server.guard.Refuse()
	x.judge(overloaded, fmt.Sprintf("%d MiB of memory are in use, and it may use %d MiB", used>>20, x.server.guard.Limit()>>20))
	return true
}
