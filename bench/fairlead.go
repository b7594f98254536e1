package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime/debug"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy"
)

// ours is Fairlead as it runs beside a command: a control plane that declares
// the backend, on the core of the load, and the proxy process from accept to
// the access log, whose counters are always on. Only the capture is left out:
// the proxy is told where connections meant to go.
func ours(name, protocol string, logged bool) peer {
	return peer{name, func(ctx context.Context, to string) (*server, error) {
		plane, err := startPart(ctx, loadCore, "plane", protocol, to)
		if err != nil {
			return nil, err
		}
		s, err := startPart(ctx, proxyCore, "fairlead", plane.addr, strconv.FormatBool(logged))
		if err != nil {
			plane.stop()
			return nil, err
		}
		s.ends = append(s.ends, plane.stop)
		return s, nil
	}}
}

// declared is where every connection means to go.
const declared = "198.51.100.1:80"

const entry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: bench}
spec:
  hosts: [` + host + `]
  addresses: [198.51.100.1]
  ports: [{number: 80, name: bench, protocol: PROTOCOL}]
  resolution: STATIC
  endpoints: [{address: ADDRESS, ports: {bench: PORT}}]
`

// plane PROTOCOL ADDRESS is a control plane that declares one host. It prints
// the name of its socket.
func plane(args []string) error {
	to, err := netip.ParseAddrPort(args[1])
	if err != nil {
		return err
	}
	yaml := strings.NewReplacer("PROTOCOL", args[0], "ADDRESS", to.Addr().String(), "PORT", strconv.Itoa(int(to.Port()))).Replace(entry)
	p, _, err := control.New(control.Options{
		Paths: []string{"-"}, Stdin: strings.NewReader(yaml),
		Namespace: "default", Policy: mesh.RegistryOnly, Log: slog.New(slog.DiscardHandler),
	})
	if err != nil {
		return err
	}
	socket := fmt.Sprintf("@fairlead-bench/%d/xds", os.Getpid())
	ln, err := net.Listen("unix", socket)
	if err != nil {
		return err
	}
	fmt.Println(socket)
	go answer(nil)
	return p.Serve(context.Background(), ln)
}

// fairlead SOCKET LOGGED is the proxy.
func fairlead(args []string) error {
	debug.SetGCPercent(proxy.GCPercent)
	capture, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	var accessLog io.Writer
	if args[1] == "true" {
		if accessLog, err = os.OpenFile(os.DevNull, os.O_WRONLY, 0); err != nil {
			return err
		}
	}
	destination := netip.MustParseAddrPort(declared)
	err = proxy.Run(context.Background(), proxy.Options{
		Captures: []net.Listener{capture},
		Dial: func(ctx context.Context) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", args[0])
		},
		Workload:  mesh.Workload{Name: "bench", Namespace: "default"},
		AccessLog: accessLog,
		Log:       slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: slog.LevelWarn})),
		Original:  func(net.Conn) (netip.AddrPort, error) { return destination, nil },
		Ready: func() {
			fmt.Println(capture.Addr())
			go answer(nil)
		},
	})
	return errors.Join(errors.New("the proxy ended"), err)
}
