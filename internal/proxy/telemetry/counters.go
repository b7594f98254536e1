package telemetry

import (
	"math/bits"
	"sync/atomic"

	"github.com/fairlead/fairlead/internal/decision"
)

const flagCount = 29 // decision.LH to decision.DR

// A tally counts records. Its zero value is ready; it is safe for concurrent use.
type tally struct {
	connections atomic.Uint64
	requests    atomic.Uint64
	refused     atomic.Uint64
	received    atomic.Int64
	sent        atomic.Int64
	flags       [flagCount]atomic.Uint64
}

func (t *tally) count(rec *decision.Record) {
	switch rec.Protocol {
	case decision.HTTP10, decision.HTTP11, decision.HTTP2:
		t.requests.Add(1)
	case decision.Unknown, decision.TCP, decision.TLS:
		t.connections.Add(1)
	}
	if rec.Reason == decision.NotDeclared {
		t.refused.Add(1)
	}
	if rec.Received > 0 {
		t.received.Add(rec.Received)
	}
	if rec.Sent > 0 {
		t.sent.Add(rec.Sent)
	}
	for f := rec.Flags; f != 0; f &= f - 1 {
		if i := bits.TrailingZeros32(uint32(f)); i < flagCount {
			t.flags[i].Add(1)
		}
	}
}

// Stats are the counts since the proxy started.
type Stats struct {
	Connections uint64            `json:"connections"` // ended, that were not HTTP
	Requests    uint64            `json:"requests"`    // ended
	Refused     uint64            `json:"refused"`     // by REGISTRY_ONLY
	Received    int64             `json:"receivedBytes"`
	Sent        int64             `json:"sentBytes"`
	Flags       map[string]uint64 `json:"flags,omitempty"` // by Envoy's letters
	LogLines    uint64            `json:"logLines"`        // written
	LogDropped  uint64            `json:"logDropped"`      // lost: the writer could not keep up or failed
}

func (t *tally) stats() Stats {
	s := Stats{
		Connections: t.connections.Load(),
		Requests:    t.requests.Load(),
		Refused:     t.refused.Load(),
		Received:    t.received.Load(),
		Sent:        t.sent.Load(),
	}
	for i := range t.flags {
		if n := t.flags[i].Load(); n > 0 {
			if s.Flags == nil {
				s.Flags = make(map[string]uint64)
			}
			s.Flags[decision.Flags(1<<i).String()] = n
		}
	}
	return s
}
