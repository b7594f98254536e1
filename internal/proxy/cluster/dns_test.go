package cluster

import (
	"errors"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
)

func TestEveryAddressOfEveryNameIsAnEndpoint(t *testing.T) {
	w := newWorld(t)
	other := at("b.test")
	other.Port = 8080
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"), other, at("10.0.0.9"))))
	w.names.answer("a.test", fresh("10.0.0.1", "10.0.0.2", "fd00::1"))
	w.names.answer("b.test", fresh("10.0.0.1"))
	want := []string{"10.0.0.1:80", "10.0.0.1:8080", "10.0.0.2:80", "10.0.0.9:80", "[fd00::1]:80"}
	before := w.picked()
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(before))); d != "" {
		t.Errorf("endpoints (-want +got):\n%s", d)
	}
	w.names.answer("a.test", fresh("10.0.0.2", "10.0.0.3"))
	want = []string{"10.0.0.1:8080", "10.0.0.2:80", "10.0.0.3:80", "10.0.0.9:80"}
	after := w.picked()
	if d := cmp.Diff(want, slices.Sorted(maps.Keys(after))); d != "" {
		t.Errorf("after a new answer (-want +got):\n%s", d)
	}
	if before["10.0.0.2:80"] != after["10.0.0.2:80"] {
		t.Error("an unchanged address became another endpoint")
	}
}

func TestAnswersOfAllKinds(t *testing.T) {
	failure := errors.New("no answer from 192.0.2.53 within 5s")
	good := fresh("10.0.0.1", "10.0.0.2")
	stale := resolve.Answer{Addrs: addrs("10.0.0.1", "10.0.0.2"), State: decision.Stale, Err: failure}
	for _, tt := range []struct {
		name    string
		typ     config.ClusterType
		answers []resolve.Answer
		want    []string
		dns     decision.DNSState
		failed  bool
	}{
		{"none yet", config.StrictDNS, nil, nil, decision.Never, false},
		{"good", config.StrictDNS, []resolve.Answer{good}, []string{"10.0.0.1:80", "10.0.0.2:80"}, decision.Fresh, false},
		{"stale", config.StrictDNS, []resolve.Answer{good, stale}, []string{"10.0.0.1:80", "10.0.0.2:80"}, decision.Stale, true},
		{"emptied", config.StrictDNS, []resolve.Answer{good, {State: decision.Negative}}, nil, decision.Negative, false},
		{"never", config.StrictDNS, []resolve.Answer{{State: decision.Never, Err: failure}}, nil, decision.Never, true},
		{"recovered", config.StrictDNS, []resolve.Answer{{State: decision.Never, Err: failure}, fresh("10.0.0.3")}, []string{"10.0.0.3:80"}, decision.Fresh, false},
		{"logical: first address", config.LogicalDNS, []resolve.Answer{good}, []string{"10.0.0.1:80"}, decision.Fresh, false},
		{"logical: another first", config.LogicalDNS, []resolve.Answer{good, fresh("10.0.0.2", "10.0.0.1")}, []string{"10.0.0.2:80"}, decision.Fresh, false},
		{"logical: emptied", config.LogicalDNS, []resolve.Answer{good, {State: decision.Negative}}, []string{"10.0.0.1:80"}, decision.Stale, false},
		{"logical: failed", config.LogicalDNS, []resolve.Answer{good, {State: decision.Never, Err: failure}}, []string{"10.0.0.1:80"}, decision.Stale, true},
		{"logical: never", config.LogicalDNS, []resolve.Answer{{State: decision.Never, Err: failure}}, nil, decision.Never, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := newWorld(t)
			w.apply(clusters(inlined(tt.typ, at("a.test"))))
			for _, a := range tt.answers {
				w.names.answer("a.test", a)
			}
			if d := cmp.Diff(tt.want, slices.Sorted(maps.Keys(w.picked()))); d != "" {
				t.Errorf("endpoints (-want +got):\n%s", d)
			}
			_, rec := w.pick()
			if rec.DNS != tt.dns || (rec.DNSError != "") != tt.failed {
				t.Errorf("DNS %s, error %q; want %s, failed %v", rec.DNS, rec.DNSError, tt.dns, tt.failed)
			}
		})
	}
}

func TestOneNameOfTwoIsEnough(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"), at("b.test"))))
	w.names.answer("a.test", resolve.Answer{State: decision.Negative, Err: errors.New("NXDOMAIN")})
	if _, rec := w.pick(); rec.DNS != decision.Never {
		t.Errorf("DNS %s while a name is outstanding, want never", rec.DNS)
	}
	w.names.answer("b.test", fresh("10.0.0.1"))
	if e, rec := w.pick(); e == nil || rec.DNS != decision.Fresh || rec.DNSError != "NXDOMAIN" {
		t.Errorf("picked %v, DNS %s, error %q", e, rec.DNS, rec.DNSError)
	}
}

// A change to names must not leave a gap until they are resolved.
func TestOldEndpointsServeUntilNewNamesAnswer(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(inlined(config.StaticSet, at("10.0.0.1"))))
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"))))
	if e, _ := w.pick(); e == nil || e.String() != "10.0.0.1:80" {
		t.Errorf("picked %v before the first answer, want the old endpoint", e)
	}
	w.names.answer("a.test", fresh("10.0.0.2"))
	if e, _ := w.pick(); e == nil || e.String() != "10.0.0.2:80" {
		t.Errorf("picked %v after the first answer", e)
	}
	w.apply(clusters(inlined(config.StrictDNS, at("b.test"))))
	w.names.answer("b.test", resolve.Answer{State: decision.Never, Err: errors.New("timeout")})
	if e, _ := w.pick(); e != nil {
		t.Errorf("picked %v after a first answer that was bad", e)
	}
}

