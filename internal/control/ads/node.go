package ads

import (
	"errors"
	"fmt"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
)

// A Node is who a client says it is.
type Node struct {
	ID        string
	Namespace string
	Name      string
	Labels    map[string]string // of the workload
	Agent     string            // program and version, if told
}

// Bounds of what a client may say of itself.
const (
	maxNodeText   = 1024 // of each thing
	maxNodeLabels = 256
)

// parseNode reads a node. Namespace and name come from its metadata (NAMESPACE,
// NAME), else from an id of Istio's form, type~IP~name.namespace~domain.
func parseNode(n *corev3.Node) (Node, error) {
	if n == nil {
		return Node{}, errors.New("the first request names no node")
	}
	if len(n.GetId()) > maxNodeText {
		return Node{}, fmt.Errorf("the node's id is longer than %d bytes", maxNodeText)
	}
	out := Node{ID: n.GetId(), Agent: strings.TrimSpace(n.GetUserAgentName() + " " + n.GetUserAgentVersion())}
	if len(out.Agent) > maxNodeText {
		out.Agent = out.Agent[:maxNodeText]
	}
	if part := strings.Split(n.GetId(), "~"); len(part) == 4 {
		if i := strings.LastIndexByte(part[2], '.'); i > 0 {
			out.Name, out.Namespace = part[2][:i], part[2][i+1:]
		}
	}
	meta := n.GetMetadata().GetFields()
	for key, to := range map[string]*string{"NAMESPACE": &out.Namespace, "NAME": &out.Name} {
		v := meta[key].GetStringValue()
		if len(v) > maxNodeText {
			return Node{}, fmt.Errorf("the node's %s is longer than %d bytes", key, maxNodeText)
		}
		if v != "" {
			*to = v
		}
	}
	labels := meta["LABELS"].GetStructValue().GetFields()
	if len(labels) > maxNodeLabels {
		return Node{}, fmt.Errorf("the node has more than %d labels", maxNodeLabels)
	}
	out.Labels = make(map[string]string, len(labels))
	for key, value := range labels {
		if len(key) > maxNodeText || len(value.GetStringValue()) > maxNodeText {
			return Node{}, fmt.Errorf("a label of the node is longer than %d bytes", maxNodeText)
		}
		out.Labels[key] = value.GetStringValue()
	}
	if out.Namespace == "" {
		return Node{}, errors.New("the node has no namespace: neither NAMESPACE in its metadata nor an id of the form type~IP~name.namespace~domain")
	}
	return out, nil
}
