package api

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/proxy/accesslog"
)

// What is not said is left to the proxy; what is said empty is an answer.
func TestTheFormOfTheAccessLog(t *testing.T) {
	for _, tt := range []struct {
		name string
		mesh string
		want config.AccessLog
	}{
		{"nothing is said", "connectTimeout: 3s", config.AccessLog{}},
		{"a file is a place, not a form", "accessLogFile: /dev/stdout", config.AccessLog{File: "/dev/stdout"}},
		{"no file, in so many words", `accessLogFile: ""`, config.AccessLog{Off: true}},
		{"no file, whatever the form", "accessLogFile: \"\"\n    accessLogEncoding: JSON", config.AccessLog{Off: true}},
		{"Istio's text", "accessLogEncoding: TEXT", config.AccessLog{Text: accesslog.Text}},
		{"Istio's JSON", "accessLogEncoding: JSON", config.AccessLog{Fields: accesslog.JSON()}},
		{"a text of one's own", `accessLogFormat: "%DURATION%"`, config.AccessLog{Text: "%DURATION%"}},
		{"JSON of one's own", "accessLogEncoding: JSON\n    accessLogFormat: '{\"ms\": \"%DURATION%\"}'", config.AccessLog{Fields: map[string]any{"ms": "%DURATION%"}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + tt.mesh + "\n"
			objects, problems := Read("mesh.yaml", []byte(text), "default")
			if len(objects) != 1 || len(problems) > 0 {
				t.Fatal(objects, problems)
			}
			if diff := cmp.Diff(tt.want, Mesh(objects[0], config.Default()).AccessLog); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestJSONOfAFormatEndsWithItsObject(t *testing.T) {
	for _, text := range []string{"", "null", "[]", `{"a": "b"} {}`, `{"a": "b"`} {
		if _, err := jsonFormat(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
	if got, err := jsonFormat(" {\"a\": \"b\"}\n"); err != nil || !strings.Contains(got["a"].(string), "b") {
		t.Error(got, err)
	}
}
