package api

import (
	"maps"
	"slices"
	"strconv"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
)

// kubeKind returns the kind of Kubernetes itself that is read under the
// apiVersion, or ""; fault, if not empty, says what is wrong with the pair.
func kubeKind(apiVersion, kind string) (known, fault string) {
	switch {
	case apiVersion == "v1" && kind == KindService:
		return kind, ""
	case apiVersion == "discovery.k8s.io/v1" && kind == KindEndpointSlice:
		return kind, ""
	case apiVersion == "discovery.k8s.io/v1beta1" && kind == KindEndpointSlice:
		return kind, "apiVersion " + quote(apiVersion) + " is no longer served; use discovery.k8s.io/v1"
	}
	return "", ""
}

// A reader carries one value into the place it is made for.
type reader func(n *yaml.Node, path string)

// ignored reads a field that is known and changes nothing here.
func ignored(*yaml.Node, string) {}

// members reads an object with those fields and no others.
func (w *walker) members(n *yaml.Node, path string, known map[string]reader) {
	w.mark(n.Line, path)
	if isNull(n) {
		return
	}
	for _, f := range w.fields(n, path) {
		w.member(f, join(path, f.name), known)
	}
}

func (w *walker) member(f field, path string, known map[string]reader) {
	read := known[f.name]
	if read == nil {
		w.report(f.line, path, unknownField(f.name, slices.Sorted(maps.Keys(known))))
		return
	}
	if !isNull(f.value) { // as if it were not there
		w.mark(f.line, path)
		read(f.value, path)
	}
}

func (w *walker) textInto(to *string) reader {
	return func(n *yaml.Node, path string) { *to, _ = w.text(n, path) }
}

func (w *walker) boolInto(to *bool) reader {
	return func(n *yaml.Node, path string) {
		if n.Kind != yaml.ScalarNode || n.ShortTag() != "!!bool" || n.Decode(to) != nil {
			w.expected(n, path, "true or false")
		}
	}
}

func (w *walker) numberInto(to *int32) reader {
	return func(n *yaml.Node, path string) {
		if v, ok := w.integer(n, protoreflect.Int32Kind, path); ok {
			*to = int32(v.Int()) //nolint:gosec // read as one
		}
	}
}

// numberOrTextInto reads what Kubernetes calls an IntOrString.
func (w *walker) numberOrTextInto(number *int32, text *string) reader {
	return func(n *yaml.Node, path string) {
		if n.Kind == yaml.ScalarNode && n.ShortTag() == "!!str" {
			*text = n.Value
			return
		}
		w.numberInto(number)(n, path)
	}
}

func (w *walker) textMapInto(to *map[string]string) reader {
	return func(n *yaml.Node, path string) { *to = w.textMap(n, path) }
}

func (w *walker) textsInto(to *[]string) reader {
	return func(n *yaml.Node, path string) {
		w.each(n, path, func(item *yaml.Node, path string) {
			if s, ok := w.text(item, path); ok {
				*to = append(*to, s)
			}
		})
	}
}

// each reads the items of a list.
func (w *walker) each(n *yaml.Node, path string, read reader) {
	if n.Kind != yaml.SequenceNode {
		w.expected(n, path, "a list")
		return
	}
	for i, item := range n.Content {
		item, path := resolve(item), index(path, i)
		if isNull(item) {
			w.report(item.Line, path, "the item is empty; fill it or remove it")
			continue
		}
		w.mark(item.Line, path)
		read(item, path)
	}
}

