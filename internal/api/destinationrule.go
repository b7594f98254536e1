package api

import (
	"net/netip"
	"strings"

	"google.golang.org/protobuf/types/known/wrapperspb"
	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/hostname"
)

// maxPortSettings is the most ports a policy may speak of, as Istio's schema has it.
const maxPortSettings = 4096

// ruleFacts is what holds for every policy of a rule.
type ruleFacts struct {
	selects bool // it names the workloads it is for
	detects bool // the host has outlierDetection, which subsets inherit
}

func (v *validator) destinationRule(spec *networking.DestinationRule) {
	all := ruleFacts{selects: spec.WorkloadSelector != nil}
	if name, ok := v.ruleHost("spec.host", spec.Host); ok && !strings.ContainsAny(string(name), ".:*") {
		v.shortName("spec.host", string(name))
	}
	v.trafficPolicy("spec.trafficPolicy", spec.TrafficPolicy, all)
	all.detects = spec.TrafficPolicy.GetOutlierDetection() != nil
	first := map[string]int{}
	for i, s := range spec.Subsets {
		field := index("spec.subsets", i)
		v.subset(field, s, all)
		if j, ok := first[s.Name]; ok && s.Name != "" {
			v.err(field+".name", "%s has the name %s already; give each subset its own", index("spec.subsets", j), quote(s.Name))
			continue
		}
		first[s.Name] = i
	}
	v.exportTo("spec.exportTo", spec.ExportTo, false)
	v.workloadSelector("spec.workloadSelector", spec.WorkloadSelector)
	if !all.selects {
		return
	}
	for i, target := range spec.ExportTo {
		if target != "." {
			v.err(index("spec.exportTo", i), `a rule with a workloadSelector is for its own namespace; write ".", or remove exportTo`)
		}
	}
}

func (v *validator) subset(field string, s *networking.Subset, all ruleFacts) {
	switch {
	case s.Name == "":
		v.err(field+".name", "the subset has no name; give it one")
	case labelFault(s.Name) != "":
		v.err(field+".name", "%s is no name of a subset: %s", quote(s.Name), labelFault(s.Name))
	}
	v.labels(field+".labels", s.Labels)
	v.trafficPolicy(field+".trafficPolicy", s.TrafficPolicy, all)
}

// trafficPolicy checks one of the whole host or of a subset.
func (v *validator) trafficPolicy(field string, p *networking.TrafficPolicy, all ruleFacts) {
	if p == nil {
		return
	}
	if p.LoadBalancer == nil && p.ConnectionPool == nil && p.OutlierDetection == nil && p.Tls == nil &&
		len(p.PortLevelSettings) == 0 && p.Tunnel == nil && p.ProxyProtocol == nil && p.RetryBudget == nil {
		v.err(field, "says nothing; give it loadBalancer, connectionPool, outlierDetection or tls, or remove it")
	}
	v.portPolicy(field, p, all)
	if p.Tunnel != nil && p.ProxyProtocol != nil {
		v.err(field+".proxyProtocol", "cannot go with tunnel; remove one")
	}
	v.tunnel(field+".tunnel", p.Tunnel)
	if b := p.RetryBudget; b != nil {
		v.percent(field+".retryBudget.percent", b.Percent)
		v.optionalDuration(field+".retryBudget.budgetInterval", b.BudgetInterval)
	}
	v.atMost(field+".portLevelSettings", len(p.PortLevelSettings), maxPortSettings, "ports")
	first := map[uint32]int{}
	for i, s := range p.PortLevelSettings {
		item := index(field+".portLevelSettings", i)
		if s.Port == nil {
			v.err(item+".port", "the settings name no port; write port: {number: 443}")
		} else if j, ok := first[s.Port.Number]; ok {
			v.err(item+".port.number", "%s has settings for port %d already; put them in one", index(field+".portLevelSettings", j), s.Port.Number)
		} else {
			first[s.Port.Number] = i
			v.portSelector(item+".port", s.Port)
		}
		if s.LoadBalancer == nil && s.ConnectionPool == nil && s.OutlierDetection == nil && s.Tls == nil {
			v.err(item, "say nothing of the port; give them loadBalancer, connectionPool, outlierDetection or tls")
		}
		v.portPolicy(item, s, ruleFacts{selects: all.selects}) // which inherits nothing
	}
}

// A policy is what a host, a subset and a port may each have.
type policy interface {
	GetLoadBalancer() *networking.LoadBalancerSettings
	GetConnectionPool() *networking.ConnectionPoolSettings
	GetOutlierDetection() *networking.OutlierDetection
	GetTls() *networking.ClientTLSSettings
}

func (v *validator) portPolicy(field string, p policy, all ruleFacts) {
	v.loadBalancer(field+".loadBalancer", p.GetLoadBalancer(), all.detects || p.GetOutlierDetection() != nil)
	v.connectionPool(field+".connectionPool", p.GetConnectionPool())
	v.unbounded(field+".connectionPool", p.GetConnectionPool())
	v.outlierDetection(field+".outlierDetection", p.GetOutlierDetection())
	v.clientTLS(field+".tls", p.GetTls(), all.selects)
}

// unbounded warns of bounds that are written as 0, which Istio reads as unset.
func (v *validator) unbounded(field string, p *networking.ConnectionPoolSettings) {
	for _, f := range []struct {
		name  string
		value int32
	}{
		{"tcp.maxConnections", p.GetTcp().GetMaxConnections()},
		{"http.http1MaxPendingRequests", p.GetHttp().GetHttp1MaxPendingRequests()},
		{"http.http2MaxRequests", p.GetHttp().GetHttp2MaxRequests()},
		{"http.maxRetries", p.GetHttp().GetMaxRetries()},
	} {
		if field := join(field, f.name); f.value == 0 && v.object.has(field) {
			v.warn(field, "0 means no bound, as if it were not there; use 1 or more, or remove it")
		}
	}
}

