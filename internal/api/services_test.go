package api

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/mesh"
)

func TestServices(t *testing.T) {
	o := one(t, `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [DB.Example., "*.db.example"]
  addresses: [192.0.2.1, "::ffff:192.0.2.2/128", 2001:db8::/64]
  ports:
  - {number: 443, name: tls, protocol: tls, targetPort: 8443}
  - {number: 80, name: http, protocol: http}
  resolution: STATIC
  endpoints:
  - {address: 192.0.2.7, ports: {http: 8080}, labels: {v: one}}
  - {address: "::FFFF:192.0.2.8", weight: 3}
  exportTo: ["."]
`)
	common := mesh.Service{
		Namespace: "default",
		Addresses: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32"), netip.MustParsePrefix("192.0.2.2/32"), netip.MustParsePrefix("2001:db8::/64")},
		Ports: []mesh.Port{
			{Name: "tls", Number: 443, Protocol: mesh.TLS, TargetPort: 8443},
			{Name: "http", Number: 80, Protocol: mesh.HTTP},
		},
		Resolution: mesh.Static,
		Endpoints: []mesh.Endpoint{
			{Address: "192.0.2.7", Ports: map[string]uint16{"http": 8080}, Labels: map[string]string{"v": "one"}, Weight: 1},
			{Address: "192.0.2.8", Weight: 3},
		},
		ExportTo: []string{"."},
		Source:   o.Source,
	}
	first, second := common, common
	first.Host, second.Host = "db.example", "*.db.example"
	equalPrefix := cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })
	if diff := cmp.Diff([]*mesh.Service{&first, &second}, Services(o), equalPrefix); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

func TestAnAddressListedTwiceIsOne(t *testing.T) {
	objects, _ := Read("a.yaml", []byte(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: db}
spec:
  hosts: [db.example]
  addresses: ["2001:DB8::0:9", 10.1.2.3/32, "2001:db8::9", "::ffff:10.1.2.3", 10.9.0.0/8, 10.0.0.0/8, "::ffff:10.0.0.0/104"]
  ports: [{number: 5432, name: tcp, protocol: TCP}]
  resolution: NONE
`), "default")
	var got []string
	for _, a := range Services(objects[0])[0].Addresses {
		got = append(got, a.String())
	}
	if diff := cmp.Diff([]string{"2001:db8::9/128", "10.1.2.3/32", "10.0.0.0/8"}, got); diff != "" {
		t.Error(diff)
	}
}

func TestADNSEntryWithoutEndpointsResolvesItsHosts(t *testing.T) {
	o := one(t, entry)
	services := Services(o)
	want := []mesh.Endpoint{{Address: "www.baidu.com", Weight: 1}}
	if len(services) != 1 || !cmp.Equal(services[0].Endpoints, want) {
		t.Errorf("got %+v, want endpoints %+v", services, want)
	}
}

func TestFieldsOfAHostAndAPort(t *testing.T) {
	o := one(t, entry)
	if got := HostField(o, "www.baidu.com"); got != "spec.hosts[0]" {
		t.Error(got)
	}
	if got := HostField(o, "other"); got != "spec.hosts" {
		t.Error(got)
	}
	if got := PortField(o, 80); got != "spec.ports[0]" {
		t.Error(got)
	}
	if got := PortField(o, 81); got != "spec.ports" {
		t.Error(got)
	}
}
