package whoowns

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/mesh"
)

// plane has the objects, which are YAML with a name, a namespace, and the rest
// of a ServiceEntry's spec.
func plane(t testing.TB, policy mesh.OutboundPolicy, entries ...[3]string) *control.Plane {
	t.Helper()
	return logging(t, io.Discard, policy, entries...)
}

// logging is a plane that logs to a Writer.
func logging(t testing.TB, to io.Writer, policy mesh.OutboundPolicy, entries ...[3]string) *control.Plane {
	t.Helper()
	var b strings.Builder
	for _, e := range entries {
		fmt.Fprintf(&b, "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {namespace: %s, name: %s}\nspec: {%s}\n---\n", e[1], e[0], e[2])
	}
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(b.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	p, _, err := control.New(control.Options{Paths: []string{path}, Namespace: "default", Policy: policy, Log: slog.New(slog.NewTextHandler(to, nil))})
	if p == nil {
		t.Fatal(err)
	}
	return p
}

func entries() [][3]string {
	return [][3]string{
		{"web", "default", "hosts: [web.test], ports: [{number: 80, name: a, protocol: HTTP}, {number: 443, name: b, protocol: TLS}, {number: 9, name: c}], resolution: DNS"},
		{"wild", "default", "hosts: ['*.test'], ports: [{number: 80, name: a, protocol: HTTP}, {number: 81, name: b, protocol: HTTP}], addresses: [192.0.2.0/24], resolution: NONE"},
		{"db", "default", "hosts: [db.test], ports: [{number: 3306, name: a, protocol: MySQL}], resolution: STATIC, addresses: [192.0.2.7, 192.0.2.128/25], endpoints: [{address: 198.51.100.1}, {address: 198.51.100.2}]"},
		{"range", "default", "hosts: [range.invalid], ports: [{number: 3306, name: a, protocol: TCP}], addresses: [192.0.0.0/16], resolution: NONE"},
		{"literal", "default", "hosts: [203.0.113.9], ports: [{number: 80, name: a, protocol: HTTP}], resolution: STATIC, endpoints: [{address: 203.0.113.9}]"},
		{"theirs", "shop", "hosts: [theirs.example], exportTo: [.], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS"},
	}
}

// TestWhereAConnectionGoes asks for one port: of each kind of connection, the
// cluster in which it ends.
func TestWhereAConnectionGoes(t *testing.T) {
	p := plane(t, mesh.RegistryOnly, entries()...)
	for _, tt := range []struct {
		host string
		port uint16
		want string
	}{
		{"web.test", 80, "requests: outbound|80||web.test; TLS bytes: BlackHoleCluster"},
		{"web.test", 443, "requests: BlackHoleCluster; TLS: outbound|443||web.test; bytes: BlackHoleCluster"},
		{"web.test", 9, "requests TLS bytes: outbound|9||web.test"},
		{"web.test", 81, "requests: outbound|81||*.test; TLS bytes: BlackHoleCluster"}, // what the longer name leaves to the wildcard
		{"x.test", 80, "requests: outbound|80||*.test; TLS bytes: BlackHoleCluster"},
		{"*.test", 80, "requests: outbound|80||*.test; TLS bytes: BlackHoleCluster"},
		{"web.test", 22, "requests TLS bytes: BlackHoleCluster"},
		{"theirs.example", 80, "requests TLS bytes: BlackHoleCluster"}, // not seen from here
		{"db.test", 3306, "requests TLS bytes: outbound|3306||db.test"},
		{"192.0.2.7", 3306, "requests TLS bytes: outbound|3306||db.test"},
		{"192.0.2.200", 3306, "requests TLS bytes: outbound|3306||db.test"},
		{"192.0.2.8", 3306, "requests TLS bytes: outbound|3306||range.invalid"},
		{"203.0.113.9", 80, "requests: outbound|80||203.0.113.9; TLS bytes: BlackHoleCluster"},
		{"203.0.113.10", 80, "requests TLS bytes: BlackHoleCluster"},
	} {
		d, err := Ask(p, admin.Question{Host: tt.host, Port: tt.port, Namespace: "default"}, nil)
		var got []string
		for _, c := range d.Connections {
			got = append(got, strings.Join(c.Kinds, " ")+": "+c.Cluster)
			if declared := strings.HasPrefix(c.Cluster, "outbound|"); declared != (c.Object != "") || c.Missing {
				t.Errorf("%s port %d: %+v", tt.host, tt.port, c)
			}
		}
		if said := strings.Join(got, "; "); said != tt.want || err != nil {
			t.Errorf("%s port %d: got %s, %v; want %s", tt.host, tt.port, said, err, tt.want)
		}
	}
}

func TestWhatCoversAnAddressClosestFirst(t *testing.T) {
	p := plane(t, mesh.AllowAny, entries()...)
	for ip, want := range map[string][]string{
		"192.0.2.7":    {"192.0.2.7 db.test", "192.0.2.0/24 *.test", "192.0.0.0/16 range.invalid"},
		"192.0.2.129":  {"192.0.2.128/25 db.test", "192.0.2.0/24 *.test", "192.0.0.0/16 range.invalid"},
		"192.0.3.1":    {"192.0.0.0/16 range.invalid"},
		"203.0.113.77": nil,
	} {
		d, err := Ask(p, admin.Question{Host: ip, Namespace: "default"}, nil)
		var got []string
		for _, c := range d.Covers {
			got = append(got, c.Address+" "+c.Host)
		}
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%s (-want +got):\n%s%v", ip, diff, err)
		}
	}
}

