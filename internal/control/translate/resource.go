package translate

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"iter"
	"slices"
	"strings"

	"github.com/benbjohnson/immutable"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/xds"
)

// A Key says which resource of which type.
type Key struct{ Type, Name string }

// A Resource is one resource, encoded once and shared by every stream that
// sends it. It is immutable.
type Resource struct {
	Key
	Version string     // hash of the content: equal content, equal version, also after a restart
	Body    *anypb.Any // never written to
}

// encode makes a Resource of a message.
func encode(typeURL, name string, m proto.Message) *Resource {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only text that is not UTF-8 can fail here, and every string was parsed before.
		panic(fmt.Sprintf("translate: encode %s %s: %v", xds.ShortType(typeURL), name, err))
	}
	sum := sha256.Sum256(b)
	return &Resource{
		Key:     Key{typeURL, name},
		Version: hex.EncodeToString(sum[:8]),
		Body:    &anypb.Any{TypeUrl: typeURL, Value: b},
	}
}

// A Set is every resource of one view at one moment. It is immutable and safe
// for concurrent use; the zero Set and a nil *Set are empty.
type Set struct {
	version uint64
	types   [len(xds.Types)]*immutable.SortedMap[string, *Resource]
}

// Version counts the changes of the view since the control plane started.
func (s *Set) Version() uint64 {
	if s == nil {
		return 0
	}
	return s.version
}

// Get returns the resource of that key, or nil.
func (s *Set) Get(k Key) *Resource {
	m := s.of(k.Type)
	if m == nil {
		return nil
	}
	r, _ := m.Get(k.Name)
	return r
}

// Diff returns the keys of the resources that differ between two sets, sorted.
func Diff(a, b *Set) []Key {
	var keys []Key
	for _, t := range xds.Types {
		for x := range a.WithPrefix(t, "") {
			if y := b.Get(x.Key); y == nil || y.Version != x.Version {
				keys = append(keys, x.Key)
			}
		}
		for y := range b.WithPrefix(t, "") {
			if a.Get(y.Key) == nil {
				keys = append(keys, y.Key)
			}
		}
	}
	slices.SortFunc(keys, Key.compare)
	return keys
}

// Len is how many resources of a type there are.
func (s *Set) Len(typeURL string) int {
	m := s.of(typeURL)
	if m == nil {
		return 0
	}
	return m.Len()
}

// WithPrefix yields the resources of a type whose names begin with prefix, by
// name. The empty prefix yields all.
func (s *Set) WithPrefix(typeURL, prefix string) iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		m := s.of(typeURL)
		if m == nil {
			return
		}
		it := m.Iterator()
		if prefix != "" {
			it.Seek(prefix)
		}
		for !it.Done() {
			name, r, _ := it.Next()
			if !strings.HasPrefix(name, prefix) || !yield(r) {
				return
			}
		}
	}
}

func (s *Set) of(typeURL string) *immutable.SortedMap[string, *Resource] {
	i := xds.TypeIndex(typeURL)
	if s == nil || i < 0 {
		return nil
	}
	return s.types[i]
}

// With returns the set after the keys in changed took their new values; nil
// removes. The receiver is as it was.
func (s *Set) With(changed map[Key]*Resource) *Set {
	next := &Set{}
	if s != nil {
		*next = *s
	}
	next.version++
	for k, r := range changed {
		i := xds.TypeIndex(k.Type)
		m := next.types[i]
		if m == nil {
			m = immutable.NewSortedMap[string, *Resource](nil)
		}
		if r == nil {
			m = m.Delete(k.Name)
		} else {
			m = m.Set(k.Name, r)
		}
		next.types[i] = m
	}
	return next
}
