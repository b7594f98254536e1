package netns

import "strings"

// The two states of the story's entry.
const (
	dnsEntry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: svc-entry
spec:
  hosts:
  - www.baidu.com
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  location: MESH_EXTERNAL
  resolution: DNS
`
	staticEntry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata:
  name: svc-entry
spec:
  hosts:
  - www.baidu.com
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
  location: MESH_EXTERNAL
  resolution: STATIC
  endpoints:
  - address: 192.168.0.100
`
)

// entry writes a ServiceEntry: ports as "number name protocol", and further
// lines of the spec.
func entry(name, host, port string, more ...string) string {
	p := strings.Fields(port)
	lines := []string{
		"apiVersion: networking.istio.io/v1",
		"kind: ServiceEntry",
		"metadata: {name: " + name + "}",
		"spec:",
		"  hosts: ['" + host + "']",
		"  location: MESH_EXTERNAL",
	}
	target := ""
	if len(p) > 3 {
		target = ", targetPort: " + p[3]
	}
	lines = append(lines, "  ports: [{number: "+p[0]+", name: "+p[1]+", protocol: "+p[2]+target+"}]")
	for _, m := range more {
		lines = append(lines, "  "+m)
	}
	return strings.Join(lines, "\n") + "\n"
}
