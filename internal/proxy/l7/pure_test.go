package l7

import (
	"bytes"
	"strings"
	"testing"
)

func TestBackOffIsJitteredAndBounded(t *testing.T) {
	for retry, below := range map[int]int64{1: 25, 2: 75, 3: 175, 4: 251, 30: 251} {
		for _, random := range []uint64{0, 1, 1 << 20, 1<<63 + 12345, 1<<64 - 1} {
			if d := backOff(retry, 0, random); d < 0 || d.Milliseconds() >= below {
				t.Errorf("retry %d waits %s, want below %d ms", retry, d, below)
			}
		}
	}
}

func TestCanonicalHost(t *testing.T) {
	for in, want := range map[string]string{
		"a.example": "a.example", "a.example:80": "a.example", "A.Example.": "a.example", "127.0.0.1:8080": "127.0.0.1",
		"[::1]:80": "::1", "a-b.c_d": "a-b.c_d", "a": "a", "a:": "a",
		"": "!", ".a": "!", "a..b": "!", "-a.b": "!", "a-.b": "!", "a-": "!", "a:0": "!", "a:65536": "!", "a:99999": "!", "*.a": "!",
		strings.Repeat("a", 64): "!",
	} {
		got, err := canonicalHost([]byte(in), nil)
		if err != nil {
			got = []byte("!")
		}
		if string(got) != want {
			t.Errorf("%q: %q, want %q", in, got, want)
		}
	}
	if !bytes.Equal(appendPercent(nil, []byte("a b%\xc3\n")), []byte("a b%25%C3")) {
		t.Error("grpc-message is not percent-encoded")
	}
}
