package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"time"

	"github.com/fairlead/fairlead/test/world"
)

// starts measures how long an empty command takes behind a proxy, beside one
// in bare namespaces. It runs in a world of its own, so that the name server
// asked at the start is always there.
func starts(ctx context.Context, out io.Writer, n int) error {
	if n == 0 {
		return nil
	}
	program, err := filepath.Abs("bin/fairlead")
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("time of `fairlead run -- true`: %w; `make bench` builds it", err)
	}
	w, err := world.New()
	if err != nil {
		return fmt.Errorf("time of `fairlead run -- true`: %w", err)
	}
	commands := [][]string{{program, "run", "--", "true"}, {"unshare", "-Urn", "true"}}
	took := make([][]float64, len(commands))
	for range n {
		for i, c := range commands {
			cmd := exec.CommandContext(ctx, c[0], c[1:]...)
			cmd.Env = append(os.Environ(), "HOME="+w.Dir, "XDG_STATE_HOME=")
			begin := time.Now()
			if err = w.Start(cmd); err == nil {
				err = cmd.Wait()
			}
			if err != nil {
				_ = w.Close() // the command's failure says more
				return fmt.Errorf("%v: %w", c, err)
			}
			took[i] = append(took[i], time.Since(begin).Seconds()*1e3)
		}
	}
	fmt.Fprintf(out, "start and end of an empty command, %d interleaved runs: median (least to most)\n\n", n)
	for i, name := range []string{"fairlead run -- true", "unshare -Urn true"} {
		fmt.Fprintf(out, "%-22s %.0f ms (%.0f to %.0f)\n", name, median(took[i]), slices.Min(took[i]), slices.Max(took[i]))
	}
	return w.Close()
}
