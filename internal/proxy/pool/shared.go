package pool

import (
	"errors"
	"fmt"
	"sync"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// ErrNoStreams says that a connection was opened for nothing. It is a streams.ErrRefused.
var ErrNoStreams = fmt.Errorf("%w: it lets no stream be opened (SETTINGS_MAX_CONCURRENT_STREAMS is 0)", streams.ErrRefused)

// A Shared holds the HTTP/2 connections of one endpoint. Each carries many
// exchanges at once; another one is opened when all have as many as they take. How
// many that is a new one tells with its settings: until they come it carries one.
// The zero Shared is empty and ready. It is safe for concurrent use. It opens
// nothing itself: Join says who has to.
type Shared struct {
	mu      sync.Mutex
	members []*Member // guarded by mu; the oldest first
	opening *Opening  // guarded by mu; nil: none
	closed  bool      // guarded by mu
}

// A Member is one shared connection.
type Member struct {
	*streams.Client
	shared   *Shared
	opening  *Opening
	fresh    bool // guarded by shared.mu; its settings have not come
	promised int  // guarded by shared.mu; places taken by Join, without a stream so far
	used     bool // guarded by shared.mu; it had an exchange
}

// An Opening is a connection that is being opened, for all who wait for one.
type Opening struct {
	first   chan struct{}
	done    chan struct{}
	err     error // valid once done
	waiting int   // guarded by the mu of the Shared
}

// First lets one of those who wait through, once there is a connection.
func (o *Opening) First() <-chan struct{} { return o.first }

// Done is closed when it is known how many the connection carries, or that there
// will be none.
func (o *Opening) Done() <-chan struct{} { return o.done }

// Err is why there is none, once Done.
func (o *Opening) Err() error { return o.err }

// Join takes a place on a connection, which ends with Leave; used says that it
// had exchanges before. If none has room it returns what is to be waited for, to
// join again then; open says that it is the caller who has to open a connection,
// and to tell by Opened or Failed. after is what the caller has waited for so far,
// if anything; who waits no more says so by Forgo.
func (s *Shared) Join(after *Opening) (m *Member, used bool, wait *Opening, open bool) {
	var spent []*Member
	defer func() { drain(spent) }()
	s.mu.Lock()
	defer s.mu.Unlock()
	if after != nil {
		after.waiting--
	}
	kept := s.members[:0]
	for _, c := range s.members {
		room := -1 // not needed any more
		if m == nil {
			room = c.room()
		}
		if room > 0 {
			m, used = c, c.used
			c.promised++
			c.used = true
		}
		// One that takes no stream though it has none never will.
		if room == 0 && !c.fresh && c.promised == 0 && c.Streams() == 0 {
			spent = append(spent, c)
			continue
		}
		kept = append(kept, c)
	}
	clear(s.members[len(kept):])
	s.members = kept
	if m != nil {
		spent = s.appendIdle(spent)
		return m, used, nil, false
	}
	if s.opening == nil {
		s.opening, open = &Opening{first: make(chan struct{}, 1), done: make(chan struct{})}, true
	}
	s.opening.waiting++
	spent = s.appendIdle(spent)
	return nil, false, s.opening, open
}

// JoinNow is Join where there is room already, else nil.
func (s *Shared) JoinNow() (m *Member, used bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, c := range s.members {
		if c.room() > 0 {
			used = c.used
			c.promised++
			c.used = true
			return c, used
		}
	}
	return nil, false
}

// Forgo says that the caller of Join waits no more.
func (s *Shared) Forgo(o *Opening) {
	s.mu.Lock()
	o.waiting--
	idle := s.appendIdle(nil)
	s.mu.Unlock()
	drain(idle)
}

// room is how many more places m has.
func (m *Member) room() int {
	n := m.Capacity()
	if m.fresh {
		n = min(n, 1-m.Streams())
	}
	return n - m.promised
}

// appendIdle appends the connections that nobody uses or will, if they are not to
// be shared any more.
func (s *Shared) appendIdle(list []*Member) []*Member {
	if !s.closed {
		return list
	}
	for _, m := range s.members {
		if m.promised == 0 && m.opening.waiting == 0 {
			list = append(list, m)
		}
	}
	return list
}

func drain(list []*Member) {
	for _, m := range list {
		m.Drain()
	}
}

// Opened hands over the connection that Join asked for. Settled must be called when
// its settings have come or will not, and Removed when it has ended.
func (s *Shared) Opened(c *streams.Client) *Member {
	s.mu.Lock()
	m := &Member{Client: c, shared: s, opening: s.opening, fresh: true}
	s.members = append(s.members, m)
	s.opening.first <- struct{}{}
	idle := s.appendIdle(nil)
	s.mu.Unlock()
	drain(idle)
	return m
}

// Settled lets all who wait share m, or tells them why they cannot.
func (s *Shared) Settled(m *Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m.fresh = false
	o := m.opening
	var broken *h2.Error
	switch err := m.Err(); {
	case errors.As(err, &broken):
		o.err = err
	case err != nil: // as Open has it: nothing was sent
		o.err = fmt.Errorf("%w: %w", streams.ErrRefused, err)
	case m.used || m.Capacity() > 0: // it was or is of use
	case m.Done():
		o.err = streams.ErrRefused
	default:
		o.err = ErrNoStreams
	}
	close(o.done)
	s.opening = nil
}

// Failed says that there is no connection, to all who wait for it.
func (s *Shared) Failed(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.opening.err = err
	close(s.opening.done)
	s.opening = nil
}

// Leave gives back the place of a Member: because a stream was opened there, or
// will not be.
func (m *Member) Leave() {
	m.shared.mu.Lock()
	m.promised--
	idle := m.shared.appendIdle(nil)
	m.shared.mu.Unlock()
	drain(idle)
}

// Settled is closed when the settings of m have come, or will not.
func (m *Member) Settled() <-chan struct{} { return m.opening.done }

// Removed forgets a connection that has ended.
func (s *Shared) Removed(m *Member) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, o := range s.members {
		if o == m {
			last := len(s.members) - 1
			copy(s.members[i:], s.members[i+1:])
			s.members[last] = nil
			s.members = s.members[:last]
			return
		}
	}
}

// Len is the number of connections.
func (s *Shared) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.members)
}

// Close lets the connections end with their last streams. Who joins later still
// gets a connection, for as long as that takes.
func (s *Shared) Close() {
	s.mu.Lock()
	s.closed = true
	idle := s.appendIdle(nil)
	s.mu.Unlock()
	drain(idle)
}
