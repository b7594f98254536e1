package supervisor

import (
	"context"
	"errors"
	"fmt"

	"github.com/fairlead/fairlead/internal/control"
	"github.com/fairlead/fairlead/internal/mesh"
)

// announce writes the line that says what is about to run, and where nobody
// reads it waits until the run is interrupted.
func (w *workload) announce(interrupted context.Context, ruling control.Ruling) error {
	written := make(chan struct{})
	go func() { // if it is stuck, it ends with the process
		defer close(written)
		fmt.Fprintf(w.Notices, "fairlead: %s in namespace %s, %s\n", w.Workload.Name, w.Workload.Namespace, inWords(ruling))
	}()
	select {
	case <-written:
		return nil
	case <-interrupted.Done():
		return errInterrupted
	}
}

// ruling is the outbound policy that holds for the workload now, and by whom:
// objects may have closed what the command line left open.
func (w *workload) ruling() control.Ruling {
	return w.plane.Ruling(w.Workload.Namespace, w.Workload.Labels)
}

func inWords(r control.Ruling) string {
	means := "what no entry declares passes through"
	if r.Policy == mesh.RegistryOnly {
		means = "what no entry declares is refused"
	}
	if r.By != "" {
		return r.Policy.String() + " (" + r.By + "): " + means
	}
	return r.Policy.String() + ": " + means
}

// didNotStart is the error of objects whose faults were said one by one.
func didNotStart(faults int) error {
	if faults == 1 {
		return errors.New("the command did not start, for the error above")
	}
	return fmt.Errorf("the command did not start, for the %d errors above", faults)
}
