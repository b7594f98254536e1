package cli

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"

	"github.com/fairlead/fairlead/internal/bootstrap"
	"github.com/fairlead/fairlead/internal/proxy/overload"
)

// leastMemory is what a proxy needs before it has done anything, and some more.
const leastMemory = 24 << 20

// limits are what a proxy may use, where nobody says: memory, half of what there
// is, for the command needs some too; connections, what three quarters of the
// descriptors are enough for, since most need one more towards an endpoint, but
// not while they are idle.
func limits(l bootstrap.Limits) (connections int, memory uint64, err error) {
	switch {
	case l.Memory > 0:
		memory = uint64(l.Memory)
	case l.Memory == 0:
		if memory = overload.Available(os.DirFS("/")) / 2; memory > 0 {
			memory = max(memory, leastMemory)
		}
	}
	switch {
	case l.Connections > 0:
		connections = l.Connections
	case l.Connections == 0:
		var files syscall.Rlimit
		if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
			return 0, 0, fmt.Errorf("ask how many descriptors may be open: %w", err)
		}
		connections = int(min(files.Cur, 1<<30) / 4 * 3)
	}
	return connections, memory, nil
}

// parseLimits reads the limits of a run as they are given.
func parseLimits(memory string, connections int) (l bootstrap.Limits, err error) {
	l.Connections = connections
	if connections < 0 {
		return l, fmt.Errorf("--max-connections %d: give a number above 0", connections)
	}
	switch memory {
	case "":
	case "none":
		l.Memory = -1
	default:
		if l.Memory, err = parseSize(memory); err != nil {
			return l, fmt.Errorf("--max-memory %q: %w", memory, err)
		}
		if l.Memory < leastMemory {
			return l, fmt.Errorf("--max-memory %q: a proxy needs at least %dMiB", memory, leastMemory>>20)
		}
	}
	return l, nil
}

// parseSize reads a number of bytes, as Kubernetes and others write it.
func parseSize(s string) (int64, error) {
	number, shift := s, 0
	for i, unit := range []string{"Ki", "Mi", "Gi"} {
		if rest, ok := strings.CutSuffix(strings.TrimSuffix(s, "B"), unit); ok {
			number, shift = rest, 10*(i+1)
		}
	}
	n, err := strconv.ParseInt(number, 10, 64-30)
	if err != nil || n < 0 {
		return 0, fmt.Errorf("is no size; write it as 64MiB, 1GiB, or none")
	}
	return n << shift, nil
}
