package ads

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	clusterv3 "github.com/envoyproxy/go-control-plane/envoy/config/cluster/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	endpointv3 "github.com/envoyproxy/go-control-plane/envoy/config/endpoint/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	routev3 "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	routerv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/http/router/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	discoveryv3 "github.com/envoyproxy/go-control-plane/envoy/service/discovery/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/anypb"

	"github.com/fairlead/fairlead/internal/golden"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// TestSession plays the scripts in testdata. A line is an event; lines that
// begin with > are requests sent, and what is handed out, and are rewritten by
// UPDATE=1.
//
//	connect                 a stream opens
//	cds 7 a a:eds -b bad!   response with nonce 7: clusters a and, of type EDS,
//	                        a; b removed; one that is not valid
//	lds 8 80:80             a listener named 80 with requests by table 80
//	rds 9 80:vhds           a table whose virtual hosts come by themselves
//	give up
func TestSession(t *testing.T) {
	files, err := filepath.Glob("testdata/*.session")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden.Check(t, file, play(t, file))
		})
	}
}

var short = map[string]string{
	"cds": xds.ClusterType, "eds": xds.EndpointType, "lds": xds.ListenerType,
	"rds": xds.RouteType, "vhds": xds.VirtualHostType, "name": xds.NameType, "sni": xds.ServerNameType, "alien": "type.googleapis.com/alien.Type",
}

func shortOf(url string) string {
	for s, u := range short {
		if u == url {
			return s
		}
	}
	return url
}

func play(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	s := NewSession()
	var out strings.Builder
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if strings.HasPrefix(line, ">") {
			continue
		}
		fmt.Fprintln(&out, line)
		word := strings.Fields(line)
		if len(word) == 0 || word[0] == "#" {
			continue
		}
		var requests []*discoveryv3.DeltaDiscoveryRequest
		switch word[0] {
		case "connect":
			requests = s.Connect()
		case "give":
			fmt.Fprintf(&out, "> %t\n", s.GiveUp())
		default:
			var err error
			if requests, err = s.Receive(response(t, word)); err != nil {
				fmt.Fprintf(&out, "> refused: %v\n", err)
			}
		}
		for _, r := range requests {
			fmt.Fprintln(&out, tell(r))
		}
		if s.Complete() && s.Staged() {
			fmt.Fprintf(&out, "> apply%s\n", tellDelta(s.Take()))
		} else if !s.Complete() {
			fmt.Fprintf(&out, "> awaits %s\n", strings.Join(s.Awaited(), ", "))
		}
	}
	return out.String()
}

func tell(r *discoveryv3.DeltaDiscoveryRequest) string {
	line := "> " + shortOf(r.GetTypeUrl())
	switch {
	case r.GetErrorDetail() != nil:
		return line + " nack " + r.GetResponseNonce()
	case r.GetResponseNonce() != "":
		return line + " ack " + r.GetResponseNonce()
	}
	for _, n := range r.GetResourceNamesSubscribe() {
		line += " +" + n
	}
	for _, n := range r.GetResourceNamesUnsubscribe() {
		line += " -" + n
	}
	var held []string
	for n, v := range r.GetInitialResourceVersions() {
		held = append(held, n+"="+v)
	}
	if slices.Sort(held); len(held) > 0 {
		line += " has " + strings.Join(held, " ")
	}
	return line
}

func tellDelta(d config.Delta) string {
	var b strings.Builder
	say := func(what, name string) { fmt.Fprintf(&b, " %s/%s", what, name) }
	for _, x := range d.Clusters {
		say("cds", x.Name)
	}
	for _, x := range d.Assignments {
		say("eds", x.Name)
	}
	for _, x := range d.Listeners {
		say("lds", x.Name)
	}
	for _, x := range d.Tables {
		say("rds", x.Name)
	}
	for _, x := range d.VirtualHosts {
		say("vhds", x.Table+"/"+x.Host)
	}
	for _, x := range d.Names {
		say("name", x.Host)
	}
	for _, x := range d.ServerNames {
		say("sni", xds.ServerNameResource(x.Port, x.Host))
	}
	for _, x := range d.RemovedServerNames {
		say("-sni", xds.ServerNameResource(x.Port, x.Host))
	}
	for _, x := range d.RemovedNames {
		say("-name", x)
	}
	for _, x := range d.RemovedVirtualHosts {
		say("-vhds", x.Table+"/"+x.Host)
	}
	for _, x := range d.RemovedTables {
		say("-rds", x)
	}
	for _, x := range d.RemovedListeners {
		say("-lds", x)
	}
	for _, x := range d.RemovedAssignments {
		say("-eds", x)
	}
	for _, x := range d.RemovedClusters {
		say("-cds", x)
	}
	return b.String()
}

