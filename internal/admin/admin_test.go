package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/peer"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func source() Source {
	return Source{
		Config: func(raw bool) (Config, error) {
			c := Config{Version: 3, Clusters: []Cluster{{Name: "outbound|80||a", Type: "STRICT_DNS", Entry: &Ref{Kind: "ServiceEntry", Namespace: "default", Name: "a"}}}}
			if raw {
				c.Clusters[0].Raw = json.RawMessage(`{"name":"outbound|80||a"}`)
			}
			return c, nil
		},
		Clusters: func() []ClusterState {
			return []ClusterState{{Name: "outbound|80||a", DNS: "fresh", Endpoints: []EndpointState{{Address: "1.2.3.4:80", Name: "a", Weight: 1, Active: 2}}}}
		},
		Stats: func() Stats {
			return Stats{Traffic: Traffic{Requests: 7, Flags: map[string]uint64{"UF": 1}}, DNSRefused: 2}
		},
		Status: func() Status { return Status{Workload: "client", ConfigVersion: 3} },
	}
}

func TestWhatTheServerSaysTheClientReads(t *testing.T) {
	name := peer.Name(os.Getuid(), fmt.Sprintf("test-%d", os.Getpid()), "admin")
	ln, err := peer.Listen(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	go func() { done <- Serve(ctx, ln, source(), slog.New(slog.DiscardHandler)) }()
	c := NewClient(name)

	for _, raw := range []bool{false, true} {
		want, _ := source().Config(raw)
		got, err := c.Config(ctx, raw)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("config, raw %v (-want +got):\n%s%v", raw, diff, err)
		}
	}
	clusters, err := c.Clusters(ctx)
	if diff := cmp.Diff(source().Clusters(), clusters); diff != "" || err != nil {
		t.Errorf("clusters (-want +got):\n%s%v", diff, err)
	}
	stats, err := c.Stats(ctx)
	if diff := cmp.Diff(source().Stats(), stats); diff != "" || err != nil {
		t.Errorf("stats (-want +got):\n%s%v", diff, err)
	}
	status, err := c.Status(ctx) // not ready is an answer, not a failure
	if diff := cmp.Diff(source().Status(), status); diff != "" || err != nil {
		t.Errorf("status (-want +got):\n%s%v", diff, err)
	}

	c.Close()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Serve = %v", err)
	}
	if _, err := c.Stats(t.Context()); err == nil || !strings.Contains(err.Error(), name) {
		t.Errorf("nobody there: %v, want an error that names the socket", err)
	}
}

func TestTheServerOnlyShows(t *testing.T) {
	h := Handler(source())
	tests := []struct {
		method, path string
		want         int
	}{
		{http.MethodGet, "/config", http.StatusOK},
		{http.MethodHead, "/stats", http.StatusOK},
		{http.MethodGet, "/ready", http.StatusServiceUnavailable},
		{http.MethodPost, "/config", http.StatusMethodNotAllowed},
		{http.MethodDelete, "/clusters", http.StatusMethodNotAllowed},
		{http.MethodGet, "/quitquitquit", http.StatusNotFound},
	}
	for _, tt := range tests {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest(tt.method, tt.path, nil))
		if w.Code != tt.want {
			t.Errorf("%s %s = %d, want %d", tt.method, tt.path, w.Code, tt.want)
		}
	}
}

func TestAFailureToShowIsTold(t *testing.T) {
	broken := source()
	broken.Config = func(bool) (Config, error) { return Config{}, errors.New("cluster x: no protobuf") }
	w := httptest.NewRecorder()
	Handler(broken).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/config", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "cluster x") {
		t.Errorf("answer %d %q", w.Code, w.Body)
	}
}

func TestAQuestionReachesTheControlPlaneAsItWasAsked(t *testing.T) {
	name := peer.Name(os.Getuid(), fmt.Sprintf("test-%d", os.Getpid()), "control")
	ln, err := peer.Listen(name)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error)
	var asked Question
	from := Control{WhoOwns: func(q Question) (Decision, error) {
		asked = q
		if q.Host == "a..b" {
			return Decision{}, errors.New(`"a..b" is no host`)
		}
		return Decision{Host: q.Host, Port: q.Port, Owner: &Standing{Object: "ServiceEntry default/a", File: "a.yaml", Line: 3}, Connections: []Connection{{Port: 80, Kinds: []string{TLS}}}}, nil
	}}
	go func() { done <- ServeControl(ctx, ln, from, slog.New(slog.DiscardHandler)) }()
	c := NewClient(name)

	for _, q := range []Question{{Host: "*.a&b=c"}, {Host: "2001:db8::1", Port: 65535, Namespace: "shop"}} {
		want, _ := from.WhoOwns(q)
		got, err := c.WhoOwns(ctx, q)
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("%v (-want +got):\n%s%v", q, diff, err)
		}
		if asked != q {
			t.Errorf("asked %v, heard %v", q, asked)
		}
	}
	if _, err := c.WhoOwns(ctx, Question{Host: "a..b"}); err == nil || !strings.Contains(err.Error(), `"a..b" is no host`) {
		t.Errorf("a question that makes no sense: %v", err)
	}
	w := httptest.NewRecorder()
	ControlHandler(from).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/who-owns?host=a&port=70000", nil))
	if w.Code != http.StatusBadRequest || !strings.Contains(w.Body.String(), "70000") {
		t.Errorf("a port that is none: %d %q", w.Code, w.Body)
	}

	c.Close()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("ServeControl = %v", err)
	}
}

func TestPlacesAreSaidAsFarAsTheyAreKnown(t *testing.T) {
	for want, s := range map[string]Standing{
		"ServiceEntry a/b":            {Object: "ServiceEntry a/b"},
		"ServiceEntry a/b (x.yaml)":   {Object: "ServiceEntry a/b", File: "x.yaml"},
		"ServiceEntry a/b (x.yaml:7)": {Object: "ServiceEntry a/b", File: "x.yaml", Line: 7},
	} {
		if got := s.Where(); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}
