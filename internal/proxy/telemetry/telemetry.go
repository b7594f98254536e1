// Package telemetry writes down what the proxy decided: the access log, and
// counters. Both read the same record, so that they cannot disagree.
package telemetry

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/accesslog"
)

const (
	maxWait  = 100 * time.Millisecond // a line waits no longer
	enough   = 64 << 10               // bytes worth a write before that
	maxQueue = 1 << 20                // bytes held while the writer is slow
)

// A Log writes one line per record, in JSON of its own until it is given another
// format, and counts it. It is safe for
// concurrent use. A writer that is slow or fails costs lines, which are
// counted, and never holds up traffic.
type Log struct {
	w io.Writer
	tally
	format  atomic.Pointer[accesslog.Format]
	written atomic.Uint64
	dropped atomic.Uint64

	some chan struct{} // capacity 1: there is a first line
	many chan struct{} // capacity 1: there is enough to write

	encoders sync.Pool // of *encoder

	mu    sync.Mutex
	lines []byte // guarded by mu; waiting to be written
	count uint64 // guarded by mu; lines in lines
}

// NewLog returns a Log to w, or one that only counts if w is nil. Lines are
// written in batches, at the latest 100 ms after they were added; Run must be
// running. The Log does not close w.
func NewLog(w io.Writer) *Log {
	return &Log{
		w:        w,
		some:     make(chan struct{}, 1),
		many:     make(chan struct{}, 1),
		encoders: sync.Pool{New: func() any { return new(encoder) }},
	}
}

// SetFormat gives lines added from now on another format; nil means the Log's own.
func (l *Log) SetFormat(f *accesslog.Format) { l.format.Store(f) }

// AnswerFields reports whether lines show fields of answers, which records have to
// come with then.
func (l *Log) AnswerFields() bool { return l.w != nil && l.format.Load().AnswerFields() }

// Run writes batches until ctx ends, then what is left.
func (l *Log) Run(ctx context.Context) error {
	var spare []byte
	timer := time.NewTimer(maxWait)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			l.write(spare)
			return ctx.Err()
		case <-l.some:
		}
		timer.Reset(maxWait)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-l.many:
		}
		spare = l.write(spare)
	}
}

// write hands the waiting lines to the writer, leaves empty in their place, and
// returns their memory for the next time.
func (l *Log) write(empty []byte) []byte {
	l.mu.Lock()
	lines, count := l.lines, l.count
	l.lines, l.count = empty[:0], 0
	l.mu.Unlock()
	if len(lines) == 0 {
		return lines
	}
	if _, err := l.w.Write(lines); err != nil {
		// There is no better place to say so than the counter: the log is it.
		l.dropped.Add(count)
		return lines[:0]
	}
	l.written.Add(count)
	return lines[:0]
}

// Add counts rec, encodes it at once and returns; rec may be reused after that.
// It does not allocate. When the writer cannot keep up, lines are dropped and
// counted.
func (l *Log) Add(rec *decision.Record) {
	l.tally.count(rec)
	if l.w == nil {
		return
	}
	e, _ := l.encoders.Get().(*encoder)
	l.add(e, rec)
	l.encoders.Put(e)
}

func (l *Log) add(e *encoder, rec *decision.Record) {
	if f := l.format.Load(); f != nil {
		if e.dst = f.AppendLine(e.dst[:0], rec); len(e.dst) == 0 {
			return // there is to be no log
		}
	} else {
		e.encode(rec)
	}
	l.queue(e.dst)
}

func (l *Log) queue(line []byte) {
	l.mu.Lock()
	before := len(l.lines)
	if before+len(line) > maxQueue {
		l.mu.Unlock()
		l.dropped.Add(1)
		return
	}
	l.lines = append(l.lines, line...)
	l.count++
	after := len(l.lines)
	l.mu.Unlock()
	if before == 0 {
		signal(l.some)
	}
	if before < enough && after >= enough {
		signal(l.many)
	}
}

func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default: // it is on already
	}
}

// Stats returns the counts as they are now.
func (l *Log) Stats() Stats {
	s := l.stats()
	s.LogLines, s.LogDropped = l.written.Load(), l.dropped.Load()
	return s
}
