package proxy_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy"
)

// meshOf is an entry and a mesh-wide configuration.
func meshOf(entry, config string) string {
	return entry + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + config + "\n"
}

// TestTheMeshChoosesTheFormOfTheAccessLog changes it under a running proxy.
func TestTheMeshChoosesTheFormOfTheAccessLog(t *testing.T) {
	port := site(t)
	w := start(t, mesh.RegistryOnly, dns(port))
	n := 0
	// becomes asks for pages until the last line is as it shall be.
	becomes := func(what string, ok func(line string) bool) {
		t.Helper()
		w.await(what, func() bool {
			if n++; n > 1 { // the first form is asked for at once
				if code, body, err := w.get("www.named.test", "240.240.0.1:80"); err != nil || code != 200 {
					t.Fatal(code, body, err)
				}
			}
			lines := strings.Split(strings.TrimSuffix(w.access.String(), "\n"), "\n")
			return ok(lines[len(lines)-1])
		})
	}
	becomes("lines are our JSON", func(l string) bool { return strings.Contains(l, `"entry":"ServiceEntry default/named"`) })
	w.write(meshOf(dns(port), "accessLogEncoding: TEXT"))
	becomes("lines are Istio's text", func(l string) bool {
		return strings.Contains(l, `"GET / HTTP/1.1" 200 - via_upstream - "-" 0 `) &&
			strings.Contains(l, fmt.Sprintf(`"www.named.test" "127.0.0.1:%s" outbound|80||www.named.test 127.0.0.1:`, port)) &&
			strings.HasSuffix(l, " - default")
	})
	w.write(meshOf(dns(port), `accessLogFormat: "%RESPONSE_CODE% %RESP(CONTENT-LENGTH)% %REQ(CONNECTION)%"`))
	becomes("lines show what answers say", func(l string) bool { return l == "200 22 close" })
	w.write(meshOf(dns(port), `accessLogEncoding: JSON`))
	becomes("lines are Istio's JSON", func(l string) bool { return strings.Contains(l, `"x_forwarded_for":null`) })
	w.write(meshOf(dns(port), `accessLogFile: ""`))
	w.await("there are no more lines", func() bool {
		before := len(w.access.String())
		for range 3 {
			if code, body, err := w.get("www.named.test", "240.240.0.1:80"); err != nil || code != 200 {
				t.Fatal(code, body, err)
			}
			time.Sleep(150 * time.Millisecond) // longer than a line waits to be written
		}
		return before == len(w.access.String())
	})
	w.write(dns(port))
	becomes("lines are our JSON again", func(l string) bool { return strings.Contains(l, `"entry":"ServiceEntry default/named"`) })
}

func TestAFormIsAWordOrHasOperators(t *testing.T) {
	for s, want := range map[string]string{
		"json": "", "text": "", "%START_TIME%": "", "yes 100%%": "",
		"":        "use json, text, or",
		"JSON":    "use json, text, or",
		"%REQ%":   "operator %REQ%: it needs an argument",
		"%RSEP%x": "operator %RSEP%: no such operator",
	} {
		form, err := proxy.ParseLogForm(s)
		if want == "" && (err != nil || form == nil) || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("ParseLogForm(%q) = %v, %v; want an error with %q", s, form, err, want)
		}
	}
}
