package api

import (
	"fmt"
	"strings"
	"testing"
)

// BenchmarkRead reads a file of a thousand entries.
func BenchmarkRead(b *testing.B) {
	var text strings.Builder
	for i := range 1000 {
		text.WriteString("---\n" + strings.ReplaceAll(entry, "svc-entry", fmt.Sprintf("entry-%d", i)))
	}
	data := []byte(text.String())
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		if objects, problems := Read("a.yaml", data, "default"); len(objects) != 1000 || len(problems) > 0 {
			b.Fatal(len(objects), problems)
		}
	}
}
