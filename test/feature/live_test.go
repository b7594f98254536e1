package feature

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

const story = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: svc-entry}
spec:
  hosts: [www.baidu.com]
  location: MESH_EXTERNAL
  ports:
  - {number: 80, name: http, protocol: HTTP}
  - {number: 443, name: https, protocol: HTTPS}
`

const (
	byDNS    = story + "  resolution: DNS\n"
	static   = story + "  resolution: STATIC\n  endpoints: [{address: 192.168.0.100}]\n"
	elsewise = story + "  resolution: STATIC\n  endpoints: [{address: 192.168.0.101}]\n"
	second   = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: second}
spec:
  hosts: [second.example.com]
  resolution: STATIC
  endpoints: [{address: 192.0.2.1}]
  ports: [{number: 80, name: http, protocol: HTTP}]
`
	webCluster = "outbound|80||www.baidu.com"
)

func endpointsAre(want string) func(*config.Config) bool {
	return func(c *config.Config) bool {
		a := c.Assignment(webCluster)
		return a != nil && len(a.Endpoints) == 1 && a.Endpoints[0].Host == want
	}
}

// since returns what was applied after the first n changes, as names.
func (r *ring) since(n int) []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []string
	for _, d := range r.deltas[n:] {
		for _, x := range d.Clusters {
			out = append(out, "cluster "+x.Name)
		}
		for _, x := range d.Assignments {
			out = append(out, "endpoints "+x.Name)
		}
		for _, x := range d.Listeners {
			out = append(out, "listener "+x.Name)
		}
		for _, x := range d.Tables {
			out = append(out, "table "+x.Name)
		}
		for _, x := range d.VirtualHosts {
			out = append(out, "host "+x.Table+"/"+x.Host)
		}
		for _, x := range d.Names {
			out = append(out, "name "+x.Host)
		}
		for _, gone := range [][]string{d.RemovedClusters, d.RemovedAssignments, d.RemovedListeners, d.RemovedTables, d.RemovedNames} {
			for _, x := range gone {
				out = append(out, "gone "+x)
			}
		}
		for _, x := range d.RemovedVirtualHosts {
			out = append(out, "gone "+x.Table+"/"+x.Host)
		}
	}
	return out
}

func (r *ring) changes() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return len(r.deltas)
}

func TestFromDNSToStaticAClusterComesWithItsEndpoints(t *testing.T) {
	r := objects(t, mesh.AllowAny, byDNS)
	r.write("a.yaml", static)
	c := r.await("the cluster of type EDS", func(c *config.Config) bool { return c.Cluster(webCluster).Type == config.EDS })
	if !endpointsAre("192.168.0.100")(c) {
		t.Errorf("the first configuration with the EDS cluster has endpoints %+v, want 192.168.0.100", c.Assignment(webCluster))
	}
}

func TestAnEndpointChangesAndNothingElseIsSent(t *testing.T) {
	r := objects(t, mesh.AllowAny, static)
	r.synced()
	n := r.changes()
	r.write("a.yaml", elsewise)
	r.await("the new endpoint", endpointsAre("192.168.0.101"))
	r.synced()
	want := []string{"endpoints outbound|443||www.baidu.com", "endpoints " + webCluster}
	if diff := cmp.Diff(want, r.since(n)); diff != "" {
		t.Error(diff)
	}
}

