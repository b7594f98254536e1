package ads

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/xds"
)

// A Request is a client's message.
type Request struct {
	Type        string   // type URL
	Subscribe   []string // names, "*" or "table/*"; empty in a first request means "*"
	Unsubscribe []string
	Held        map[string]string // versions the client has from an earlier stream
	Nonce       string            // of the response answered; empty if it answers none
	Error       string            // why the client refused that response; empty if it did not
}

// A Response is what the client is to be sent.
type Response struct {
	Type    string
	Version uint64 // of the view, for people
	Nonce   string
	Updated []*translate.Resource
	Removed []string
}

// A Session is the server's side of one stream.
//
// It is a state machine: its caller tells it what happened and sends what Due
// returns. It is not safe for concurrent use. The zero Session is a stream on
// which nothing has been said.
type Session struct {
	set   *translate.Set
	types [len(xds.Types)]*subscription
	sent  uint64 // responses, for nonces
}

// A subscription is what a client wants and has of one type.
type subscription struct {
	all      bool
	names    map[string]struct{}
	prefixes map[string]struct{}

	held    map[string]string   // name -> version the client has, refused ones left out
	refused map[string]string   // name -> version it would not take; "" is a removal
	absent  map[string]struct{} // names it knows not to be there
	pending map[string]struct{} // names to look at
	answer  bool                // a response is owed even if there is nothing in it
	missing []string            // names and globs asked for that stand for nothing; to be said once

	// limit is how many resources the next response may hold; 0: any number. A
	// refused response is sent again in halves, so that what is good in it
	// arrives, until the one resource is found that is refused for itself.
	limit   int
	waiting *flight // sent and not answered
	status  TypeStatus
}

// A flight is a response that has not been answered.
type flight struct {
	nonce string
	sent  []sent
}

// sent is one resource of a flight.
type sent struct{ name, version string } // of a removal, the version is ""

// few are changes as they come one by one, unlike those of a first response.
const few = 64

// maxNames bounds the names a client may be subscribed to, for each type.
const maxNames = 1_000_000

// Receive records a request. An error means that the client asks for more than
// is served to one, and that the stream is to end.
func (s *Session) Receive(now time.Time, req Request) error {
	i := xds.TypeIndex(req.Type)
	if i < 0 {
		return nil // a type we do not have; asking for it is no offence
	}
	sub := s.types[i]
	if sub == nil {
		sub = &subscription{
			names: make(map[string]struct{}), prefixes: make(map[string]struct{}),
			held: make(map[string]string), refused: make(map[string]string),
			absent: make(map[string]struct{}), pending: make(map[string]struct{}),
			status: TypeStatus{Type: req.Type},
		}
		s.types[i] = sub
		if len(req.Held) <= maxNames {
			maps.Copy(sub.held, req.Held)
		}
		if len(req.Subscribe) == 0 && len(req.Unsubscribe) == 0 {
			req.Subscribe = []string{"*"}
		}
	}
	if len(sub.names)+len(sub.prefixes)+len(req.Subscribe) > maxNames || len(req.Held) > maxNames {
		return fmt.Errorf("more than %d names of %s asked for", maxNames, xds.ShortType(req.Type))
	}
	if req.Nonce != "" {
		sub.settle(now, req)
	}
	for _, name := range req.Unsubscribe {
		s.unsubscribe(sub, name)
	}
	for _, name := range req.Subscribe {
		s.subscribe(sub, req.Type, name)
	}
	return nil
}

// settle takes the answer to a response.
func (sub *subscription) settle(now time.Time, req Request) {
	f := sub.waiting
	if f == nil || f.nonce != req.Nonce {
		return // answers nothing that is open
	}
	sub.waiting = nil
	if req.Error != "" {
		sub.status.refuse(now, req.Error)
		for _, x := range f.sent {
			if len(f.sent) == 1 {
				sub.refused[x.name] = x.version
			}
			sub.pending[x.name] = struct{}{}
		}
		sub.limit = max(len(f.sent)/2, 1)
		return
	}
	sub.limit *= 2
	sub.status.accept(now)
	for _, x := range f.sent {
		delete(sub.refused, x.name)
		if x.version == "" {
			delete(sub.held, x.name)
		} else {
			sub.held[x.name] = x.version
		}
	}
}

func (s *Session) subscribe(sub *subscription, typeURL, name string) {
	sub.answer = true
	prefix, glob := strings.CutSuffix(name, "*")
	if glob && (name == "*" || strings.HasSuffix(prefix, "/")) {
		if name == "*" {
			sub.all = true
		} else {
			sub.prefixes[prefix] = struct{}{}
		}
		found := false
		for name := range s.set.Names(typeURL, prefix) {
			found = true
			sub.pending[name] = struct{}{}
		}
		if !found && name != "*" {
			sub.missing = append(sub.missing, name)
		}
		// What the client has from before and is gone must be taken from it.
		for held := range sub.held {
			if strings.HasPrefix(held, prefix) {
				sub.pending[held] = struct{}{}
			}
		}
		return
	}
	if _, again := sub.names[name]; again {
		delete(sub.held, name) // it wants it once more
	}
	sub.names[name] = struct{}{}
	sub.pending[name] = struct{}{}
	delete(sub.absent, name)
}

