//go:build h2spec

package streams

import (
	"flag"
	"net"
	"os/exec"
	"strings"
	"testing"
)

var h2spec = flag.String("h2spec", "h2spec", "the h2spec program (github.com/summerwind/h2spec/cmd/h2spec v2.2.1)")

// TestH2Spec runs h2spec, strictly, against a server that answers each request
// with a short body. It needs the program: go test -tags h2spec -h2spec PATH.
func TestH2Spec(t *testing.T) {
	srv := newServer(t, Options{}, hello)
	host, port, err := net.SplitHostPort(srv.addr)
	if err != nil {
		t.Fatal(err)
	}
	out, err := exec.Command(*h2spec, "-S", "-o", "2", "-h", host, "-p", port).CombinedOutput() //nolint:gosec // G204: the flag's
	if err != nil || !strings.Contains(string(out), "146 tests, 146 passed, 0 skipped, 0 failed") {
		t.Errorf("h2spec: %v\n%s", err, out)
	}
}
