package api

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
)

// TestTheProtocolOfAServicePort has the rules that are for Services only.
func TestTheProtocolOfAServicePort(t *testing.T) {
	for _, c := range []struct {
		port KubePort
		want mesh.Protocol
	}{
		{KubePort{Name: "http", Number: 8000}, mesh.HTTP},
		{KubePort{Name: "http-web", Number: 8000}, mesh.HTTP},
		{KubePort{Name: "httpweb", Number: 8000}, mesh.Unset},
		{KubePort{Name: "HTTP2-x", Number: 8000}, mesh.HTTP2},
		{KubePort{Name: "grpc", Number: 8000}, mesh.GRPC},
		{KubePort{Name: "grpc-web", Number: 8000}, mesh.GRPCWeb},
		{KubePort{Name: "grpc-web-x", Number: 8000}, mesh.GRPCWeb},
		{KubePort{Name: "grpc-x", Number: 8000}, mesh.GRPC},
		{KubePort{Name: "https", Number: 443}, mesh.HTTPS},
		{KubePort{Name: "tls-x", Number: 443}, mesh.TLS},
		{KubePort{Name: "tcp", Number: 80}, mesh.TCP},
		{KubePort{Name: "mysql", Number: 80}, mesh.MySQL},
		{KubePort{Name: "", Number: 443}, mesh.Unset},
		{KubePort{Name: "metrics", Number: 9090}, mesh.Unset},
		{KubePort{Name: "", Number: 25}, mesh.TCP},
		{KubePort{Name: "dns", Number: 53}, mesh.TCP},
		{KubePort{Name: "db", Number: 3306}, mesh.TCP},
		{KubePort{Name: "db", Number: 27017}, mesh.TCP},
		{KubePort{Name: "http", Number: 3306}, mesh.HTTP},
		{KubePort{Name: "tcp", Number: 8000, AppProtocol: "http"}, mesh.HTTP},
		{KubePort{Name: "http", Number: 8000, AppProtocol: "example.com/odd"}, mesh.Unset},
		{KubePort{Name: "http", Number: 8000, AppProtocol: "kubernetes.io/h2c"}, mesh.HTTP2},
		{KubePort{Name: "tcp", Number: 8000, AppProtocol: "kubernetes.io/ws"}, mesh.HTTP},
		{KubePort{Name: "tcp", Number: 8000, AppProtocol: "kubernetes.io/wss"}, mesh.HTTPS},
	} {
		if got := c.port.protocol(); got != c.want {
			t.Errorf("%+v speaks %q, want %q", c.port, got, c.want)
		}
	}
}

func kubeObjects(t *testing.T, text string) []*Object {
	t.Helper()
	all, problems := Read("a.yaml", []byte(text), "default")
	if HasError(problems) {
		t.Fatal(problems)
	}
	return all
}

