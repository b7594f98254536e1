package bootstrap

import (
	"bytes"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/mesh"
)

func TestProxyArrivesAsSent(t *testing.T) {
	sent := Proxy{
		Workload:  mesh.Workload{Name: "client", Namespace: "default", Labels: map[string]string{"app": "client"}},
		XDS:       "@fairlead/0/client/xds",
		Admin:     "@fairlead/0/client/admin",
		AccessLog: "access.log",
		Sockets:   []SocketKind{Capture, DNSPacket, DNSStream},
	}
	var line bytes.Buffer
	if err := sent.Write(&line); err != nil {
		t.Fatal(err)
	}
	got, err := Read(&line)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got); diff != "" {
		t.Errorf("-sent +got:\n%s", diff)
	}
}

func TestBootstrapWithoutEndIsRefused(t *testing.T) {
	for _, in := range []string{"", "{", strings.Repeat("x", maxLine+1)} {
		if _, err := Read(strings.NewReader(in)); err == nil {
			t.Errorf("Read(%.10q…) gave no error", in)
		}
	}
}
