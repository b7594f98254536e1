// Package xds holds what both halves know of the protocol between them: type
// URLs, the form of resource names, and our own resources. It holds no state
// and no I/O.
package xds

import (
	"strconv"
	"strings"
)

// The type URLs in use, in the order in which they are sent: what is referred
// to goes before what refers to it.
const (
	ClusterType     = "type.googleapis.com/envoy.config.cluster.v3.Cluster"
	EndpointType    = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment"
	ListenerType    = "type.googleapis.com/envoy.config.listener.v3.Listener"
	RouteType       = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"
	VirtualHostType = "type.googleapis.com/envoy.config.route.v3.VirtualHost"
	// NameType is our own: one declared host, for the DNS server beside a workload.
	// A client that does not know it never asks.
	NameType = "type.googleapis.com/fairlead.v1.Name"
	// ServerNameType is our own: one host that the ClientHello of a connection to a
	// port may name. A listener that looks them up does not change with them.
	ServerNameType = "type.googleapis.com/fairlead.v1.ServerName"
)

// Types lists every type URL in sending order.
var Types = [...]string{ClusterType, EndpointType, ServerNameType, ListenerType, RouteType, VirtualHostType, NameType}

// TypeIndex is the place of a type URL in Types, or -1.
func TypeIndex(url string) int {
	for i, t := range Types {
		if t == url {
			return i
		}
	}
	return -1
}

// ShortType is the last word of a type URL, for people: "Cluster".
func ShortType(url string) string { return url[strings.LastIndexByte(url, '.')+1:] }

// Names that Istio gives to the destinations no entry declares.
const (
	PassthroughCluster = "PassthroughCluster"
	BlackHoleCluster   = "BlackHoleCluster"
	AllowAny           = "allow_any" // virtual host and route of ALLOW_ANY
	BlockAll           = "block_all" // virtual host and route of REGISTRY_ONLY
	VirtualOutbound    = "virtualOutbound"
)

// Ports of the sandbox that are the capture's and cannot be declared for TCP.
const (
	OutboundPort = 15001 // as Istio numbers it
	DNSPort      = 53    // of every address
)

// MetadataKey is the key of our own filter_metadata in clusters, virtual hosts
// and filter chains. Its fields: kind, namespace, name, file, line of the
// object that declared the destination (all strings but line, a number).
const MetadataKey = "fairlead.dev"

// AddressesKey is a further field of it in clusters whose callers say the
// address (resolution NONE): the list of those that the entry allows, each with
// the length of its prefix. Where it is missing the entry lists none.
const AddressesKey = "addresses"

// ServerNamesKey is a field of it in listeners: true says that server names of the
// listener's port are looked up among the resources of ServerNameType.
const ServerNamesKey = "server_names"

// AccessLogKey is a field of it in virtualOutbound: false says that there is to be
// no access log.
const AccessLogKey = "access_log"

// LowerCaseKey is a field of it in filter chains for requests: true says that names
// of header fields go out in lower case.
const LowerCaseKey = "lower_case_headers"

// OutboundCluster is Istio's name for the cluster of one port and subset of a
// host: outbound|80||www.baidu.com.
func OutboundCluster(port uint16, subset, host string) string {
	return "outbound|" + strconv.Itoa(int(port)) + "|" + subset + "|" + host
}

// VirtualHostResource is the name of a virtual host as a resource of its own:
// table and host joined by a slash. All of a table is asked for as "table/*".
func VirtualHostResource(table, host string) string { return table + "/" + host }

// SplitVirtualHost undoes VirtualHostResource, at the last slash: the name of a
// table may itself hold one.
func SplitVirtualHost(resource string) (table, host string, ok bool) {
	i := strings.LastIndexByte(resource, '/')
	if i < 0 {
		return "", "", false
	}
	return resource[:i], resource[i+1:], true
}

// ServerNameResource is the name of a server name as a resource: 443/api.example.com.
func ServerNameResource(port uint16, host string) string {
	return strconv.Itoa(int(port)) + "/" + host
}

// SplitServerName undoes ServerNameResource.
func SplitServerName(resource string) (port uint16, host string, ok bool) {
	text, host, ok := strings.Cut(resource, "/")
	n, err := strconv.ParseUint(text, 10, 16)
	return uint16(n), host, ok && err == nil
}
