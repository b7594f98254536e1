package ads

import (
	"strings"
	"testing"

	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/mesh"
)

func metadata(t *testing.T, fields map[string]any) *corev3.Node {
	t.Helper()
	s, err := structpb.NewStruct(fields)
	if err != nil {
		t.Fatal(err)
	}
	return &corev3.Node{Id: "sidecar~10.0.0.1~web-1.shop~shop.svc.cluster.local", Metadata: s}
}

func TestANodeSaysWhatOfItsWorkloadIsCaptured(t *testing.T) {
	const exclude = "traffic.sidecar.istio.io/excludeOutboundPorts"
	ports := map[string]string{exclude: "25,3306"}
	for name, c := range map[string]struct {
		fields      map[string]any
		mode, dns   string
		annotations map[string]string
	}{
		"nothing":                 {map[string]any{}, "", "", nil},
		"what Istio's agent says": {map[string]any{"INTERCEPTION_MODE": "REDIRECT", "DNS_CAPTURE": "true", "ANNOTATIONS": map[string]any{"kubernetes.io/config.seen": "x"}}, "", "", nil},
		"nothing, expressly":      {map[string]any{"INTERCEPTION_MODE": nil, "DNS_CAPTURE": nil, "ANNOTATIONS": nil}, "", "", nil},
		"no TCP":                  {map[string]any{"INTERCEPTION_MODE": "NONE"}, "NONE", "", nil},
		"no DNS":                  {map[string]any{"DNS_CAPTURE": "false"}, "", "false", nil},
		"no DNS, as a bool":       {map[string]any{"DNS_CAPTURE": false}, "", "false", nil},
		"an annotation":           {map[string]any{"ANNOTATIONS": map[string]any{exclude: "3306,25"}}, "", "", ports},
	} {
		want, err := mesh.ParseCapture(c.mode, c.dns, c.annotations)
		if err != nil {
			t.Fatal(err)
		}
		n, err := parseNode(metadata(t, c.fields))
		if err != nil || n.Capture != want || n.DNSUnsaid != (c.fields["DNS_CAPTURE"] == nil) || n.Namespace != "shop" || n.Name != "web-1" {
			t.Errorf("%s: got %+v, %v", name, n, err)
		}
	}
}

func TestAMalformedNodeIsNamed(t *testing.T) {
	for want, fields := range map[string]map[string]any{
		"INTERCEPTION_MODE is no text":                                {"INTERCEPTION_MODE": 3},
		`interception mode "MAYBE"`:                                   {"INTERCEPTION_MODE": "MAYBE"},
		"DNS_CAPTURE is no text":                                      {"DNS_CAPTURE": []any{}},
		`DNS capture "yes"`:                                           {"DNS_CAPTURE": "yes"},
		"ANNOTATIONS is no object":                                    {"ANNOTATIONS": "a=b"},
		"annotation traffic.sidecar.istio.io/excludeOutboundIPRanges": {"ANNOTATIONS": map[string]any{"traffic.sidecar.istio.io/excludeOutboundIPRanges": "all"}},
		"includeOutboundPorts is no text":                             {"ANNOTATIONS": map[string]any{"traffic.sidecar.istio.io/includeOutboundPorts": 80}},
		"the node's NAME is longer":                                   {"NAME": strings.Repeat("n", maxNodeText+1)},
	} {
		if n, err := parseNode(metadata(t, fields)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: got %+v, %v", want, n, err)
		}
	}
}
