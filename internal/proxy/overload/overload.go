// Package overload watches how much memory a proxy uses, and says when that is
// more than it may: then new work is refused, in words, before the system ends the
// process for it.
//
// A Guard makes the collector work harder first, from four fifths of the limit
// on. What is in use beyond nine tenths lives: only less work makes it less.
package overload

import (
	"context"
	"log/slog"
	"math"
	"runtime"
	"runtime/debug"
	"runtime/metrics"
	"sync/atomic"
	"time"
)

const (
	tick      = 100 * time.Millisecond
	collectAt = 10 // ticks between two collections that are asked for
)

// A Guard compares memory in use with a limit. A nil Guard is never full. It is
// safe for concurrent use.
type Guard struct {
	limit   uint64
	log     *slog.Logger
	measure func() uint64 // bytes in use
	collect func()

	over    atomic.Uint64 // bytes in use, while that is too much; else 0
	used    atomic.Uint64 // at the last look
	refused atomic.Uint64
	ticks   int
}

// New returns a Guard for a limit in bytes, or nil if it is 0. Run must be running.
// measure tells how many bytes are in use; nil: what the process uses.
func New(limit uint64, measure func() uint64, log *slog.Logger) *Guard {
	if limit == 0 {
		return nil
	}
	if measure == nil {
		measure = inUse
	}
	return &Guard{limit: limit, log: log, measure: measure, collect: runtime.GC}
}

// Limit is the limit in bytes; 0: there is none.
func (g *Guard) Limit() uint64 {
	if g == nil {
		return 0
	}
	return g.limit
}

// Over returns how many bytes are in use while that is too much, and 0 while there
// is room. It costs one load.
func (g *Guard) Over() uint64 {
	if g == nil {
		return 0
	}
	return g.over.Load()
}

// Used is how many bytes were in use at the last look.
func (g *Guard) Used() uint64 {
	if g == nil {
		return 0
	}
	return g.used.Load()
}

// Refuse counts work that was refused for want of memory.
func (g *Guard) Refuse() { g.refused.Add(1) }

// Refused is that count.
func (g *Guard) Refused() uint64 {
	if g == nil {
		return 0
	}
	return g.refused.Load()
}

// Run watches until ctx ends. It sets the memory limit of the Go runtime, and puts
// back what was.
func (g *Guard) Run(ctx context.Context) {
	if g == nil {
		return
	}
	before := debug.SetMemoryLimit(softLimit(g.limit))
	defer debug.SetMemoryLimit(before)
	t := time.NewTicker(tick)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			g.look()
		}
	}
}

// Await returns when there is room, or with ctx's error.
func (g *Guard) Await(ctx context.Context) error {
	if g.Over() == 0 {
		return ctx.Err()
	}
	t := time.NewTicker(tick)
	defer t.Stop()
	for g.Over() > 0 {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-t.C:
		}
	}
	return ctx.Err()
}

// look compares once.
func (g *Guard) look() {
	used := g.measure()
	g.used.Store(used)
	was := g.over.Load() > 0
	switch {
	case used > g.limit/10*9, was && used > g.limit/10*8: // well below, or it would come and go
		if !was {
			g.ticks = 0
			g.log.Warn("memory is short: new requests are answered with 503 and new connections wait", "used_bytes", used, "limit_bytes", g.limit)
		}
		g.over.Store(used)
		if g.ticks++; g.ticks%collectAt == 0 { // nothing else would, where nothing is allocated
			g.collect()
		}
	case was:
		g.over.Store(0)
		g.log.Info("there is memory again", "used_bytes", used, "limit_bytes", g.limit, "refused", g.refused.Load())
	}
}

// softLimit is from where on the collector works harder.
func softLimit(limit uint64) int64 { return int64(min(limit/10*8, math.MaxInt64)) } //nolint:gosec // G115: bounded

// inUse is what the Go runtime has of the system, without what it has given back
// or could hand out again.
func inUse() uint64 {
	s := [...]metrics.Sample{
		{Name: "/memory/classes/total:bytes"},
		{Name: "/memory/classes/heap/released:bytes"},
		{Name: "/memory/classes/heap/free:bytes"},
	}
	metrics.Read(s[:])
	return s[0].Value.Uint64() - s[1].Value.Uint64() - s[2].Value.Uint64()
}
