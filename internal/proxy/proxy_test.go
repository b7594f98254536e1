package proxy_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/proxy"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a writer that may be read meanwhile.
type text struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

func (x *text) Write(p []byte) (int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.Write(p)
}

func (x *text) String() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	return x.buf.String()
}

// world is both halves in one process, without a sandbox: every connection to
// the capture claims to go to original.
type world struct {
	t        *testing.T
	folder   string
	capture  net.Listener
	dns      *net.UDPConn
	admin    *admin.Client
	access   text
	log      text
	ready    chan struct{}
	draining chan struct{}
	stop     context.CancelFunc
	ended    chan error
	mu       sync.Mutex
	original netip.AddrPort // guarded by mu
}

// start starts a world. before is shown the capture, which is the proxy's afterwards.
func start(t *testing.T, policy mesh.OutboundPolicy, yaml string, before ...func(net.Listener)) *world {
	t.Helper()
	w := &world{t: t, folder: t.TempDir(), ready: make(chan struct{}), draining: make(chan struct{}), ended: make(chan error, 1), original: netip.MustParseAddrPort("240.240.0.1:80")}
	w.write(yaml)
	log := slog.New(slog.NewTextHandler(&w.log, nil))
	plane, warnings, err := control.New(control.Options{Paths: []string{w.folder}, Namespace: "default", Policy: policy, Log: log})
	if err != nil {
		t.Fatal(err, warnings)
	}
	run := fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ToLower(t.Name()))
	xds := w.peer(run, "xds")
	ctx, cancel := context.WithCancel(t.Context())
	w.stop = cancel
	var planeEnd sync.WaitGroup
	planeCtx, stopPlane := context.WithCancel(t.Context())
	planeEnd.Go(func() { plane.Serve(planeCtx, xds) })

	if w.capture, err = net.Listen("tcp", "127.0.0.1:0"); err != nil {
		t.Fatal(err)
	}
	for _, f := range before {
		f(w.capture)
	}
	if w.dns, err = net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)}); err != nil {
		t.Fatal(err)
	}
	w.admin = admin.NewClient(peer.Name(os.Getuid(), run, "admin"))
	o := proxy.Options{
		Captures:   []net.Listener{w.capture},
		DNSPackets: []*net.UDPConn{w.dns},
		Admin:      w.peer(run, "admin"),
		Dial:       func(ctx context.Context) (net.Conn, error) { return peer.Dial(ctx, peer.Name(os.Getuid(), run, "xds")) },
		Workload:   mesh.Workload{Name: "client", Namespace: "default"},
		Resolve:    resolve.Options{Hosts: map[string][]netip.Addr{"www.named.test": {netip.MustParseAddr("127.0.0.1")}}},
		AccessLog:  &w.access,
		Log:        log,
		Ready:      func() { close(w.ready) },
		Draining:   func() { close(w.draining) },
		Drain:      time.Second,
		Original: func(net.Conn) (netip.AddrPort, error) {
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.original, nil
		},
	}
	go func() { w.ended <- proxy.Run(ctx, o) }()
	t.Cleanup(func() {
		w.admin.Close()
		cancel()
		err := <-w.ended
		if !errors.Is(err, context.Canceled) {
			t.Errorf("Run = %v; log:\n%s", err, w.log.String())
		}
		stopPlane()
		planeEnd.Wait()
	})
	w.await("the proxy is ready", func() bool {
		select {
		case <-w.ready:
			return true
		default:
			return false
		}
	})
	return w
}

func (w *world) peer(run, what string) net.Listener {
	ln, err := peer.Listen(peer.Name(os.Getuid(), run, what))
	if err != nil {
		w.t.Fatal(err)
	}
	return ln
}

func (w *world) write(yaml string) {
	// As editors do it: a change is there at once or not at all.
	tmp := filepath.Join(w.t.TempDir(), "new")
	if err := errors.Join(os.WriteFile(tmp, []byte(yaml), 0o600), os.Rename(tmp, filepath.Join(w.folder, "entries.yaml"))); err != nil {
		w.t.Fatal(err)
	}
}

func (w *world) await(what string, ok func() bool) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("waited in vain until %s; access log:\n%s\nlog:\n%s", what, w.access.String(), w.log.String())
		}
	}
}

// get asks for http://host/ as if from the workload, at the original address.
func (w *world) get(host, original string) (int, string, error) {
	w.mu.Lock()
	w.original = netip.MustParseAddrPort(original)
	w.mu.Unlock()
	c, err := net.Dial("tcp", w.capture.Addr().String())
	if err != nil {
		return 0, "", err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(time.Minute))
	fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", host)
	resp, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(body), err
}

