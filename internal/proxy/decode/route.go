package decode

import (
	"errors"
	"fmt"
	"strings"

	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	previoushostsv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/retry/host/previous_hosts/v3"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// A Table is a route table and how its virtual hosts come.
type Table struct {
	*config.RouteTable
	VHDS bool // virtual hosts are resources of their own, asked for as "table/*"
}

// RouteTable decodes a route table that came under the name given.
func RouteTable(name string, raw []byte) (Table, error) {
	var m routev3.RouteConfiguration
	if err := unmarshal(raw, &m); err != nil {
		return Table{}, resource(xds.RouteType, name, err)
	}
	if err := named(m.GetName(), name); err != nil {
		return Table{}, resource(xds.RouteType, name, err)
	}
	t, err := table("", &m, raw)
	if err != nil {
		return Table{}, resource(xds.RouteType, name, err)
	}
	return t, nil
}

func table(path string, m *routev3.RouteConfiguration, raw []byte) (Table, error) {
	if err := (fieldSet{
		"name": acted, "virtual_hosts": acted, "vhds": acted,
		"ignore_port_in_host_matching":            "ports in Host are always ignored",
		"validate_clusters":                       "a route to a cluster that is not there is answered when it is taken",
		"max_direct_response_body_size_bytes":     "bodies are bounded by the size of the resource",
		"most_specific_header_mutations_wins":     "no headers are changed",
		"ignore_path_parameters_in_path_matching": "no path is matched but by prefix",
	}).check(path, m); err != nil {
		return Table{}, err
	}
	if m.GetVhds() != nil {
		if err := overADS(join(path, "vhds.config_source"), m.GetVhds().GetConfigSource()); err != nil {
			return Table{}, err
		}
	}
	if len(m.GetVirtualHosts()) > maxRoutes*10 {
		return Table{}, fmt.Errorf("%s: more than %d", join(path, "virtual_hosts"), maxRoutes*10)
	}
	var hosts []*config.VirtualHost
	owner := make(map[string]string)
	for i, h := range m.GetVirtualHosts() {
		p := index(join(path, "virtual_hosts"), i)
		x, err := virtualHost(p, h)
		if err != nil {
			return Table{}, err
		}
		for _, d := range x.Domains {
			if o, taken := owner[d]; taken {
				return Table{}, fmt.Errorf("%s.domains: %q is already a domain of virtual host %q", p, d, o)
			}
			owner[d] = x.Name
		}
		hosts = append(hosts, x)
	}
	return Table{RouteTable: config.NewRouteTable(m.GetName(), hosts, raw), VHDS: m.GetVhds() != nil}, nil
}

// VirtualHost decodes a virtual host that came by itself under the name given,
// "table/host".
func VirtualHost(name string, raw []byte) (config.Hosted, error) {
	h, err := hosted(name, raw)
	if err != nil {
		return config.Hosted{}, resource(xds.VirtualHostType, name, err)
	}
	return h, nil
}

func hosted(name string, raw []byte) (config.Hosted, error) {
	table, host, ok := xds.SplitVirtualHost(name)
	if !ok || table == "" || host == "" || len(name) > maxName {
		return config.Hosted{}, errors.New("the name is not of the form table/host")
	}
	var m routev3.VirtualHost
	if err := unmarshal(raw, &m); err != nil {
		return config.Hosted{}, err
	}
	h, err := virtualHost("", &m)
	if err != nil {
		return config.Hosted{}, err
	}
	h.Raw = raw
	return config.Hosted{HostedName: config.HostedName{Table: table, Host: host}, VirtualHost: h}, nil
}

func virtualHost(path string, m *routev3.VirtualHost) (*config.VirtualHost, error) {
	if err := (fieldSet{
		"name": acted, "domains": acted, "routes": acted, "metadata": acted,
		"include_request_attempt_count": acted,
	}).check(path, m); err != nil {
		return nil, err
	}
	switch {
	case len(m.GetDomains()) == 0:
		return nil, fmt.Errorf("%s: at least one is needed", join(path, "domains"))
	case len(m.GetDomains()) > maxDomains:
		return nil, fmt.Errorf("%s: more than %d", join(path, "domains"), maxDomains)
	case len(m.GetRoutes()) > maxRoutes:
		return nil, fmt.Errorf("%s: more than %d", join(path, "routes"), maxRoutes)
	}
	h := &config.VirtualHost{Name: m.GetName(), AttemptCount: m.GetIncludeRequestAttemptCount()}
	var err error
	if h.Entry, err = entry(join(path, "metadata"), m.GetMetadata()); err != nil {
		return nil, err
	}
	for i, d := range m.GetDomains() {
		if d, err = domain(d); err != nil {
			return nil, fmt.Errorf("%s: %w", index(join(path, "domains"), i), err)
		}
		h.Domains = append(h.Domains, d)
	}
	for i, r := range m.GetRoutes() {
		x, err := route(index(join(path, "routes"), i), r)
		if err != nil {
			return nil, err
		}
		h.Routes = append(h.Routes, x)
	}
	return h, nil
}

// domain checks a domain: a host, a wildcard whose star comes first, or "*".
func domain(d string) (string, error) {
	d = strings.ToLower(d)
	if len(d) > 2 && d[0] == '[' && d[len(d)-1] == ']' {
		return d, canonical(d[1 : len(d)-1])
	}
	return d, canonical(d)
}

func route(path string, m *routev3.Route) (*config.Route, error) {
	if err := (fieldSet{
		"name": acted, "match": acted, "route": acted, "direct_response": acted,
		"metadata":  "names the rule it came from, which the virtual host does too",
		"decorator": "names a span, and no spans are made",
	}).check(path, m); err != nil {
		return nil, err
	}
	r := &config.Route{Name: m.GetName()}
	if err := (fieldSet{"prefix": acted, "case_sensitive": acted}).check(join(path, "match"), m.GetMatch()); err != nil {
		return nil, err
	}
	if s := m.GetMatch().GetCaseSensitive(); s != nil && !s.GetValue() {
		return nil, fmt.Errorf("%s.match.case_sensitive: false is not supported by this proxy", path)
	}
	if r.Prefix = m.GetMatch().GetPrefix(); r.Prefix == "" {
		return nil, fmt.Errorf("%s.match.prefix is missing", path)
	}
	switch a := m.GetAction().(type) {
	case *routev3.Route_Route:
		return r, forward(join(path, "route"), a.Route, r)
	case *routev3.Route_DirectResponse:
		return r, direct(join(path, "direct_response"), a.DirectResponse, r)
	}
	return nil, fmt.Errorf("%s has no action", path)
}

func direct(path string, m *routev3.DirectResponseAction, r *config.Route) error {
	if err := (fieldSet{"status": acted, "body": acted}).check(path, m); err != nil {
		return err
	}
	if m.GetBody() != nil {
		if err := (fieldSet{"inline_string": acted, "inline_bytes": acted}).check(join(path, "body"), m.GetBody()); err != nil {
			return err
		}
	}
	// A status below 200 would announce another one that never comes.
	if m.GetStatus() < 200 || m.GetStatus() > 599 {
		return fmt.Errorf("%s.status: %d is no final status", path, m.GetStatus())
	}
	body := m.GetBody().GetInlineString() + string(m.GetBody().GetInlineBytes())
	if s := m.GetStatus(); body != "" && (s == 204 || s == 304) {
		return fmt.Errorf("%s.body: an answer %d has none", path, s)
	}
	r.Direct = &config.DirectResponse{Status: int(m.GetStatus()), Body: body}
	return nil
}

func forward(path string, m *routev3.RouteAction, r *config.Route) error {
	if err := (fieldSet{
		"cluster": acted, "timeout": acted, "retry_policy": acted,
		"max_grpc_timeout":                "a grpc-timeout holds, and the timeout of the route bounds it",
		"max_stream_duration":             "a grpc-timeout holds, and the timeout of the route bounds it",
		"cluster_not_found_response_code": "always 503, the default",
	}).check(path, m); err != nil {
		return err
	}
	if r.Cluster = m.GetCluster(); r.Cluster == "" || len(r.Cluster) > maxName {
		return fmt.Errorf("%s.cluster: no name of a cluster", path)
	}
	var err error
	if r.Timeout, err = duration(join(path, "timeout"), m.GetTimeout()); err != nil {
		return err
	}
	if m.GetRetryPolicy() == nil {
		return nil
	}
	r.Retry, err = retry(join(path, "retry_policy"), m.GetRetryPolicy())
	return err
}

func retry(path string, m *routev3.RetryPolicy) (config.Retry, error) {
	var r config.Retry
	if err := (fieldSet{
		"retry_on": acted, "num_retries": acted, "retry_host_predicate": acted, "retry_back_off": acted,
		"host_selection_retry_max_attempts": "an endpoint not tried yet is found however many picks it takes",
	}).check(path, m); err != nil {
		return r, err
	}
	for cond := range strings.SplitSeq(m.GetRetryOn(), ",") {
		switch strings.TrimSpace(cond) {
		case "connect-failure":
			r.ConnectFailure = true
		case "refused-stream":
			r.RefusedStream = true
		case "unavailable":
			r.Unavailable = true
		case "cancelled":
			r.Cancelled = true
		case "retriable-status-codes": // with an empty list of codes, the default
		case "":
		default:
			return r, fmt.Errorf("%s.retry_on: %q is not supported by this proxy", path, cond)
		}
	}
	r.Attempts = 1 // Envoy's default
	if n := m.GetNumRetries(); n != nil {
		r.Attempts = int(min(n.GetValue(), 100))
	}
	for i, p := range m.GetRetryHostPredicate() {
		if !p.GetTypedConfig().MessageIs(&previoushostsv3.PreviousHostsPredicate{}) {
			return r, fmt.Errorf("%s: %q is not supported by this proxy", index(join(path, "retry_host_predicate"), i), p.GetName())
		}
		r.PreviousHosts = true
	}
	if b := m.GetRetryBackOff(); b != nil {
		if err := (fieldSet{"base_interval": acted, "max_interval": "ten times the base, the default"}).check(join(path, "retry_back_off"), b); err != nil {
			return r, err
		}
		var err error
		if r.BaseInterval, err = duration(join(path, "retry_back_off.base_interval"), b.GetBaseInterval()); err != nil {
			return r, err
		}
	}
	return r, nil
}
