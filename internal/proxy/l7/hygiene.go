package l7

import (
	"bytes"

	"github.com/fairlead/fairlead/internal/proxy/h1"
)

// private are the request headers that steer a proxy of the mesh. They are not
// sent on, and do not steer this one: Istio's sidecars heed them from internal
// callers alone, and count none as internal unless told which.
var private = [...]string{
	"x-envoy-retriable-status-codes", "x-envoy-retriable-header-names", "x-envoy-retry-on", "x-envoy-retry-grpc-on",
	"x-envoy-max-retries", "x-envoy-upstream-alt-stat-name", "x-envoy-upstream-rq-timeout-ms",
	"x-envoy-upstream-rq-per-try-timeout-ms", "x-envoy-upstream-rq-timeout-alt-response", "x-envoy-expected-rq-timeout-ms",
	"x-envoy-force-trace", "x-envoy-ip-tags", "x-envoy-original-url", "x-envoy-hedge-on-per-try-timeout", "x-envoy-internal",
}

// dropPrivate keeps what steers the mesh inside it. All else that the caller
// set passes unchanged, whatever it is called.
func (x *exchange) dropPrivate() {
	if !x.req.Has(h1.Envoy) {
		return
	}
	for i := range x.req.N() {
		f := x.req.Field(i)
		if f.Kind != h1.Envoy {
			continue
		}
		name := f.Name.In(x.in)
		for _, p := range private {
			if len(p) == len(name) && bytes.EqualFold(name, []byte(p)) {
				x.req.Drop(i)
			}
		}
	}
}
