package l7

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestLocalReplies(t *testing.T) {
	refused := closedPort(t)
	r := newRig(t,
		entry{host: "refused.example", endpoints: []netip.AddrPort{refused}},
		entry{host: "empty.example"},
		entry{host: "missing.example", change: func(r *config.Route) { r.Cluster = "outbound|80||gone.example" }},
		entry{host: "narrow.example", change: func(r *config.Route) { r.Prefix = "/only" }},
	)
	tests := []struct {
		name, request string
		status        int
		flags         string
		reason        decision.Reason
		details       string
		body          string
		closes        bool
	}{
		{
			"not declared", "GET / HTTP/1.1\r\nHost: who.example\r\n\r\n", 502, "-", decision.NotDeclared, "direct_response",
			"who.example (240.240.0.1:80) is not declared by any ServiceEntry visible here", false,
		},
		{
			"refused", "GET / HTTP/1.1\r\nHost: refused.example\r\n\r\n", 503, "UF,URX", decision.ConnectFailed,
			"upstream_reset_before_response_started{remote_connection_failure}",
			"ServiceEntry default/svc (e.yaml:1): connection to endpoint " + refused.String() + " failed: connection refused (tried 3 times).\n", false,
		},
		{"no endpoint", "GET / HTTP/1.1\r\nHost: empty.example\r\n\r\n", 503, "UH", decision.NoEndpoint, "no_healthy_upstream", "has no endpoint to send", false},
		{"no cluster", "GET / HTTP/1.1\r\nHost: missing.example\r\n\r\n", 503, "NC", decision.NoCluster, "cluster_not_found", "outbound|80||gone.example", false},
		{"no route", "GET / HTTP/1.1\r\nHost: narrow.example\r\n\r\n", 404, "NR", decision.NoRoute, "route_not_found", "no route of ServiceEntry default/svc", false},
		{"CONNECT", "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n", 502, "-", decision.NotDeclared, "direct_response", "x:80 (240.240.0.1:80) is not declared by any ServiceEntry", true},
		{"upgrade", "GET / HTTP/1.1\r\nHost: empty.example\r\nConnection: upgrade\r\nUpgrade: tls/1.0\r\n\r\n", 403, "-", decision.UpgradeRefused, "upgrade_failed", "", true},
		{"bad request", "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n", 400, "DPE", decision.BadRequest, "http1.codec_error", "more than one Host", true},
		{"bad host", "GET / HTTP/1.1\r\nHost: a..b\r\n\r\n", 400, "DPE", decision.BadRequest, "http1.codec_error", "", true},
		{"bad chunk", "POST / HTTP/1.1\r\nHost: empty.example\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", 400, "DPE", decision.BadRequest, "http1.codec_error", "", true},
		{"large", "GET / HTTP/1.1\r\nHost: a\r\nA: " + strings.Repeat("a", 61<<10), 431, "DPE", decision.TooLarge, "http1.headers_too_large", "60 KiB", true},
		{"many", "GET / HTTP/1.1\r\nHost: a\r\n" + strings.Repeat("A: a\r\n", 120) + "\r\n", 431, "DPE", decision.TooLarge, "http1.too_many_headers", "100", true},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := r.dial()
			c.t = t
			c.say(test.request)
			res, body := c.answer("GET")
			rec := r.record()
			if res.StatusCode != test.status || !strings.Contains(body, test.body) || !strings.HasSuffix(body, ".\n") || strings.Count(body, "\n") != 1 {
				t.Errorf("answer %d %q; want %d with %q", res.StatusCode, body, test.status, test.body)
			}
			if res.Header.Get("content-type") != "text/plain" || res.Header.Get("date") == "" || res.Header.Get("server") != "" {
				t.Errorf("header %v", res.Header)
			}
			if rec.Status != test.status || rec.Flags.String() != test.flags || rec.Reason != test.reason || rec.Details != test.details {
				t.Errorf("record: %d %s reason %d %s; want %d %s reason %d %s", rec.Status, rec.Flags, rec.Reason, rec.Details,
					test.status, test.flags, test.reason, test.details)
			}
			if int(rec.Sent) != len(body) {
				t.Errorf("record says %d bytes were sent, want %d", rec.Sent, len(body))
			}
			if test.closes != res.Close {
				t.Errorf("close %v, want %v", res.Close, test.closes)
			}
			if test.closes {
				c.CloseWrite()
				c.ended()
				return
			}
			c.say(test.request) // the connection goes on
			c.answer("GET")
			r.record()
		})
	}
}

