package l4

import (
	"context"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

// through serves one connection to a cluster of endpoints. It returns the
// caller's end, and its record once that is over.
func through(t *testing.T, c *config.Cluster) (*net.TCPConn, func() decision.Record) {
	t.Helper()
	d := config.Delta{Clusters: []*config.Cluster{c}}
	set := cluster.New(nil, slog.New(slog.DiscardHandler))
	set.Update((*config.Config)(nil).Apply(d), d)
	t.Cleanup(set.Close)
	client, down := capture(t)
	rec := decision.Record{Start: time.Now(), Original: netip.MustParseAddrPort("240.240.0.1:5432")}
	done := make(chan struct{})
	go func() {
		defer close(done)
		Serve(t.Context(), transport.New(down, nil), &config.TCPProxy{Cluster: c.Name}, set, &rec)
	}()
	return client, func() decision.Record { <-done; return rec }
}

func static(name string, at ...netip.AddrPort) *config.Cluster {
	a := &config.Assignment{Name: name}
	for _, x := range at {
		a.Endpoints = append(a.Endpoints, config.Endpoint{Host: x.Addr().String(), Port: x.Port(), Weight: 1})
	}
	return &config.Cluster{Name: name, Type: config.StaticSet, Inline: a, Policy: config.RoundRobin, Entry: mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: name}}
}

// closedPort is an address that is taken and where nobody listens.
func closedPort(t *testing.T) netip.AddrPort {
	t.Helper()
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	name, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), uint16(name.(*unix.SockaddrInet4).Port))
}

// backend answers one connection with what it got, in capitals; closed ones
// refuse.
func backend(t *testing.T, open bool) netip.AddrPort {
	t.Helper()
	if !open {
		return closedPort(t)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := ln.Addr().(*net.TCPAddr).AddrPort()
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := ln.Accept()
			if err != nil {
				return
			}
			b, _ := io.ReadAll(c)
			io.WriteString(c, strings.ToUpper(string(b)))
			c.Close()
		}
	}()
	t.Cleanup(func() { ln.Close(); <-done })
	return at
}

func TestOtherEndpointsAreTriedBeforeGivingUp(t *testing.T) {
	good := backend(t, true)
	c := static("db", backend(t, false), backend(t, false), good)
	client, end := through(t, c)
	io.WriteString(client, "hello")
	client.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "HELLO" {
		t.Errorf("read %q, %v", got, err)
	}
	rec := end()
	if rec.Reason != decision.OK || rec.Err != "" || rec.Flags != 0 || rec.Endpoint != good || rec.Tries < 1 || rec.Received != 5 || rec.Sent != 5 {
		t.Errorf("record %+v", rec)
	}
}

// TestAConnectionMadeEarlyIsServedAsOneMadeLate connects with a record of its
// own, as one does who is not sure of the chain yet.
func TestAConnectionMadeEarlyIsServedAsOneMadeLate(t *testing.T) {
	good := backend(t, true)
	c := static("db", backend(t, false), good)
	d := config.Delta{Clusters: []*config.Cluster{c}}
	set := cluster.New(nil, slog.New(slog.DiscardHandler))
	set.Update((*config.Config)(nil).Apply(d), d)
	t.Cleanup(set.Close)
	chain := &config.TCPProxy{Cluster: "db"}

	var early decision.Record
	u, ok := Connect(t.Context(), chain, set, &early)
	if !ok {
		t.Fatalf("connected %v, record %+v", ok, early)
	}
	client, down := capture(t)
	rec := decision.Record{Start: time.Now(), Chain: "chosen since"}
	done := make(chan struct{})
	go func() { defer close(done); u.Serve(t.Context(), transport.New(down, nil), &rec) }()
	io.WriteString(client, "hello")
	client.CloseWrite()
	if got, err := io.ReadAll(client); err != nil || string(got) != "HELLO" {
		t.Errorf("read %q, %v", got, err)
	}
	<-done
	if rec.Endpoint != good || rec.Cluster != "db" || rec.Entry.Name != "db" || rec.Endpoints != 2 || rec.Tries != early.Tries ||
		rec.Received != 5 || rec.Chain != "chosen since" || !rec.Upstream.IsValid() || rec.Duration <= 0 {
		t.Errorf("record %+v", rec)
	}

	unused, ok := Connect(t.Context(), chain, set, &early)
	if !ok {
		t.Fatal("the second connection was not made")
	}
	unused.Close()
	for _, e := range set.Get("db").Endpoints() {
		if e.Active != 0 {
			t.Errorf("%v still counts %d", e.Addr, e.Active)
		}
	}
}

func TestEachEndpointIsTriedOnce(t *testing.T) {
	for _, n := range []int{1, 2, 5} {
		var at []netip.AddrPort
		for range n {
			at = append(at, backend(t, false))
		}
		client, end := through(t, static("db", at...))
		wantReset(t, client)
		rec := end()
		if rec.Flags != decision.UF|decision.URX || rec.Reason != decision.ConnectFailed || int(rec.Tries) != min(n, maxTries) || rec.Err != "connection refused" {
			t.Errorf("%d endpoints: flags %v, %d tries: %s", n, rec.Flags, rec.Tries, rec.Sentence())
		}
	}
}

func TestNoEndpointIsAReset(t *testing.T) {
	for name, reason := range map[string]decision.Reason{"empty": decision.NoEndpoint, xds.BlackHoleCluster: decision.NotDeclared} {
		client, end := through(t, static(name))
		wantReset(t, client)
		if rec := end(); rec.Flags != decision.UH || rec.Reason != reason || rec.Details != "no_healthy_upstream" {
			t.Errorf("%s: record %+v", name, rec)
		}
	}
}

func wantReset(t *testing.T, c net.Conn) {
	t.Helper()
	if _, err := c.Read(make([]byte, 1)); err == nil || !strings.Contains(err.Error(), "reset") {
		t.Errorf("read %v, want a reset", err)
	}
}

func TestTheEndIsTold(t *testing.T) {
	tests := []struct {
		name    string
		result  result
		flags   decision.Flags
		reason  decision.Reason
		details string
	}{
		{"in order", result{}, 0, decision.OK, ""},
		{"endpoint reset", result{err: io.ErrUnexpectedEOF, far: true}, decision.UC, decision.UpstreamReset, ""},
		{"caller reset", result{err: io.ErrUnexpectedEOF}, decision.DR, decision.OK, "downstream_remote_reset"},
		{"drained", result{err: context.Canceled}, decision.LR, decision.Drained, ClosedByDrain},
		{"drained after a time that is known", result{err: decision.DrainOver(time.Second)}, decision.LR, decision.Drained, ClosedByDrain},
		{"idle", result{err: os.ErrDeadlineExceeded}, decision.SI, decision.OK, detailIdle},
	}
	for _, tt := range tests {
		var rec decision.Record
		tell(&rec, tt.result)
		if rec.Flags != tt.flags || rec.Reason != tt.reason || rec.Details != tt.details {
			t.Errorf("%s: record %+v", tt.name, rec)
		}
	}
}
