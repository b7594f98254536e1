package control

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/mesh"
)

func plane(t *testing.T, yaml string) (*Plane, []string, error) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		t.Fatal(err)
	}
	p, problems, err := New(Options{Paths: []string{path}, Namespace: "default", Policy: mesh.RegistryOnly, Log: slog.New(slog.DiscardHandler)})
	var told []string
	for _, x := range problems {
		told = append(told, x.String())
	}
	return p, told, err
}

const entry = `apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: NAME, labels: {networking.istio.io/enable-autoallocate-ip: "false"}}
spec: {hosts: [NAME.example.com], resolution: DNS, ports: [{number: 5432, name: pg, protocol: PROTOCOL}]}
---
`

func write(name, protocol string) string {
	return strings.NewReplacer("NAME", name, "PROTOCOL", protocol).Replace(entry)
}

func TestAFirstLoadWithErrorsNamesEveryOne(t *testing.T) {
	_, _, err := plane(t, write("a", "Carrier-Pigeon")+write("b", "TCP")+write("c", "Smoke"))
	if err == nil || !strings.Contains(err.Error(), "Carrier-Pigeon") || !strings.Contains(err.Error(), "Smoke") {
		t.Errorf("error %v, want both faults in it", err)
	}
}

func TestTwoHostsThatNothingTellsApartAreAnError(t *testing.T) {
	_, _, err := plane(t, write("a", "TCP")+write("b", "TCP"))
	if err == nil {
		t.Fatal("no error")
	}
	for _, want := range []string{"a.yaml:6: ServiceEntry default/b", "port 5432 of host b.example.com is refused", "host a.example.com of ServiceEntry default/a", "a.yaml:1)", "enable-autoallocate-ip"} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("%q is not in it: %v", want, err)
		}
	}
}

func TestTwoHostsThatSpeakHTTPAmongOthersAreAWarning(t *testing.T) {
	p, told, err := plane(t, write("a", `""`)+write("b", `""`))
	if err != nil {
		t.Fatal(err)
	}
	if all := strings.Join(told, "\n"); !strings.Contains(all, "port 5432 of host b.example.com is refused to all but HTTP: host a.example.com of ServiceEntry default/a") {
		t.Errorf("no warning names both hosts:\n%s", all)
	}
	if len(p.Status()) != 0 {
		t.Errorf("%d proxies, want none", len(p.Status()))
	}
}

func TestWarningsOfTheFirstLoadAreLoggedOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a.yaml")
	if err := os.WriteFile(path, []byte(write("a", `""`)+write("b", `""`)), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	_, problems, err := New(Options{Paths: []string{path}, Namespace: "default", Policy: mesh.RegistryOnly, Log: slog.New(slog.NewTextHandler(&said, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range problems {
		if got := strings.Count(said.String(), fmt.Sprintf("msg=%q file=%s line=%d ", x.Message, x.File, x.Line)); got != 1 {
			t.Errorf("logged %d times: %s", got, x)
		}
	}
	if len(problems) != 3 {
		t.Errorf("%d warnings, want 3: %v", len(problems), problems)
	}
}
