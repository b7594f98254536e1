// Package run starts and stops the long-lived parts of a program.
package run

import (
	"context"
	"errors"
	"fmt"
	"sync"
)

// A Task runs until its context is canceled or it fails. It returns only after
// everything it started has stopped.
type Task func(context.Context) error

// All runs every task in a goroutine of its own and waits for all of them.
// When one returns, whatever it returns, the context of the rest is canceled.
// The result is the first error that this cancellation did not cause, with the
// name of its task in front.
func All(ctx context.Context, tasks map[string]Task) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		first error // guarded by mu
	)
	for name, task := range tasks {
		wg.Go(func() {
			defer cancel()
			err := task(ctx)
			if err == nil || ctx.Err() != nil && errors.Is(err, context.Canceled) {
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if first == nil {
				first = fmt.Errorf("%s: %w", name, err)
			}
		})
	}
	wg.Wait()
	return first
}
