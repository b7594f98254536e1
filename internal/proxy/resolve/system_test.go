package resolve

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestParse(t *testing.T) {
	const resolvConf = `# made by hand
nameserver 10.0.0.1
nameserver fe80::1%eth0 ; with a zone
nameserver 2001:db8::53
nameserver not-an-address
domain first.example
search Corp.Example default.svc. bad..name
options ndots:5 timeout:3 attempts:4 rotate timeout:x edns0
nameserver
`
	const hosts = `127.0.0.1	localhost
::1 localhost ip6-localhost
10.1.1.1 DB.corp db # the database
10.1.1.2 db.corp
10.1.1.2 db.corp
nonsense here
::ffff:10.1.1.3 mapped
`
	got, err := Parse(strings.NewReader(resolvConf), strings.NewReader(hosts))
	if err != nil {
		t.Fatal(err)
	}
	a := netip.MustParseAddr
	want := Options{
		Servers: []netip.AddrPort{
			netip.MustParseAddrPort("10.0.0.1:53"),
			netip.AddrPortFrom(a("fe80::1%eth0"), 53),
			netip.MustParseAddrPort("[2001:db8::53]:53"),
		},
		Search:   []string{"corp.example", "default.svc"},
		Timeout:  3 * time.Second,
		Attempts: 4,
		Hosts: map[string][]netip.Addr{
			"localhost":     {a("127.0.0.1"), a("::1")},
			"ip6-localhost": {a("::1")},
			"db.corp":       {a("10.1.1.1"), a("10.1.1.2")},
			"db":            {a("10.1.1.1")},
			"mapped":        {a("10.1.1.3")},
		},
	}
	opts := cmp.Options{
		cmpopts.IgnoreUnexported(Options{}),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	}
	if diff := cmp.Diff(want, got, opts); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestFromFilesBoundsWhatItReads(t *testing.T) {
	dir := t.TempDir()
	hosts := filepath.Join(dir, "hosts")
	line := "10.0.0.1 " + strings.Repeat("a.x b.x c.x d.x ", 100) + "\n"
	if err := os.WriteFile(hosts, []byte(strings.Repeat(line, 1000)), 0o600); err != nil {
		t.Fatal(err)
	}
	o, err := FromFiles(filepath.Join(dir, "absent"), hosts)
	if err != nil || len(o.Servers) != 0 || len(o.Hosts) != 4 {
		t.Errorf("%d servers, %d hosts, error %v; want none, 4, none", len(o.Servers), len(o.Hosts), err)
	}
	if _, err := FromFiles(dir, hosts); err == nil || !strings.Contains(err.Error(), dir) {
		t.Errorf("a folder for a file: error %v, want one that names it", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add("nameserver 1.1.1.1\nsearch a b\noptions timeout:1", "127.0.0.1 localhost")
	f.Add("nameserver fe80::1%eth0", "::1 a.b *")
	f.Fuzz(func(t *testing.T, resolvConf, hosts string) {
		o, _ := Parse(strings.NewReader(resolvConf), strings.NewReader(hosts))
		if len(o.Servers) > maxServers || len(o.Search) > maxSearch {
			t.Errorf("%d servers, %d search domains", len(o.Servers), len(o.Search))
		}
	})
}
