package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/fairlead/fairlead/internal/peer"
)

func TestARunThatIsStartingIsWaitedFor(t *testing.T) {
	env := Env{StateHome: t.TempDir(), Patience: 2 * time.Second}
	synctest.Test(t, func(t *testing.T) {
		for _, tt := range []struct {
			name    string
			refused int // how often
			then    error
			tries   int
			want    string
		}{
			{"there", 0, nil, 1, ""},
			{"soon", 5, nil, 6, ""},
			{"never", 1000, nil, 0, "no run named \"never\"; `fairlead proxy-status` lists the runs there are"},
			{"broken", 1, errors.New("broken"), 2, "broken"},
			{"No name", 1000, nil, 0, "no run named \"No name\"; `fairlead proxy-status` lists the runs there are"},
		} {
			tries, began := 0, time.Now()
			err := whenThere(t.Context(), env, tt.name, func(context.Context) error {
				if tries++; tries <= tt.refused {
					return fmt.Errorf("dial: %w", syscall.ECONNREFUSED)
				}
				return tt.then
			})
			if got := fmt.Sprint(err); got != tt.want && (err != nil || tt.want != "") {
				t.Errorf("%s: %s, want %s", tt.name, got, tt.want)
			}
			if tt.tries > 0 && tries != tt.tries {
				t.Errorf("%s: asked %d times, want %d", tt.name, tries, tt.tries)
			}
			if took := time.Since(began); took > env.Patience+2*askAgain || tt.name == "never" && took < env.Patience {
				t.Errorf("%s: waited %s", tt.name, took)
			}
		}
	})
}

func TestAProxyThatIsStoppedIsNotWaitedForLong(t *testing.T) {
	t.Parallel() // it waits for as long as the proxy is waited for
	name := fmt.Sprintf("stopped-%d", os.Getpid())
	ln, err := peer.Listen(peer.Name(os.Getuid(), name, "admin")) // its backlog connects, nobody answers
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	_, err = ask(t.Context(), Env{StateHome: t.TempDir()}, name, false)
	if want := fmt.Sprintf("the run %q does not answer; is it stopped (Ctrl-Z)?", name); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}
