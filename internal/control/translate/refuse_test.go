package translate

import (
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// refusals are the ports that the name of a host carries as refused.
func refusals(t *testing.T, tr *Translator, host string) []*fairleadpb.RefusedPort {
	t.Helper()
	r := tr.Set().Get(Key{xds.NameType, host})
	if r == nil {
		t.Fatalf("no name %s", host)
	}
	var n fairleadpb.Name
	if err := proto.Unmarshal(r.Body.GetValue(), &n); err != nil {
		t.Fatal(err)
	}
	return n.GetRefused()
}

func TestWhoLosesAPortIsRefusedIt(t *testing.T) {
	one, ten := netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("10.0.0.0/8")
	vip := netip.MustParseAddr("240.240.0.1")
	for _, tt := range []struct {
		name          string
		older, newer  mesh.Protocol
		tune          func(older, newer *mesh.Service)
		severity      api.Severity
		within        []string
		requests, not bool // not: nobody loses
	}{
		{name: "bytes without address", older: mesh.TCP, newer: mesh.TCP, severity: api.Error},
		{name: "whatever beside bytes", older: mesh.TCP, newer: mesh.Unset, severity: api.Warning, requests: true},
		{name: "bytes beside whatever", older: mesh.Unset, newer: mesh.TCP, severity: api.Error},
		{name: "one range", older: mesh.TCP, newer: mesh.TCP, severity: api.Error, within: []string{"10.0.0.0/8"}, tune: func(a, b *mesh.Service) {
			a.Addresses, b.Addresses = []netip.Prefix{ten}, []netip.Prefix{ten}
		}},
		{name: "one address", older: mesh.TCP, newer: mesh.TCP, severity: api.Error, within: []string{"192.0.2.1/32"}, tune: func(a, b *mesh.Service) {
			a.Addresses, b.Addresses = []netip.Prefix{one}, []netip.Prefix{one}
		}},
		{name: "one address, whatever beside bytes", older: mesh.TCP, newer: mesh.Unset, severity: api.Error, within: []string{"192.0.2.1/32"}, tune: func(a, b *mesh.Service) {
			a.Addresses, b.Addresses = []netip.Prefix{one}, []netip.Prefix{one}
		}},
		{name: "one address, whatever twice", older: mesh.Unset, newer: mesh.Unset, severity: api.Warning, within: []string{"192.0.2.1/32"}, requests: true, tune: func(a, b *mesh.Service) {
			a.Addresses, b.Addresses = []netip.Prefix{one}, []netip.Prefix{one}
		}},
		{name: "several of both", older: mesh.TCP, newer: mesh.TCP, severity: api.Error, within: []string{"10.0.0.0/8", "192.0.2.1/32"}, tune: func(a, b *mesh.Service) {
			a.Addresses, b.Addresses = []netip.Prefix{ten, one}, []netip.Prefix{one, ten}
		}},
		{name: "requests after a server that speaks first", older: mesh.MySQL, newer: mesh.HTTP, severity: api.Error},
		{name: "requests with a virtual address after one", older: mesh.MySQL, newer: mesh.HTTP, severity: api.Error, tune: func(_, b *mesh.Service) {
			b.VIPs = []netip.Addr{vip}
		}},
		{name: "a server that speaks first after requests", older: mesh.HTTP, newer: mesh.Mongo, severity: api.Error},
		{name: "a virtual address", older: mesh.TCP, newer: mesh.TCP, not: true, tune: func(_, b *mesh.Service) { b.VIPs = []netip.Addr{vip} }},
		{name: "other addresses", older: mesh.TCP, newer: mesh.TCP, not: true, tune: func(a, b *mesh.Service) {
			a.Addresses, b.Addresses = []netip.Prefix{one}, []netip.Prefix{ten}
		}},
		{name: "requests beside bytes", older: mesh.TCP, newer: mesh.HTTP, not: true},
		{name: "server names beside bytes", older: mesh.TCP, newer: mesh.TLS, not: true},
		{name: "requests twice", older: mesh.HTTP, newer: mesh.HTTP, not: true},
		{name: "hosts of one object to wherever the caller chose", older: mesh.TCP, newer: mesh.TCP, not: true, tune: func(a, b *mesh.Service) {
			a.Resolution, b.Resolution, b.Source = mesh.None, mesh.None, a.Source
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			older, newer := service("older.example.com", tt.older, 5432), service("newer.example.com", tt.newer, 5432)
			newer.Created = older.Created.Add(time.Hour)
			if tt.tune != nil {
				tt.tune(older, newer)
			}
			tr, problems := New(View{Namespace: "default"}, services{older.Host: older, newer.Host: newer})
			if got := refusals(t, tr, "older.example.com"); got != nil {
				t.Errorf("the older is refused %v", got)
			}
			got := refusals(t, tr, "newer.example.com")
			if tt.not {
				if len(got)+len(problems) > 0 {
					t.Errorf("refused %v, problems %v; want none", got, problems)
				}
				return
			}
			want := []*fairleadpb.RefusedPort{{
				Port: 5432, Within: tt.within, RequestsPass: tt.requests, Holder: "older.example.com",
				Source: &fairleadpb.Source{Kind: "ServiceEntry", Namespace: "default", Name: "older.example.com"},
			}}
			if diff := cmp.Diff(want, got, protocmp.Transform()); diff != "" {
				t.Error(diff)
			}
			for _, x := range problems {
				if x.Severity != tt.severity || x.Object != newer.Source {
					t.Errorf("%s %s", x.Severity, x)
				}
			}
			if len(problems) == 0 {
				t.Error("no problem is told")
			}
		})
	}
}

// A name follows what happens to the port, though its own host did not change.
func TestARefusalGoesWithWhoHoldsThePort(t *testing.T) {
	older, newer := service("older.example.com", mesh.TCP, 5432), service("newer.example.com", mesh.TCP, 5432)
	newer.Created = older.Created.Add(time.Hour)
	src := services{newer.Host: newer}
	tr, problems := New(View{Namespace: "default"}, src)
	if got := refusals(t, tr, "newer.example.com"); got != nil || problems != nil {
		t.Fatalf("alone: refused %v, %v", got, problems)
	}
	src[older.Host] = older
	if _, problems = tr.Update(src, []hostname.Name{older.Host}); !api.HasError(problems) || len(refusals(t, tr, "newer.example.com")) != 1 {
		t.Fatalf("beside an older: problems %v", problems)
	}
	changed := *newer
	changed.Endpoints = []mesh.Endpoint{{Address: "elsewhere.example.com", Weight: 1}}
	src[newer.Host] = &changed
	if tr.Update(src, []hostname.Name{newer.Host}); len(refusals(t, tr, "newer.example.com")) != 1 {
		t.Error("a change of its own ended the refusal")
	}
	delete(src, older.Host)
	keys, _ := tr.Update(src, []hostname.Name{older.Host})
	if got := refusals(t, tr, "newer.example.com"); got != nil {
		t.Errorf("the port is free and refused: %v (%v)", got, keys)
	}
}

func TestTheAdviceIsWhatTheHostCanDo(t *testing.T) {
	for want, tune := range map[string]func(*mesh.Service){
		"take the label networking.istio.io/enable-autoallocate-ip off": func(s *mesh.Service) { s.NoVIP = true },
		"if spec.addresses is empty":                                    func(s *mesh.Service) { s.Addresses = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8")} },
		"captured on every port":                                        func(*mesh.Service) {},
		"or another port":                                               func(s *mesh.Service) { s.Resolution = mesh.None },
	} {
		older, newer := service("older.example.com", mesh.TCP, 5432), service("newer.example.com", mesh.TCP, 5432)
		newer.Created = older.Created.Add(time.Hour)
		tune(newer)
		older.Addresses = newer.Addresses
		_, problems := New(View{Namespace: "default"}, services{older.Host: older, newer.Host: newer})
		if len(problems) != 1 || !strings.Contains(problems[0].Message, want) {
			t.Errorf("%v, want %q", problems, want)
		}
	}
}
