package file

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/control/registry"
)

// BenchmarkRound is one change among the files of a folder: the others are only
// looked at.
func BenchmarkRound(b *testing.B) {
	for _, n := range []int{10, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			dir := b.TempDir()
			write := func(i int, host string) {
				if err := os.WriteFile(filepath.Join(dir, fmt.Sprintf("%d.yaml", i)), []byte(entry(fmt.Sprintf("e-%d", i), host)), 0o600); err != nil {
					b.Fatal(err)
				}
			}
			for i := range n {
				write(i, "a.example")
			}
			s, _, _, err := Load(Options{Paths: []string{dir}, Namespace: "default"})
			if err != nil {
				b.Fatal(err)
			}
			now := time.Unix(0, 0)
			changed := 0
			for i := 0; b.Loop(); i++ {
				write(n/2, fmt.Sprintf("h%08d.example", i))
				s.round(now, func([]registry.Change) { changed++ })
				s.round(now.Add(settle), func([]registry.Change) { changed++ })
				now = now.Add(time.Minute)
			}
			if changed == 0 {
				b.Error("nothing changed")
			}
		})
	}
}
