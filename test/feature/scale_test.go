package feature

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

// many writes n entries, each a host of its own on ports 80 and 443.
func many(n int) string {
	var b strings.Builder
	for i := range n {
		b.WriteString(strings.NewReplacer("svc-entry", fmt.Sprint("e", i), "www.baidu.com", fmt.Sprintf("h%d.example.com", i)).Replace(static))
		b.WriteString("---\n")
	}
	return b.String()
}

func BenchmarkATenThousandthHostReachesAProxy(b *testing.B) {
	r := &ring{t: b, folder: b.TempDir(), changed: make(chan struct{}, 1), log: &lines{}}
	r.write("a.yaml", many(10_000))
	r.start(mesh.AllowAny)
	i := 0
	for b.Loop() {
		i++
		address := fmt.Sprintf("192.0.2.%d", i%250)
		r.write("b.yaml", strings.ReplaceAll(static, "192.168.0.100", address))
		r.await("the change", func(c *config.Config) bool { return endpointsAre(address)(c) })
	}
}
