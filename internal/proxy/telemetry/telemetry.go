// Package telemetry writes down what the proxy decided: the access log, and
// counters.
package telemetry

import (
	"context"
	"io"

	"github.com/fairlead/fairlead/internal/decision"
)

// STUB: owned by the listener helper; signatures are the contract.

// A Log writes one JSON line per record. It is safe for concurrent use.
type Log struct{}

// NewLog returns a Log to w. Lines are written in batches, at the latest 100 ms
// after they were added; Run must be running.
func NewLog(w io.Writer) *Log { panic("stub") }

// Run writes batches until ctx ends, then what is left.
func (l *Log) Run(ctx context.Context) error { panic("stub") }

// Add encodes rec at once and returns; rec may be reused after that. It does
// not allocate. When the writer cannot keep up, lines are dropped and counted.
func (l *Log) Add(rec *decision.Record) { panic("stub") }
