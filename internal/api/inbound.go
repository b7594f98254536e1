package api

import (
	"strings"

	"google.golang.org/protobuf/types/known/durationpb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/mesh"
)

// sidecarInbound checks what a Sidecar says of traffic to the workload, which is
// not acted on, and where undeclared traffic is to go.
func (v *validator) sidecarInbound(s *networking.Sidecar) {
	v.connectionPool("spec.inboundConnectionPool", s.InboundConnectionPool)
	for i, l := range s.Ingress {
		field := index("spec.ingress", i)
		v.connectionPool(field+".connectionPool", l.ConnectionPool)
		v.ingressTLS(field, l)
	}
	if p := s.OutboundTrafficPolicy.GetEgressProxy(); p != nil {
		const field = "spec.outboundTrafficPolicy.egressProxy.port"
		if n := p.GetPort().GetNumber(); n == 0 {
			v.err(field, "the proxy has no port; give it one")
		} else if n > 65535 {
			v.err(field+".number", "%d is no port; use 1 to 65535", n)
		}
	}
}

func (v *validator) connectionPool(field string, p *networking.ConnectionPoolSettings) {
	if p == nil {
		return
	}
	if p.Http == nil && p.Tcp == nil {
		v.err(field, "says nothing; give it tcp or http settings")
	}
	if t := p.Tcp; t != nil {
		field := field + ".tcp"
		v.notNegative(field+".maxConnections", t.MaxConnections)
		v.optionalDuration(field+".connectTimeout", t.ConnectTimeout)
		v.optionalDuration(field+".maxConnectionDuration", t.MaxConnectionDuration)
		if t.IdleTimeout.AsDuration() != 0 { // which is to wait without limit
			v.optionalDuration(field+".idleTimeout", t.IdleTimeout)
		}
		v.optionalDuration(field+".tcpKeepalive.time", t.TcpKeepalive.GetTime())
		v.optionalDuration(field+".tcpKeepalive.interval", t.TcpKeepalive.GetInterval())
	}
	if h := p.Http; h != nil {
		field := field + ".http"
		v.notNegative(field+".http1MaxPendingRequests", h.Http1MaxPendingRequests)
		v.notNegative(field+".http2MaxRequests", h.Http2MaxRequests)
		v.notNegative(field+".maxRequestsPerConnection", h.MaxRequestsPerConnection)
		v.notNegative(field+".maxRetries", h.MaxRetries)
		v.notNegative(field+".maxConcurrentStreams", h.MaxConcurrentStreams)
		v.optionalDuration(field+".idleTimeout", h.IdleTimeout)
		v.optionalDuration(field+".http2KeepAlive.interval", h.Http2KeepAlive.GetInterval())
		v.optionalDuration(field+".http2KeepAlive.timeout", h.Http2KeepAlive.GetTimeout())
		if h.UseClientProtocol && h.H2UpgradePolicy == networking.ConnectionPoolSettings_HTTPSettings_UPGRADE {
			v.err(field+".useClientProtocol", "contradicts h2UpgradePolicy: UPGRADE; remove one")
		}
	}
}

func (v *validator) notNegative(field string, n int32) {
	if n < 0 {
		v.err(field, "%d is negative; use 0 or more", n)
	}
}

func (v *validator) optionalDuration(field string, d *durationpb.Duration) {
	if d != nil {
		v.duration(field, d)
	}
}

func (v *validator) ingressTLS(field string, l *networking.IstioIngressListener) {
	t := l.Tls
	if t == nil {
		return
	}
	if p, ok := mesh.ParseProtocol(l.Port.GetProtocol()); ok && !p.IsTLS() {
		v.err(field+".tls", "goes only with protocol HTTPS or TLS, not with %s", quote(l.Port.GetProtocol()))
	}
	field += ".tls"
	switch t.Mode {
	case networking.ServerTLSSettings_SIMPLE, networking.ServerTLSSettings_MUTUAL, networking.ServerTLSSettings_OPTIONAL_MUTUAL:
	case networking.ServerTLSSettings_PASSTHROUGH, networking.ServerTLSSettings_AUTO_PASSTHROUGH, networking.ServerTLSSettings_ISTIO_MUTUAL:
		v.err(field+".mode", "%s is not for a workload's own listener; use SIMPLE or MUTUAL", t.Mode)
	}
	if t.HttpsRedirect {
		v.err(field+".httpsRedirect", "is for gateways only; remove it")
	}
	if len(t.SubjectAltNames) > 0 {
		v.err(field+".subjectAltNames", "is for gateways only; remove it")
	}
	var given []string
	for _, f := range []struct {
		name  string
		there bool
	}{
		{"credentialName", t.CredentialName != ""},
		{"credentialNames", v.object.has(field + ".credentialNames")},
		{"tlsCertificates", v.object.has(field + ".tlsCertificates")},
	} {
		if f.there {
			given = append(given, f.name)
		}
	}
	if len(given) > 1 {
		v.err(field, "%s exclude each other; leave one", strings.Join(given, " and "))
	}
	for _, f := range []struct {
		name string
		has  int
	}{{"credentialNames", len(t.CredentialNames)}, {"tlsCertificates", len(t.TlsCertificates)}} {
		if field := join(field, f.name); v.object.has(field) && (f.has < 1 || f.has > 2) {
			v.err(field, "names %d, and takes one or two", f.has)
		}
	}
}
