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
	return newResource(typeURL, name, marshal(m))
}

// marshal always makes the same bytes of one message.
func marshal(m proto.Message) []byte {
	b, err := proto.MarshalOptions{Deterministic: true}.Marshal(m)
	if err != nil {
		// Only text that is not UTF-8 can fail here, and every string was parsed before.
		panic(fmt.Sprintf("translate: encode %s: %v", m.ProtoReflect().Descriptor().Name(), err))
	}
	return b
}

// newResource makes a Resource of an encoded message, which is its own from then on.
func newResource(typeURL, name string, body []byte) *Resource {
	sum := sha256.Sum256(body)
	var version [16]byte
	hex.Encode(version[:], sum[:len(version)/2])
	r := &struct { // one piece for the collector, not two
		Resource
		body anypb.Any
	}{Resource: Resource{Key: Key{typeURL, name}, Version: string(version[:])}}
	r.body.TypeUrl, r.body.Value = typeURL, body
	r.Body = &r.body
	return &r.Resource
}

// A Set is every resource of one view at one moment. It is immutable and safe
// for concurrent use; the zero Set and a nil *Set are empty.
type Set struct {
	version uint64
	types   [len(xds.Types)]kindred
}

// kindred are the resources of one type. They are in groups by what stands before
// the last slash of their names: the virtual hosts of one table are found without
// a look at others.
type kindred struct {
	count  int
	groups *immutable.Map[string, *group]
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
	return s.of(k.Type).group(groupOf(k.Name)).get(k.Name)
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
func (s *Set) Len(typeURL string) int { return s.of(typeURL).count }

// WithPrefix yields the resources of a type whose names begin with prefix, by
// name. The empty prefix yields all. A prefix that ends with a slash yields those
// with no further slash behind it, and costs what it yields.
func (s *Set) WithPrefix(typeURL, prefix string) iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		all := slices.Collect(s.of(typeURL).unsorted(prefix))
		slices.SortFunc(all, func(a, b *Resource) int { return strings.Compare(a.Name, b.Name) })
		for _, r := range all {
			if !yield(r) {
				return
			}
		}
	}
}

// Names yields the names that begin with prefix, as WithPrefix does, in any order.
func (s *Set) Names(typeURL, prefix string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for r := range s.of(typeURL).unsorted(prefix) {
			if !yield(r.Name) {
				return
			}
		}
	}
}

func (s *Set) of(typeURL string) kindred {
	i := xds.TypeIndex(typeURL)
	if s == nil || i < 0 {
		return kindred{}
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
	fresh := make(map[groupKey]*group)
	for k, r := range changed {
		i, name := xds.TypeIndex(k.Type), groupOf(k.Name)
		t := &next.types[i]
		old := t.group(name)
		if old != nil {
			t.replace(name, old, k.Name, r)
			continue
		}
		if r == nil {
			continue
		}
		at := groupKey{i, name}
		if fresh[at] == nil {
			fresh[at] = &group{}
		}
		fresh[at].add(r, true)
	}
	for at, g := range fresh {
		t := &next.types[at.kind]
		t.count += g.len
		t.groups = t.all().Set(at.name, g)
	}
	return next
}

// A groupKey says which group of which type.
type groupKey struct {
	kind int
	name string
}

// groupOf is the group of a name, with its slash.
func groupOf(name string) string { return name[:strings.LastIndexByte(name, '/')+1] }

func (t kindred) all() *immutable.Map[string, *group] {
	if t.groups == nil {
		return immutable.NewMap[string, *group](stringHasher{})
	}
	return t.groups
}

// group returns the resources of a group, or nil if there are none.
func (t kindred) group(name string) *group {
	if t.groups == nil {
		return nil
	}
	g, _ := t.groups.Get(name)
	return g
}

// replace gives a name of the group g another resource; nil removes it.
func (t *kindred) replace(at string, g *group, name string, r *Resource) {
	before := g.len
	if r == nil {
		g = g.drop(name)
	} else {
		g = g.put(r)
	}
	t.count += g.len - before
	if g.len == 0 {
		t.groups = t.groups.Delete(at)
	} else {
		t.groups = t.groups.Set(at, g)
	}
}

// unsorted yields the resources whose names begin with prefix.
func (t kindred) unsorted(prefix string) iter.Seq[*Resource] {
	return func(yield func(*Resource) bool) {
		if strings.HasSuffix(prefix, "/") {
			t.group(prefix).each(yield)
			return
		}
		for it := t.all().Iterator(); !it.Done(); {
			_, g, _ := it.Next()
			if !g.each(func(r *Resource) bool { return !strings.HasPrefix(r.Name, prefix) || yield(r) }) {
				return
			}
		}
	}
}

// stringHasher spreads names that differ in little.
type stringHasher struct{}

// Hash implements immutable.Hasher.
func (stringHasher) Hash(s string) uint32 {
	h := uint32(2166136261)
	for i := range len(s) {
		h = (h ^ uint32(s[i])) * 16777619
	}
	return h ^ h>>15
}

// Equal implements immutable.Hasher.
func (stringHasher) Equal(a, b string) bool { return a == b }
