package pool

import (
	"errors"
	"sync"

	"github.com/fairlead/fairlead/internal/proxy/streams"
)

// ErrClosed says that connections are not shared any more.
var ErrClosed = errors.New("the endpoint is gone")

// A Shared holds the HTTP/2 connections of one endpoint. Each carries many
// exchanges at once; another one is opened when all have as many as they take.
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
	promised int  // guarded by shared.mu; places taken by Join, without a stream so far
	used     bool // guarded by shared.mu; it had an exchange
}

// An Opening is a connection that is being opened, for all who wait for one.
type Opening struct {
	done chan struct{}
	err  error // valid once done
}

// Done is closed when there is a connection, or will be none.
func (o *Opening) Done() <-chan struct{} { return o.done }

// Err is why there is none, once Done.
func (o *Opening) Err() error { return o.err }

// Join takes a place on a connection, which ends with Leave; used says that it
// had exchanges before. If none has room it returns what is to be waited for, to
// join again then; open says that it is the caller who has to open a connection,
// and to tell by Opened or Failed.
func (s *Shared) Join() (m *Member, used bool, wait *Opening, open bool) {
	var spent []*Member
	defer func() {
		for _, m := range spent {
			m.Drain()
		}
	}()
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := s.members[:0]
	for _, c := range s.members {
		room := -1 // not needed any more
		if m == nil {
			room = c.Capacity() - c.promised
		}
		if room > 0 {
			m, used = c, c.used
			c.promised++
			c.used = true
		}
		// One that takes no stream though it has none never will.
		if room == 0 && c.promised == 0 && c.Streams() == 0 {
			spent = append(spent, c)
			continue
		}
		kept = append(kept, c)
	}
	clear(s.members[len(kept):])
	s.members = kept
	if m != nil {
		return m, used, nil, false
	}
	if s.opening == nil {
		s.opening, open = &Opening{done: make(chan struct{})}, true
	}
	return nil, false, s.opening, open
}

// Opened hands over the connection that Join asked for. Removed must be called
// when it has ended.
func (s *Shared) Opened(c *streams.Client) *Member {
	s.mu.Lock()
	defer s.mu.Unlock()
	m := &Member{Client: c, shared: s}
	s.members = append(s.members, m)
	close(s.opening.done)
	s.opening = nil
	return m
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
	over := m.shared.closed && m.promised == 0
	m.shared.mu.Unlock()
	if over {
		m.Drain()
	}
}

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
	var idle []*Member
	for _, m := range s.members {
		if m.promised == 0 {
			idle = append(idle, m)
		}
	}
	s.mu.Unlock()
	for _, m := range idle {
		m.Drain()
	}
}