// kube reads an object of one of those kinds, its metadata apart, from its
// fields.
func (w *walker) kube(kind string, fields []field) any {
	members := map[string]reader{"apiVersion": ignored, "kind": ignored, "metadata": ignored}
	var spec any
	switch kind {
	case KindService:
		s := &KubeService{}
		members["spec"], members["status"] = w.serviceInto(s), ignored
		spec = s
	case KindEndpointSlice:
		s := &KubeSlice{}
		members["addressType"] = w.textInto(&s.AddressType)
		members["endpoints"] = func(n *yaml.Node, path string) {
			w.each(n, path, func(item *yaml.Node, path string) {
				s.Endpoints = append(s.Endpoints, w.kubeEndpoint(item, path))
			})
		}
		members["ports"] = func(n *yaml.Node, path string) {
			w.each(n, path, func(item *yaml.Node, path string) {
				s.Ports = append(s.Ports, w.slicePort(item, path))
			})
		}
		spec = s
	}
	for _, f := range fields {
		w.member(f, f.name, members)
	}
	return spec
}

func (w *walker) serviceInto(s *KubeService) reader {
	return func(n *yaml.Node, path string) {
		w.members(n, path, map[string]reader{
			"type":                     w.textInto(&s.Type),
			"clusterIP":                w.textInto(&s.ClusterIP),
			"clusterIPs":               w.textsInto(&s.ClusterIPs),
			"externalName":             w.textInto(&s.ExternalName),
			"publishNotReadyAddresses": w.boolInto(&s.PublishNotReadyAddresses),
			"selector":                 w.textMapInto(&s.Selector),
			"sessionAffinity":          w.textInto(&s.SessionAffinity),
			"internalTrafficPolicy":    w.textInto(&s.InternalTrafficPolicy),
			"trafficDistribution":      w.textInto(&s.TrafficDistribution),
			"ports": func(n *yaml.Node, path string) {
				w.each(n, path, func(item *yaml.Node, path string) { s.Ports = append(s.Ports, w.kubePort(item, path)) })
			},
			// How the world outside gets in, and what the API server notes.
			"allocateLoadBalancerNodePorts": ignored,
			"externalIPs":                   ignored,
			"externalTrafficPolicy":         ignored,
			"healthCheckNodePort":           ignored,
			"ipFamilies":                    ignored,
			"ipFamilyPolicy":                ignored,
			"loadBalancerClass":             ignored,
			"loadBalancerIP":                ignored,
			"loadBalancerSourceRanges":      ignored,
			"sessionAffinityConfig":         ignored,
		})
	}
}

func (w *walker) kubePort(n *yaml.Node, path string) (p KubePort) {
	w.members(n, path, map[string]reader{
		"name":        w.textInto(&p.Name),
		"port":        w.numberInto(&p.Number),
		"protocol":    w.textInto(&p.Protocol),
		"appProtocol": w.textInto(&p.AppProtocol),
		"targetPort":  w.numberOrTextInto(&p.Target, &p.TargetName),
		"nodePort":    ignored,
	})
	if number, err := strconv.ParseInt(p.TargetName, 10, 32); err == nil { // Kubernetes refuses it too
		w.report(n.Line, join(path, "targetPort"), "expected a whole number without quotes or the name of a port, found the text "+quote(strconv.FormatInt(number, 10)))
	}
	return p
}

func (w *walker) kubeEndpoint(n *yaml.Node, path string) (e KubeEndpoint) {
	ready := true
	w.members(n, path, map[string]reader{
		"addresses": w.textsInto(&e.Addresses),
		"conditions": func(n *yaml.Node, path string) {
			w.members(n, path, map[string]reader{
				"ready":       w.boolInto(&ready),
				"serving":     ignored, // matters only while it is not ready
				"terminating": w.boolInto(&e.Terminating),
			})
		},
		"zone":               w.textInto(&e.Zone),
		"nodeName":           w.textInto(&e.NodeName),
		"hostname":           ignored,
		"hints":              ignored,
		"targetRef":          ignored,
		"deprecatedTopology": ignored,
	})
	e.NotReady = !ready
	return e
}

func (w *walker) slicePort(n *yaml.Node, path string) (p KubeSlicePort) {
	w.members(n, path, map[string]reader{
		"name":        w.textInto(&p.Name),
		"port":        w.numberInto(&p.Number),
		"protocol":    w.textInto(&p.Protocol),
		"appProtocol": ignored, // the Service's holds
	})
	return p
}
