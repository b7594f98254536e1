package overload

import "sync/atomic"

// DefaultHeld is how many bytes an Account lets be held where the process has no
// limit of memory.
const DefaultHeld = 256 << 20

// A Level says how full an Account is.
type Level uint8

// The levels. Each includes what the one before it asks for.
const (
	Ample Level = iota // below a quarter
	Lean               // less is invited: windows shrink
	Full               // from half: holders of more than their share give the rest up
	Brim               // all of it: nothing is added
)

// An Account counts the bytes that are held for others: what has arrived and
// nobody has taken yet, and what is to be sent and was not taken either. The Guard
// looks at the process, ten times a second, and knows nothing of who holds what;
// an Account is exact, at once, and knows the share of each holder.
//
// From Full on, a holder of more than an equal share of that half gives up the
// rest; one of less keeps what it has. Since holders of less can add up to the
// other half at most before each has its share, Brim is met only while those
// above it are slow to give up.
//
// A nil Account counts nothing and is never full. It is safe for concurrent use.
type Account struct {
	limit   int64
	held    atomic.Int64
	holders atomic.Int64
}

// NewAccount returns an Account for a process that may use so many bytes in all, a
// quarter of which may be held; 0: DefaultHeld may.
func NewAccount(memory uint64) *Account {
	if memory == 0 {
		return &Account{limit: DefaultHeld}
	}
	return &Account{limit: int64(min(memory/4, 1<<62))} //nolint:gosec // G115: bounded
}

// Move tells that a holder of was bytes holds so many now.
func (a *Account) Move(was, now int64) {
	if a == nil || was == now {
		return
	}
	if was == 0 {
		a.holders.Add(1)
	}
	a.held.Add(now - was)
	if now == 0 {
		a.holders.Add(-1)
	}
}

// Held is how many bytes are held.
func (a *Account) Held() int64 {
	if a == nil {
		return 0
	}
	return a.held.Load()
}

// Limit is how many may be; 0: any number.
func (a *Account) Limit() int64 {
	if a == nil {
		return 0
	}
	return a.limit
}

// Level is how full a is. It costs one load.
func (a *Account) Level() Level {
	if a == nil {
		return Ample
	}
	switch held := a.held.Load(); {
	case held < a.limit/4:
		return Ample
	case held < a.limit/2:
		return Lean
	case held < a.limit:
		return Full
	}
	return Brim
}

// Above reports whether a holder of so many bytes has to give some up.
func (a *Account) Above(held int64) bool {
	return a.Level() >= Full && held > a.limit/2/max(1, a.holders.Load())
}
