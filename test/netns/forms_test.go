package netns

import (
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"testing"

	"github.com/fairlead/fairlead/test/world"
)

func TestUnixSocketsAreEndpoints(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		path := b.Dir + "/web.sock"
		b.unixSite(path, "by path\n")
		if err := os.Chmod(path, 0o666); err != nil { // the proxy is the user's
			b.Fatal(err)
		}
		b.unixSite("@fairlead-test-web", "by abstract name\n")
		f := b.file("e.yaml", entry("path", "path.example", "80 http HTTP", "resolution: STATIC", "endpoints: [{address: 'unix://"+path+"'}]")+"---\n"+
			entry("abstract", "abstract.example", "80 http HTTP", "resolution: STATIC", "endpoints: [{address: 'unix://@fairlead-test-web'}]"))
		b.want("curl", b.run("--closed -f "+f, "curl -s http://path.example; curl -s http://abstract.example"), 0, "by path\nby abstract name\n")
	})
}

// unixSite serves one page on a unix socket of the host.
func (b *bed) unixSite(at, page string) {
	b.Helper()
	var l net.Listener
	if err := b.InHost(func() (err error) { l, err = net.Listen("unix", at); return err }); err != nil {
		b.Fatal(err)
	}
	s := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { io.WriteString(w, page) })}
	done := make(chan struct{})
	go func() { defer close(done); s.Serve(l) }()
	b.Cleanup(func() { s.Close(); <-done })
}

func TestARangeOfAddressesIsOneEntry(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		for _, a := range []netip.Addr{first, second} {
			if _, err := b.TCP(at(a, 7000), world.Greet(a.String()+"\r\n")); err != nil {
				b.Fatal(err)
			}
		}
		f := b.file("e.yaml", entry("net", "net.example", "7000 raw TCP", "resolution: NONE", "addresses: ["+netip.PrefixFrom(first, 30).Masked().String()+"]"))
		b.want("inside", b.run("--closed -f "+f, "echo | client raw "+at(first, 7000).String()+"; echo | client raw "+at(second, 7000).String()), 0,
			first.String(), second.String())
		b.want("outside", b.run("--closed -f "+f, "client raw "+at(other4, 7000).String()+" < /dev/null"), 1, "failed:")
	})
}

func TestRoundRobinUsesOneAddress(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		one, two := b.site("one\n", at(first, 80)), b.site("two\n", at(second, 80))
		b.DNS.Set("robin.example", 60, first, second)
		f := b.file("e.yaml", entry("robin", "robin.example", "80 http HTTP", "resolution: DNS_ROUND_ROBIN"))
		b.want("get", b.run("--closed -f "+f, "client get 20 http://robin.example/"), 0)
		if x, y := one.Requests(), two.Requests(); x+y != 20 || x != 0 && y != 0 {
			b.Errorf("%d and %d requests, want all 20 at one of two addresses", x, y)
		}
	})
}

func TestSelectedWorkloadsAreEndpoints(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		b.site("the workload\n", at(first, 8080))
		f := b.file("e.yaml", entry("app", "app.example", "80 http HTTP 8080", "resolution: STATIC", "workloadSelector: {labels: {app: web}}")+`---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: web-1}
spec: {address: `+first.String()+`, labels: {app: web}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: db-1}
spec: {address: `+second.String()+`, labels: {app: db}}
`)
		b.want("curl", b.run("--closed -f "+f, "curl -s http://app.example"), 0, "the workload\n")
	})
}
