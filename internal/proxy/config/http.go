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
