package cluster

import (
	"errors"
	"net/netip"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
	"github.com/fairlead/fairlead/internal/xds"
)

func TestAVirtualAddressMeansItsHost(t *testing.T) {
	w := newWorld(t)
	vip := netip.MustParseAddr("240.240.0.7")
	d := clusters(&config.Cluster{Name: xds.PassthroughCluster, Type: config.OriginalDst})
	d.Names = []*config.Name{{Host: "db.test", Addresses: []netip.Addr{vip}, Virtual: true, Declared: decision.Declaration{Host: "db.test"}}}
	w.apply(d)
	said := ""
	pick := func() (*Endpoint, decision.Record, error) {
		rec := decision.Record{Authority: []byte(said)}
		e, err := w.Get(xds.PassthroughCluster).Pick(netip.AddrPortFrom(vip, 8080), nil, &rec)
		return e, rec, err
	}

	for _, tt := range []struct {
		authority string
		same      bool
	}{
		{"", true},
		{"DB.test:8080", true},
		{"db.test.", true},
		{"240.240.0.7", true},
		{"240.240.0.7:8080", true},
		{"240.240.0.8:8080", false},
		{"other.test:443", false},
		{"[2001:db8::1]", false},
	} {
		said = tt.authority
		_, rec, err := pick()
		if !errors.Is(err, ErrNoEndpoint) || rec.Err == "" || rec.Behind == nil || rec.Behind.Host != "db.test" || (rec.Declared != nil) != tt.same {
			t.Errorf("%q to a host without address: %v, %q, behind it %v, declared %v", said, err, rec.Err, rec.Behind, rec.Declared)
		}
	}
	said = ""

	w.names.once = map[string]resolve.Answer{"db.test": fresh("198.51.100.1")}
	e, rec, err := pick()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Done()
	if got := e.Addr().String(); got != "198.51.100.1:8080" || rec.EndpointName != "db.test" || rec.DNS != decision.Fresh {
		t.Errorf("picked %s, name %q, DNS %s", got, rec.EndpointName, rec.DNS)
	}

	w.names.once["db.test"] = fresh("127.0.0.1")
	if e, _, err := pick(); !errors.Is(err, ErrNoEndpoint) {
		t.Errorf("a name that leads inward: %v, %v", e, err)
	}

	w.apply(config.Delta{RemovedNames: []string{"db.test"}})
	e, _, err = pick()
	if err != nil {
		t.Fatal(err)
	}
	defer e.Done()
	if got := e.Addr().Addr(); got != vip {
		t.Errorf("after the name has gone its address leads to %s", got)
	}
}
