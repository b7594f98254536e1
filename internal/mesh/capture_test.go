package mesh

import (
	"net/netip"
	"strings"
	"testing"
)

// notes are annotations by the ends of their names.
func notes(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i < len(pairs); i += 2 {
		m["traffic.sidecar.istio.io/"+pairs[i]] = pairs[i+1]
	}
	return m
}

func TestWhatACaptureTakes(t *testing.T) {
	const v4, v6 = "240.240.0.7", "2001:2::7"
	for name, c := range map[string]struct {
		mode, dns   string
		annotations map[string]string
		to          string
		ports       []uint16
		want        bool
	}{
		"everything in a sandbox":           {to: v4, ports: []uint16{80, 3306}, want: true},
		"redirected":                        {mode: "REDIRECT", to: v4, ports: []uint16{80}, want: true},
		"by tproxy":                         {mode: "TPROXY", to: v6, ports: []uint16{80}, want: true},
		"no TCP":                            {mode: "NONE", to: v4, ports: []uint16{80}},
		"no TCP, no ports":                  {mode: "NONE", to: v4},
		"DNS is another matter":             {dns: "false", to: v4, ports: []uint16{80}, want: true},
		"a star is everything":              {annotations: notes("includeOutboundIPRanges", " * "), to: v6, ports: []uint16{80}, want: true},
		"nothing is listed":                 {annotations: notes("includeOutboundIPRanges", ""), to: v4, ports: []uint16{80}},
		"listed":                            {annotations: notes("includeOutboundIPRanges", "10.0.0.0/8,240.240.0.0/16"), to: v4, ports: []uint16{80}, want: true},
		"not listed":                        {annotations: notes("includeOutboundIPRanges", "10.0.0.0/8"), to: v4, ports: []uint16{80}},
		"only the other family is listed":   {annotations: notes("includeOutboundIPRanges", "0.0.0.0/0"), to: v6, ports: []uint16{80}},
		"every IPv6 is no IPv4":             {annotations: notes("includeOutboundIPRanges", "::/0"), to: v4, ports: []uint16{80}},
		"excluded":                          {annotations: notes("excludeOutboundIPRanges", "240.0.0.0/4"), to: v4, ports: []uint16{80}},
		"excluded with other bits set":      {annotations: notes("excludeOutboundIPRanges", "240.1.2.3/4"), to: v4, ports: []uint16{80}},
		"another range is excluded":         {annotations: notes("excludeOutboundIPRanges", "10.0.0.0/8"), to: v4, ports: []uint16{80}, want: true},
		"the exclusion wins":                {annotations: notes("includeOutboundIPRanges", "240.0.0.0/4", "excludeOutboundIPRanges", "240.240.0.0/16"), to: v4, ports: []uint16{80}},
		"a port is excluded":                {annotations: notes("excludeOutboundPorts", "3306, 25"), to: v4, ports: []uint16{80, 3306}},
		"a port that it has not":            {annotations: notes("excludeOutboundPorts", "3306"), to: v4, ports: []uint16{80}, want: true},
		"ports are taken anywhere":          {annotations: notes("includeOutboundIPRanges", "", "includeOutboundPorts", "80,3306"), to: v4, ports: []uint16{80, 3306}, want: true},
		"one of its ports is not":           {annotations: notes("includeOutboundIPRanges", "", "includeOutboundPorts", "80"), to: v4, ports: []uint16{80, 3306}},
		"ports do not narrow the addresses": {annotations: notes("includeOutboundPorts", "80"), to: v4, ports: []uint16{3306}, want: true},
		"an excluded port is not taken":     {annotations: notes("includeOutboundPorts", "80", "excludeOutboundPorts", "80"), to: v4, ports: []uint16{80}},
		"nor at an excluded address":        {annotations: notes("includeOutboundIPRanges", "", "includeOutboundPorts", "80", "excludeOutboundIPRanges", v4+"/32"), to: v4, ports: []uint16{80}},
		"IPv4 in IPv6":                      {annotations: notes("excludeOutboundIPRanges", "240.240.0.0/16"), to: "::ffff:" + v4, ports: []uint16{80}},
	} {
		capture, err := ParseCapture(c.mode, c.dns, c.annotations)
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if got := capture.Takes(netip.MustParseAddr(c.to), c.ports); got != c.want {
			t.Errorf("%s: got %v (%s)", name, got, capture)
		}
		if capture.DNS() != (c.dns != "false") {
			t.Errorf("%s: DNS %v", name, capture.DNS())
		}
	}
}

func TestCapturesThatMeanTheSameAreEqual(t *testing.T) {
	a, err := ParseCapture("REDIRECT", "true", notes("excludeOutboundIPRanges", "10.0.0.0/8, 192.0.2.1/24", "excludeOutboundPorts", "25,80", "includeOutboundPorts", "9"))
	if err != nil {
		t.Fatal(err)
	}
	b, err := ParseCapture("", "", notes("includeOutboundIPRanges", "*", "excludeOutboundIPRanges", "192.0.2.0/24,10.0.0.0/8,10.0.0.0/8", "excludeOutboundPorts", "80, 25,80"))
	if err != nil {
		t.Fatal(err)
	}
	if a != b {
		t.Errorf("%s\n%s", a, b)
	}
	if c, err := ParseCapture("TPROXY", "true", nil); err != nil || c != (Capture{}) {
		t.Errorf("%v, %v is not the zero Capture", c, err)
	}
}

