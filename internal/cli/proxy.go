package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/eventlog"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/proxy"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
)

// proxyMain is the process of a proxy. Its standard error is the run's log.
func proxyMain(env Env) int {
	log := eventlog.New(env.Err).With("part", "proxy")
	if err := serveProxy(log); err != nil {
		log.Error("proxy failed", "error", err)
		return 1
	}
	return 0
}

func serveProxy(log *slog.Logger) error {
	debug.SetGCPercent(proxy.GCPercent)
	control, err := peer.FileConn(os.NewFile(bootstrap.ControlFD, "control"))
	if err != nil {
		return fmt.Errorf("the proxy is started by `fairlead run`, not by hand: %w", err)
	}
	defer control.Close()
	boot, files, err := bootstrap.Receive(control)
	if errors.Is(err, io.EOF) {
		return nil // the run was over before there was anything to do
	}
	if err != nil {
		return err
	}
	o, err := proxyOptions(boot, files, log)
	if err != nil {
		return err
	}
	o.Ready = func() {
		// A supervisor that has gone is noticed below.
		_, _ = io.WriteString(control, bootstrap.ReadyLine)
	}
	o.Draining = func() {
		_, _ = io.WriteString(control, bootstrap.DrainingLine) // likewise
	}
	// Sent SIGTERM, a proxy drains while the next one serves its sockets; a second
	// one ends it at once.
	ctx, cancel := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer cancel()
	defer context.AfterFunc(ctx, cancel)()
	go func() { // ends with the process: nothing it owns outlives it
		_, _ = io.Copy(io.Discard, control)
		cancel()
	}()
	if err := proxy.Run(ctx, o); err != nil && !errors.Is(err, context.Canceled) {
		return err
	}
	return nil
}

func proxyOptions(boot bootstrap.Proxy, files []*os.File, log *slog.Logger) (o proxy.Options, err error) {
	for i, kind := range boot.Sockets {
		if err := addSocket(&o, kind, files[i]); err != nil {
			return o, fmt.Errorf("take over socket %d (%s): %w", i, kind, err)
		}
	}
	accessLog, err := os.OpenFile(boot.AccessLog, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o600)
	if err != nil {
		return o, fmt.Errorf("open the access log: %w", err)
	}
	if o.Resolve, err = resolve.FromSystem(); err != nil {
		return o, err
	}
	o.AccessLog = accessLog
	if boot.LogForm != "" {
		if o.LogForm, err = proxy.ParseLogForm(boot.LogForm); err != nil {
			return o, err
		}
	}
	if o.MaxConnections, o.MaxMemory, err = limits(boot.Limits); err != nil {
		return o, err
	}
	o.Dial = func(ctx context.Context) (net.Conn, error) { return peer.Dial(ctx, boot.XDS) }
	o.Workload = boot.Workload
	o.Search = o.Resolve.Search // the sandbox keeps the host's search list
	o.Own = boot.Own
	o.Log = log
	return o, nil
}

// addSocket takes over f.
func addSocket(o *proxy.Options, kind bootstrap.SocketKind, f *os.File) error {
	defer f.Close()
	switch kind {
	case bootstrap.Admin:
		ln, err := peer.Inherit(f)
		o.Admin = ln
		return err
	case bootstrap.Capture, bootstrap.DNSStream:
		ln, err := net.FileListener(f)
		if err != nil {
			return err
		}
		if kind == bootstrap.Capture {
			o.Captures = append(o.Captures, ln)
		} else {
			o.DNSStreams = append(o.DNSStreams, ln)
		}
		return nil
	case bootstrap.DNSPacket:
		c, err := net.FilePacketConn(f)
		if err != nil {
			return err
		}
		packets, ok := c.(*net.UDPConn)
		if !ok {
			return errors.Join(errors.New("it is no UDP socket"), c.Close())
		}
		o.DNSPackets = append(o.DNSPackets, packets)
		return nil
	}
	return errors.New("its kind is unknown to this version")
}
