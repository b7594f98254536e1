package mesh

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"
)

// TestWhatAWorkloadReaches is the decision from which the answers of DNS and the
// listeners both come: ports of a service, and its virtual addresses.
func TestWhatAWorkloadReaches(t *testing.T) {
	all := []HostPattern{{"*", "*"}}
	other := []HostPattern{{"*", "other.example"}}
	listeners := func(l ...EgressListener) *Sidecar { return &Sidecar{Egress: l} }
	const both = "80 3306 240.240.0.7 2001:2::7"
	for name, c := range map[string]struct {
		sidecar     *Sidecar
		mode, dns   string
		annotations map[string]string
		want        string // ports, then virtual addresses
	}{
		"all of it":                      {want: both},
		"a Sidecar without listeners":    {sidecar: listeners(), want: both},
		"imported":                       {sidecar: listeners(EgressListener{Import: all}), want: both},
		"not imported":                   {sidecar: listeners(EgressListener{Import: other}), want: "nothing"},
		"one port":                       {sidecar: listeners(EgressListener{Import: all, Port: 3306}), want: "3306 240.240.0.7 2001:2::7"},
		"a port it has not":              {sidecar: listeners(EgressListener{Import: all, Port: 443}), want: "nothing"},
		"a port, and the rest":           {sidecar: listeners(EgressListener{Import: all, Port: 80}, EgressListener{Import: all}), want: both},
		"a port for others, and a rest":  {sidecar: listeners(EgressListener{Import: other, Port: 80}, EgressListener{Import: all}), want: "3306 240.240.0.7 2001:2::7"},
		"all ports for others":           {sidecar: listeners(EgressListener{Import: other, Port: 80}, EgressListener{Import: other, Port: 3306}, EgressListener{Import: all}), want: "nothing"},
		"past the proxy":                 {sidecar: listeners(EgressListener{Import: all, Past: true}), want: ""},
		"a port past the proxy":          {sidecar: listeners(EgressListener{Import: all, Port: 80, Past: true}), want: ""},
		"and the rest taken":             {sidecar: listeners(EgressListener{Import: all, Port: 80, Past: true}, EgressListener{Import: all}), want: "3306"},
		"others past the proxy":          {sidecar: listeners(EgressListener{Import: other, Port: 80, Past: true}, EgressListener{Import: all}), want: both},
		"a port of none past the proxy":  {sidecar: listeners(EgressListener{Import: all, Port: 443, Past: true}, EgressListener{Import: all}), want: both},
		"no TCP":                         {mode: "NONE", want: "80 3306"},
		"no DNS":                         {dns: "false", want: "80 3306"},
		"an excluded port":               {annotations: notes("excludeOutboundPorts", "3306"), want: "80 3306"},
		"an excluded port not imported":  {sidecar: listeners(EgressListener{Import: all, Port: 80}), annotations: notes("excludeOutboundPorts", "3306"), want: "80 240.240.0.7 2001:2::7"},
		"an excluded port of nobody's":   {annotations: notes("excludeOutboundPorts", "25"), want: both},
		"an excluded range":              {annotations: notes("excludeOutboundIPRanges", "240.0.0.0/4"), want: "80 3306 2001:2::7"},
		"excluded ranges":                {annotations: notes("excludeOutboundIPRanges", "240.0.0.0/4,2001:2::/48"), want: "80 3306"},
		"included ranges without them":   {annotations: notes("includeOutboundIPRanges", "10.0.0.0/8"), want: "80 3306"},
		"with them":                      {annotations: notes("includeOutboundIPRanges", "240.240.0.0/16"), want: "80 3306 240.240.0.7"},
		"included by all of their ports": {annotations: notes("includeOutboundIPRanges", "10.0.0.0/8", "includeOutboundPorts", "80,3306"), want: both},
		"by some of their ports":         {annotations: notes("includeOutboundIPRanges", "10.0.0.0/8", "includeOutboundPorts", "80"), want: "80 3306"},
	} {
		s := &Service{
			Host: "x.example", Namespace: "b", Ports: []Port{{Number: 80}, {Number: 3306}},
			VIPs: []netip.Addr{netip.MustParseAddr("240.240.0.7"), netip.MustParseAddr("2001:2::7")},
		}
		capture, err := ParseCapture(c.mode, c.dns, c.annotations)
		if err != nil {
			t.Fatal(err)
		}
		got := Reach(s, "a", c.sidecar, capture)
		if text := told(got); text != c.want {
			t.Errorf("%s: got %q, want %q", name, text, c.want)
		}
		if c.want == both && got != s {
			t.Errorf("%s: a copy is made where nothing is narrowed", name)
		}
		if told(s) != both {
			t.Errorf("%s: the service itself became %q", name, told(s))
		}
	}
}