func TestLocalReplyToHEADHasNoBody(t *testing.T) {
	r := newRig(t)
	c := r.dial()
	c.say("HEAD / HTTP/1.1\r\nHost: who.example\r\n\r\nGET / HTTP/1.1\r\nHost: who.example\r\n\r\n")
	res, _ := c.answer("HEAD")
	if res.StatusCode != 502 || res.ContentLength == 0 {
		t.Error(res)
	}
	if res, _ := c.answer("GET"); res.StatusCode != 502 {
		t.Error(res)
	}
}

func TestLocalReplyToGRPCIsAStatusOfItsOwn(t *testing.T) {
	r := newRig(t, entry{host: "empty.example"})
	for contentType, grpc := range map[string]bool{
		"application/grpc": true, "application/grpc+proto": true, "Application/gRPC": true, "application/grpc;charset=x": true,
		"application/grpc-web": false, "application/grp": false, "text/plain": false,
	} {
		c := r.dial()
		c.say("POST /a.B/C HTTP/1.1\r\nHost: empty.example\r\nContent-Type: " + contentType + "\r\nContent-Length: 1\r\n\r\nx")
		res, body := c.answer("POST")
		rec := r.record()
		if !grpc {
			if res.StatusCode != 503 || res.Header.Get("grpc-status") != "" || !strings.Contains(body, "has no endpoint") {
				t.Errorf("%s: %v %q", contentType, res, body)
			}
			continue
		}
		if res.StatusCode != 200 || res.Header.Get("grpc-status") != "14" || body != "" || !strings.Contains(res.Header.Get("grpc-message"), "has no endpoint") {
			t.Errorf("%s: %v %q", contentType, res, body)
		}
		if rec.Status != 200 || rec.Sent != 0 || rec.Flags != decision.UH || rec.Call.String() != "Unavailable" {
			t.Errorf("%s: record %d %s, %d sent, %s", contentType, rec.Status, rec.Call, rec.Sent, rec.Flags)
		}
	}
}

// envoy.md section 9.
func TestGRPCStatusOfHTTPCodes(t *testing.T) {
	for status, want := range map[int]int64{
		400: 13, 401: 16, 403: 7, 404: 12, 408: 2, 413: 2, 429: 14, 431: 2, 500: 2, 501: 2, 502: 14, 503: 14, 504: 14,
	} {
		if got := grpcStatus(status); got != want {
			t.Errorf("%d: %d, want %d", status, got, want)
		}
	}
}

func TestALocalReplyAllocatesNothing(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; counted without it")
		return
	}
	r := newRig(t, entry{host: "empty.example"})
	r.server.log = quietLog{}
	c := r.dial()
	request, answer := []byte("GET / HTTP/1.1\r\nHost: empty.example\r\n\r\n"), make([]byte, 4096)
	n := testing.AllocsPerRun(1000, func() {
		if _, err := c.Write(request); err != nil {
			t.Fatal(err)
		}
		if _, err := c.TCPConn.Read(answer); err != nil {
			t.Fatal(err)
		}
	})
	if n > 0.1 {
		t.Errorf("%v allocations per reply", n)
	}
}

// An answer of these ends with its head: what followed would be read as the next.
func TestDirectAnswersWithoutABody(t *testing.T) {
	for _, status := range []int{204, 304} {
		r := newRig(t, entry{host: "x.example", change: func(r *config.Route) {
			r.Direct = &config.DirectResponse{Status: status, Body: "HTTP/1.1 200 OK\r\n\r\n"}
		}})
		c := r.dial()
		for range 2 {
			c.say(get)
			if res, body := c.answer("GET"); res.StatusCode != status || body != "" || res.Header.Get("content-length") != "" {
				t.Errorf("%d %q %v", res.StatusCode, body, res.Header)
			}
			if rec := r.record(); rec.Status != status || rec.Sent != 0 {
				t.Error(rec.Status, rec.Sent)
			}
		}
	}
}

// TestARequestForAnotherProtocolIsToldWhatIsDeclared by the Host it asks for.
func TestARequestForAnotherProtocolIsToldWhatIsDeclared(t *testing.T) {
	r := newRig(t, entry{host: "x.example", name: &config.Name{Host: "tls.example", Declared: decision.Declaration{
		Host: "tls.example", Entry: where, Ports: []decision.DeclaredPort{{Number: 80, Protocol: mesh.TLS}},
	}}})
	c := r.dial()
	c.say("GET / HTTP/1.1\r\nHost: TLS.example\r\n\r\n")
	res, body := c.answer("GET")
	rec := r.record()
	const want = "ServiceEntry default/svc (e.yaml:1) declares port 80 of host tls.example for TLS and this is plain HTTP/1.1, and the outbound policy is REGISTRY_ONLY; "
	if res.StatusCode != 502 || !strings.HasPrefix(body, want) || body != rec.Sentence()+"\n" {
		t.Errorf("answer %d %q, record %q", res.StatusCode, body, rec.Sentence())
	}
}
