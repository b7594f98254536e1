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
	d.Names = []*config.Name{{Host: "db.test", Addresses: []netip.Addr{vip}, Virtual: true}}
	w.apply(d)
	pick := func() (*Endpoint, decision.Record, error) {
		var rec decision.Record
		e, err := w.Get(xds.PassthroughCluster).Pick(netip.AddrPortFrom(vip, 8080), nil, &rec)
		return e, rec, err
	}

	if _, rec, err := pick(); !errors.Is(err, ErrNoEndpoint) || rec.Err == "" {
		t.Errorf("a host without address: %v, %q", err, rec.Err)
	}

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