func TestAMalformedCaptureIsNamed(t *testing.T) {
	for name, c := range map[string]struct {
		mode, dns   string
		annotations map[string]string
		want        []string
	}{
		"a mode":             {mode: "redirect", want: []string{`interception mode "redirect": use REDIRECT`}},
		"DNS":                {dns: "no", want: []string{`DNS capture "no": use true or false`}},
		"a range":            {annotations: notes("includeOutboundIPRanges", "10.0.0.0"), want: []string{`includeOutboundIPRanges: "10.0.0.0" is no range`}},
		"a star among them":  {annotations: notes("includeOutboundIPRanges", "10.0.0.0/8,*"), want: []string{`"*" is no range`}},
		"exclude everything": {annotations: notes("excludeOutboundIPRanges", "*"), want: []string{`excludeOutboundIPRanges: "*" is no range`}},
		"a port":             {annotations: notes("includeOutboundPorts", "80,http"), want: []string{`includeOutboundPorts: "http" is no port`}},
		"port 0":             {annotations: notes("excludeOutboundPorts", "0"), want: []string{`"0" is no port`}},
		"an empty item":      {annotations: notes("excludeOutboundPorts", "80,"), want: []string{`"" is no port`}},
		"too long":           {annotations: notes("excludeOutboundPorts", strings.Repeat("1", maxCaptureText+1)), want: []string{"longer than"}},
		"too many":           {annotations: notes("excludeOutboundPorts", strings.Repeat("1,", maxCaptureItems)+"1"), want: []string{"more than"}},
		"all of them":        {mode: "x", dns: "y", annotations: notes("includeOutboundPorts", "z", "excludeOutboundIPRanges", "w"), want: []string{`"x"`, `"y"`, `"z"`, `"w"`}},
	} {
		got, err := ParseCapture(c.mode, c.dns, c.annotations)
		if err == nil || got != (Capture{}) {
			t.Errorf("%s: got %v, %v", name, got, err)
			continue
		}
		for _, want := range c.want {
			if !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %q does not say %q", name, err, want)
			}
		}
	}
}

func TestACaptureSaysWhatItLetsPast(t *testing.T) {
	for want, annotations := range map[string]map[string]string{
		"": nil,
		"what goes to 10.0.0.0/8 (excludeOutboundIPRanges); ports 25, 80 (excludeOutboundPorts)":                                    notes("excludeOutboundIPRanges", "10.0.0.0/8", "excludeOutboundPorts", "80,25"),
		"all addresses (includeOutboundIPRanges)":                                                                                   notes("includeOutboundIPRanges", ""),
		"all addresses but 10.0.0.0/8, fc00::/7 (includeOutboundIPRanges) on ports other than 1, 2, 3, 4, … (includeOutboundPorts)": notes("includeOutboundIPRanges", "10.0.0.0/8,fc00::/7", "includeOutboundPorts", "5,4,3,2,1"),
	} {
		c, err := ParseCapture("", "", annotations)
		if err != nil || c.String() != want {
			t.Errorf("got  %s, %v\nwant %s", c, err, want)
		}
	}
	if c, _ := ParseCapture("NONE", "false", nil); c.String() != "all TCP (interception mode NONE); DNS (DNS_CAPTURE false)" {
		t.Errorf("got %s", c)
	}
}

// FuzzParseCapture holds that what is taken means the same when it is read
// again in another order.
func FuzzParseCapture(f *testing.F) {
	f.Add("NONE", "true", "*", "10.0.0.0/8", "80", "25,3306")
	f.Add("", "false", "", "::/0,0.0.0.0/0", "", "1,2,3")
	f.Add("TPROXY", "", "10.0.0.0/8, fc00::/7", "", "65535", "0")
	f.Fuzz(func(t *testing.T, mode, dns, include, exclude, ports, portsOut string) {
		annotations := notes("includeOutboundIPRanges", include, "excludeOutboundIPRanges", exclude, "includeOutboundPorts", ports, "excludeOutboundPorts", portsOut)
		c, err := ParseCapture(mode, dns, annotations)
		if err != nil {
			return
		}
		for x := range c.exclude.all {
			if c.Takes(x.Addr(), nil) {
				t.Errorf("%s is excluded and taken", x)
			}
		}
		for p := range c.excludePorts.all {
			if c.Takes(netip.MustParseAddr("240.240.0.1"), []uint16{p}) {
				t.Errorf("port %d is excluded and taken", p)
			}
		}
		if (c == Capture{}) != (c.String() == "") {
			t.Errorf("%#v says %q", c, c)
		}
	})
}
