package api

import (
	"errors"
	"fmt"

	"go.yaml.in/yaml/v3"
)

// Bounds of what Decode reads.
const (
	MaxFileSize  = 3 << 20 // bytes of one file
	maxDepth     = 64      // lists and objects inside each other
	maxExpansion = 100_000 // nodes that aliases may add to a document
)

// A boundError says which bound a document breaks, and where.
type boundError struct {
	line int
	text string
}

func (e *boundError) Error() string { return e.text }

// extent is the size of a tree with every alias in it replaced by what it names.
type extent struct{ nodes, depth int }

// A surveyor measures a document before anything walks it, so that walking
// needs no bounds of its own. Each anchored tree is measured once, so that the
// time it takes depends on the text and not on what the aliases make of it.
type surveyor struct {
	real     int
	anchored map[*yaml.Node]extent
	open     map[*yaml.Node]bool // being measured: an alias to it is a loop
}

// survey refuses documents that are too deep, contain themselves, or grow too
// large through aliases.
func survey(root *yaml.Node) error {
	s := surveyor{anchored: map[*yaml.Node]extent{}, open: map[*yaml.Node]bool{}}
	total, err := s.measure(root, 0)
	if err != nil {
		return err
	}
	if total.nodes-s.real > maxExpansion {
		return &boundError{root.Line, fmt.Sprintf("the aliases of this document expand to more than %d values; write them out or split the file", maxExpansion)}
	}
	return nil
}

func (s *surveyor) measure(n *yaml.Node, level int) (extent, error) {
	if level > maxDepth {
		return extent{}, &boundError{n.Line, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	if n.Kind == yaml.AliasNode {
		s.real++
		return s.alias(n, level)
	}
	if n.Anchor != "" {
		s.open[n] = true
		defer delete(s.open, n)
	}
	s.real++
	e := extent{nodes: 1}
	for _, child := range n.Content {
		c, err := s.measure(child, level+1)
		if err != nil {
			return extent{}, err
		}
		e.nodes = min(e.nodes+c.nodes, 1<<40)
		e.depth = max(e.depth, c.depth+1)
	}
	if n.Anchor != "" {
		s.anchored[n] = e
	}
	return e, nil
}

func (s *surveyor) alias(n *yaml.Node, level int) (extent, error) {
	if s.open[n.Alias] {
		return extent{}, &boundError{n.Line, "alias *" + n.Value + " contains itself"}
	}
	e, ok := s.anchored[n.Alias]
	if !ok { // cannot be: an anchor precedes its aliases
		return extent{}, errors.New("alias *" + n.Value + " names nothing")
	}
	if level+e.depth > maxDepth {
		return extent{}, &boundError{n.Line, fmt.Sprintf("nested deeper than %d levels", maxDepth)}
	}
	return e, nil
}

// resolve returns what an alias names, and any other node itself.
func resolve(n *yaml.Node) *yaml.Node {
	for n.Kind == yaml.AliasNode {
		n = n.Alias
	}
	return n
}

// isNull reports whether the node is there but says nothing.
func isNull(n *yaml.Node) bool {
	return n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// describe names what a node is, for sentences that say what it should have been.
func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "an object"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		switch n.ShortTag() {
		case "!!null":
			return "empty"
		case "!!bool":
			return "the truth value " + quote(n.Value)
		case "!!int", "!!float":
			return "the number " + n.Value
		}
		return "the text " + quote(n.Value)
	case yaml.DocumentNode, yaml.AliasNode:
	}
	return "something else"
}
