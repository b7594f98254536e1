package overload

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

func TestMemoryIsShortFromNineTenthsToEight(t *testing.T) {
	var log bytes.Buffer
	g := New(1000, nil, slog.New(slog.NewTextHandler(&log, nil)))
	collected := 0
	g.collect = func() { collected++ }
	for _, step := range []struct {
		used, over uint64
	}{{500, 0}, {900, 0}, {901, 901}, {850, 850}, {801, 801}, {800, 0}, {850, 0}, {2000, 2000}, {10, 0}} {
		g.measure = func() uint64 { return step.used }
		g.look()
		if got := g.Over(); got != step.over || g.Used() != step.used {
			t.Errorf("with %d in use: over %d, want %d; used %d", step.used, got, step.over, g.Used())
		}
	}
	if warned, well := strings.Count(log.String(), "memory is short"), strings.Count(log.String(), "memory again"); warned != 2 || well != 2 {
		t.Errorf("told %d times that it is short and %d times that it is not:\n%s", warned, well, log.String())
	}
	g.measure = func() uint64 { return 1000 }
	for range 3 * collectAt {
		g.look()
	}
	if collected != 3 {
		t.Errorf("%d collections in three seconds of shortage, want 3", collected)
	}
}

func TestWhoWaitsForMemoryHasItOrTheEnd(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := New(1000, nil, slog.New(slog.DiscardHandler))
		used := uint64(1000)
		g.measure = func() uint64 { return used }
		g.collect = func() { used = 100 }
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		go func() { defer close(ended); g.Run(ctx) }()
		time.Sleep(2 * tick) // of the test's own clock
		if g.Over() != 1000 {
			t.Fatalf("over %d", g.Over())
		}
		if err := g.Await(t.Context()); err != nil || g.Over() != 0 {
			t.Errorf("Await = %v with %d over", err, g.Over())
		}
		g.over.Store(1000)
		cancel()
		<-ended
		if err := g.Await(ctx); err == nil {
			t.Error("a wait whose context is over ends without an error")
		}
	})
}

func TestNoGuardIsNeverFull(t *testing.T) {
	g := New(0, nil, nil)
	g.Run(t.Context())
	if g != nil || g.Over() != 0 || g.Limit() != 0 || g.Used() != 0 || g.Refused() != 0 || g.Await(t.Context()) != nil {
		t.Error("no limit is a limit")
	}
}

func TestWhatIsHeldIsInUseAndWhatIsFreedIsNot(t *testing.T) {
	runtime.GC()
	before := inUse()
	held := make([]byte, 64<<20)
	if got := inUse() - before; got < 60<<20 {
		t.Errorf("%d bytes more in use after 64 MiB were taken", got)
	}
	runtime.KeepAlive(held) // and no longer
	runtime.GC()
	runtime.GC()
	if got := inUse(); got > before+(8<<20) {
		t.Errorf("%d bytes in use after they were freed, %d before", got, before)
	}
}
