package state

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"
)

func TestCreateForgetsAnEarlierRun(t *testing.T) {
	root, err := RootFor(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	dir, err := root.Create("client")
	if err != nil {
		t.Fatal(err)
	}
	log := filepath.Join(dir, LogFile)
	if err := os.WriteFile(log, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := root.Create("client"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(log); !os.IsNotExist(err) {
		t.Errorf("the old log is still there: %v", err)
	}
}

func TestAHomeThatCannotBeWrittenFallsBack(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := RootFor("", file) // a home that is a file
	if err != nil {
		t.Fatal(err)
	}
	if got := filepath.Dir(string(root)); got != os.TempDir() {
		t.Errorf("root in %s, want %s", got, os.TempDir())
	}
}

func TestAFolderOpenToOthersIsRefused(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir())
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("fairlead-%d", os.Getuid()))
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o777); err != nil {
		t.Fatal(err)
	}
	if root, err := RootFor("", ""); err == nil {
		t.Errorf("RootFor took %s, which others can write", root)
	}
}

func TestPruneKeepsTheNewestAndTheRunning(t *testing.T) {
	root, err := RootFor(t.TempDir(), "")
	if err != nil {
		t.Fatal(err)
	}
	for i := range keep + 5 {
		dir, err := root.Create(fmt.Sprint("run-", i))
		if err != nil {
			t.Fatal(err)
		}
		when := time.Unix(int64(i), 0)
		if err := os.Chtimes(dir, when, when); err != nil {
			t.Fatal(err)
		}
	}
	if err := root.Prune(func(name string) bool { return name == "run-0" }); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"run-0": true, "run-1": false, "run-4": false, "run-5": true} {
		_, err := os.Stat(root.Run(name))
		if got := err == nil; got != want {
			t.Errorf("%s is there: %v, want %v", name, got, want)
		}
	}
}