func (s *Session) unsubscribe(sub *subscription, name string) {
	delete(sub.names, name)
	delete(sub.absent, name)
	if prefix, glob := strings.CutSuffix(name, "*"); glob {
		delete(sub.prefixes, prefix)
		sub.all = sub.all && name != "*"
	}
	forget := func(m map[string]string) {
		maps.DeleteFunc(m, func(n, _ string) bool { return !sub.wants(n) })
	}
	forget(sub.held)
	forget(sub.refused)
	maps.DeleteFunc(sub.pending, func(n string, _ struct{}) bool { return !sub.wants(n) })
	if sub.waiting != nil {
		sub.waiting.sent = slices.DeleteFunc(sub.waiting.sent, func(x sent) bool { return !sub.wants(x.name) })
	}
}

// wants reports whether the client is to be told of a resource.
func (sub *subscription) wants(name string) bool {
	if sub.all {
		return true
	}
	if _, ok := sub.names[name]; ok {
		return true
	}
	if len(sub.prefixes) == 0 {
		return false
	}
	_, ok := sub.prefixes[name[:strings.LastIndexByte(name, '/')+1]]
	return ok
}

// Publish records that the resources are now those of set, and that changed are
// the keys that differ from the set before.
func (s *Session) Publish(set *translate.Set, changed []translate.Key) {
	s.set = set
	for _, k := range changed {
		if sub := s.types[xds.TypeIndex(k.Type)]; sub != nil && sub.wants(k.Name) {
			sub.pending[k.Name] = struct{}{}
			delete(sub.absent, k.Name)
		}
	}
}

// Due returns what is to be sent now, in this order, and counts it as sent. No
// type has more than one unanswered response: changes meanwhile are folded into
// the next. What is referred to goes before what refers to it; what goes away
// goes the other way round.
func (s *Session) Due(now time.Time) []Response {
	if s.set == nil {
		return nil
	}
	var out []Response
	send := func(i int, removals bool) {
		if r, ok := s.due(now, i, removals); ok {
			out = append(out, r)
		}
	}
	for i := range s.types {
		send(i, !s.laterPending(i))
	}
	for i := len(s.types) - 1; i >= 0; i-- {
		if !s.laterPending(i) {
			send(i, true)
		}
	}
	return out
}

// laterPending reports whether a type that may refer to type i has something
// left to be sent.
func (s *Session) laterPending(i int) bool {
	for _, sub := range s.types[i+1:] {
		if sub != nil && len(sub.pending) > 0 {
			return true
		}
	}
	return false
}

// due makes the response for type i, without removals unless they are allowed.
func (s *Session) due(now time.Time, i int, removals bool) (Response, bool) {
	sub := s.types[i]
	if sub == nil || sub.waiting != nil || len(sub.pending) == 0 && !sub.answer {
		return Response{}, false
	}
	r := Response{Type: xds.Types[i], Version: s.set.Version()}
	f := &flight{}
	names := make([]string, 0, len(sub.pending))
	for name := range sub.pending {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		if sub.limit > 0 && len(f.sent) >= sub.limit {
			break
		}
		x := s.set.Get(translate.Key{Type: r.Type, Name: name})
		had, held := sub.held[name] // the version may be empty: another server's
		if x == nil && held && !removals {
			continue // until the referrers are gone
		}
		delete(sub.pending, name)
		version := ""
		if x != nil {
			version = x.Version
		}
		if refused, ok := sub.refused[name]; ok {
			if refused == version {
				continue // not again, until it changes
			}
			delete(sub.refused, name)
		}
		switch {
		case x != nil && held && had == version: // has it
		case x != nil:
			r.Updated = append(r.Updated, x)
			f.sent = append(f.sent, sent{name, version})
		case held || sub.unsaid(name):
			r.Removed = append(r.Removed, name)
			f.sent = append(f.sent, sent{name: name})
		}
	}
	if len(sub.pending) == 0 {
		sub.limit = 0
		if len(names) > few {
			sub.pending = make(map[string]struct{}) // one that grew is slow to go through, though it is empty
		}
	}
	r.Removed = append(r.Removed, sub.missing...)
	if len(r.Updated) == 0 && len(r.Removed) == 0 && !sub.answer {
		return Response{}, false
	}
	sub.answer, sub.missing = false, nil
	s.sent++
	f.nonce = strconv.FormatUint(s.sent, 10)
	r.Nonce = f.nonce
	sub.waiting = f
	sub.status.send(now, r.Version)
	return r, true
}

// unsaid reports whether the client asked for the name, which is not there, and
// has not been told so; it counts as told now.
func (sub *subscription) unsaid(name string) bool {
	if _, asked := sub.names[name]; !asked {
		return false
	}
	_, told := sub.absent[name]
	sub.absent[name] = struct{}{}
	return !told
}

// Status returns how far the client is with each type it asked for.
func (s *Session) Status() []TypeStatus {
	var out []TypeStatus
	for _, sub := range s.types {
		if sub == nil {
			continue
		}
		st := sub.status
		if len(sub.refused) == 0 && sub.limit == 0 {
			st.Nacked, st.Error = 0, ""
		}
		st.Resources = len(sub.held)
		st.Pending = sub.waiting != nil || len(sub.pending) > 0
		out = append(out, st)
	}
	return out
}
