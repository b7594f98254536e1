package decode

import (
	"fmt"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

var clusterFields = fieldSet{
	"name": acted, "type": acted, "eds_cluster_config": acted, "connect_timeout": acted, "lb_policy": acted,
	"load_assignment": acted, "original_dst_lb_config": acted, "metadata": acted, "typed_extension_protocol_options": acted,
	"alt_stat_name":     "metrics carry the cluster's own name",
	"respect_dns_ttl":   "names are always asked again when their time to live ends",
	"dns_refresh_rate":  "a name is followed once for all clusters: by its time to live, else every minute",
	"dns_lookup_family": "both families are always asked for and raced",
}

// Cluster decodes a cluster that came under the name given.
func Cluster(name string, raw []byte) (*config.Cluster, error) {
	c, err := cluster(name, raw)
	if err != nil {
		return nil, resource(xds.ClusterType, name, err)
	}
	return c, nil
}

func cluster(name string, raw []byte) (*config.Cluster, error) {
	var m clusterv3.Cluster
	if err := unmarshal(raw, &m); err != nil {
		return nil, err
	}
	if err := clusterFields.check("", &m); err != nil {
		return nil, err
	}
	if err := named(m.GetName(), name); err != nil {
		return nil, err
	}
	c := &config.Cluster{Name: name, Raw: raw}
	var err error
	if c.ConnectTimeout, err = duration("connect_timeout", m.GetConnectTimeout()); err != nil {
		return nil, err
	}
	c.InMesh = inMesh(m.GetMetadata())
	if c.Entry, err = entry("metadata", m.GetMetadata(), xds.AddressesKey); err != nil {
		return nil, err
	}
	if c.Addresses, err = listed("metadata", m.GetMetadata()); err != nil {
		return nil, err
	}
	if c.Policy, err = balance(m.GetLbPolicy()); err != nil {
		return nil, err
	}
	if c.HTTP, err = spoken("typed_extension_protocol_options", m.GetTypedExtensionProtocolOptions()); err != nil {
		return nil, err
	}
	return c, source(c, &m)
}

func balance(p clusterv3.Cluster_LbPolicy) (config.Balance, error) {
	switch p {
	case clusterv3.Cluster_LEAST_REQUEST:
		return config.LeastRequest, nil
	case clusterv3.Cluster_ROUND_ROBIN:
		return config.RoundRobin, nil
	case clusterv3.Cluster_RANDOM:
		return config.Random, nil
	case clusterv3.Cluster_CLUSTER_PROVIDED:
		return config.ClusterProvided, nil
	case clusterv3.Cluster_RING_HASH, clusterv3.Cluster_MAGLEV, clusterv3.Cluster_LOAD_BALANCING_POLICY_CONFIG:
	}
	return 0, fmt.Errorf("lb_policy: %s is not supported by this proxy", p)
}

// source fills in where the endpoints of c come from.
func source(c *config.Cluster, m *clusterv3.Cluster) error {
	if _, ok := m.GetClusterDiscoveryType().(*clusterv3.Cluster_Type); !ok && m.GetClusterDiscoveryType() != nil {
		return fmt.Errorf("cluster_type is not supported by this proxy")
	}
	switch m.GetType() {
	case clusterv3.Cluster_STATIC:
		c.Type = config.StaticSet
	case clusterv3.Cluster_STRICT_DNS:
		c.Type = config.StrictDNS
	case clusterv3.Cluster_LOGICAL_DNS:
		c.Type = config.LogicalDNS
	case clusterv3.Cluster_EDS:
		c.Type = config.EDS
		return edsSource(c, m)
	case clusterv3.Cluster_ORIGINAL_DST:
		c.Type = config.OriginalDst
		return originalSource(c, m)
	default:
		return fmt.Errorf("type: %s is not supported by this proxy", m.GetType())
	}
	if c.Policy == config.ClusterProvided {
		return fmt.Errorf("lb_policy: CLUSTER_PROVIDED goes with type ORIGINAL_DST only")
	}
	a := m.GetLoadAssignment()
	if a == nil {
		a = &endpointv3.ClusterLoadAssignment{}
	}
	var err error
	if c.Inline, err = endpoints("load_assignment", a); err != nil {
		return err
	}
	c.Inline.Name = c.Name
	return checkHosts(c)
}

func edsSource(c *config.Cluster, m *clusterv3.Cluster) error {
	eds := m.GetEdsClusterConfig()
	if err := (fieldSet{"eds_config": acted, "service_name": acted}).check("eds_cluster_config", eds); eds != nil && err != nil {
		return err
	}
	if err := overADS("eds_cluster_config.eds_config", eds.GetEdsConfig()); err != nil {
		return err
	}
	c.ServiceName = eds.GetServiceName()
	if c.ServiceName == "" {
		c.ServiceName = c.Name
	}
	if len(c.ServiceName) > maxName {
		return fmt.Errorf("eds_cluster_config.service_name: longer than %d bytes", maxName)
	}
	return nil
}

func originalSource(c *config.Cluster, m *clusterv3.Cluster) error {
	o := m.GetOriginalDstLbConfig()
	if o == nil {
		return nil
	}
	if err := (fieldSet{"upstream_port_override": acted}).check("original_dst_lb_config", o); err != nil {
		return err
	}
	port := o.GetUpstreamPortOverride().GetValue()
	if port > 65535 {
		return fmt.Errorf("original_dst_lb_config.upstream_port_override: %d is no port", port)
	}
	c.PortOverride = uint16(port)
	return nil
}

// checkHosts refuses endpoints that the kind of cluster cannot have.
func checkHosts(c *config.Cluster) error {
	if c.Type == config.LogicalDNS && len(c.Inline.Endpoints) != 1 {
		return fmt.Errorf("load_assignment: LOGICAL_DNS needs exactly one endpoint, not %d", len(c.Inline.Endpoints))
	}
	for _, e := range c.Inline.Endpoints {
		if c.Type == config.StaticSet && !isAddress(e.Host) {
			return fmt.Errorf("load_assignment: %q is a name and type STATIC resolves none", e.Host)
		}
	}
	return nil
}

// overADS refuses a resource that would have to be fetched from elsewhere.
func overADS(path string, c *corev3.ConfigSource) error {
	if c == nil {
		return fmt.Errorf("%s is missing", path)
	}
	if err := (fieldSet{
		"ads": acted, "resource_api_version": acted,
		"initial_fetch_timeout": "what is awaited is bounded by the proxy itself",
	}).check(path, c); err != nil {
		return err
	}
	if c.GetAds() == nil {
		return fmt.Errorf("%s: only ads is supported by this proxy", path)
	}
	return nil
}

// Assignment decodes the endpoints that came under the name given.
func Assignment(name string, raw []byte) (*config.Assignment, error) {
	var m endpointv3.ClusterLoadAssignment
	if err := unmarshal(raw, &m); err != nil {
		return nil, resource(xds.EndpointType, name, err)
	}
	if err := named(m.GetClusterName(), name); err != nil {
		return nil, resource(xds.EndpointType, name, err)
	}
	a, err := endpoints("", &m)
	if err != nil {
		return nil, resource(xds.EndpointType, name, err)
	}
	for _, e := range a.Endpoints {
		if !isAddress(e.Host) {
			return nil, resource(xds.EndpointType, name, fmt.Errorf("%q is a name, and endpoints of a cluster of type EDS are addresses", e.Host))
		}
	}
	a.Raw = raw
	return a, nil
}

func endpoints(path string, m *endpointv3.ClusterLoadAssignment) (*config.Assignment, error) {
	if err := (fieldSet{"cluster_name": acted, "endpoints": acted}).check(path, m); err != nil {
		return nil, err
	}
	a := &config.Assignment{Name: m.GetClusterName()}
	for i, g := range m.GetEndpoints() {
		p := index(join(path, "endpoints"), i)
		if err := (fieldSet{
			"lb_endpoints": acted, "priority": acted,
			"locality":              "endpoints are not preferred by where they are, but by priority",
			"load_balancing_weight": "localities are not weighted, their endpoints are",
		}).check(p, g); err != nil {
			return nil, err
		}
		if len(a.Endpoints)+len(g.GetLbEndpoints()) > maxEndpoints {
			return nil, fmt.Errorf("%s: more than %d", join(path, "endpoints"), maxEndpoints)
		}
		for j, e := range g.GetLbEndpoints() {
			x, err := lbEndpoint(index(join(p, "lb_endpoints"), j), e)
			if err != nil {
				return nil, err
			}
			x.Priority = g.GetPriority()
			a.Endpoints = append(a.Endpoints, x)
		}
	}
	return a, nil
}

func lbEndpoint(path string, m *endpointv3.LbEndpoint) (config.Endpoint, error) {
	if err := (fieldSet{
		"endpoint": acted, "load_balancing_weight": acted, "health_status": acted,
		"metadata": "describes the workload behind it, for telemetry between meshes",
	}).check(path, m); err != nil {
		return config.Endpoint{}, err
	}
	if h := m.GetHealthStatus(); h != corev3.HealthStatus_UNKNOWN && h != corev3.HealthStatus_HEALTHY {
		return config.Endpoint{}, fmt.Errorf("%s.health_status: %s is not supported by this proxy", path, h)
	}
	if err := (fieldSet{"address": acted, "hostname": "a label for health checks"}).check(join(path, "endpoint"), m.GetEndpoint()); err != nil {
		return config.Endpoint{}, err
	}
	host, port, err := hostPort(join(path, "endpoint.address"), m.GetEndpoint().GetAddress())
	if err != nil {
		return config.Endpoint{}, err
	}
	return config.Endpoint{Host: host, Port: port, Weight: max(m.GetLoadBalancingWeight().GetValue(), 1)}, nil
}
