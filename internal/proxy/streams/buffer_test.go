package streams

import (
	"bytes"
	"testing"
)

func TestBodyComesOutAsItWentIn(t *testing.T) {
	var q body
	m := new(Memory)
	var want, got []byte
	buf := make([]byte, 7000)
	for i, n := range []int{1, 0, 1023, 1, 5000, 16 << 10, 16<<10 + 1, 3, 40_000, 1024} {
		p := noise(byte(i), n)
		want = append(want, p...)
		q.add(p, m)
		if i%3 == 2 {
			k := q.read(buf, m)
			got = append(got, buf[:k]...)
		}
		if q.n != len(want)-len(got) {
			t.Fatalf("%d bytes are held, want %d", q.n, len(want)-len(got))
		}
	}
	for q.n > 0 {
		k := q.read(buf, m)
		got = append(got, buf[:k]...)
	}
	if !bytes.Equal(got, want) || q.first != nil || q.last != nil {
		t.Errorf("%d bytes became %d, chunks left: %v", len(want), len(got), q.first != nil)
	}
	q.add(want, m)
	if n := q.clear(m); n != len(want) || q.n != 0 || q.first != nil || q.last != nil {
		t.Errorf("cleared %d of %d", n, len(want))
	}
}

// TestShortBodyTakesLittle bounds what is held for one byte.
func TestShortBodyTakesLittle(t *testing.T) {
	var q body
	q.add([]byte("x"), new(Memory))
	if n := len(q.first.data); n > 1<<10 {
		t.Errorf("%d bytes for one", n)
	}
}
