package file

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestCheckCountsWhatIsSoundAndWhatIsNot(t *testing.T) {
	const (
		sound  = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: NAME}\nspec: {hosts: [NAME.example], resolution: DNS, ports: [{number: 80, name: http, protocol: HTTP}]}\n---\n"
		faulty = "apiVersion: networking.istio.io/v1\nkind: ServiceEntry\nmetadata: {name: NAME}\nspec: {hosts: [NAME.example], ports: [{number: 0, name: http}]}\n---\n"
		other  = "apiVersion: v1\nkind: Secret\nmetadata: {name: NAME}\n---\n"
	)
	named := func(text, name string) string { return strings.ReplaceAll(text, "NAME", name) }
	for name, c := range map[string]struct {
		files   map[string]string
		objects int
		told    string // what the first problem says
	}{
		"sound":              {map[string]string{"a.yaml": named(sound, "a") + named(sound, "b")}, 2, ""},
		"broken beside":      {map[string]string{"a.yaml": named(sound, "a") + named(faulty, "b")}, 2, "spec.ports[0]"},
		"ignored":            {map[string]string{"a.yaml": named(sound, "a") + named(other, "b")}, 2, "ignored: Fairlead does not read"},
		"twice":              {map[string]string{"a.yaml": named(sound, "a"), "b.yaml": named(sound, "a")}, 2, "defined in"},
		"twice, one broken":  {map[string]string{"a.yaml": named(sound, "a") + named(faulty, "b"), "b.yaml": named(sound, "a")}, 3, "spec.ports[0]"},
		"nothing":            {map[string]string{}, 0, "the folder holds no"},
		"no YAML":            {map[string]string{"a.yaml": "{"}, 0, "not YAML or JSON"},
		"an object and text": {map[string]string{"a.yaml": named(sound, "a") + "hello"}, 1, "expected an object"},
	} {
		t.Run(name, func(t *testing.T) {
			folder := t.TempDir()
			for file, text := range c.files {
				if err := os.WriteFile(filepath.Join(folder, file), []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			objects, problems := Check(Options{Paths: []string{folder, folder + "/."}, Namespace: "default"})
			if objects != c.objects {
				t.Errorf("%d objects, want %d", objects, c.objects)
			}
			if c.told == "" && len(problems) > 0 || c.told != "" && (len(problems) == 0 || !strings.Contains(problems[0].String(), c.told)) {
				t.Errorf("problems %v, want %q first", problems, c.told)
			}
		})
	}
}

// TestCheckAndLoadJudgeAlike holds what Check says against what Load says.
func TestCheckAndLoadJudgeAlike(t *testing.T) {
	for _, paths := range [][]string{
		{"no/such/file"}, {Stdin}, {Stdin, Stdin}, {t.TempDir()},
	} {
		options := func() Options {
			return Options{Paths: paths, Stdin: strings.NewReader("apiVersion: networking.istio.io/v1\nkind: ServiceEntry\n"), Namespace: "default"}
		}
		_, checked := Check(options())
		_, _, loaded, _ := Load(options())
		if len(checked) != len(loaded) {
			t.Errorf("%v: Check says %v, Load says %v", paths, checked, loaded)
			continue
		}
		for i := range checked {
			if checked[i] != loaded[i] {
				t.Errorf("%v: Check says %v, Load says %v", paths, checked[i], loaded[i])
			}
		}
	}
}