func response(t *testing.T, word []string) *discoveryv3.DeltaDiscoveryResponse {
	t.Helper()
	r := &discoveryv3.DeltaDiscoveryResponse{TypeUrl: short[word[0]], Nonce: word[1]}
	for _, w := range word[2:] {
		if name, gone := strings.CutPrefix(w, "-"); gone {
			r.RemovedResources = append(r.RemovedResources, name)
			continue
		}
		name, kind, _ := strings.Cut(w, ":")
		var m proto.Message
		switch word[0] {
		case "cds":
			c := &clusterv3.Cluster{Name: name, ClusterDiscoveryType: &clusterv3.Cluster_Type{Type: clusterv3.Cluster_STATIC}}
			if kind == "eds" {
				c.ClusterDiscoveryType = &clusterv3.Cluster_Type{Type: clusterv3.Cluster_EDS}
				c.EdsClusterConfig = &clusterv3.Cluster_EdsClusterConfig{EdsConfig: overADS()}
			}
			if kind == "bad" {
				c.LbPolicy = clusterv3.Cluster_MAGLEV
			}
			m = c
		case "eds":
			m = &endpointv3.ClusterLoadAssignment{ClusterName: name}
		case "lds":
			m = listener(t, name, kind)
		case "rds":
			c := &routev3.RouteConfiguration{Name: name}
			if kind == "vhds" {
				c.Vhds = &routev3.Vhds{ConfigSource: overADS()}
			}
			m = c
		case "vhds":
			m = &routev3.VirtualHost{Name: name, Domains: []string{"*"}}
		case "name":
			m = &fairleadpb.Name{Host: name}
		case "sni":
			port, host, _ := xds.SplitServerName(name)
			m = &fairleadpb.ServerName{Port: uint32(port), Host: host, Cluster: "a"}
		default:
			m = &fairleadpb.Source{}
		}
		a, err := anypb.New(m)
		if err != nil {
			t.Fatal(err)
		}
		r.Resources = append(r.Resources, &discoveryv3.Resource{Name: name, Version: "v" + word[1], Resource: a})
	}
	return r
}

func overADS() *corev3.ConfigSource {
	return &corev3.ConfigSource{ConfigSourceSpecifier: &corev3.ConfigSource_Ads{Ads: &corev3.AggregatedConfigSource{}}}
}

func listener(t *testing.T, name, table string) *listenerv3.Listener {
	t.Helper()
	l := &listenerv3.Listener{Name: name, Address: &corev3.Address{Address: &corev3.Address_SocketAddress{SocketAddress: &corev3.SocketAddress{
		Address: "0.0.0.0", PortSpecifier: &corev3.SocketAddress_PortValue{PortValue: 80},
	}}}}
	if table == "" {
		return l
	}
	router, err := anypb.New(&routerv3.Router{})
	if err != nil {
		t.Fatal(err)
	}
	manager, err := anypb.New(&hcmv3.HttpConnectionManager{
		RouteSpecifier: &hcmv3.HttpConnectionManager_Rds{Rds: &hcmv3.Rds{RouteConfigName: table, ConfigSource: overADS()}},
		HttpFilters:    []*hcmv3.HttpFilter{{Name: "router", ConfigType: &hcmv3.HttpFilter_TypedConfig{TypedConfig: router}}},
	})
	if err != nil {
		t.Fatal(err)
	}
	l.FilterChains = []*listenerv3.FilterChain{{Filters: []*listenerv3.Filter{{Name: "http", ConfigType: &listenerv3.Filter_TypedConfig{TypedConfig: manager}}}}}
	return l
}