// site is a web server outside and the port that it is on.
func site(t *testing.T) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "page of "+r.Host) }))
	t.Cleanup(s.Close)
	_, port, _ := net.SplitHostPort(s.Listener.Addr().String())
	return port
}

const entry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: named, namespace: default}
spec:
  hosts: [www.named.test]
  location: MESH_EXTERNAL
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: %s}
`

func dns(port string) string { return fmt.Sprintf(entry, port) + "  resolution: DNS\n" }

func static(port, address string) string {
	return fmt.Sprintf(entry, port) + "  resolution: STATIC\n  endpoints:\n  - address: " + address + "\n"
}

func TestFromObjectsToTraffic(t *testing.T) {
	port := site(t)
	w := start(t, mesh.RegistryOnly, dns(port))

	code, body, err := w.get("www.named.test", "240.240.0.1:80")
	if err != nil || code != http.StatusOK || body != "page of www.named.test" {
		t.Fatalf("DNS: %d %q, %v; log:\n%s", code, body, err, w.log.String())
	}
	code, body, err = w.get("evil.test", "240.240.0.1:80")
	if err != nil || code != http.StatusBadGateway || !strings.Contains(body, "evil.test") {
		t.Errorf("undeclared: %d %q, %v", code, body, err)
	}

	// Nobody listens on 127.0.0.2 there.
	w.write(static(port, "127.0.0.2"))
	w.await("the change is in force", func() bool {
		code, body, err = w.get("www.named.test", "240.240.0.1:80")
		return err == nil && code == http.StatusServiceUnavailable
	})
	for _, want := range []string{"ServiceEntry default/named", "127.0.0.2:" + port, "connection refused"} {
		if !strings.Contains(body, want) {
			t.Errorf("the answer %q does not say %q", body, want)
		}
	}

	w.write(strings.Replace(dns(port), "www.named.test", "other.test", 1))
	w.await("the host is unknown", func() bool {
		code, _, err = w.get("www.named.test", "240.240.0.1:80")
		return err == nil && code == http.StatusBadGateway
	})
	names := net.Resolver{PreferGo: true, Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "udp", w.dns.LocalAddr().String())
	}}
	if got, err := names.LookupHost(t.Context(), "undeclared.test."); err == nil {
		t.Errorf("an undeclared name was answered with %q", got)
	}
	w.logged(port)
	w.shown()
}

// TestALiveChangeFailsNoRequestBeforeIt changes DNS to STATIC under load: each
// caller sees pages, then only 503, and nothing else ever.
func TestALiveChangeFailsNoRequestBeforeIt(t *testing.T) {
	port := site(t)
	w := start(t, mesh.AllowAny, dns(port))
	var callers sync.WaitGroup
	served := make(chan struct{}, 1000)
	for range 4 {
		callers.Go(func() {
			failed := 0
			for pages := 0; failed < 5; {
				code, body, err := w.get("www.named.test", "240.240.0.1:80")
				switch {
				case err == nil && code == http.StatusOK && failed == 0:
					if pages++; pages == 20 {
						served <- struct{}{}
					}
				case err == nil && code == http.StatusServiceUnavailable && pages > 0:
					failed++
				default:
					t.Errorf("after %d pages and %d failures: %d %q, %v", pages, failed, code, body, err)
					served <- struct{}{}
					return
				}
			}
		})
	}
	for range 4 {
		<-served
	}
	w.write(static(port, "127.0.0.2"))
	callers.Wait()
}

// TestFault62TheCallerChoosesNoOtherAddress asks for a declared host where the
// caller says the address.
func TestFault62TheCallerChoosesNoOtherAddress(t *testing.T) {
	port := site(t)
	none := fmt.Sprintf(entry, port) + "  resolution: NONE\n"
	w := start(t, mesh.RegistryOnly, none+"  addresses: [127.0.0.0/8]\n")
	want := func(original string, code int, text string) {
		t.Helper()
		got, body, err := w.get("www.named.test", original)
		if err != nil || got != code || !strings.Contains(body, text) {
			t.Errorf("to %s: %d %q, %v; want %d with %q", original, got, body, err, code, text)
		}
	}
	want("169.254.169.254:80", 503, "has no endpoint to send www.named.test (169.254.169.254:80) to: address 169.254.169.254, which the caller chose, is none of those")
	want("203.0.113.1:80", 503, "is none of those")
	w.write(none)
	w.await("the change is in force", func() bool {
		_, body, err := w.get("www.named.test", "169.254.169.254:80")
		return err == nil && strings.Contains(body, "list it in the entry's addresses")
	})
}

// logged checks that the access log tells what happened.
func (w *world) logged(port string) {
	w.t.Helper()
	type line struct {
		Code    int    `json:"response_code"`
		Flags   string `json:"response_flags"`
		Host    string `json:"authority"`
		At      string `json:"upstream_host"`
		Cluster string `json:"upstream_cluster"`
		Entry   string `json:"entry"`
		Policy  string `json:"policy"`
		Why     string `json:"why"`
	}
	find := func(ok func(line) bool) func() bool {
		return func() bool {
			for s := range strings.Lines(w.access.String()) {
				var l line
				if err := json.Unmarshal([]byte(s), &l); err != nil {
					w.t.Fatalf("access log: %v: %s", err, s)
				}
				if ok(l) {
					return true
				}
			}
			return false
		}
	}
	const cluster = "outbound|80||www.named.test"
	w.await("the page is logged", find(func(l line) bool {
		return l.Code == 200 && l.Flags == "-" && l.Host == "www.named.test" && l.At == "127.0.0.1:"+port && l.Cluster == cluster && l.Entry == "ServiceEntry default/named"
	}))
	w.await("the refusal is logged", find(func(l line) bool {
		return l.Code == 502 && l.Host == "evil.test" && l.Policy == "REGISTRY_ONLY" && strings.Contains(l.Why, "REGISTRY_ONLY")
	}))
	w.await("the failure is logged", find(func(l line) bool {
		return l.Code == 503 && l.Flags == "UF,URX" && l.Cluster == cluster && strings.Contains(l.Why, "connection refused")
	}))
}

// shown checks what the admin socket says.
func (w *world) shown() {
	w.t.Helper()
	ctx := w.t.Context()
	status, err := w.admin.Status(ctx)
	if err != nil || !status.Ready || status.Workload != "client" || status.Policy != "REGISTRY_ONLY" || status.ConfigVersion < 3 || !status.Connected {
		w.t.Errorf("status %+v, %v", status, err)
	}
	cfg, err := w.admin.Config(ctx, true)
	if err != nil {
		w.t.Fatal(err)
	}
	found := false
	for _, c := range cfg.Clusters {
		if c.Name == "outbound|80||other.test" {
			found = true
			if c.Type != "STRICT_DNS" || c.Entry.String() != "ServiceEntry default/named" || !strings.Contains(string(c.Raw), `"other.test"`) {
				w.t.Errorf("cluster %+v: %s", c, c.Raw)
			}
		}
	}
	if !found || len(cfg.Listeners) == 0 || len(cfg.Routes) == 0 || len(cfg.Names) == 0 {
		w.t.Errorf("config %+v", cfg)
	}
	stats, err := w.admin.Stats(ctx)
	if err != nil || stats.Requests < 4 || stats.Refused < 1 || stats.Flags["UF"] < 1 || stats.DNSRefused < 1 {
		w.t.Errorf("stats %+v, %v", stats, err)
	}
	if stats.StreamsLimit <= 0 || stats.StreamsHeld < 0 || stats.StreamsHeld > stats.StreamsLimit {
		w.t.Errorf("%d bytes of %d are held for streams", stats.StreamsHeld, stats.StreamsLimit)
	}
	states, err := w.admin.Clusters(ctx)
	if err != nil || len(states) != len(cfg.Clusters) {
		w.t.Errorf("clusters %+v, %v", states, err)
	}
}

// TestWithoutAControlPlaneNothingLeaves starts a proxy that never gets a
// configuration: callers are told, after a while, and nothing is let out.
func TestWithoutAControlPlaneNothingLeaves(t *testing.T) {
	capture, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	var access text
	go func() {
		ended <- proxy.Run(ctx, proxy.Options{
			Captures:  []net.Listener{capture},
			Dial:      func(context.Context) (net.Conn, error) { return nil, errors.New("nobody there") },
			AccessLog: &access,
			Log:       slog.New(slog.DiscardHandler),
			Ready:     func() { t.Error("ready without a configuration") },
			Original:  func(net.Conn) (netip.AddrPort, error) { return netip.MustParseAddrPort("1.2.3.4:80"), nil },
		})
	}()
	c, err := net.Dial("tcp", capture.Addr().String())
	if err == nil {
		_, err = c.Read(make([]byte, 1))
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("the caller got %v, want a reset", err)
	}
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) {
		t.Errorf("Run = %v", err)
	}
	if !strings.Contains(access.String(), "no configuration yet") {
		t.Errorf("access log %q does not say why", access.String())
	}
}