func TestWhatAServiceDeclares(t *testing.T) {
	type service = mesh.Service
	prefixes := func(all ...string) (out []netip.Prefix) {
		for _, a := range all {
			out = append(out, netip.MustParsePrefix(a))
		}
		return out
	}
	web := []mesh.Port{{Name: "http", Number: 80, Protocol: mesh.HTTP, TargetPort: 8080}}
	for name, c := range map[string]struct {
		spec string
		want service
	}{
		"an address":   {"clusterIP: 10.96.0.1, ports: [{name: http, port: 80, targetPort: 8080}]", service{Addresses: prefixes("10.96.0.1/32"), Ports: web, Resolution: mesh.Static}},
		"two families": {`clusterIP: 10.96.0.1, clusterIPs: [10.96.0.1, "fd00::1"], ports: [{name: http, port: 80, targetPort: 8080}]`, service{Addresses: prefixes("10.96.0.1/32", "fd00::1/128"), Ports: web, Resolution: mesh.Static}},
		"none yet":     {"ports: [{name: http, port: 80, targetPort: 8080}], selector: {app: x}", service{Ports: web, Resolution: mesh.Static, Selector: map[string]string{"app": "x"}}},
		"headless":     {"clusterIP: None, ports: [{port: 80, targetPort: web}]", service{Ports: []mesh.Port{{Number: 80}}, Resolution: mesh.Static, NoVIP: true}},
		"no ports":     {"clusterIP: None", service{Resolution: mesh.Static, NoVIP: true}},
		"UDP is not":   {"ports: [{name: a, port: 53, protocol: UDP}, {name: b, port: 53}, {name: c, port: 9, protocol: SCTP}]", service{Ports: []mesh.Port{{Name: "b", Number: 53, Protocol: mesh.TCP}}, Resolution: mesh.Static}},
		"another name": {"type: ExternalName, externalName: X.Example., selector: {app: x}, ports: [{name: http, port: 80, targetPort: 8080}]", service{Ports: web, Resolution: mesh.DNS, Endpoints: []mesh.Endpoint{{Address: "x.example", Weight: 1}}}},
	} {
		t.Run(name, func(t *testing.T) {
			o := kubeObjects(t, "apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop, creationTimestamp: \"2026-01-01T00:00:00Z\", annotations: {networking.istio.io/exportTo: \"., b\"}}\nspec: {"+c.spec+"}\n")[0]
			want := c.want
			want.Host, want.Namespace, want.Location, want.Source, want.Created = "web.shop.svc.cluster.local", "shop", mesh.Internal, o.Source, o.Created
			want.ExportTo = []string{".", "b"}
			got := Services(o)
			if diff := cmp.Diff([]*service{&want}, got, cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestTheEndpointsOfASlice(t *testing.T) {
	o := kubeObjects(t, `apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-abc, labels: {kubernetes.io/service-name: web}}
addressType: IPv6
endpoints:
- {addresses: ["FD00::1", "fd00::2"]}
- {addresses: ["fd00::3"], conditions: {ready: false, serving: true, terminating: true}, zone: z, nodeName: n1}
ports:
- {name: http, port: 8080}
- {name: same}
- {name: dns, port: 53, protocol: UDP}
`)[0]
	http, same, dns := mesh.Port{Name: "http", Number: 80}, mesh.Port{Name: "same", Number: 81}, mesh.Port{Name: "dns", Number: 53}
	at := func(address string, serves []uint16, ports map[string]uint16) mesh.Endpoint {
		return mesh.Endpoint{Address: address, Weight: 1, Serves: serves, Ports: ports}
	}
	both, one := map[string]uint16{"http": 8080, "same": 81}, map[string]uint16{"http": 8080}
	for name, c := range map[string]struct {
		service KubeService
		ports   []mesh.Port
		want    []mesh.Endpoint
	}{
		"all ports":          {KubeService{}, []mesh.Port{http, same}, []mesh.Endpoint{at("fd00::1", nil, both), at("fd00::2", nil, both)}},
		"some ports":         {KubeService{}, []mesh.Port{http, dns}, []mesh.Endpoint{at("fd00::1", []uint16{80}, one), at("fd00::2", []uint16{80}, one)}},
		"no port":            {KubeService{}, []mesh.Port{dns}, nil},
		"those not ready to": {KubeService{PublishNotReadyAddresses: true}, []mesh.Port{http}, []mesh.Endpoint{at("fd00::1", nil, one), at("fd00::2", nil, one), at("fd00::3", nil, one)}},
	} {
		if diff := cmp.Diff(c.want, SliceEndpoints(o, &c.service, c.ports)); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
	if host, ok := SliceHost(o); host != "web.default.svc.cluster.local" || !ok {
		t.Errorf("it belongs to %q", host)
	}
}

func TestObjectsOfKubernetesAreCompared(t *testing.T) {
	const text = "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: %}]}\n"
	a, b := kubeObjects(t, text[:len(text)-5]+"80}]}\n")[0], kubeObjects(t, "\n"+text[:len(text)-5]+"80}]}\n")[0]
	c := kubeObjects(t, text[:len(text)-5]+"81}]}\n")[0]
	if !a.Equal(b) || a.Equal(c) || a.SamePlace(b) {
		t.Errorf("equal: %v %v, same place: %v", a.Equal(b), a.Equal(c), a.SamePlace(b))
	}
}

func TestTheShortNamesOfAService(t *testing.T) {
	for _, c := range []struct {
		host, callers string
		want          []string
	}{
		{"web.shop.svc.cluster.local", "shop", []string{"web.shop.svc", "web.shop", "web"}},
		{"web.shop.svc.cluster.local", "other", []string{"web.shop.svc", "web.shop"}},
		{"web.example.com", "example", nil},
		{"shop.svc.cluster.local", "shop", nil},
		{"a.web.shop.svc.cluster.local", "shop", nil},
		{"*.shop.svc.cluster.local", "shop", nil},
		{".shop.svc.cluster.local", "shop", nil},
	} {
		if diff := cmp.Diff(c.want, ShortNames(hostname.Name(c.host), c.callers)); diff != "" {
			t.Errorf("%s in %s (-want +got):\n%s", c.host, c.callers, diff)
		}
	}
}
