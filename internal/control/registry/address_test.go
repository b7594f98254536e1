package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/vip"
	"github.com/fairlead/fairlead/internal/hostname"
)

// ranges is the mesh-wide configuration with ranges of virtual addresses.
func ranges(t *testing.T, text string) Change {
	t.Helper()
	objects, problems := api.Read("mesh.yaml", []byte("apiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: istio\n  namespace: istio-system\n  annotations: {fairlead.dev/virtual-addresses: '"+text+"'}\n"), "default")
	if api.HasError(problems) || len(objects) != 1 {
		t.Fatalf("%s: %v", text, problems)
	}
	return Change{Key: objects[0].Key, Object: objects[0]}
}

// six are entries that want an address each.
func six(t *testing.T) []Change {
	t.Helper()
	var lines []string
	for i := range 6 {
		lines = append(lines, fmt.Sprintf("a/e%d: hosts: [h%d.example], resolution: DNS, ports: [{number: 3306, name: db, protocol: TCP}]", i, i))
	}
	return entries(t, lines...)
}

// virtual are the addresses of h0 to h5.
func virtual(s *Snapshot) (all [6][]netip.Addr, without []hostname.Name) {
	for i := range all {
		host := hostname.Name(fmt.Sprintf("h%d.example", i))
		if all[i] = s.Service("a", host).VIPs; len(all[i]) == 0 {
			without = append(without, host)
		}
	}
	return all, without
}

// TestAHostThatGetsNoAddressIsNamed with what to do about it, and the others
// have theirs.
func TestAHostThatGetsNoAddressIsNamed(t *testing.T) {
	r := New(config.Default())
	s, d := r.Apply(epoch, append(six(t), ranges(t, "240.1.0.0/29,2001:2::/126"))) // room for two
	_, without := virtual(s)
	if len(without) != 4 || len(d.Problems) != 4 {
		t.Fatalf("%v have no address; told %s", without, problems(d))
	}
	for _, host := range without {
		for _, want := range []string{
			"host " + string(host) + " gets no virtual address: the range of virtual addresses is used up (240.1.0.0/29 and 2001:2::/126 have room for 2 hosts)",
			"give it spec.addresses", "annotation fairlead.dev/virtual-addresses on ConfigMap istio-system/istio",
		} {
			if !strings.Contains(problems(d), want) {
				t.Errorf("nothing says %q:\n%s", want, problems(d))
			}
		}
	}
	if _, d := r.Apply(epoch, six(t)[:1]); len(d.Hosts) != 0 {
		t.Errorf("said again, %v changed", d.Hosts)
	}
}

// TestAWiderRangeIsForThoseWithout an address: nobody is given another.
func TestAWiderRangeIsForThoseWithout(t *testing.T) {
	r := New(config.Default())
	s, _ := r.Apply(epoch, append(six(t), ranges(t, "240.1.0.0/29,2001:2::/126")))
	before, without := virtual(s)
	next := ranges(t, "240.2.0.0/16") // the other family is Istio's then
	s, d := r.Apply(epoch, []Change{next})
	after, none := virtual(s)
	if len(none) != 0 || len(d.Problems) != 0 || !d.Mesh || len(d.Hosts) != len(without) {
		t.Fatalf("%v have no address; of %v changed %v; told %s", none, without, d.Hosts, problems(d))
	}
	for i := range before {
		if len(before[i]) > 0 && before[i][0] != after[i][0] {
			t.Errorf("h%d had %v and has %v", i, before[i], after[i])
		}
		if len(before[i]) == 0 && (!netip.MustParsePrefix("240.2.0.0/16").Contains(after[i][0]) || !config.Default().VirtualIPv6.Contains(after[i][1])) {
			t.Errorf("h%d got %v", i, after[i])
		}
	}
	if _, d := r.Apply(epoch, []Change{next}); d.Mesh {
		t.Error("saying it again is a change")
	}
	if s, _ = r.Apply(epoch, []Change{{Key: next.Key}}); s.Mesh().VirtualIPv4 != config.Default().VirtualIPv4 {
		t.Errorf("without the object the range is %v", s.Mesh().VirtualIPv4)
	}
}

