package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httputil"
	"net/netip"
	"net/url"
	"os"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/l7"
	"github.com/fairlead/fairlead/internal/proxy/listener"
	"github.com/fairlead/fairlead/internal/proxy/telemetry"
	"github.com/fairlead/fairlead/internal/xds"
)

// part is this program as one process of the rig. A server prints its address
// and serves until standard input ends; each line it reads there is answered
// with its count of allocations.
func part(name string, args []string) error {
	if name == "load" {
		return load(args)
	}
	serve := map[string]func(net.Listener, string) error{
		"backend": backend, "reverseproxy": reverseProxy, "relay": relay,
		"fairlead":       func(l net.Listener, to string) error { return fairlead(l, to, true) },
		"fairlead-nolog": func(l net.Listener, to string) error { return fairlead(l, to, false) },
	}[name]
	if serve == nil {
		return errors.New("no such part")
	}
	to := ""
	if len(args) > 0 {
		to = args[0]
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	go answerStats()
	fmt.Println(l.Addr())
	return serve(l, to)
}

func answerStats() {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		fmt.Println(m.Mallocs)
	}
	os.Exit(0)
}

// host is the declared host of every request.
const host = "bench.example"

const bodySize = 1 << 10

// backend answers every head with the same 1 KiB, as cheaply as it can.
func backend(l net.Listener, _ string) error {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(bodySize) + "\r\n\r\n" + strings.Repeat("x", bodySize))
	return accept(l, func(c net.Conn) {
		p := make([]byte, 8<<10)
		have := 0
		for {
			n, err := c.Read(p[have:])
			if err != nil {
				return
			}
			have += n
			for {
				end := bytes.Index(p[:have], []byte("\r\n\r\n"))
				if end < 0 {
					break
				}
				have = copy(p, p[end+4:have])
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
			if have == len(p) {
				return // no head of ours is that long
			}
		}
	})
}

func accept(l net.Listener, serve func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}

// reverseProxy is the standard library's, with as many kept connections as it
// can use and nothing else changed.
func reverseProxy(l net.Listener, to string) error {
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	p.Transport = &http.Transport{MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000, DisableCompression: true}
	s := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute}
	return s.Serve(l)
}

// relay copies bytes and looks at none: what a proxy of two connections in Go
// costs at least.
func relay(l net.Listener, to string) error {
	return accept(l, func(c net.Conn) {
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		var both sync.WaitGroup
		pass := func(to, from net.Conn) {
			_, _ = copyPlain(to, from)
			_ = to.Close()
		}
		both.Go(func() { pass(up, c) })
		both.Go(func() { pass(c, up) })
		both.Wait()
	})
}

// copyPlain reads and writes; splice would cost more for messages this small.
func copyPlain(to io.Writer, from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 8<<10))
}

// fairlead is the proxy as it runs beside a command, from accept to the access
// log, but for the capture: the original destination is given instead.
func fairlead(l net.Listener, to string, logged bool) error {
	ctx := context.Background()
	cfg, delta := declare(netip.MustParseAddrPort(to))
	discard := slog.New(slog.DiscardHandler)
	clusters := cluster.New(nil, discard)
	clusters.Update(cfg, delta)
	var log l7.Recorder = forget{}
	if logged {
		f, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		written := telemetry.NewLog(f)
		go func() { _ = written.Run(ctx) }()
		log = written
	}
	current := func() *config.Config { return cfg }
	return listener.New(listener.Options{
		Config: current, Clusters: clusters, Log: log, Logger: discard,
		HTTP:     l7.New(l7.Options{Config: current, Clusters: clusters, Log: log}),
		Original: func(net.Conn) (netip.AddrPort, error) { return netip.MustParseAddrPort("198.51.100.1:80"), nil },
	}).Serve(ctx, l)
}

type forget struct{}

func (forget) Add(*decision.Record) {}

// declare is what the control plane sends for one STATIC entry with an HTTP
// port.
func declare(endpoint netip.AddrPort) (*config.Config, config.Delta) {
	entry := mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "bench"}
	name := xds.OutboundCluster(80, "", host)
	d := config.Delta{
		Clusters: []*config.Cluster{{Name: name, Type: config.EDS, ServiceName: name, ConnectTimeout: 10 * time.Second, Entry: entry}},
		Assignments: []*config.Assignment{{Name: name, Endpoints: []config.Endpoint{
			{Host: endpoint.Addr().String(), Port: endpoint.Port(), Weight: 1},
		}}},
		Tables: []*config.RouteTable{config.NewRouteTable("80", []*config.VirtualHost{{
			Name: host + ":80", Domains: []string{host}, Entry: entry,
			Routes: []*config.Route{{Name: "default", Prefix: "/", Cluster: name, Retry: config.Retry{Attempts: 2, ConnectFailure: true, PreviousHosts: true}}},
		}}, nil)},
		Listeners: []*config.Listener{{
			Name: "0.0.0.0_80", Addresses: []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:80")},
			InspectTLS: true, InspectHTTP: true,
			Chains: []*config.FilterChain{{
				Name:  "http",
				Match: config.Match{Transport: "raw_buffer", Applications: []string{"http/1.0", "http/1.1"}},
				HTTP:  &config.HTTPManager{RouteName: "80"},
			}},
		}},
	}
	return (*config.Config)(nil).Apply(d), d
}

// load ADDR REQUESTS CONNS sends requests over kept connections and prints the
// nanoseconds it took. Any answer that is not the backend's is an error.
func load(args []string) error {
	total, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	conns, err := strconv.Atoi(args[2])
	if err != nil {
		return err
	}
	var left atomic.Int64
	left.Store(int64(total))
	var wg sync.WaitGroup
	failed := make(chan error, conns)
	begin := time.Now()
	for range conns {
		wg.Go(func() {
			if err := talk(args[0], &left); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	select {
	case err := <-failed:
		return err
	default:
	}
	fmt.Println(took.Nanoseconds())
	return nil
}

func talk(to string, left *atomic.Int64) error {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		return err
	}
	request := []byte("GET /some/path HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n\r\n")
	r := bufio.NewReaderSize(c, 8<<10)
	for left.Add(-1) >= 0 {
		if _, err := c.Write(request); err != nil {
			return err
		}
		if err := readAnswer(r); err != nil {
			return err
		}
	}
	return nil
}

func readAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return err
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")):
			return fmt.Errorf("unexpected answer %q", line)
		case len(line) == 0:
			if length != bodySize {
				return fmt.Errorf("a body of %d bytes, want %d", length, bodySize)
			}
			_, err := r.Discard(length)
			return err
		}
		const field = "content-length:"
		if len(line) > len(field) && bytes.EqualFold(line[:len(field)], []byte(field)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(field):]))); err != nil {
				return err
			}
		}
	}
}
