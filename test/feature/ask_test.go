package feature

import (
	"context"
	"encoding/binary"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/dns"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
)

// realZone is what every name has in the world outside.
var realZone = netip.MustParseAddr("198.51.100.53")

var questionTypes = map[string]dnsmessage.Type{
	"A": dnsmessage.TypeA, "AAAA": dnsmessage.TypeAAAA, "TXT": dnsmessage.TypeTXT, "HTTPS": 65, "SVCB": 64,
}

// ask asks the name server of a workload with that configuration.
func ask(t *testing.T, c *config.Config, policy mesh.OutboundPolicy, kind, name string) string {
	t.Helper()
	s := dns.New(dns.Options{
		Servers: []netip.AddrPort{outside(t)},
		Config:  func() *config.Config { return c },
		Policy:  func() mesh.OutboundPolicy { return policy },
		Log:     slog.New(slog.DiscardHandler),
	})
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := ln.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, nil, []net.Listener{ln}) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	q := dnsmessage.Message{Header: dnsmessage.Header{ID: 7, RecursionDesired: true}, Questions: []dnsmessage.Question{{
		Name: dnsmessage.MustNewName(name + "."), Type: questionTypes[kind], Class: dnsmessage.ClassINET,
	}}}
	wire, err := q.AppendPack(make([]byte, 2, 512))
	if err != nil {
		t.Fatal(err)
	}
	binary.BigEndian.PutUint16(wire, uint16(len(wire)-2))
	var d net.Dialer
	conn, err := d.DialContext(t.Context(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write(wire); err != nil {
		t.Fatal(err)
	}
	var size [2]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		t.Fatal(err)
	}
	reply := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(conn, reply); err != nil {
		t.Fatal(err)
	}
	return replyAsText(t, reply)
}

func replyAsText(t *testing.T, wire []byte) string {
	t.Helper()
	var m dnsmessage.Message
	if err := m.Unpack(wire); err != nil {
		t.Fatal(err)
	}
	said := strings.TrimPrefix(m.RCode.String(), "RCode")
	if m.Authoritative {
		said += ", authoritative"
	}
	if len(m.Answers) == 0 {
		said += ", empty"
	}
	for _, a := range m.Answers {
		var addr netip.Addr
		switch body := a.Body.(type) {
		case *dnsmessage.AResource:
			addr = netip.AddrFrom4(body.A)
		case *dnsmessage.AAAAResource:
			addr = netip.AddrFrom16(body.AAAA)
		default:
			said += " " + a.Header.Type.String()
			continue
		}
		said += " " + addr.String()
		if m.Authoritative {
			said += " for " + (time.Duration(a.Header.TTL) * time.Second).String()
		}
	}
	return said
}

// outside starts a name server that gives realZone for every A and nothing for
// other types.
func outside(t *testing.T) netip.AddrPort {
	t.Helper()
	return nameServer(t, func() (netip.Addr, uint32) { return realZone, 60 }, func() dnsmessage.RCode { return dnsmessage.RCodeSuccess })
}

// nameServer starts a name server that answers with the code it is told, every A
// with the address it is told unless that is the zero one, and other types with
// nothing.
func nameServer(t *testing.T, tell func() (addr netip.Addr, ttl uint32), code func() dnsmessage.RCode) netip.AddrPort {
	t.Helper()
	conn, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	t.Cleanup(func() { conn.Close(); <-done })
	go func() {
		defer close(done)
		buf := make([]byte, 1500)
		for {
			n, from, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			var q dnsmessage.Message
			if err := q.Unpack(buf[:n]); err != nil || len(q.Questions) != 1 {
				continue
			}
			reply := dnsmessage.Message{Header: dnsmessage.Header{ID: q.ID, Response: true, RecursionAvailable: true, RCode: code()}, Questions: q.Questions}
			addr, ttl := netip.Addr{}, uint32(0)
			if q.Questions[0].Type == dnsmessage.TypeA {
				addr, ttl = tell()
			}
			if addr.IsValid() {
				reply.Answers = []dnsmessage.Resource{{
					Header: dnsmessage.ResourceHeader{Name: q.Questions[0].Name, Class: dnsmessage.ClassINET, TTL: ttl},
					Body:   &dnsmessage.AResource{A: addr.As4()},
				}}
			}
			if out, err := reply.Pack(); err == nil {
				_, _ = conn.WriteToUDPAddrPort(out, from)
			}
		}
	}()
	return conn.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestBehaviour27RefreshFollowsTheTimeToLive gives a name another address once
// its first has outlived its second: the refresh rate, an hour, does not count.
func TestBehaviour27RefreshFollowsTheTimeToLive(t *testing.T) {
	t.Parallel()
	first, second := netip.MustParseAddr("192.0.2.1"), netip.MustParseAddr("192.0.2.2")
	asked := 0
	server := nameServer(t, func() (netip.Addr, uint32) {
		if asked++; asked == 1 {
			return first, 1
		}
		return second, 3600
	}, func() dnsmessage.RCode { return dnsmessage.RCodeSuccess })
	r := resolve.New(resolve.Options{Servers: []netip.AddrPort{server}, Refresh: time.Hour})
	defer r.Close()
	answers := make(chan []netip.Addr, 8)
	defer r.Watch("a.example.com", func(a resolve.Answer) {
		select {
		case answers <- a.Addrs:
		default:
		}
	})()
	limit := time.NewTimer(time.Minute)
	defer limit.Stop()
	for _, want := range []netip.Addr{first, second} {
		for got := []netip.Addr(nil); !slices.Equal(got, []netip.Addr{want}); {
			select {
			case got = <-answers:
			case <-limit.C:
				t.Fatalf("waited in vain for %s", want)
			}
		}
	}
}