// TestAVirtualAddressIsAskedForByItsHost has every virtual address lead back to
// its host, and one that nobody has to nobody.
func TestAVirtualAddressIsAskedForByItsHost(t *testing.T) {
	p := plane(t, mesh.AllowAny, entries()...)
	d, err := Ask(p, admin.Question{Host: "web.test", Namespace: "default"}, nil)
	if err != nil || len(d.Owner.Virtual) != 2 {
		t.Fatalf("web.test has virtual addresses %v, %v; want two", d.Owner, err)
	}
	for _, ip := range d.Owner.Virtual {
		d, err := Ask(p, admin.Question{Host: ip, Namespace: "default"}, nil)
		if err != nil || len(d.Covers) != 1 || !d.Covers[0].Virtual || d.Covers[0].Host != "web.test" {
			t.Errorf("%s is covered by %+v, %v", ip, d.Covers, err)
		}
		var got []string
		for _, c := range d.Connections {
			if c.Host == "web.test" {
				got = append(got, fmt.Sprintf("%d %s", c.Port, strings.Join(c.Kinds, " ")))
			}
		}
		if diff := cmp.Diff([]string{"9 requests TLS bytes", "80 requests", "443 TLS"}, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", ip, diff)
		}
	}
	free := netip.MustParseAddr(d.Owner.Virtual[0]).Next().String()
	d, err = Ask(p, admin.Question{Host: free, Namespace: "default"}, nil)
	if err != nil || len(d.Covers) != 0 || !strings.HasPrefix(d.Remark, free+" lies where virtual addresses are given from") {
		t.Errorf("%s: covered by %v, remark %q, %v", free, d.Covers, d.Remark, err)
	}
}

func TestEndpointsAreCounted(t *testing.T) {
	p := plane(t, mesh.AllowAny, entries()...)
	for host, want := range map[string]int{"web.test": 1, "192.0.2.7": 2, "x.test": 0} {
		port := map[string]uint16{"192.0.2.7": 3306}[host]
		if port == 0 {
			port = 80
		}
		d, err := Ask(p, admin.Question{Host: host, Port: port, Namespace: "default"}, nil)
		if err != nil || d.Connections[0].Endpoints != want {
			t.Errorf("%s: got %+v, %v; want %d endpoints", host, d.Connections, err, want)
		}
	}
	empty := plane(t, mesh.AllowAny, [3]string{"sel", "default", "hosts: [sel.test], ports: [{number: 80, name: a, protocol: HTTP}], resolution: DNS, workloadSelector: {labels: {app: nobody}}"})
	if d, err := Ask(empty, admin.Question{Host: "sel.test", Port: 80, Namespace: "default"}, nil); err != nil || !d.Connections[0].Missing {
		t.Errorf("without endpoints: %+v, %v; want that the cluster is missing", d.Connections, err)
	}
}

