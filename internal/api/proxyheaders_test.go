package api

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/config"
)

// Istio adds most headers unless told not to; here each has to be asked for.
func TestHeadersHaveToBeAskedFor(t *testing.T) {
	for _, tt := range []struct {
		headers string
		want    config.ProxyHeaders
		fault   string
	}{
		{"{}", config.ProxyHeaders{}, ""},
		{"{requestId: {}, attemptCount: {}, server: {}, envoyDebugHeaders: {}, xForwardedPort: {}}", config.ProxyHeaders{}, ""},
		{"{requestId: {disabled: true}, attemptCount: {disabled: true}, server: {disabled: true, value: a}, envoyDebugHeaders: {disabled: true}}", config.ProxyHeaders{}, ""},
		{"{preserveHttp1HeaderCase: true, xForwardedPort: {enabled: false}, xForwardedHost: {enabled: true}}", config.ProxyHeaders{}, ""},
		{"{forwardedClientCert: APPEND_FORWARD, setCurrentClientCertDetails: {uri: true}, metadataExchangeHeaders: {mode: IN_MESH}}", config.ProxyHeaders{}, ""},
		{"{requestId: {disabled: false}}", config.ProxyHeaders{RequestID: true}, ""},
		{"{attemptCount: {disabled: false}}", config.ProxyHeaders{AttemptCount: true}, ""},
		{"{envoyDebugHeaders: {disabled: false}}", config.ProxyHeaders{Debug: true}, ""},
		{"{xForwardedPort: {enabled: true}}", config.ProxyHeaders{ForwardedPort: true}, ""},
		{"{preserveHttp1HeaderCase: false}", config.ProxyHeaders{LowerCase: true}, ""},
		{"{server: {value: my shop/1.0}}", config.ProxyHeaders{Server: "my shop/1.0"}, ""},
		{`{server: {value: "a\r\nset-cookie: b"}}`, config.ProxyHeaders{}, "is no value of a header"},
		{`{server: {value: "ä"}}`, config.ProxyHeaders{}, "is no value of a header"},
		{`{server: {value: " a"}}`, config.ProxyHeaders{}, "is no value of a header"},
		{"{server: {value: " + strings.Repeat("a", 1025) + "}}", config.ProxyHeaders{}, "is no value of a header"},
	} {
		text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    defaultConfig:\n      proxyHeaders: " + tt.headers + "\n"
		objects, problems := Read("mesh.yaml", []byte(text), "default")
		switch {
		case tt.fault != "":
			if len(problems) != 1 || !strings.Contains(problems[0].Message, tt.fault) || !strings.HasSuffix(problems[0].Field, "proxyHeaders.server.value") || problems[0].Line != 7 {
				t.Errorf("%.60s: %v, want %q", tt.headers, problems, tt.fault)
			}
		case len(objects) != 1 || len(problems) > 0:
			t.Errorf("%s: %v", tt.headers, problems)
		default:
			if got := Mesh(objects[0], config.Default()).Headers; got != tt.want {
				t.Errorf("%s is %+v, want %+v", tt.headers, got, tt.want)
			}
		}
	}
}