// TestAnAddressThatSomebodyDeclaresIsNoVirtualOne whoever comes first, and its
// object is told.
func TestAnAddressThatSomebodyDeclaresIsNoVirtualOne(t *testing.T) {
	one := object(t, "ServiceEntry a/one: hosts: [one.example], resolution: DNS, "+http80)
	s, _ := New(config.Default()).Apply(epoch, []Change{one})
	natural := s.Service("a", "one.example").VIPs[0]
	taker := object(t, "ServiceEntry a/taker: hosts: [taker.example], resolution: DNS, addresses: ["+natural.String()+"], "+http80)
	for name, changes := range map[string][]Change{"first": {taker, one}, "last": {one, taker}} {
		s, d := New(config.Default()).Apply(epoch, changes)
		if got := s.Service("a", "one.example").VIPs; len(got) != 2 || got[0] == natural {
			t.Errorf("%s: the host gets %v, one of which is declared", name, got)
		}
		if told := problems(d); !strings.Contains(told, "ServiceEntry a/taker: spec.addresses[0]: address "+natural.String()+" of host taker.example lies in 240.240.0.0/16") || !strings.Contains(told, "no host is given it") {
			t.Errorf("%s: told %q", name, told)
		}
	}

	r := New(config.Default())
	r.Apply(epoch, []Change{one})
	s, d := r.Apply(epoch, []Change{taker})
	if told := problems(d); s.Service("a", "one.example").VIPs[0] != natural || !strings.Contains(told, "host one.example was given it before") {
		t.Errorf("later: it has %v, told %q", s.Service("a", "one.example").VIPs, told)
	}
	r.Apply(epoch, []Change{{Key: taker.Key}, {Key: one.Key}})
	if s, _ := r.Apply(epoch, []Change{one}); s.Service("a", "one.example").VIPs[0] != natural {
		t.Error("an address that nobody declares any more is not given")
	}
}

func TestAnotherRangeTellsWhoLiesInIt(t *testing.T) {
	r := New(config.Default())
	_, d := r.Apply(epoch, []Change{object(t, "ServiceEntry a/e: hosts: [x.example], resolution: NONE, addresses: [10.9.1.0/24, 10.0.0.0/8, 2001:db8::1], "+http80)})
	if told := problems(d); told != "" {
		t.Errorf("told %q", told)
	}
	_, d = r.Apply(epoch, []Change{ranges(t, "10.9.0.0/16")})
	if told := problems(d); !strings.Contains(told, "spec.addresses[0]: address 10.9.1.0/24 of host x.example lies in 10.9.0.0/16") || strings.Count(told, "\n") != 1 {
		t.Errorf("told %q", told)
	}
}

// TestWhoWaitsForAnAddressGetsOne once another host's has rested, whatever
// changes then.
func TestWhoWaitsForAnAddressGetsOne(t *testing.T) {
	r := New(config.Default())
	all := six(t)
	s, _ := r.Apply(epoch, append(all, ranges(t, "240.1.0.0/29,2001:2::/126"))) // room for two
	had, waiting := virtual(s)
	gone := slices.IndexFunc(had[:], func(vips []netip.Addr) bool { return len(vips) > 0 })
	other := object(t, "ServiceEntry a/other: hosts: [192.0.2.1], resolution: STATIC, "+http80)
	for _, step := range []struct {
		after time.Duration
		do    Change
		want  string // hosts touched
		told  int
	}{
		{0, Change{Key: all[gone].Key}, fmt.Sprintf("h%d.example", gone), 0},
		{vip.Quarantine - 1, other, "192.0.2.1", 0},
		{vip.Quarantine, Change{Key: other.Key}, "192.0.2.1 " + string(waiting[0]), 1}, // and the one after it does not
		{vip.Quarantine, other, "192.0.2.1", 0},
	} {
		s, d := r.Apply(epoch.Add(step.after), []Change{step.do})
		if got := names(d.Hosts); got != step.want || len(d.Problems) != step.told {
			t.Errorf("after %v: touched %q, want %q; told %s", step.after, got, step.want, problems(d))
		}
		if _, still := r.waiting[waiting[0]]; still == (len(s.Service("a", waiting[0]).VIPs) > 0) {
			t.Errorf("after %v: waits %v with %v", step.after, still, s.Service("a", waiting[0]).VIPs)
		}
	}
}
