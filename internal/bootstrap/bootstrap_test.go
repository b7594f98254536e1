package bootstrap

import (
	"net"
	"net/netip"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/peer"
)

func pair(t *testing.T) (ours, theirs *net.UnixConn) {
	t.Helper()
	ours, file, err := peer.Pair()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ours.Close() })
	if theirs, err = peer.FileConn(file); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { theirs.Close() })
	return ours, theirs
}

func TestProxyArrivesWithItsSockets(t *testing.T) {
	sent := Proxy{
		Workload:  mesh.Workload{Name: "client", Namespace: "default", Labels: map[string]string{"app": "client"}},
		XDS:       "@fairlead/0/client/xds",
		AccessLog: "access.log",
		Own:       []netip.Addr{netip.MustParseAddr("192.0.0.8")},
		Sockets:   []SocketKind{Capture, DNSPacket},
	}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	defer w.Close()
	ours, theirs := pair(t)
	if err := Send(ours, sent, []*os.File{r, w}); err != nil {
		t.Fatal(err)
	}
	got, files, err := Receive(theirs)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(sent, got, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
		t.Errorf("-sent +got:\n%s", diff)
	}
	// The files are the ones sent, in order: what goes in at one comes out at the other.
	if _, err := files[1].WriteString("x"); err != nil {
		t.Fatal(err)
	}
	var b [1]byte
	if _, err := files[0].Read(b[:]); err != nil || b[0] != 'x' {
		t.Errorf("read %q, %v through the files that arrived", b, err)
	}
}

func TestABootstrapCutShortIsRefused(t *testing.T) {
	for name, message := range map[string]string{
		"half a message":  "\x00\x00\x00\x08{",
		"too long":        "\x00\x10\x00\x01",
		"a socket missed": "\x00\x00\x00\x17{\"sockets\":[\"capture\"]}",
	} {
		ours, theirs := pair(t)
		if _, err := ours.Write([]byte(message)); err != nil {
			t.Fatal(err)
		}
		ours.Close()
		if p, files, err := Receive(theirs); err == nil {
			t.Errorf("%s: Receive = %v, %v, want an error", name, p, files)
		}
	}
}

func TestFilesWithoutAKindAreNotSent(t *testing.T) {
	ours, _ := pair(t)
	if err := Send(ours, Proxy{}, []*os.File{os.Stdin}); err == nil {
		t.Error("Send took a file that no socket is named for")
	}
}