func TestAQuestionAboutNoHost(t *testing.T) {
	if _, err := Ask(plane(t, mesh.AllowAny), admin.Question{Host: "a..b", Namespace: "default"}, nil); err == nil || !strings.Contains(err.Error(), `"a..b" is no host`) {
		t.Errorf("got %v", err)
	}
}

// TestAskingLeavesNothingBehind in the log of a run, though what is asked about
// does not go together.
func TestAskingLeavesNothingBehind(t *testing.T) {
	const clash = "exportTo: [.], ports: [{number: 3306, name: a, protocol: TCP}], resolution: DNS"
	var said bytes.Buffer
	p := logging(t, &said, mesh.AllowAny,
		[3]string{"one", "shop", "hosts: ['*.one.test'], " + strings.Replace(clash, "DNS", "NONE", 1)},
		[3]string{"two", "shop", "hosts: ['*.two.test'], " + strings.Replace(clash, "DNS", "NONE", 1)})
	before := said.String()
	for _, q := range []admin.Question{{Host: "a.two.test", Port: 3306}, {Host: "192.0.2.1"}, {Host: "a.two.test"}} {
		q.Namespace = "shop"
		if d, err := Ask(p, q, nil); err != nil || q.Port != 0 && d.Connections[0].Host != "*.one.test" {
			t.Errorf("%+v: %+v, %v; want an answer by which *.one.test has the port", q, d, err)
		}
	}
	if said.String() != before {
		t.Errorf("logged %s", strings.TrimPrefix(said.String(), before))
	}
}

// TestAShortNameIsThatOfItsService with a port and without.
func TestAShortNameIsThatOfItsService(t *testing.T) {
	p := plane(t, mesh.AllowAny, [3]string{"db", "default", "hosts: [db.default.svc.cluster.local], ports: [{number: 80, name: a, protocol: TCP}], resolution: STATIC, endpoints: [{address: 192.0.2.1}]"},
		[3]string{"own", "default", "hosts: [own.default], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS"},
		[3]string{"other", "default", "hosts: [own.default.svc.cluster.local], ports: [{number: 80, name: a, protocol: TCP}], resolution: DNS"})
	for host, want := range map[string]string{
		"db": "ServiceEntry default/db", "db.default": "ServiceEntry default/db", "db.default.svc": "ServiceEntry default/db", "db.default.svc.cluster.local": "ServiceEntry default/db",
		"own.default": "ServiceEntry default/own", "own": "ServiceEntry default/other",
	} {
		named, err := Ask(p, admin.Question{Host: host, Namespace: "default"}, nil)
		if err != nil || named.Owner == nil || named.Owner.Object != want {
			t.Errorf("%s belongs to %+v, %v; want %s", host, named.Owner, err, want)
		}
		to, err := Ask(p, admin.Question{Host: host, Port: 80, Namespace: "default"}, nil)
		if err != nil || to.Connections[0].Object != want || to.Host != named.Host || to.Remark != named.Remark {
			t.Errorf("%s port 80 goes to %+v, %v; want %s", host, to, err, want)
		}
		if short := host == "own" || strings.HasPrefix(host, "db") && !strings.HasSuffix(host, "local"); short != strings.Contains(to.Remark, host+" is short for ") {
			t.Errorf("%s: remark %q", host, to.Remark)
		}
	}
	if d, err := Ask(p, admin.Question{Host: "db", Namespace: "shop"}, nil); err != nil || d.Owner != nil {
		t.Errorf("in another namespace db is %+v, %v", d.Owner, err)
	}
}

