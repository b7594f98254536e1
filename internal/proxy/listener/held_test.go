package listener

import (
	"crypto/tls"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// TestAPortThatAnotherHostHoldsIsRefusedByName has db.test, for which
// 93.184.216.34 was answered, lose ports that cluster db holds.
func TestAPortThatAnotherHostHoldsIsRefusedByName(t *testing.T) {
	loser := mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "loser"}
	holder := mesh.Ref{Kind: "ServiceEntry", Namespace: "x", Name: "y"}
	held := func(port uint16, requests bool, within ...string) config.RefusedPort {
		p := config.RefusedPort{Port: port, RequestsPass: requests, Holder: "b.test", Entry: holder}
		for _, w := range within {
			p.Within = append(p.Within, netip.MustParsePrefix(w))
		}
		return p
	}
	sniffing := func(at string) *config.Listener {
		l := tcpListener(at, "db")
		l.InspectHTTP = true
		l.Chains = []*config.FilterChain{{
			Name: "http", Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.1"}},
			HTTP: &config.HTTPManager{Inline: blockAll()},
		}}
		return l
	}
	for _, closed := range []bool{false, true} {
		b := newBed(t, options{closed: closed, delta: func(_ *bed, d *config.Delta) {
			d.Listeners = append(d.Listeners, tcpListener("0.0.0.0:5432", "db"), tcpListener("0.0.0.0:7000", "db"), sniffing("0.0.0.0:6000"))
			d.Names = append(d.Names,
				&config.Name{Host: "db.test", Entry: loser, Refused: []config.RefusedPort{held(5432, false), held(6000, true), held(7000, false, "10.0.0.0/8")}},
				&config.Name{Host: "virtual.test", Virtual: true, Addresses: []netip.Addr{netip.MustParseAddr("240.240.0.9")}, Entry: loser, Refused: []config.RefusedPort{held(5432, false)}})
		}})
		refused := func(at, host string) {
			t.Helper()
			b.wantRefused(t, at)
			rec := b.records.next(t)
			if rec.Reason != decision.PortHeld || rec.Entry != loser || rec.HolderEntry != holder || rec.Name != host || rec.Cluster != "" || rec.Details != "port_held" {
				t.Errorf("%s: record %+v", at, rec)
			}
			if want := " of " + host + " (" + at + ") is refused: ServiceEntry x/y holds connections to it for host b.test"; !strings.Contains(rec.Sentence(), want) {
				t.Errorf("%s: %s", at, rec.Sentence())
			}
		}
		passes := func(at string) {
			t.Helper()
			c := b.dial(at)
			io.WriteString(c, "ping")
			buf := make([]byte, 4)
			if _, err := io.ReadFull(c, buf); err != nil {
				t.Errorf("%s: %v", at, err)
			}
			c.Close()
			if rec := b.records.next(t); rec.Cluster != "db" || rec.Reason != decision.OK {
				t.Errorf("%s: record %+v", at, rec)
			}
		}
		refused("93.184.216.34:5432", "db.test")
		refused("240.240.0.9:5432", "virtual.test")
		passes("203.0.113.1:5432")
		passes("93.184.216.34:7000")

		c := b.dial("93.184.216.34:6000")
		io.WriteString(c, "GET / HTTP/1.1\r\nHost: db.test\r\n\r\n")
		answer := make([]byte, 12)
		if _, err := io.ReadFull(c, answer); err != nil || !strings.HasPrefix(string(answer), "HTTP/1.1 502") {
			t.Errorf("a request: %q, %v", answer, err)
		}
		c.Close()
		b.records.next(t)
		c = b.dial("93.184.216.34:6000")
		io.WriteString(c, "\x00ping")
		wantReset(t, c)
		if rec := b.records.next(t); rec.Reason != decision.PortHeld {
			t.Errorf("bytes among requests: record %+v", rec)
		}
	}
}

// TestWhatIsDeclaredOfTheHostIsTold where the policy refuses a connection: of the
// name that a handshake tells, else of the one that DNS answered.
func TestWhatIsDeclaredOfTheHostIsTold(t *testing.T) {
	name := func(host string, p mesh.Protocol) *config.Name {
		return &config.Name{Host: host, Declared: decision.Declaration{
			Host: host, Entry: mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: host}, Ports: []decision.DeclaredPort{{Number: 443, Protocol: p}},
		}}
	}
	b := newBed(t, options{closed: true, delta: func(_ *bed, d *config.Delta) {
		d.Names = append(d.Names, name("db.test", mesh.MySQL), name("www.test", mesh.HTTP))
	}})
	c := b.dial("93.184.216.34:7")
	io.WriteString(c, "\x00ping")
	wantReset(t, c)
	rec := b.records.next(t)
	if want := "db.test (93.184.216.34:7) is not declared: ServiceEntry default/db.test declares host db.test with port 443 MySQL only, and"; !strings.HasPrefix(rec.Sentence(), want) {
		t.Errorf("bytes: %s", rec.Sentence())
	}
	_ = tls.Client(b.dial("93.184.216.34:443"), &tls.Config{ServerName: "www.test"}).Handshake() // it is reset
	rec = b.records.next(t)
	if want := "ServiceEntry default/www.test declares port 443 of host www.test for HTTP and this is TLS, and"; !strings.HasPrefix(rec.Sentence(), want) {
		t.Errorf("TLS: %s", rec.Sentence())
	}
}
