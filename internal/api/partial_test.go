package api

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/txtar"
	"go.yaml.in/yaml/v3"
)

// TestOneUnreadFieldIsOneFault misspells every field in the spec of every sound
// object of the corpus, and gives each a value of another type: what the field
// would have said is not missed elsewhere.
func TestOneUnreadFieldIsOneFault(t *testing.T) {
	archives, err := filepath.Glob("testdata/corpus/*.txtar")
	if err != nil {
		t.Fatal(err)
	}
	tried := 0
	for _, path := range archives {
		archive, err := txtar.ParseFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range archive.Files {
			if strings.HasSuffix(file.Name, ".want") || len(file.Data) > 2000 || strings.Contains(string(file.Data), "<<") {
				continue // or what is merged takes the place of a misspelt field
			}
			if objects, problems := Read(file.Name, file.Data, "default"); len(objects) != 1 || HasError(problems) {
				continue
			}
			var document yaml.Node
			if err := yaml.Unmarshal(file.Data, &document); err != nil {
				t.Fatal(err)
			}
			for i, n := range document.Content[0].Content {
				if i > 0 && document.Content[0].Content[i-1].Value == "spec" {
					tried += breakEach(t, file.Name, &document, n)
				}
			}
		}
	}
	if tried < 1000 {
		t.Errorf("tried %d faults only", tried)
	}
}

// breakEach breaks each field below n in turn and returns how many it found.
func breakEach(t *testing.T, name string, root, n *yaml.Node) (tried int) {
	t.Helper()
	try := func(what string) {
		data, err := yaml.Marshal(root)
		if err != nil {
			return // a node that cannot be written
		}
		var broken bool
		var more []Problem
		_, problems := Read(name, data, "default")
		for _, p := range problems {
			switch {
			case strings.Contains(p.Message, "unknown field") || strings.Contains(p.Message, "expected "):
				broken = true
			case p.Severity == Error:
				more = append(more, p)
			}
		}
		if !broken {
			return // a key or a value that may be anything
		}
		tried++
		if len(more) > 0 {
			t.Errorf("%s, %s:\n%s%s", name, what, listed(more), data)
		}
	}
	if n.Kind == yaml.MappingNode {
		for i := 0; i+1 < len(n.Content); i += 2 {
			key, value := n.Content[i], n.Content[i+1]
			was := *key
			key.Value += "Zz"
			try(was.Value + " misspelt")
			*key = was
			was = *value
			*value = yaml.Node{Kind: yaml.SequenceNode, Content: []*yaml.Node{{Kind: yaml.SequenceNode}}}
			try(key.Value + " of another type")
			*value = was
		}
	}
	if n.Kind == yaml.SequenceNode {
		for i := range n.Content {
			was := n.Content[i]
			n.Content[i] = &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!int", Value: "7"}
			try("an item of another type")
			n.Content[i] = was
		}
	}
	for _, child := range n.Content {
		tried += breakEach(t, name, root, child)
	}
	return tried
}
