package cli

import (
	"io"
	"os"
	"path/filepath"
	"testing"
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
