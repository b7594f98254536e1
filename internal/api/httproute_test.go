package api

import (
	"encoding/base64"
	"fmt"
	"strings"
	"testing"
)

// TestDirectResponseBodies is here for their size; the other cases are in the
// corpus.
func TestDirectResponseBodies(t *testing.T) {
	for _, c := range []struct {
		size int
		want string // how the problem of the body begins; "" for none
	}{
		{100 << 10, ""},
		{100<<10 + 1, "warning"},
		{1 << 20, "warning"},
		{1<<20 + 1, "error"},
	} {
		for form, body := range map[string]string{
			"string": strings.Repeat("a", c.size),
			"bytes":  base64.StdEncoding.EncodeToString(make([]byte, c.size)),
		} {
			t.Run(fmt.Sprintf("%d of %s", c.size, form), func(t *testing.T) {
				_, problems := Read("a.yaml", []byte(`{apiVersion: networking.istio.io/v1, kind: VirtualService, metadata: {name: a},
spec: {hosts: [a.example], http: [{directResponse: {status: 200, body: {`+form+`: "`+body+`"}}}]}}`), "default")
				got := ""
				for _, p := range problems {
					if p.Field == "spec.http[0].directResponse.body" {
						got = p.Severity.String()
					} else if p.Field != "" {
						t.Errorf("unexpected: %s", p)
					}
				}
				if got != c.want {
					t.Errorf("got %q, want %q", got, c.want)
				}
			})
		}
	}
}
