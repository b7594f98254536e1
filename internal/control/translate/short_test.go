package translate

import (
	"slices"
	"strings"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// TestAShortNameIsAHostsWhileItIsThere has an entry for the short name of a
// Service of Kubernetes come and go: no two hosts have one domain, and the
// Service has its name back.
func TestAShortNameIsAHostsWhileItIsThere(t *testing.T) {
	const service, short = hostname.Name("web.shop.svc.cluster.local"), hostname.Name("web")
	of := func(host hostname.Name, protocol mesh.Protocol) *mesh.Service {
		return &mesh.Service{Host: host, Namespace: "shop", Resolution: mesh.Static, Ports: []mesh.Port{{Name: "p", Number: 80, Protocol: protocol}}}
	}
	src := services{service: of(service, mesh.HTTP)}
	tr, _ := New(View{Namespace: "shop"}, src)
	domains := func(h hostname.Name) string {
		p := tr.ports[80]
		all := p.domains(p.claims[h])
		slices.Sort(all)
		return strings.Join(all, " ")
	}
	const alone = "web web.shop web.shop.svc web.shop.svc.cluster.local"
	steps := []struct {
		what, want string
		entry      *mesh.Service
	}{
		{"an entry comes", "web.shop web.shop.svc web.shop.svc.cluster.local", of(short, mesh.HTTP)},
		{"it speaks TLS, which has no Host", alone, of(short, mesh.TLS)},
		{"it is sniffed", "web.shop web.shop.svc web.shop.svc.cluster.local", of(short, mesh.Unset)},
		{"it goes", alone, nil},
	}
	if got := domains(service); got != alone {
		t.Fatalf("alone: %q", got)
	}
	for _, s := range steps {
		if s.entry == nil {
			delete(src, short)
		} else {
			src[short] = s.entry
		}
		keys, _ := tr.Update(src, []hostname.Name{short})
		if got := domains(service); got != s.want {
			t.Errorf("%s: the Service has %q, want %q", s.what, got, s.want)
		}
		if !slices.ContainsFunc(keys, func(k Key) bool { return strings.HasSuffix(k.Name, string(service)) }) {
			t.Errorf("%s: the Service's virtual host is not sent", s.what)
		}
	}
	elsewhere, _ := New(View{Namespace: "other"}, src)
	p := elsewhere.ports[80]
	if got := p.domains(p.claims[service]); slices.Contains(got, "web") {
		t.Errorf("elsewhere it has %q", got)
	}
}

// TestANameSaysWhatRefusalsAndDNSNeed has the ports that are declared, those that
// a Sidecar withholds, and the short names that routes have.
func TestANameSaysWhatRefusalsAndDNSNeed(t *testing.T) {
	const host = hostname.Name("web.shop.svc.cluster.local")
	sidecar := mesh.Ref{Kind: "Sidecar", Namespace: "shop", Name: "narrow"}
	s := &mesh.Service{
		Host: host, Namespace: "shop", Resolution: mesh.Static, Ports: []mesh.Port{{Name: "p", Number: 80, Protocol: mesh.HTTP}},
		Withheld: []mesh.Port{{Name: "q", Number: 5432, Protocol: mesh.TCP}}, WithheldBy: sidecar,
	}
	name := func(namespace string) *fairleadpb.Name {
		tr, _ := New(View{Namespace: namespace}, services{host: s})
		n := &fairleadpb.Name{}
		if err := proto.Unmarshal(tr.Set().Get(Key{xds.NameType, string(host)}).Body.GetValue(), n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	n := name("shop")
	if p := n.GetPorts(); len(p) != 2 || p[0].GetNumber() != 80 || p[0].GetProtocol() != "HTTP" || p[0].GetWithheld() || p[1].GetNumber() != 5432 || !p[1].GetWithheld() {
		t.Errorf("ports %v", p)
	}
	if n.GetNarrowedBy().GetName() != sidecar.Name {
		t.Errorf("narrowed by %v", n.GetNarrowedBy())
	}
	if got := strings.Join(n.GetShortNames(), " "); got != "web.shop.svc web.shop web" {
		t.Errorf("short names %q", got)
	}
	if got := strings.Join(name("other").GetShortNames(), " "); got != "web.shop.svc web.shop" {
		t.Errorf("elsewhere short names %q", got)
	}
	for i := range uint16(mostPorts) {
		s.Ports = append(s.Ports, mesh.Port{Number: 1000 + i})
	}
	if p := name("shop").GetPorts(); len(p) != 0 {
		t.Errorf("of very many ports %d are told", len(p))
	}
}
