package dns

import (
	"container/list"
	"net/netip"
	"sync"
	"time"
)

const (
	maxRemembered = 65536
	minRemembered = time.Minute // applications use an answer for longer than they should
	maxKept       = 24 * time.Hour
)

// A memory knows for which name an address was last answered. It holds a
// bounded number of addresses and forgets the one answered longest ago. It is
// safe for concurrent use.
type memory struct {
	limit int

	mu     sync.Mutex // guards the variables below
	byAddr map[netip.Addr]*list.Element
	order  *list.List // of told; the latest in front
}

type told struct {
	addr     netip.Addr
	name     string
	declared bool // the address is ours, not the real zone's
	until    time.Time
}

func newMemory(limit int) *memory {
	return &memory{limit: limit, byAddr: map[netip.Addr]*list.Element{}, order: list.New()}
}

// put notes that name was answered with addr at now, for so long.
func (m *memory) put(addr netip.Addr, name string, declared bool, ttl time.Duration, now time.Time) {
	t := told{addr.Unmap(), name, declared, now.Add(min(max(ttl, minRemembered), maxKept))}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.byAddr[t.addr]; ok {
		e.Value = t
		m.order.MoveToFront(e)
		return
	}
	m.byAddr[t.addr] = m.order.PushFront(t)
	if m.order.Len() > m.limit {
		oldest := m.order.Back()
		delete(m.byAddr, m.order.Remove(oldest).(told).addr)
	}
}

// nameOf returns the name that addr was last answered for, empty if none is in
// use at now.
func (m *memory) nameOf(addr netip.Addr, now time.Time) (name string, declared bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.byAddr[addr.Unmap()]
	if !ok {
		return "", false
	}
	t := e.Value.(told)
	if now.After(t.until) {
		m.order.Remove(e)
		delete(m.byAddr, t.addr)
		return "", false
	}
	return t.name, t.declared
}