func told(s *Service) string {
	if s == nil {
		return "nothing"
	}
	var all []string
	for _, p := range s.Ports {
		all = append(all, fmt.Sprint(p.Number))
	}
	for _, a := range s.VIPs {
		all = append(all, a.String())
	}
	return strings.Join(all, " ")
}

// TestWhichListenerHasAPort of a host.
func TestWhichListenerHasAPort(t *testing.T) {
	all, x, y := []HostPattern{{"*", "*"}}, []HostPattern{{"*", "x.example"}}, []HostPattern{{"*", "y.example"}}
	for name, c := range map[string]struct {
		egress []EgressListener
		port   uint16
		want   int
	}{
		"nothing is narrowed":               {nil, 80, 0},
		"the only one":                      {[]EgressListener{{Import: all}}, 80, 0},
		"none":                              {[]EgressListener{{Import: y}}, 80, -1},
		"that for the port":                 {[]EgressListener{{Import: all, Port: 80}, {Import: all}}, 80, 0},
		"another port is left to the rest":  {[]EgressListener{{Import: all, Port: 80}, {Import: all}}, 443, 1},
		"its port is not":                   {[]EgressListener{{Import: y, Port: 80}, {Import: all}}, 80, -1},
		"unless it is not captured":         {[]EgressListener{{Import: y, Port: 80, Past: true}, {Import: all}}, 80, 1},
		"of two for the port the first":     {[]EgressListener{{Import: x, Port: 80}, {Import: all, Port: 80}}, 80, 0},
		"the first that imports it":         {[]EgressListener{{Import: y, Port: 80}, {Import: all, Port: 80}}, 80, 1},
		"that for the port goes before all": {[]EgressListener{{Import: all}, {Import: x, Port: 80}}, 80, 1},
	} {
		if got := (&Sidecar{Egress: c.egress}).Listener("a", "b", "x.example", c.port); got != c.want {
			t.Errorf("%s: got %d, want %d", name, got, c.want)
		}
	}
}

// TestFirstAgreesWithReach on whether there is anything.
func TestFirstAgreesWithReach(t *testing.T) {
	s := &Service{Host: "x.example", Namespace: "b"}
	all := []HostPattern{{"*", "*"}}
	for _, ports := range [][]Port{nil, {{Number: 80}}, {{Number: 80}, {Number: 443}}} {
		s.Ports = ports
		for _, l := range [][]EgressListener{nil, {{Import: all}}, {{Port: 80, Import: all}}, {{Port: 80}, {Import: all}}, {{Port: 80, Past: true}, {Import: all, Past: true}}, {{Port: 443, Import: all, Past: true}}} {
			sidecar := &Sidecar{Egress: l}
			if first, reached := sidecar.First("a", s), Reach(s, "a", sidecar, Capture{}); (first >= 0) != (reached != nil) {
				t.Errorf("%v by %v: first %d, reached %v", ports, l, first, reached)
			}
		}
	}
}

// TestWhatASidecarWithholdsIsKnown for a refusal to tell; what is past the proxy
// is not withheld.
func TestWhatASidecarWithholdsIsKnown(t *testing.T) {
	all, none := []HostPattern{{"*", "*"}}, []HostPattern{{"*", "y.example"}}
	s := &Service{Host: "x.example", Namespace: "b", Ports: []Port{{Number: 80}, {Number: 443}, {Number: 5432}}}
	sidecar := &Sidecar{Source: Ref{Kind: "Sidecar", Name: "s"}, Egress: []EgressListener{{Port: 5432, Import: none}, {Port: 443, Import: all, Past: true}, {Import: all}}}
	got := Reach(s, "a", sidecar, Capture{})
	if len(got.Ports) != 1 || len(got.Withheld) != 1 || got.Withheld[0].Number != 5432 || got.WithheldBy != sidecar.Source {
		t.Errorf("ports %v, withheld %v by %v", got.Ports, got.Withheld, got.WithheldBy)
	}
	if got := Reach(s, "a", nil, Capture{}); got.Withheld != nil {
		t.Errorf("withheld without a Sidecar: %v", got.Withheld)
	}
}