func TestNamesAreWatchedWhileNeeded(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"), at("b.test"))))
	check := func(a, b int) {
		t.Helper()
		if got := [2]int{w.names.watched("a.test"), w.names.watched("b.test")}; got != [2]int{a, b} {
			t.Errorf("watches %v, want %v", got, [2]int{a, b})
		}
	}
	check(1, 1)
	changed := inlined(config.StrictDNS, at("a.test"))
	changed.ConnectTimeout = time.Second
	w.apply(clusters(changed))
	check(1, 0)
	w.apply(clusters(inlined(config.StaticSet, at("10.0.0.1"))))
	check(0, 0)
	w.apply(clusters(inlined(config.StrictDNS, at("b.test"))))
	check(0, 1)
	w.apply(config.Delta{RemovedClusters: []string{"x"}})
	w.bury()
	check(0, 0)
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"))))
	w.Close()
	check(0, 0)
}

// Addresses that come and go with every answer keep their connections; those
// that stay away lose them.
func TestFlappingAddressesKeepTheirConnections(t *testing.T) {
	for _, typ := range []config.ClusterType{config.StrictDNS, config.LogicalDNS} {
		w := newWorld(t)
		up := listen(t, "tcp", "127.0.0.1:0")
		e := at("a.test")
		e.Port = up.addr().Port()
		w.apply(clusters(inlined(typ, e)))
		w.names.answer("a.test", local("127.0.0.1"))
		ep, _ := w.pick()
		c := dial(t, ep)
		ep.Keep(c)
		for range 3 {
			w.names.answer("a.test", local("127.0.0.2"))
			if got, _ := w.pick(); got == ep {
				t.Fatal("picked an address that is not answered any more")
			}
			w.Get("x").sweep(time.Now(), nil)
			w.names.answer("a.test", local("127.0.0.1"))
			if got, _ := w.pick(); got != ep {
				t.Fatal("a flap made another endpoint")
			}
			if isClosed(c) {
				t.Fatal("a flap closed a kept connection")
			}
		}
		w.names.answer("a.test", local("127.0.0.2"))
		w.Get("x").sweep(time.Now(), nil)
		w.Get("x").sweep(time.Now(), nil)
		if !isClosed(c) {
			t.Error("a kept connection to an address that left is open after two sweeps")
		}
		if n := len(w.Get("x").endpoints); n != 1 {
			t.Errorf("%d endpoints held, want 1", n)
		}
	}
}

// LOGICAL_DNS uses one address and stays ready for the others of the answer.
func TestTurningAnswersKeepConnections(t *testing.T) {
	w := newWorld(t)
	w.apply(clusters(inlined(config.LogicalDNS, at("a.test"))))
	w.names.answer("a.test", fresh("10.0.0.1", "10.0.0.2"))
	first, _ := w.pick()
	w.names.answer("a.test", fresh("10.0.0.2", "10.0.0.1"))
	for range 3 {
		w.Get("x").sweep(time.Now(), nil)
	}
	w.names.answer("a.test", fresh("10.0.0.1", "10.0.0.2"))
	if again, _ := w.pick(); again != first {
		t.Error("an address that was second for a while became another endpoint")
	}
}

func TestAddressesWithoutARouteAreLeftOut(t *testing.T) {
	w := newWorld(t)
	v6 := false
	w.routed = func(a netip.Addr) bool { return a.Is4() || v6 }
	w.apply(clusters(inlined(config.StrictDNS, at("a.test"))))
	for _, tt := range []struct {
		answer []string
		v6     bool
		want   []string
	}{
		{[]string{"10.0.0.1", "fd00::1"}, false, []string{"10.0.0.1:80"}},
		{[]string{"10.0.0.1", "fd00::1"}, true, []string{"10.0.0.1:80", "[fd00::1]:80"}},
		{[]string{"fd00::1"}, false, []string{"[fd00::1]:80"}},
	} {
		v6 = tt.v6
		w.names.answer("a.test", fresh(tt.answer...))
		if d := cmp.Diff(tt.want, slices.Sorted(maps.Keys(w.picked()))); d != "" {
			t.Errorf("%v, v6 %v (-want +got):\n%s", tt.answer, tt.v6, d)
		}
	}
	w.names.answer("a.test", fresh("10.0.0.1", "fd00::1"))
	v6 = true
	now := time.Now()
	w.Get("x").reroute(now)
	if n := len(w.picked()); n != 2 {
		t.Errorf("%d endpoints once there is a route, want 2", n)
	}
	// Where nothing has a route every request fails, and must not look again.
	v6 = false
	w.Get("x").reroute(now.Add(rerouteInterval - 1))
	if n := len(w.picked()); n != 2 {
		t.Errorf("%d endpoints after a second look within a second, want 2 as before", n)
	}
	w.Get("x").reroute(now.Add(rerouteInterval))
	if n := len(w.picked()); n != 1 {
		t.Errorf("%d endpoints after a look a second later, want 1", n)
	}
}

func TestLoopbackHasARoute(t *testing.T) {
	if !routed(netip.MustParseAddr("127.0.0.1")) {
		t.Error("no route to 127.0.0.1")
	}
}