func (v *validator) outlierDetection(field string, o *networking.OutlierDetection) {
	if o == nil {
		return
	}
	v.optionalDuration(field+".interval", o.Interval)
	v.optionalDuration(field+".baseEjectionTime", o.BaseEjectionTime)
	if !o.SplitExternalLocalOriginErrors && o.ConsecutiveLocalOriginFailures.GetValue() > 0 {
		v.err(field+".consecutiveLocalOriginFailures", "counts only with splitExternalLocalOriginErrors: true; add that, or remove this")
	}
	for _, f := range []struct {
		name  string
		value int32
	}{{"maxEjectionPercent", o.MaxEjectionPercent}, {"minHealthPercent", o.MinHealthPercent}} {
		if f.value < 0 || f.value > 100 {
			v.err(join(field, f.name), "%d is no percentage; use 0 to 100", f.value)
		}
	}
	if v.object.has(field+".maxEjectionPercent") && o.MaxEjectionPercent == 0 {
		v.warn(field+".maxEjectionPercent", "0 means the default, 10; to eject nothing, remove outlierDetection")
	}
	if v.object.has(field + ".consecutiveErrors") {
		v.warn(field+".consecutiveErrors", "is deprecated; use consecutive5xxErrors or consecutiveGatewayErrors")
	}
	for i, code := range o.OutlierDetectionHttpErrorCodes {
		if code < 100 || code > 599 {
			v.err(index(field+".outlierDetectionHttpErrorCodes", i), "%d is no status; use 100 to 599", code)
		}
	}
}

func (v *validator) tunnel(field string, t *networking.TrafficPolicy_TunnelSettings) {
	if t == nil {
		return
	}
	if t.Protocol != "" && t.Protocol != "CONNECT" && t.Protocol != "POST" {
		v.err(field+".protocol", "%s is no way to tunnel; use CONNECT or POST", quote(t.Protocol))
	}
	if t.TargetHost == "" {
		v.err(field+".targetHost", "names no host; name the one that the tunnel leads to")
	} else if name, ok := v.ruleHost(field+".targetHost", t.TargetHost); ok && name.IsWildcard() {
		v.err(field+".targetHost", "%s is a wildcard, and a tunnel leads to one host; name it", quote(t.TargetHost))
	}
	if t.TargetPort == 0 || t.TargetPort > 65535 {
		v.err(field+".targetPort", "%d is no port; use 1 to 65535", t.TargetPort)
	}
}

// clientTLS checks the settings of TLS that a proxy originates.
func (v *validator) clientTLS(field string, t *networking.ClientTLSSettings, selects bool) {
	if t == nil {
		return
	}
	files := []part{
		{"clientCertificate", t.ClientCertificate != ""},
		{"privateKey", t.PrivateKey != ""},
		{"caCertificates", t.CaCertificates != ""},
		{"caCrl", t.CaCrl != ""},
	}
	simple, mutual := t.Mode == networking.ClientTLSSettings_SIMPLE, t.Mode == networking.ClientTLSSettings_MUTUAL
	switch {
	case !simple && !mutual:
		v.unusedTLS(field, t, files)
		return
	case t.CredentialName != "":
		v.excludes(field, "credentialName, whose secret holds it", files...)
		if !selects && !strings.HasPrefix(t.CredentialName, "configmap://") {
			v.warn(field+".credentialName", "without spec.workloadSelector Istio's sidecars leave TLS out and send plain text; add a workloadSelector, or name files")
		}
	case mutual:
		for _, f := range files[:2] {
			if !f.there {
				v.err(join(field, f.name), "MUTUAL needs a certificate of the client and its key; give clientCertificate and privateKey, or credentialName")
			}
		}
	default:
		for _, f := range files[:2] {
			if f.there {
				v.warn(join(field, f.name), "is without effect in mode SIMPLE, where the client shows no certificate; use mode: MUTUAL, or remove it")
			}
		}
	}
	if t.InsecureSkipVerify.GetValue() {
		v.excludes(field, "insecureSkipVerify: true, which checks no certificate",
			files[2], part{"subjectAltNames", len(t.SubjectAltNames) > 0}, part{"credentialName", simple && t.CredentialName != ""})
	}
	if _, err := netip.ParseAddr(t.Sni); err == nil {
		v.warn(field+".sni", "%s is an address, which is no server name; name a host", quote(t.Sni))
	} else if _, err := hostname.Parse(t.Sni); err != nil && t.Sni != "" {
		v.warn(field+".sni", "%s is no host name: %v", quote(t.Sni), err)
	}
}

// unusedTLS warns of settings beside a mode that has no use for them.
func (v *validator) unusedTLS(field string, t *networking.ClientTLSSettings, files []part) {
	why := "the mesh's own certificates are used; remove it"
	if t.Mode == networking.ClientTLSSettings_DISABLE {
		why = "there is no TLS; write mode: SIMPLE or MUTUAL, or remove it"
	}
	more := []part{{"credentialName", t.CredentialName != ""}, {"subjectAltNames", len(t.SubjectAltNames) > 0}, {"sni", t.Sni != ""}}
	for _, f := range append(more, files...) {
		if f.there {
			v.warn(join(field, f.name), "is without effect in mode %s, where %s", t.Mode, why)
		}
	}
}

func (v *validator) percent(field string, p *wrapperspb.DoubleValue) {
	if p != nil && (p.Value < 0 || p.Value > 100) {
		v.err(field, "%g is no percentage; use 0 to 100", p.Value)
	}
}
