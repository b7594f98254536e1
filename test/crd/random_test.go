package crd

import (
	"bytes"
	"encoding/json"
	"math/rand/v2"
	"strings"
	"testing"
)

// TestRandomObjectsPassIstiosCRDs builds objects of values that are right, wrong
// and just at the edge: whatever is sound must be accepted and kept whole.
func TestRandomObjectsPassIstiosCRDs(t *testing.T) {
	s := newServer(t)
	r := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same objects each time
	sound := map[string]int{}
	kinds := []string{"ServiceEntry", "WorkloadEntry", "WorkloadGroup", "Sidecar", "VirtualService", "DestinationRule", "PeerAuthentication"}
	for range 4000 {
		kind := pick(r, append(kinds, "ServiceEntry", "VirtualService", "DestinationRule")...)
		version := pick(r, "networking.istio.io/v1", "networking.istio.io/v1beta1", "networking.istio.io/v1alpha3")
		if kind == "PeerAuthentication" {
			version = pick(r, "security.istio.io/v1", "security.istio.io/v1beta1")
		}
		object := fields{
			"apiVersion": version,
			"kind":       kind,
			"metadata":   fields{"name": "a"}.maybe(r, 10, "labels", randomLabels(r)).maybe(r, 10, "namespace", pick(r, "b", "")),
			"spec":       randomSpec(r, kind),
		}
		text := object.json(t)
		for _, v := range s.compare(t, file{string(text), text}) {
			if v.sound {
				sound[kind]++
				v.mustAgree(t)
			}
		}
	}
	for _, kind := range kinds {
		if sound[kind] < 20 {
			t.Errorf("of kind %s only %d objects were sound: they show little", kind, sound[kind])
		}
		t.Logf("%d sound objects of kind %s", sound[kind], kind)
	}
}

// fields is an object as it is drawn.
type fields map[string]any

// often sets a field, but for one time in rarity.
func (f fields) often(r *rand.Rand, rarity int, name string, value any) fields {
	if r.IntN(rarity) > 0 {
		f[name] = value
	}
	return f
}

// maybe sets a field one time in rarity.
func (f fields) maybe(r *rand.Rand, rarity int, name string, value any) fields {
	if r.IntN(rarity) == 0 {
		f[name] = value
	}
	return f
}

