package l7

import (
	"io"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// versions are the ways a request can cross.
var versions = []struct {
	name     string
	from, to int
}{{"h2 to h1", 2, 1}, {"h1 to h2", 1, 2}, {"h2 to h2", 2, 2}}

// across is a rig with one host on an endpoint of Go's, and a client of Go's.
func across(t *testing.T, from, to int, h http.HandlerFunc) (*rig, *http.Client) {
	t.Helper()
	v := config.HTTP1
	if to == 2 {
		v = config.HTTP2
	}
	up := goEndpoint(t, func(w http.ResponseWriter, req *http.Request) {
		if req.ProtoMajor != to || req.Host != "x.example" {
			t.Errorf("the endpoint is asked for %s in %s", req.Host, req.Proto)
		}
		h(w, req)
	})
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: v})
	return r, r.goClient(from)
}

func TestBodiesPassBetweenTheVersions(t *testing.T) {
	for _, v := range versions {
		t.Run(v.name, func(t *testing.T) {
			t.Parallel()
			r, c := across(t, v.from, v.to, func(w http.ResponseWriter, req *http.Request) {
				if req.ContentLength >= 0 {
					w.Header().Set("content-length", strconv.FormatInt(req.ContentLength, 10))
				}
				http.NewResponseController(w).EnableFullDuplex()
				io.Copy(w, req.Body)
			})
			for _, n := range []int64{0, 1, 20_000, 100_000, 10 << 20} {
				body := string(must(io.ReadAll(noise(1, n))))
				for name, from := range map[string]io.Reader{"known": strings.NewReader(body), "unknown": io.MultiReader(strings.NewReader(body))} {
					res, got := do(t, c, "POST", "http://x.example/", from)
					if res.StatusCode != 200 || res.ProtoMajor != v.from || got != body {
						t.Errorf("%s length %d: %s %s, %d bytes back", name, n, res.Proto, res.Status, len(got))
					}
					if want := n; name == "known" && res.ContentLength != want {
						t.Errorf("length %d: told %d", n, res.ContentLength)
					}
					rec := r.record()
					if int(rec.Protocol-decision.HTTP10) != v.from || rec.Status != 200 || rec.Received != n || rec.Sent != n || rec.Flags != 0 {
						t.Errorf("%s length %d: record %s %d %s, %d in, %d out", name, n, rec.Protocol, rec.Status, rec.Flags, rec.Received, rec.Sent)
					}
				}
			}
		})
	}
}

func TestAStreamMeetsHTTP1(t *testing.T) {
	const end = "\r\n\r\n"
	for name, tt := range map[string]struct {
		method string
		fields []string
		body   string
		hears  string
		says   string
		head   string
		got    string
	}{
		"GET": {
			"GET", nil, "",
			"GET /p HTTP/1.1\r\nhost: x.example" + end, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-A: b" + end + "ok",
			":status: 200\ncontent-length: 2\nx-a: b\n", "ok",
		},
		"a POST of nothing": {
			"POST", nil, "",
			"POST /p HTTP/1.1\r\nhost: x.example\r\nContent-Length: 0" + end, "HTTP/1.1 200 OK\r\nContent-Length: 2" + end + "ok",
			":status: 200\ncontent-length: 2\n", "ok",
		},
		"what concerns one hop": {
			"GET",
			[]string{"te", "trailers"},
			"",
			"GET /p HTTP/1.1\r\nhost: x.example" + end,
			"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive, x-a\r\nX-A: b\r\nKeep-Alive: timeout=5" + end + "ok",
			":status: 200\ncontent-length: 2\n", "ok",
		},
		"HEAD": {
			"HEAD", nil, "",
			"HEAD /p HTTP/1.1\r\nhost: x.example" + end, "HTTP/1.1 200 OK\r\nContent-Length: 2" + end,
			":status: 200\ncontent-length: 2\n", "",
		},
		"204": {
			"GET", nil, "", "GET /p HTTP/1.1\r\nhost: x.example" + end, "HTTP/1.1 204 No Content" + end,
			":status: 204\n", "",
		},
		"304": {
			"GET", nil, "", "GET /p HTTP/1.1\r\nhost: x.example" + end, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9" + end,
			":status: 304\ncontent-length: 9\n", "",
		},
		"chunks": {
			"POST", nil, "hello",
			"POST /p HTTP/1.1\r\nhost: x.example\r\nTransfer-Encoding: chunked" + end + "5\r\nhello\r\n0" + end,
			"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked" + end + "2\r\nok\r\n0\r\nx-sum: 1" + end,
			":status: 200\n", "ok",
		},
		"a known length": {
			"POST",
			[]string{"content-length", "5"},
			"hello",
			"POST /p HTTP/1.1\r\nhost: x.example\r\ncontent-length: 5" + end + "hello",
			"HTTP/1.1 200 OK" + end + "until the end",
			":status: 200\n", "until the end",
		},
		"cookies in crumbs": {
			"GET",
			[]string{"cookie", "a=b", "cookie", "c=d"},
			"",
			"GET /p HTTP/1.1\r\nhost: x.example\r\ncookie: a=b; c=d" + end, "HTTP/1.1 200 OK\r\nContent-Length: 0" + end,
			":status: 200\ncontent-length: 0\n", "",
		},
	} {
		t.Run(name, func(t *testing.T) {
			r := one(t, func(c *client) {
				c.hear(tt.hears)
				c.say(tt.says)
			})
			f := r.frames()
			f.head(1, tt.body == "", append([]string{":method", tt.method, ":scheme", "http", ":path", "/p", ":authority", "x.example"}, tt.fields...)...)
			if tt.body != "" {
				f.must(f.WriteData(1, true, []byte(tt.body)))
			}
			if head, body, trailer := f.answer(1); head != tt.head || body != tt.got || trailer != "" {
				t.Errorf("heard\n%s%q, trailer %q; want\n%s%q", head, body, trailer, tt.head, tt.got)
			}
			if rec := r.record(); rec.Protocol != decision.HTTP2 || rec.Received != int64(len(tt.body)) || rec.Sent != int64(len(tt.got)) || rec.Reason != decision.OK {
				t.Errorf("record %s %d, %d in, %d out", rec.Protocol, rec.Reason, rec.Received, rec.Sent)
			}
		})
	}
}

func TestAReplyOfTheProxyOnAStream(t *testing.T) {
	r := newRig(t)
	f := r.frames()
	f.head(1, true, ":method", "GET", ":scheme", "http", ":path", "/", ":authority", "who.example")
	head, body, _ := f.answer(1)
	if !strings.HasPrefix(head, ":status: 502\ndate: ") || !strings.Contains(head, "content-type: text/plain\n") || !strings.HasPrefix(body, "who.example") {
		t.Errorf("%s%s", head, body)
	}
	f.head(3, true, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "who.example", "content-type", "application/grpc")
	head, body, _ = f.answer(3)
	if !strings.Contains(head, ":status: 200\n") || !strings.Contains(head, "grpc-status: 14\n") || body != "" {
		t.Errorf("%s%s", head, body)
	}
	f.head(5, false, ":method", "POST", ":scheme", "http", ":path", "/", ":authority", "who.example")
	if head, _, _ = f.answer(5); !strings.HasPrefix(head, ":status: 502\n") {
		t.Error(head)
	}
	if code := f.reset(5); code != http2.ErrCodeNo {
		t.Errorf("the rest of the request is refused with %v, want NO_ERROR", code)
	}
}