func TestANewHostAddsWhatItIsAndNothingElse(t *testing.T) {
	r := objects(t, mesh.AllowAny, byDNS)
	r.synced()
	n := r.changes()
	r.write("b.yaml", second)
	r.await("the second host", func(c *config.Config) bool { return c.Name("second.example.com") != nil })
	r.synced()
	want := []string{
		"cluster outbound|80||second.example.com",
		"endpoints outbound|80||second.example.com",
		"host 80/second.example.com",
		"name second.example.com",
	}
	got := r.since(n)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestAFileThatGoesTakesItsHostsAlong(t *testing.T) {
	r := objects(t, mesh.RegistryOnly, byDNS)
	r.write("b.yaml", second)
	r.await("the second host", func(c *config.Config) bool { return c.Name("second.example.com") != nil })
	r.remove("b.yaml")
	r.await("the host to go", func(c *config.Config) bool { return c.Name("second.example.com") == nil })
	r.synced()
	c := r.now()
	if h := c.RouteTable("80").Lookup("second.example.com"); h == nil || h.Name != xds.BlockAll {
		t.Errorf("the host that went is served by %+v, want block_all", h)
	}
	if c.Cluster("outbound|80||second.example.com") != nil || c.Assignment("outbound|80||second.example.com") != nil {
		t.Error("its cluster or endpoints are still there")
	}
	// The last host of a port takes the listener and its table along.
	r.remove("a.yaml")
	r.await("the listener to go", func(c *config.Config) bool {
		return c.Listener("0.0.0.0_80") == nil && c.RouteTable("80") == nil && c.Cluster(webCluster) == nil
	})
}

func TestABrokenFileKeepsTheLastGoodState(t *testing.T) {
	r := objects(t, mesh.AllowAny, byDNS)
	n := r.changes()
	r.write("a.yaml", strings.Replace(byDNS, "number: 80", "number: 800000", 1))
	r.write("b.yaml", second)
	r.await("the good file", func(c *config.Config) bool { return c.Name("second.example.com") != nil })
	r.synced()
	for _, x := range r.since(n) {
		if strings.Contains(x, "baidu") {
			t.Errorf("the broken file changed %s", x)
		}
	}
	if r.now().Cluster(webCluster) == nil {
		t.Error("the broken file took its host along")
	}
}

func TestTheLastConfigurationStaysWhileThePlaneIsAway(t *testing.T) {
	r := &ring{t: t, folder: t.TempDir(), changed: make(chan struct{}, 1), log: &lines{}}
	r.write("a.yaml", static)
	ctx, stop := context.WithCancel(t.Context())
	var plane sync.WaitGroup
	r.begin(ctx, &plane, mesh.AllowAny)
	r.follow()
	r.await("the first configuration", endpointsAre("192.168.0.100"))
	r.synced()
	n := r.changes()
	before := tell(r.now())

	stop()
	plane.Wait()
	if diff := cmp.Diff(before, tell(r.now())); diff != "" {
		t.Errorf("lost when the plane went away:\n%s", diff)
	}
	r.write("a.yaml", elsewise)
	r.write("b.yaml", second)
	ctx, stop = context.WithCancel(t.Context())
	t.Cleanup(plane.Wait)
	t.Cleanup(stop)
	r.begin(ctx, &plane, mesh.AllowAny)
	r.await("what changed meanwhile", func(c *config.Config) bool {
		return endpointsAre("192.168.0.101")(c) && c.Name("second.example.com") != nil
	})
	r.synced()
	for _, x := range r.since(n) {
		if strings.HasPrefix(x, "listener") || strings.HasPrefix(x, "table") || strings.HasPrefix(x, "cluster outbound|443") {
			t.Errorf("%s was sent again without a change", x)
		}
	}
}

func TestAProxyIsListedWithWhatItHas(t *testing.T) {
	r := objects(t, mesh.AllowAny, static)
	st := r.synced()
	if st.Name != "w" || st.Namespace != "default" {
		t.Errorf("node %+v, want w in default", st.Node)
	}
	got := make(map[string]int)
	for _, x := range st.Types {
		got[xds.ShortType(x.Type)] = x.Resources
	}
	want := map[string]int{"Cluster": 4, "ClusterLoadAssignment": 2, "Listener": 3, "RouteConfiguration": 1, "VirtualHost": 2, "Name": 1, "ServerName": 1}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("resources accepted (-want +got):\n%s", diff)
	}
}

func TestAnEmptyFolderIsAConfigurationToo(t *testing.T) {
	r := objects(t, mesh.RegistryOnly, "")
	if l := r.now().Listener(xds.VirtualOutbound); l == nil || l.Default.TCP.Cluster != xds.BlackHoleCluster {
		t.Errorf("virtualOutbound is %+v, want one that ends in BlackHoleCluster", l)
	}
}