func (f fields) json(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	if err := json.NewEncoder(&b).Encode(f); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// pick draws one of several values; the more often one is listed, the likelier.
func pick[T any](r *rand.Rand, from ...T) T { return from[r.IntN(len(from))] }

// some draws a list.
func some(r *rand.Rand, most int, draw func() any) []any {
	list := []any{}
	for range r.IntN(most + 1) {
		list = append(list, draw())
	}
	return list
}

func randomSpec(r *rand.Rand, kind string) fields {
	switch kind {
	case "WorkloadEntry":
		return randomWorkload(r)
	case "WorkloadGroup":
		return fields{}.often(r, 20, "template", randomWorkload(r)).
			maybe(r, 3, "metadata", fields{"labels": randomLabels(r), "annotations": fields{"x": "any thing"}}).
			maybe(r, 2, "probe", randomProbe(r))
	case "Sidecar":
		return randomSidecar(r)
	case "VirtualService":
		return randomVirtualService(r)
	case "DestinationRule":
		return randomDestinationRule(r)
	case "PeerAuthentication":
		return randomPeerAuthentication(r)
	}
	return fields{}.
		often(r, 30, "hosts", some(r, 2, func() any {
			return pick(r, "a.example", "b.example", "c.example", "*.d.example", "*e.example", "*", "", "Upper.example", strings.Repeat("a.", 130)+"a")
		})).
		often(r, 10, "ports", some(r, 2, func() any {
			return fields{}.
				often(r, 30, "number", pick(r, 80, 443, 90, 65535, 0, 65536)).
				often(r, 30, "name", pick(r, "a", "b", "c", "A", "", "a-1")).
				often(r, 5, "protocol", pick(r, "HTTP", "HTTPS", "TLS", "TCP", "UDP", "grpc", "", "other", "Mongo")).
				maybe(r, 6, "targetPort", pick(r, 0, 1, 65535, 65536))
		})).
		maybe(r, 3, "addresses", some(r, 2, func() any {
			return pick(r, "192.0.2.1", "192.0.2.0/24", "192.0.2.1/32", "2001:db8::/64", "::ffff:192.0.2.1", "no", "")
		})).
		often(r, 5, "resolution", pick(r, "NONE", "STATIC", "DNS", "DNS_ROUND_ROBIN", "DYNAMIC_DNS", "none")).
		maybe(r, 3, "endpoints", some(r, 2, func() any { return randomWorkload(r) })).
		maybe(r, 6, "workloadSelector", fields{}.often(r, 5, "labels", randomLabels(r))).
		maybe(r, 6, "location", pick(r, "MESH_INTERNAL", "MESH_EXTERNAL", "")).
		maybe(r, 6, "exportTo", some(r, 2, func() any { return pick(r, ".", "*", "~", "b", "default", "B_") })).
		maybe(r, 6, "subjectAltNames", some(r, 2, func() any { return pick(r, "a", "") }))
}

func randomLabels(r *rand.Rand) fields {
	f := fields{}
	for range r.IntN(3) {
		f[pick(r, "a", "example.com/b", "c d", "", "e", strings.Repeat("f", 64))] = pick(r, "x", "", "*", "a b", strings.Repeat("y", 63), strings.Repeat("y", 64))
	}
	return f
}

func randomWorkload(r *rand.Rand) fields {
	return fields{}.
		often(r, 10, "address", pick(r, "192.0.2.1", "2001:db8::1", "a.example", "unix:///run/a", "unix://@a", "unix:///run/", "unix://a", "unix:a", "UNIX:///a", "", "a.example.", strings.Repeat("a.", 126)+"a", "unix:///"+strings.Repeat("a", 100))).
		maybe(r, 4, "ports", fields{}.maybe(r, 2, pick(r, "a", "b", "Http", "x_y", "", strings.Repeat("a", 62), strings.Repeat("a", 63)), pick(r, 80, 0, 65535, 65536))).
		maybe(r, 4, "labels", randomLabels(r)).
		maybe(r, 6, "network", pick(r, "n", "", strings.Repeat("n", 2048), strings.Repeat("n", 2049), strings.Repeat("ü", 2048))).
		maybe(r, 6, "locality", pick(r, "r/z/s", "")).
		maybe(r, 6, "weight", pick[any](r, 0, 1, -1, uint32(1<<32-1), uint64(1<<32))).
		maybe(r, 6, "serviceAccount", pick(r, "s", strings.Repeat("s", 254)))
}

func randomProbe(r *rand.Rand) fields {
	f := fields{}.maybe(r, 4, "periodSeconds", pick(r, 0, 1, -1)).maybe(r, 4, "failureThreshold", pick[any](r, 3, uint32(1<<31-1), uint32(1<<31)))
	port := pick(r, 80, 0, 65535, 65536)
	switch r.IntN(6) {
	case 0:
		f["httpGet"] = fields{}.often(r, 5, "port", port).maybe(r, 2, "scheme", pick(r, "HTTP", "https", "")).
			maybe(r, 2, "httpHeaders", some(r, 2, func() any { return fields{}.often(r, 5, "name", pick(r, "X-A", "x_b", "a b", "")) }))
	case 1:
		f["tcpSocket"] = fields{}.often(r, 5, "port", port)
	case 2:
		f["exec"] = fields{}.often(r, 5, "command", some(r, 2, func() any { return pick(r, "ls", "") }))
	case 3:
		f["grpc"] = fields{}.often(r, 5, "port", port).maybe(r, 2, "service", "s")
	case 4:
		f["tcpSocket"], f["grpc"] = fields{"port": port}, fields{}
	}
	return f
}

func randomSidecar(r *rand.Rand) fields {
	port := func() fields {
		return fields{}.often(r, 5, "number", pick(r, 80, 443, 0, 65536)).often(r, 5, "protocol", pick(r, "HTTP", "HTTPS", "TCP", "other")).often(r, 5, "name", "p")
	}
	pool := func() fields {
		duration := func() string { return pick(r, "1s", "0s", "0.5ms", "1m30s", "-1s", "1ms", "soon") }
		return fields{}.
			maybe(r, 2, "tcp", fields{}.maybe(r, 2, "connectTimeout", duration()).maybe(r, 2, "idleTimeout", duration()).maybe(r, 2, "maxConnections", pick(r, 1, -1))).
			maybe(r, 2, "http", fields{}.maybe(r, 2, "idleTimeout", duration()).maybe(r, 2, "h2UpgradePolicy", pick(r, "UPGRADE", "other")))
	}
	return fields{}.
		often(r, 3, "egress", some(r, 2, func() any {
			return fields{}.often(r, 20, "hosts", some(r, 2, func() any { return pick(r, "./*", "*/a.example", "~/*", "~b/*", "a.example", "b/") })).
				maybe(r, 5, "port", port()).maybe(r, 6, "bind", pick(r, "127.0.0.1", "unix:///a", "x")).maybe(r, 6, "captureMode", pick(r, "NONE", "DEFAULT", "other"))
		})).
		maybe(r, 3, "ingress", some(r, 2, func() any {
			return fields{}.often(r, 10, "port", port()).maybe(r, 3, "defaultEndpoint", pick(r, "127.0.0.1:80", "x")).
				maybe(r, 4, "connectionPool", pool()).
				maybe(r, 4, "tls", fields{}.often(r, 5, "mode", pick(r, "SIMPLE", "MUTUAL", "other")).
					maybe(r, 4, "credentialName", "a").
					maybe(r, 4, "credentialNames", some(r, 3, func() any { return "a" })).
					maybe(r, 4, "tlsCertificates", some(r, 3, func() any { return fields{"caCertificates": "a"} })))
		})).
		maybe(r, 3, "inboundConnectionPool", pool()).
		maybe(r, 3, "workloadSelector", fields{"labels": randomLabels(r)}).
		maybe(r, 3, "outboundTrafficPolicy", fields{}.often(r, 5, "mode", pick(r, "ALLOW_ANY", "REGISTRY_ONLY", "ALLOW_ANY_DYNAMIC_DNS")).
			maybe(r, 3, "egressProxy", fields{}.often(r, 4, "host", "a.example").often(r, 4, "port", fields{"number": pick(r, 80, 0)})))
}
