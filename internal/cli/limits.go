package cli

import (
	"fmt"
	"math"
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

// parseLimits reads the limits of a run as they are given; connections is nil if
// their number is not.
func parseLimits(memory string, connections *int) (l bootstrap.Limits, err error) {
	if connections != nil {
		l.Connections = *connections
		if l.Connections <= 0 {
			return l, fmt.Errorf("--max-connections %d: give a number above 0", l.Connections)
		}
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

// exceeding says which limits lie above what there is, memory in bytes and
// descriptors, and what holds then. Memory of 0 bytes is not known.
func exceeding(l bootstrap.Limits, memory, descriptors uint64) (remarks []string) {
	if l.Memory > 0 && memory > 0 && uint64(l.Memory) > memory {
		remarks = append(remarks, fmt.Sprintf("--max-memory is more than the %dMiB there are here, so it limits nothing: "+
			"the system may end the proxy before that much is used", memory>>20))
	}
	if l.Connections > 0 && uint64(l.Connections) > descriptors {
		remarks = append(remarks, fmt.Sprintf("--max-connections %d is more than the %d descriptors that a process may open here (ulimit -Hn), "+
			"so those run out first: new connections wait then until others end", l.Connections, descriptors))
	}
	return remarks
}

// here is what exceeding is asked of: the memory that there is, and the descriptors
// that may be open once the soft limit is raised, as the proxy does it.
func here() (memory, descriptors uint64) {
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		files.Max = math.MaxUint64 // not known
	}
	return overload.Available(os.DirFS("/")), files.Max
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
		return 0, fmt.Errorf("is no size; write a number with KiB, MiB or GiB (or Ki, Mi, Gi) behind it, such as 64MiB, or a number of bytes, or none")
	}
	return n << shift, nil
}
