package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"github.com/fairlead/fairlead/test/world"
)

// start is how long an empty command takes behind a proxy, beside one in bare
// namespaces. It runs in a world of its own, so that the name server asked at
// the start is always there.
func start(context.Context, plan) ([]contest, error) {
	program, err := filepath.Abs("bin/fairlead")
	if err != nil {
		return nil, err
	}
	if _, err := os.Stat(program); err != nil {
		return nil, fmt.Errorf("%w; `make build` builds it", err)
	}
	w, err := world.New()
	if err != nil {
		return nil, err
	}
	var contestants []contestant
	for _, c := range []struct {
		name    string
		command []string
	}{
		{"fairlead run -- true", []string{program, "run", "--", "true"}},
		{"unshare -Urn true", []string{"unshare", "-Urn", "true"}},
	} {
		contestants = append(contestants, contestant{c.name, func(context.Context) (entrant, error) {
			return entrant{turn: func(ctx context.Context, _ bool) ([]float64, error) {
				cmd := exec.CommandContext(ctx, c.command[0], c.command[1:]...)
				cmd.Env = append(os.Environ(), "HOME="+w.Dir, "XDG_STATE_HOME=")
				begin := time.Now()
				if err := w.Start(cmd); err != nil {
					return nil, err
				}
				if err := cmd.Wait(); err != nil {
					return nil, err
				}
				return []float64{time.Since(begin).Seconds() * 1e3}, nil
			}}, nil
		}})
	}
	return []contest{{
		title:       "start and end of an empty command",
		columns:     []column{{name: "ms", digits: 0}},
		contestants: contestants,
		end:         func() { _ = w.Close() }, // nothing in it is needed any more
	}}, nil
}
