package peer

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
)

func name(t *testing.T, what string) string {
	t.Helper()
	return Name(os.Getuid(), fmt.Sprintf("test-%d-%s", os.Getpid(), strings.ToLower(t.Name())), what)
}

func TestBothEndsMeet(t *testing.T) {
	at := name(t, "admin")
	ln, err := Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	done := make(chan error, 1)
	go func() {
		c, err := ln.Accept()
		if err == nil {
			_, err = io.WriteString(c, "hello")
			c.Close()
		}
		done <- err
	}()
	c, err := Dial(t.Context(), at)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if got, err := io.ReadAll(c); err != nil || string(got) != "hello" {
		t.Errorf("read %q, %v", got, err)
	}
	if err := <-done; err != nil {
		t.Error(err)
	}

	if names, err := List(Prefix(os.Getuid())); err != nil || !slices.Contains(names, at) {
		t.Errorf("List = %q, %v; want %s in it", names, err, at)
	}
	if _, err := Listen(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("a name in use: %v", err)
	}
	ln.Close()
	if names, err := List(at); err != nil || len(names) != 0 {
		t.Errorf("List after Close = %q, %v", names, err)
	}
	if _, err := Dial(t.Context(), at); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("nobody there: %v", err)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	tests := []struct {
		other   uint32
		ours    int
		allowed bool
	}{
		{0, 0, true},
		{0, 1000, true},
		{1000, 1000, true},
		{1000, 0, false},
		{1001, 1000, false},
		{65534, 1000, false}, // nobody, or a user that has no number here
		{1<<32 - 1, -1, false},
	}
	for _, tt := range tests {
		err := allow(tt.other, tt.ours)
		if (err == nil) != tt.allowed || err != nil && !errors.Is(err, ErrStranger) {
			t.Errorf("uid %d to uid %d: %v", tt.other, tt.ours, err)
		}
	}
}

func TestBadNamesAreRefused(t *testing.T) {
	for _, at := range []string{"", "@", "/run/x.sock", "@" + strings.Repeat("x", maxName)} {
		if ln, err := Listen(at); err == nil {
			ln.Close()
			t.Errorf("Listen(%.10q) gave no error", at)
		}
		if c, err := Dial(t.Context(), at); err == nil {
			c.Close()
			t.Errorf("Dial(%.10q) gave no error", at)
		}
	}
}

func TestSplitName(t *testing.T) {
	uid, run, what, ok := SplitName(Name(1000, "client", "xds"))
	if uid != 1000 || run != "client" || what != "xds" || !ok {
		t.Errorf("SplitName = %d %s %s %v", uid, run, what, ok)
	}
	for _, bad := range []string{"", "@fairlead/1000/x", "@fairlead/x/y/z", "@other/1/y/z", "@fairlead/1/a/b/c"} {
		if _, _, _, ok := SplitName(bad); ok {
			t.Errorf("SplitName(%q) is ok", bad)
		}
	}
}
