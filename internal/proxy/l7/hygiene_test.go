package l7

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// What the mesh knows headers of (migration.md, HTTP). Towards an endpoint in
// the mesh and outside of it the same holds: nothing is added, what the caller
// set passes unchanged, and what steers a proxy stays here.
func TestHeadersOfTheMesh(t *testing.T) {
	passes := []string{
		"x-request-id", "x-forwarded-proto", "x-forwarded-for", "x-forwarded-host", "x-forwarded-port", "x-forwarded-client-cert",
		"x-envoy-attempt-count", "x-envoy-decorator-operation", "x-envoy-peer-metadata", "x-envoy-peer-metadata-id",
		"x-envoy-original-path", "x-envoy-original-host", "x-envoy-external-address", "x-envoy-anything", "x-envoy-",
		"traceparent", "tracestate", "baggage", "b3", "x-b3-traceid", "cookie", "authorization", "via", "forwarded", "referer", "server",
	}
	stays := []string{
		"x-envoy-upstream-rq-timeout-ms", "x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response",
		"x-envoy-expected-rq-timeout-ms", "x-envoy-max-retries", "x-envoy-retry-on", "x-envoy-retry-grpc-on",
		"x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-upstream-alt-stat-name", "x-envoy-force-trace",
		"x-envoy-ip-tags", "x-envoy-original-url", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal", "X-Envoy-Max-Retries",
	}
	type row struct {
		name   string
		passes bool
	}
	var rows []row
	for _, n := range passes {
		rows = append(rows, row{n, true}, row{strings.ToUpper(n), true})
	}
	for _, n := range stays {
		rows = append(rows, row{n, false})
	}
	for _, host := range []string{"api.external.example", "svc.default.svc.cluster.local"} {
		bare := "GET / HTTP/1.1\r\nHost: " + host + "\r\n\r\n"
		script := func(c *client) {
			c.hear(bare) // nothing is added
			c.say(ok)
			for _, row := range rows {
				want := bare
				if row.passes {
					want = set(bare, row.name)
				}
				c.hear(want)
				c.say("HTTP/1.1 200 OK\r\n" + row.name + ": 1, 2\r\nContent-Length: 0\r\n\r\n")
			}
		}
		r := newRig(t, entry{host: host, endpoints: []netip.AddrPort{newEndpoint(t, script).addr}, change: func(rt *config.Route) { rt.Retry = config.Retry{} }})
		c := r.dial()
		c.say(bare)
		c.hear(ok)
		for _, row := range rows {
			c.say(set(bare, row.name))
			// Of an answer all passes: it is the endpoint's word.
			c.hear("HTTP/1.1 200 OK\r\n" + row.name + ": 1, 2\r\nContent-Length: 0\r\n\r\n")
		}
	}
}

// set adds a field to a head.
func set(head, name string) string {
	return strings.TrimSuffix(head, "\r\n") + name + ": 1, 2\r\n\r\n"
}

// The family steers nothing here, as in a sidecar of Istio.
func TestACallerCannotSteerRetriesAndTimeouts(t *testing.T) {
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{closedPort(t)}, change: func(rt *config.Route) { rt.Retry = config.Retry{} }})
	c := r.dial()
	c.say("GET / HTTP/1.1\r\nHost: x.example\r\nx-envoy-retry-on: connect-failure\r\nx-envoy-max-retries: 5\r\nx-envoy-upstream-rq-timeout-ms: 1\r\n\r\n")
	if res, body := c.answer("GET"); res.StatusCode != 503 {
		t.Error(res.StatusCode, body)
	}
	if rec := r.record(); rec.Tries != 1 {
		t.Errorf("%d tries", rec.Tries)
	}
}
