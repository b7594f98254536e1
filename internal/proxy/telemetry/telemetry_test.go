package telemetry

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/decision"
)

// batches records what reached the writer, write by write.
type batches struct {
	mu   sync.Mutex
	all  []string
	when []time.Time
}

func (b *batches) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.all = append(b.all, string(p))
	b.when = append(b.when, time.Now())
	return len(p), nil
}

func TestLinesAreWrittenTogetherWithin100ms(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w batches
		l := NewLog(&w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()

		time.Sleep(time.Hour) // idle: nothing must be written
		start := time.Now()
		rec := request()
		l.Add(&rec)
		time.Sleep(50 * time.Millisecond)
		l.Add(&rec)
		time.Sleep(time.Second)
		synctest.Wait()
		if len(w.all) != 1 || strings.Count(w.all[0], "\n") != 2 {
			t.Fatalf("writes %q, want one with two lines", w.all)
		}
		if d := w.when[0].Sub(start); d > maxWait {
			t.Errorf("written after %v", d)
		}

		l.Add(&rec)
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v", err)
		}
		if len(w.all) != 2 || strings.Count(w.all[1], "\n") != 1 {
			t.Errorf("last write %q, want the line that was left", w.all)
		}
		if s := l.Stats(); s.LogLines != 3 || s.LogDropped != 0 || s.Requests != 3 {
			t.Errorf("stats %+v", s)
		}
	})
}

func TestMuchIsWrittenAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w batches
		l := NewLog(&w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		start := time.Now()
		rec := request()
		for range 200 { // well over 64 KiB
			l.Add(&rec)
		}
		synctest.Wait()
		if len(w.all) == 0 || !w.when[0].Equal(start) {
			t.Error("the writer waited although there was enough to write")
		}
		cancel()
		<-done
	})
}

func TestASlowWriterCostsLinesAndNothingElse(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r, w := io.Pipe() // nobody reads: the first write blocks
		l := NewLog(w)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- l.Run(ctx) }()
		rec := request()
		l.Add(&rec)
		time.Sleep(time.Second)
		for range 5000 {
			l.Add(&rec)
		}
		s := l.Stats()
		if s.LogDropped == 0 || s.Requests != 5001 {
			t.Errorf("stats %+v, want lines dropped and 5001 requests", s)
		}
		l.mu.Lock()
		if len(l.lines) > maxQueue {
			t.Errorf("%d bytes wait, the bound is %d", len(l.lines), maxQueue)
		}
		l.mu.Unlock()
		var all bytes.Buffer
		read := make(chan struct{})
		go func() { defer close(read); io.Copy(&all, r) }()
		cancel()
		<-done
		w.Close()
		<-read
		if got, want := uint64(bytes.Count(all.Bytes(), []byte("\n"))), 5001-s.LogDropped; got != want {
			t.Errorf("%d lines arrived, want %d", got, want)
		}
	})
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestLinesThatCannotBeWrittenAreCounted(t *testing.T) {
	l := NewLog(broken{})
	rec := request()
	l.Add(&rec)
	l.Add(&rec)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.Run(ctx)
	if s := l.Stats(); s.LogDropped != 2 || s.LogLines != 0 {
		t.Errorf("stats %+v, want two lines dropped", s)
	}
}

func TestStats(t *testing.T) {
	l := NewLog(nil)
	for _, rec := range []decision.Record{
		{Protocol: decision.HTTP11, Flags: decision.UF | decision.URX, Received: 1, Sent: 2},
		{Protocol: decision.HTTP10, Flags: decision.UF},
		{Protocol: decision.TCP, Received: 10, Sent: 20},
		{Protocol: decision.TLS, Reason: decision.NotDeclared, Flags: decision.UH | decision.DR},
		{},
	} {
		l.Add(&rec)
	}
	want := Stats{Connections: 3, Requests: 2, Refused: 1, Received: 11, Sent: 22, Flags: map[string]uint64{"UF": 2, "URX": 1, "UH": 1, "DR": 1}}
	if diff := cmp.Diff(want, l.Stats()); diff != "" {
		t.Errorf("stats (-want +got):\n%s", diff)
	}
}

func TestAddDoesNotAllocate(t *testing.T) {
	l := NewLog(io.Discard)
	rec := request()
	empty := make([]byte, 0, maxQueue)
	l.write(empty)
	e := new(encoder) // from a pool in Add
	if n := testing.AllocsPerRun(500, func() { l.tally.count(&rec); l.add(e, &rec) }); n != 0 {
		t.Errorf("Add allocates %v times", n)
	}
}

func BenchmarkAdd(b *testing.B) {
	l := NewLog(io.Discard)
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error)
	go func() { done <- l.Run(ctx) }()
	rec := passed()
	b.ReportAllocs()
	b.RunParallel(func(pb *testing.PB) {
		mine := rec
		for pb.Next() {
			l.Add(&mine)
		}
	})
	cancel()
	<-done
}
