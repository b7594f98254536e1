package mesh

import "testing"

func TestPortFor(t *testing.T) {
	plain, target := Port{Name: "http", Number: 80}, Port{Name: "http", Number: 80, TargetPort: 8080}
	for name, c := range map[string]struct {
		endpoint Endpoint
		port     Port
		want     uint16
		ok       bool
	}{
		"the number":                 {Endpoint{Address: "192.0.2.1"}, plain, 80, true},
		"the target beats it":        {Endpoint{Address: "192.0.2.1"}, target, 8080, true},
		"the endpoint beats both":    {Endpoint{Address: "192.0.2.1", Ports: map[string]uint16{"http": 9}}, target, 9, true},
		"another name is no matter":  {Endpoint{Address: "192.0.2.1", Ports: map[string]uint16{"https": 9}}, target, 8080, true},
		"a socket has none":          {Endpoint{Address: "unix:///run/a"}, target, 0, true},
		"served":                     {Endpoint{Address: "192.0.2.1", Serves: []uint16{443, 80}}, plain, 80, true},
		"not served":                 {Endpoint{Address: "192.0.2.1", Serves: []uint16{443}}, plain, 0, false},
		"serving nothing is no zero": {Endpoint{Address: "192.0.2.1", Serves: []uint16{}}, plain, 0, false},
	} {
		if got, ok := c.endpoint.PortFor(c.port); got != c.want || ok != c.ok {
			t.Errorf("%s: got %d, %v; want %d, %v", name, got, ok, c.want, c.ok)
		}
	}
}

func TestProtocolsAreReadInAnyCase(t *testing.T) {
	for text, want := range map[string]Protocol{"": Unset, "http": HTTP, "HTTP": HTTP, "grpc-web": GRPCWeb, "GRPC-Web": GRPCWeb, "MONGO": Mongo, "mysql": MySQL, "http_proxy": HTTPProxy, "Tls": TLS} {
		if got, ok := ParseProtocol(text); got != want || !ok {
			t.Errorf("%q: got %v, %v", text, got, ok)
		}
	}
	if _, ok := ParseProtocol("htpp"); ok {
		t.Error("htpp is a protocol")
	}
}
