package proxy_test

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"

	"github.com/fairlead/fairlead/internal/mesh"
)

// TestFault70TheSocketsAreFreeWhileADrainGoesOn keeps a request in progress, and
// is the next proxy itself: it has a copy of the socket.
func TestFault70TheSocketsAreFreeWhileADrainGoesOn(t *testing.T) {
	asked, answer := make(chan struct{}), make(chan struct{})
	slow := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		close(asked)
		<-answer
		io.WriteString(w, "page")
	}))
	t.Cleanup(slow.Close)
	_, port, _ := net.SplitHostPort(slow.Listener.Addr().String())
	var kept net.Listener
	w := start(t, mesh.RegistryOnly, dns(port), func(ln net.Listener) {
		f, err := ln.(*net.TCPListener).File()
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if kept, err = net.FileListener(f); err != nil {
			t.Fatal(err)
		}
	})
	defer kept.Close()
	answered := make(chan error, 1)
	go func() {
		code, body, err := w.get("www.named.test", "240.240.0.1:80")
		if err != nil || code != http.StatusOK || body != "page" {
			t.Errorf("the request in progress: %d %q, %v", code, body, err)
		}
		answered <- err
	}()
	<-asked
	w.stop()
	<-w.draining
	select {
	case <-answered:
		t.Error("the drain was told of when it was over")
	default:
	}
	next, err := net.Dial("tcp", kept.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer next.Close()
	got, err := kept.Accept() // by nobody else
	if err != nil {
		t.Fatal(err)
	}
	got.Close()
	close(answer)
	<-answered
}
