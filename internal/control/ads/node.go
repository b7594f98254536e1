package ads

import (
	"errors"
	"fmt"
	"strconv"
	"strings"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/mesh"
)

// A Node is who a client says it is.
type Node struct {
	ID        string
	Namespace string
	Name      string
	Labels    map[string]string // of the workload
	Capture   mesh.Capture      // what of the workload's traffic comes to it
	DNSUnsaid bool              // whether DNS is part of that is for the mesh to say
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
	var err error
	if out.Capture, out.DNSUnsaid, err = parseCapture(meta); err != nil {
		return Node{}, fmt.Errorf("the node's metadata: %w", err)
	}
	if out.Namespace == "" {
		return Node{}, errors.New("the node has no namespace: neither NAMESPACE in its metadata nor an id of the form type~IP~name.namespace~domain")
	}
	return out, nil
}

// parseCapture reads what the node says of its workload's capture. Of its
// annotations only those that concern it are looked at.
func parseCapture(meta map[string]*structpb.Value) (c mesh.Capture, dnsUnsaid bool, err error) {
	mode, err := metaText(meta, "INTERCEPTION_MODE")
	if err != nil {
		return mesh.Capture{}, false, err
	}
	dns, err := metaText(meta, "DNS_CAPTURE")
	if err != nil {
		return mesh.Capture{}, false, err
	}
	var all map[string]*structpb.Value
	switch v := meta["ANNOTATIONS"].GetKind().(type) {
	case nil, *structpb.Value_NullValue:
	case *structpb.Value_StructValue:
		all = v.StructValue.GetFields()
	default:
		return mesh.Capture{}, false, errors.New("ANNOTATIONS is no object")
	}
	annotations := make(map[string]string)
	for _, key := range mesh.CaptureAnnotations() {
		if all[key] == nil {
			continue
		}
		if annotations[key], err = metaText(all, key); err != nil {
			return mesh.Capture{}, false, err
		}
	}
	c, err = mesh.ParseCapture(mode, dns, annotations)
	return c, dns == "", err
}

// metaText returns a field that must be text, or a truth value, if it is there.
func metaText(fields map[string]*structpb.Value, key string) (string, error) {
	switch v := fields[key].GetKind().(type) {
	case nil, *structpb.Value_NullValue:
		return "", nil
	case *structpb.Value_StringValue:
		return v.StringValue, nil
	case *structpb.Value_BoolValue:
		return strconv.FormatBool(v.BoolValue), nil
	default:
		return "", fmt.Errorf("%s is no text", key)
	}
}
