package translate

// A group is a set of resources, each under its name. The nil *group is empty.
//
// It is immutable: put and drop return another, which shares what did not change.
// It is a trie of the names' hashes. A change copies the nodes on the way to a name,
// and few children to a node make that little more among many names than among
// few.
type group struct {
	root *node
	len  int
}

// A node is a branch if it has children, else a leaf.
type node struct {
	children *[1 << levelBits]*node
	*Resource
	hash uint32
	next *node // another leaf with that hash
}

const levelBits = 4

// child is the place of a hash among the children of a branch at a depth, which is
// how many bits led there.
func child(hash uint32, depth int) uint32 { return hash >> depth & (1<<levelBits - 1) }

// get returns the resource of a name, or nil.
func (g *group) get(name string) *Resource {
	if g == nil {
		return nil
	}
	hash := stringHasher{}.Hash(name)
	n := g.root
	for depth := 0; n != nil && n.children != nil; depth += levelBits {
		n = n.children[child(hash, depth)]
	}
	for ; n != nil; n = n.next {
		if n.Name == name {
			return n.Resource
		}
	}
	return nil
}

// put returns the group with r in the place of what has its name.
func (g *group) put(r *Resource) *group {
	next := group{}
	if g != nil {
		next = *g
	}
	next.add(r, false)
	return &next
}

// add is put into the group itself. Its nodes are written to if they are its own,
// else copied.
func (g *group) add(r *Resource, own bool) {
	leaf := &node{Resource: r, hash: stringHasher{}.Hash(r.Name)}
	if g.get(r.Name) == nil {
		g.len++
	}
	g.root = g.root.put(leaf, 0, own)
}

// drop returns the group without the resource of a name.
func (g *group) drop(name string) *group {
	if g.get(name) == nil {
		return g
	}
	return &group{root: g.root.drop(name, stringHasher{}.Hash(name), 0), len: g.len - 1}
}

// each yields all resources in any order, and reports whether yield wanted them.
func (g *group) each(yield func(*Resource) bool) bool { return g == nil || g.root.each(yield) }

// put returns the node with a leaf that is nobody else's yet.
func (n *node) put(leaf *node, depth int, own bool) *node {
	switch {
	case n == nil:
		return leaf
	case n.children == nil && n.hash == leaf.hash:
		leaf.next = n.unchain(leaf.Name)
		return leaf
	case n.children == nil:
		b := newBranch()
		b.children[child(n.hash, depth)] = n
		return b.put(leaf, depth, true)
	}
	if !own {
		n = n.copied()
	}
	at := &n.children[child(leaf.hash, depth)]
	*at = (*at).put(leaf, depth+levelBits, own)
	return n
}

// drop returns the node without the leaf of a name, which is there.
func (n *node) drop(name string, hash uint32, depth int) *node {
	if n.children == nil {
		return n.unchain(name)
	}
	n = n.copied()
	at := &n.children[child(hash, depth)]
	*at = (*at).drop(name, hash, depth+levelBits)
	var last *node
	for _, c := range n.children {
		if c != nil && last != nil {
			return n
		}
		if c != nil {
			last = c
		}
	}
	if last.children != nil {
		return n
	}
	return last // one leaf needs no branch
}

// unchain returns the leaves of one hash without that of a name.
func (n *node) unchain(name string) *node {
	if n == nil {
		return nil
	}
	if n.Name == name {
		return n.next
	}
	return &node{Resource: n.Resource, hash: n.hash, next: n.next.unchain(name)}
}

func (n *node) each(yield func(*Resource) bool) bool {
	if n == nil {
		return true
	}
	if n.children == nil {
		return yield(n.Resource) && n.next.each(yield)
	}
	for _, c := range n.children {
		if !c.each(yield) {
			return false
		}
	}
	return true
}

func newBranch() *node {
	b := &struct { // in one piece
		node
		children [1 << levelBits]*node
	}{}
	b.node.children = &b.children
	return &b.node
}

func (n *node) copied() *node {
	b := newBranch()
	*b.children = *n.children
	return b
}
