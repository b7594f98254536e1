package mesh

import (
	"testing"

	"github.com/fairlead/fairlead/internal/hostname"
)

func TestWhatAListenerImports(t *testing.T) {
	everything := []HostPattern{{"*", "*"}}
	for name, c := range map[string]struct {
		listener        EgressListener
		namespace, host string
		want            bool
	}{
		"all":                             {EgressListener{Import: everything}, "b", "x.example", true},
		"all wildcards":                   {EgressListener{Import: everything}, "b", "*.example", true},
		"nothing listed":                  {EgressListener{}, "a", "x.example", false},
		"the own namespace":               {EgressListener{Import: []HostPattern{{".", "*"}}}, "a", "x.example", true},
		"not another":                     {EgressListener{Import: []HostPattern{{".", "*"}}}, "b", "x.example", false},
		"a namespace by name":             {EgressListener{Import: []HostPattern{{"b", "*"}}}, "b", "x.example", true},
		"a host by name":                  {EgressListener{Import: []HostPattern{{"*", "x.example"}}}, "b", "x.example", true},
		"not a host below it":             {EgressListener{Import: []HostPattern{{"*", "x.example"}}}, "b", "y.x.example", false},
		"hosts by wildcard":               {EgressListener{Import: []HostPattern{{"*", "*.example"}}}, "b", "x.example", true},
		"a narrower wildcard":             {EgressListener{Import: []HostPattern{{"*", "*.example"}}}, "b", "*.x.example", true},
		"not a wider wildcard":            {EgressListener{Import: []HostPattern{{"*", "*.x.example"}}}, "b", "*.example", false},
		"an exclusion wins":               {EgressListener{Import: everything, Exclude: []HostPattern{{"b", "x.example"}}}, "b", "x.example", false},
		"an exclusion of elsewhere":       {EgressListener{Import: everything, Exclude: []HostPattern{{"b", "x.example"}}}, "a", "x.example", true},
		"an exclusion of everything":      {EgressListener{Import: everything, Exclude: everything}, "a", "x.example", false},
		"an exclusion of the own":         {EgressListener{Import: everything, Exclude: []HostPattern{{".", "*"}}}, "a", "x.example", false},
		"an exclusion of the own, theirs": {EgressListener{Import: everything, Exclude: []HostPattern{{".", "*"}}}, "b", "x.example", true},
	} {
		if got := c.listener.Imports("a", c.namespace, hostname.Name(c.host)); got != c.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}

func TestWhomASidecarSelects(t *testing.T) {
	for _, c := range []struct {
		selector, labels map[string]string
		want             bool
	}{
		{nil, nil, true},
		{nil, map[string]string{"app": "x"}, true},
		{map[string]string{"app": "x"}, map[string]string{"app": "x", "v": "1"}, true},
		{map[string]string{"app": "x"}, map[string]string{"app": "y"}, false},
		{map[string]string{"app": ""}, nil, false},
	} {
		if got := (&Sidecar{Selector: c.selector}).Selects(c.labels); got != c.want {
			t.Errorf("%v selects %v: %v", c.selector, c.labels, got)
		}
	}
}
