package ads

import "time"

// A State says in one word how a client stands with a type.
type State uint8

// The states of a type. NotSent is the zero value.
const (
	NotSent State = iota // asked for and never sent
	Synced               // has what there is
	Stale                // sent and not answered yet, or about to be sent
	Refused              // the last response was refused
)

// String is the word for people.
func (s State) String() string { return [...]string{"NOT SENT", "SYNCED", "STALE", "REFUSED"}[s] }

// A TypeStatus is how far a client is with one type of resource.
type TypeStatus struct {
	Type      string    // type URL
	Resources int       // it has accepted
	Pending   bool      // something is sent and unanswered, or waits to be sent
	Sent      uint64    // version of the view last sent; 0: none
	Acked     uint64    // version last accepted
	Nacked    uint64    // version last refused, while something of it is not taken; else 0
	Error     string    // why; empty if Nacked is 0
	Updated   time.Time // last time something was sent or answered
}

// State sums the status up.
func (t TypeStatus) State() State {
	switch {
	case t.Nacked != 0:
		return Refused
	case t.Sent == 0:
		return NotSent
	case t.Pending:
		return Stale
	}
	return Synced
}

func (t *TypeStatus) send(now time.Time, version uint64) { t.Sent, t.Updated = version, now }

func (t *TypeStatus) accept(now time.Time) {
	t.Acked, t.Updated = t.Sent, now
}

func (t *TypeStatus) refuse(now time.Time, why string) {
	t.Nacked, t.Error, t.Updated = t.Sent, why, now
}

// A ProxyStatus is how far one connected client is.
type ProxyStatus struct {
	Node
	Connected time.Time
	Types     []TypeStatus // in sending order, those it asked for
}
