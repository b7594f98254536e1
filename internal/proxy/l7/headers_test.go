package l7

import (
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// uuid is what a request id of ours looks like.
var uuid = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`)

// TestProxyHeadersFieldByField crosses what somebody asked for with the place of
// the endpoint and with whether the application set the header itself.
func TestProxyHeadersFieldByField(t *testing.T) {
	type row struct {
		name    string
		headers *config.Headers
		counted bool
		header  string // of requests
		added   string // in the mesh, if the application did not set it; "uuid": one
		set     string // in the mesh, if it set it to "app"
	}
	rows := []row{
		{"nothing", nil, false, "x-request-id", "", "app"},
		{"nothing for requests", &config.Headers{Server: "shop"}, false, "x-request-id", "", "app"},
		{"requestId", &config.Headers{RequestID: true}, false, "x-request-id", "uuid", "app"},
		{"attemptCount", nil, true, "x-envoy-attempt-count", "1", "1"},
		{"xForwardedPort", &config.Headers{ForwardedPort: true}, false, "x-forwarded-port", "80", "app"},
		{"envoyDebugHeaders", &config.Headers{Debug: true}, false, "x-envoy-expected-rq-timeout-ms", "7000", "7000"},
		{"all", &config.Headers{Server: "shop", RequestID: true, ForwardedPort: true, Debug: true, LowerCase: true}, true, "x-forwarded-port", "80", "app"},
	}
	const private = "x-envoy-expected-rq-timeout-ms"
	for _, row := range rows {
		for _, inMesh := range []bool{false, true} {
			for _, set := range []bool{false, true} {
				want := row.added
				switch {
				case set && inMesh:
					want = row.set
				case set && row.header != private: // which never leaves
					want = "app"
				case !inMesh:
					want = ""
				}
				for _, version := range []config.HTTPVersion{config.HTTP1, config.HTTP2} {
					name := strings.Join([]string{row.name, map[bool]string{true: "in the mesh", false: "outside"}[inMesh], map[bool]string{true: "set", false: "not set"}[set], map[config.HTTPVersion]string{config.HTTP1: "HTTP/1", config.HTTP2: "HTTP/2"}[version]}, ", ")
					t.Run(name, func(t *testing.T) {
						heard := make(chan string, 1)
						var at netip.AddrPort
						if version == config.HTTP2 {
							at = newEndpoint2(t, nil, func(f *framer) {
								id, head := f.request()
								heard <- head
								f.ok(id)
							})
						} else {
							at = newEndpoint(t, func(c *client) {
								heard <- c.head()
								c.say(ok)
							}).addr
						}
						r := newRig(t, entry{
							host: "x.example", endpoints: []netip.AddrPort{at}, http: version, inMesh: inMesh, counted: row.counted,
							change: func(rt *config.Route) { rt.Timeout = 7 * time.Second },
						})
						r.manager.Headers = row.headers
						c := r.dial()
						ask := get
						if set {
							ask = strings.TrimSuffix(get, "\r\n") + row.header + ": app\r\n\r\n"
						}
						c.say(ask)
						c.answer("GET")
						got := fieldsOf(<-heard, row.header)
						if want == "uuid" && len(got) == 1 && uuid.MatchString(got[0]) {
							return
						}
						if strings.Join(got, "|") != want {
							t.Errorf("%s is %q, want %q", row.header, got, want)
						}
						r.record()
					})
				}
			}
		}
	}
}

// fieldsOf are the values of a header in a head.
func fieldsOf(head, name string) (values []string) {
	for line := range strings.Lines(head) {
		if n, v, ok := strings.Cut(line, ":"); ok && strings.EqualFold(n, name) {
			values = append(values, strings.TrimSpace(v))
		}
	}
	return values
}

func TestTheServerHeaderIsWhatSomebodyAskedFor(t *testing.T) {
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear(get)
		c.say("HTTP/1.1 200 OK\r\nServer: one\r\nX-Kept: 1\r\nserver: two\r\nContent-Length: 2\r\n\r\nok")
		c.hear("HEAD / HTTP/1.1\r\nHost: x.example\r\n\r\n")
		c.say("HTTP/1.1 200 OK\r\nContent-Length: 7\r\n\r\n")
		c.hear(get)
		c.say("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	}).addr}})
	r.manager.Headers = &config.Headers{Server: "shop"}
	c := r.dial()
	c.say(get)
	c.hear("HTTP/1.1 200 OK\r\nX-Kept: 1\r\nContent-Length: 2\r\nserver: shop\r\n\r\nok")
	c.say("HEAD / HTTP/1.1\r\nHost: x.example\r\n\r\n")
	c.hear("HTTP/1.1 200 OK\r\nContent-Length: 7\r\nserver: shop\r\n\r\n")
	c.say(get)
	c.hear("HTTP/1.1 200 OK\r\nserver: shop\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
	c.say("GET / HTTP/1.1\r\nHost: undeclared.example\r\n\r\n")
	if res, _ := c.answer("GET"); res.StatusCode != 502 || res.Header.Get("Server") != "shop" {
		t.Errorf("an answer of the proxy: %d, server %q", res.StatusCode, res.Header.Get("Server"))
	}
}

func TestNamesOfFieldsGoOutInLowerCaseWhereSomebodyAsked(t *testing.T) {
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear("POST /Path HTTP/1.1\r\nhost: x.example\r\nx-soap-action: Keep\r\ncontent-length: 2\r\n\r\nhi")
		c.say("HTTP/1.1 200 OK\r\nX-Kept: Yes\r\nContent-Length: 0\r\n\r\n")
	}).addr}})
	r.manager.Headers = &config.Headers{LowerCase: true}
	c := r.dial()
	c.say("POST /Path HTTP/1.1\r\nHost: x.example\r\nX-SOAP-Action: Keep\r\nContent-Length: 2\r\nX-Envoy-Max-Retries: 3\r\n\r\nhi")
	c.hear("HTTP/1.1 200 OK\r\nx-kept: Yes\r\ncontent-length: 0\r\n\r\n")
}

func TestAnswersTellTheServiceTimeWhereSomebodyAsked(t *testing.T) {
	r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear(get)
		c.say(ok)
	}).addr}})
	r.manager.Headers = &config.Headers{Debug: true}
	c := r.dial()
	c.say(get)
	res, _ := c.answer("GET")
	if v := res.Header.Get("X-Envoy-Upstream-Service-Time"); !regexp.MustCompile(`^\d+$`).MatchString(v) {
		t.Errorf("service time %q", v)
	}
}

// TestARequestThatIsTriedAgainSaysSo has one endpoint closed.
func TestARequestThatIsTriedAgainSaysSo(t *testing.T) {
	counts := make(chan string, 4)
	r := newRig(t, entry{host: "x.example", inMesh: true, counted: true, endpoints: []netip.AddrPort{closedPort(t), newEndpoint(t, func(c *client) {
		for range 4 {
			counts <- strings.Join(fieldsOf(c.head(), "x-envoy-attempt-count"), "|")
			c.say(ok)
		}
	}).addr}})
	c := r.dial()
	most := uint8(0)
	for range 4 {
		c.say(get)
		c.hear(ok)
		rec := r.record()
		if got := <-counts; got != strconv.Itoa(int(rec.Tries)) {
			t.Errorf("attempt %q of a request that was tried %d times", got, rec.Tries)
		}
		most = max(most, rec.Tries)
	}
	if most < 2 {
		t.Error("nothing was tried again")
	}
}

// TestWhatDoesNotFitGoesAsItCame has as many fields as may be.
func TestWhatDoesNotFitGoesAsItCame(t *testing.T) {
	ask := "GET / HTTP/1.1\r\nHost: x.example\r\n" + strings.Repeat("a: b\r\n", 99) + "\r\n"
	r := newRig(t, entry{host: "x.example", inMesh: true, endpoints: []netip.AddrPort{newEndpoint(t, func(c *client) {
		c.hear(ask)
		c.say(ok)
	}).addr}})
	r.manager.Headers = &config.Headers{ForwardedPort: true}
	c := r.dial()
	c.say(ask)
	c.hear(ok)
}

// head reads the head of a request.
func (c *client) head() string {
	c.t.Helper()
	var head strings.Builder
	for {
		line, err := c.r.ReadString('\n')
		if err != nil {
			c.t.Errorf("after %q: %v", head.String(), err)
			return head.String()
		}
		if line == "\r\n" {
			return head.String()
		}
		head.WriteString(line)
	}
}
