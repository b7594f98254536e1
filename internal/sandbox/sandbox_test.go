package sandbox

import (
	"os"
	"testing"
)

const hiddenArgument = "sandbox-under-test"

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == hiddenArgument {
		os.Exit(InitMain(os.Args[2:]))
	}
	os.Exit(m.Run())
}

func TestFirst(t *testing.T) {
	s, err := Start(t.Context(), Options{Self: []string{os.Args[0], hiddenArgument}, Stderr: os.Stderr, Env: os.Environ()})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	err = s.Run(Command{Args: []string{"sh", "-c", os.Getenv("SCRIPT")}, Env: os.Environ(), Dir: "/tmp", Files: [3]*os.File{os.Stdin, os.Stdout, os.Stderr}})
	if err != nil {
		t.Fatal(err)
	}
	t.Log(s.Wait())
}
