package cli

import (
	"fmt"
	"time"

	"golang.org/x/term"
)

// Long work says so on a terminal after a while, and then ever again.
const (
	quietFor = time.Second
	sayAgain = 250 * time.Millisecond
)

// progress says on standard error, if that is a terminal, what is being done and
// for how long, if it takes long; done takes the line away again.
func progress(env Env, what string) (done func()) {
	if !term.IsTerminal(int(env.Err.Fd())) {
		return func() {}
	}
	began, stop, ended := time.Now(), make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		wait := time.NewTimer(quietFor)
		defer wait.Stop()
		said := false
		for {
			select {
			case <-stop:
				if said {
					fmt.Fprint(env.Err, "\r\x1b[K")
				}
				return
			case <-wait.C:
				said = true
				fmt.Fprintf(env.Err, "\r\x1b[Kfairlead: %s: %.0f s", what, time.Since(began).Seconds())
				wait.Reset(sayAgain)
			}
		}
	}()
	return func() { close(stop); <-ended }
}
