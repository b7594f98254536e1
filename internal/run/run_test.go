package run

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestOneFailureStopsTheRest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		broken := errors.New("broken")
		stopped := false
		err := All(t.Context(), map[string]Task{
			"waits": func(ctx context.Context) error {
				<-ctx.Done()
				stopped = true
				return ctx.Err()
			},
			"fails": func(context.Context) error {
				time.Sleep(time.Hour) // free: the bubble's clock
				return broken
			},
		})
		if !errors.Is(err, broken) || err.Error() != "fails: broken" {
			t.Errorf("All = %v, want fails: broken", err)
		}
		if !stopped {
			t.Error("All returned before the other task had stopped")
		}
	})
}

func TestAnOrderlyEndIsNoError(t *testing.T) {
	err := All(t.Context(), map[string]Task{
		"done":  func(context.Context) error { return nil },
		"waits": func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
	})
	if err != nil {
		t.Errorf("All = %v, want nil", err)
	}
}
