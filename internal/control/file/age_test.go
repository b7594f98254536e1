package file

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/control/registry"
)

// TestAnObjectIsAsOldAsItIsKnown whatever becomes of its text and its file.
func TestAnObjectIsAsOldAsItIsKnown(t *testing.T) {
	const dated = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: dated, creationTimestamp: \"2020-01-02T03:04:05Z\"}\n" +
		"spec: {hosts: [dated.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n"
	d := newFolder(t, "1.yaml", entry("m", "m.example")+entry("o", "o.example"))
	s, changes, _, err := Load(Options{Paths: []string{d.path}, Namespace: "default"})
	if err != nil {
		t.Fatal(err)
	}
	s.settle = 0
	ages := map[string]time.Time{}
	apply := func(changes []registry.Change) {
		for _, c := range changes {
			if c.Object == nil {
				delete(ages, c.Key.Name)
			} else {
				ages[c.Key.Name] = c.Object.Created
			}
		}
	}
	apply(changes)
	at := func(n int) time.Time { return time.Date(2026, 1, 1, 0, 0, n, 0, time.UTC) }
	stated := time.Date(2020, 1, 2, 3, 4, 5, 0, time.UTC)
	for i, step := range []struct {
		name string
		edit func()
		want map[string]time.Time
	}{
		{"at first", func() {}, map[string]time.Time{"m": {}, "o": {}}},
		{
			"two more at once", func() { d.write("0.yaml", entry("a", "a.example")); d.write("2.yaml", entry("z", "z.example")) },
			map[string]time.Time{"m": {}, "o": {}, "a": at(1), "z": at(1)},
		},
		{
			"another, with a date", func() { d.write("3.yaml", entry("b", "b.example")+dated) },
			map[string]time.Time{"m": {}, "o": {}, "a": at(1), "z": at(1), "b": at(2), "dated": stated},
		},
		{
			"edited", func() {
				d.replace("0.yaml", entry("a", "other.example"))
				d.replace("1.yaml", entry("m", "other.example")+entry("o", "o.example"))
			},
			map[string]time.Time{"m": {}, "o": {}, "a": at(1), "z": at(1), "b": at(2), "dated": stated},
		},
		{
			"in another file", func() {
				d.replace("0.yaml", entry("a", "other.example")+entry("z", "z.example"))
				d.replace("2.yaml", entry("c", "c.example"))
			},
			map[string]time.Time{"m": {}, "o": {}, "a": at(1), "z": at(1), "b": at(2), "c": at(4), "dated": stated},
		},
		{
			"two go", func() { d.replace("0.yaml", entry("z", "z.example")); d.replace("1.yaml", entry("o", "o.example")) },
			map[string]time.Time{"o": {}, "z": at(1), "b": at(2), "c": at(4), "dated": stated},
		},
		{
			"and come back", func() {
				d.replace("0.yaml", entry("a", "a.example")+entry("z", "z.example"))
				d.replace("1.yaml", entry("m", "m.example")+entry("o", "o.example"))
			},
			map[string]time.Time{"m": at(6), "o": {}, "a": at(6), "z": at(1), "b": at(2), "c": at(4), "dated": stated},
		},
	} {
		step.edit()
		s.round(at(i), apply)
		if diff := cmp.Diff(step.want, ages); diff != "" {
			t.Fatalf("%s (-want +got):\n%s", step.name, diff)
		}
	}
	s.round(at(100), func(changes []registry.Change) { t.Errorf("without a change there are some: %v", changes) })
}
