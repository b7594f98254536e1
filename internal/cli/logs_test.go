package cli

import (
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/supervisor"
)

func TestTailBeginsAtALine(t *testing.T) {
	for _, tt := range []struct {
		content string
		n       int
		want    string
	}{
		{"a\nb\nc\n", -1, "a\nb\nc\n"},
		{"a\nb\nc\n", 0, ""},
		{"a\nb\nc\n", 1, "c\n"},
		{"a\nb\nc\n", 2, "b\nc\n"},
		{"a\nb\nc\n", 3, "a\nb\nc\n"},
		{"a\nb\nc\n", 9, "a\nb\nc\n"},
		{"", 2, ""},
	} {
		path := filepath.Join(t.TempDir(), "log")
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		f, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		if err := skipTo(f, tt.n); err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(f)
		f.Close()
		if err != nil || string(got) != tt.want {
			t.Errorf("last %d lines of %q: %q, %v; want %q", tt.n, tt.content, got, err, tt.want)
		}
	}
}

func TestFollowingEndsWithTheRunAndShowsItsLastWords(t *testing.T) {
	t.Parallel() // it waits for the next look
	f, err := os.CreateTemp(t.TempDir(), "log")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	asked, shown, shownAtEnd := 0, 0, 0
	err = followFile(t.Context(), f, func() error { shown++; return nil }, func() bool {
		asked++
		shownAtEnd = shown
		return asked < 2
	})
	if err != nil || asked != 2 || shown != shownAtEnd+1 {
		t.Errorf("%v: asked %d times, shown %d times after it ended", err, asked, shown-shownAtEnd)
	}
	if !isAt(f, f.Name()) || isRunning("nobody-of-that-name") {
		t.Error("the file is not where it is, or nobody runs")
	}
	if err := os.Rename(f.Name(), f.Name()+".old"); err != nil {
		t.Fatal(err)
	}
	if isAt(f, f.Name()) {
		t.Error("a file that is gone is there")
	}
}

func TestALogThatIsOffIsNoted(t *testing.T) {
	if got := offNote(supervisor.Status{Name: "a"}); got != "" {
		t.Errorf("of a log that is on: %q", got)
	}
	if got := offNote(supervisor.Status{Name: "a", LogOff: true}); !strings.HasPrefix(got, "The access log of a is off") || !strings.HasSuffix(got, ".\n") {
		t.Errorf("of one that is off: %q", got)
	}
}