// TestWhoHasThePortInsteadIsSaidRightly by age or by name.
func TestWhoHasThePortInsteadIsSaidRightly(t *testing.T) {
	const tcp = "], ports: [{number: 9, name: a, protocol: TCP}], resolution: NONE"
	for age, want := range map[string]string{"2020": "is older", "2021": "comes first by name"} {
		p := plane(t, mesh.AllowAny,
			[3]string{"a, creationTimestamp: " + age + "-01-01T00:00:00Z", "shop", "hosts: ['*.a.test'" + tcp},
			[3]string{"z, creationTimestamp: 2021-01-01T00:00:00Z", "shop", "hosts: ['*.z.test'" + tcp})
		d, err := Ask(p, admin.Question{Host: "*.z.test", Port: 9, Namespace: "shop"}, nil)
		if err != nil || d.Connections[0].Host != "*.a.test" || d.Connections[0].Reason != want {
			t.Errorf("%+v, %v; want that *.a.test %s", d.Connections, err, want)
		}
	}
}

// TestASchemeAsksForWhatItSpeaks and is told where that goes, or in what way it is
// not what is declared.
func TestASchemeAsksForWhatItSpeaks(t *testing.T) {
	p := plane(t, mesh.RegistryOnly, [3]string{"grpc", "default", "hosts: [grpc.test], ports: [{number: 50051, name: a, protocol: TLS}, {number: 80, name: b, protocol: HTTP}], resolution: DNS"})
	for _, tt := range []struct {
		port          uint16
		kind          string
		cluster, said string
	}{
		{50051, admin.TLS, "outbound|50051||grpc.test", ""},
		{50051, admin.Requests, "BlackHoleCluster", "declares port 50051 of host grpc.test for TLS and this is plain HTTP/1.1"},
		{80, admin.Requests, "outbound|80||grpc.test", ""},
		{80, admin.TLS, "BlackHoleCluster", "declares port 80 of host grpc.test for HTTP and this is "},
		{81, admin.Requests, "BlackHoleCluster", "declares host grpc.test with ports 50051 TLS, 80 HTTP only, and the outbound policy is REGISTRY_ONLY; declare port 81 there"},
	} {
		d, err := Ask(p, admin.Question{Host: "grpc.test", Port: tt.port, Kind: tt.kind, Namespace: "default"}, nil)
		if err != nil || len(d.Connections) != 1 {
			t.Fatalf("%+v: %+v, %v", tt, d.Connections, err)
		}
		if c := d.Connections[0]; c.Cluster != tt.cluster || !strings.Contains(c.Refused, tt.said) || (c.Refused == "") != (tt.said == "") {
			t.Errorf("%s on port %d: %+v", tt.kind, tt.port, c)
		}
	}
}

// TestAPortThatAnotherHostHoldsIsRefused asked for by itself, and is told of with
// the host.
func TestAPortThatAnotherHostHoldsIsRefused(t *testing.T) {
	const db = "ports: [{number: 3306, name: a, protocol: TCP}], resolution: NONE"
	p := plane(t, mesh.AllowAny, [3]string{"a", "default", "hosts: ['*.a.test'], " + db}, [3]string{"z", "default", "hosts: ['*.z.test'], " + db})
	const want = "is refused: ServiceEntry default/a ("
	d, err := Ask(p, admin.Question{Host: "db.z.test", Port: 3306, Namespace: "default"}, nil)
	if err != nil || len(d.Connections) != 1 || d.Connections[0].Cluster != "" || !strings.Contains(d.Connections[0].Refused, want) {
		t.Errorf("port 3306: %+v, %v", d.Connections, err)
	}
	for host, lost := range map[string]int{"*.z.test": 1, "*.a.test": 0} {
		d, err := Ask(p, admin.Question{Host: host, Namespace: "default"}, nil)
		if err != nil || len(d.Lost) != lost || lost > 0 && !strings.Contains(d.Lost[0], "port 3306 of *.z.test "+want) {
			t.Errorf("%s: lost %q, %v", host, d.Lost, err)
		}
	}
}

// TestANamespaceWithoutObjectsIsStrange, and the one that may be meant is named.
func TestANamespaceWithoutObjectsIsStrange(t *testing.T) {
	p := plane(t, mesh.AllowAny, entries()...)
	for namespace, want := range map[string]string{
		"shop":  "",
		"shopp": "No object lies in namespace shopp. Is shop meant?",
		"qqqqq": "No object lies in namespace qqqqq.",
	} {
		if got := Stranger(p, namespace); got != want {
			t.Errorf("%s: %q, want %q", namespace, got, want)
		}
	}
}
