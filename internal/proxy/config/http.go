package config

// An HTTPVersion is what is spoken with the endpoints of a cluster. The
// zero value is HTTP/1.1, whatever the caller speaks: Istio's default.
type HTTPVersion uint8

// The versions.
const (
	HTTP1    HTTPVersion = iota
	HTTP2                // without asking: in cleartext by prior knowledge
	AsCaller             // what the request came in
)

// Headers are what is added to messages or changed in them, because somebody
// asked for it. Those of requests are for clusters in the mesh alone.
type Headers struct {
	Server        string // of answers, whatever the endpoint says; empty: as that says
	RequestID     bool   // x-request-id, where there is none
	ForwardedPort bool   // x-forwarded-port, where there is none
	Debug         bool   // x-envoy-upstream-service-time of answers, x-envoy-expected-rq-timeout-ms of requests
	LowerCase     bool   // names of fields go out in lower case, in both directions
}
