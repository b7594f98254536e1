package api

import (
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"
	meshv1 "istio.io/api/mesh/v1alpha1"

	"github.com/fairlead/fairlead/internal/config"
)

// proxyHeaders is what a valid mesh-wide configuration says of headers. Istio adds
// most of them unless it is told not to; here somebody has to ask, in so many
// words: disabled: false.
func proxyHeaders(h *meshv1.ProxyConfig_ProxyHeaders) config.ProxyHeaders {
	asked := func(disabled *wrapperspb.BoolValue) bool { return disabled != nil && !disabled.Value }
	p := config.ProxyHeaders{
		RequestID:     asked(h.GetRequestId().GetDisabled()),
		AttemptCount:  asked(h.GetAttemptCount().GetDisabled()),
		Debug:         asked(h.GetEnvoyDebugHeaders().GetDisabled()),
		ForwardedPort: h.GetXForwardedPort().GetEnabled().GetValue(),
		LowerCase:     asked(h.GetPreserveHttp1HeaderCase()),
	}
	if !h.GetServer().GetDisabled().GetValue() {
		p.Server = h.GetServer().GetValue()
	}
	return p
}

// serverHeader checks what is to be the value of a header.
func (v *validator) serverHeader(s *meshv1.ProxyConfig_ProxyHeaders_Server) {
	const most = 1024
	value := s.GetValue()
	odd := strings.ContainsFunc(value, func(r rune) bool { return r < ' ' || r > '~' })
	if odd || len(value) > most || strings.TrimSpace(value) != value {
		v.err(meshField+".defaultConfig.proxyHeaders.server.value", "%s is no value of a header; use up to %d printable characters of ASCII", quote(value), most)
	}
}
