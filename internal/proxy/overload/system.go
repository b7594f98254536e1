package overload

import (
	"bufio"
	"bytes"
	"io/fs"
	"math"
	"path"
	"strconv"
	"strings"
)

// Available is how many bytes of memory the process may use of what the system
// under root has: the least of its control groups' limits (version 1 and 2) and
// of the machine's memory. It is 0 if nothing can be read.
func Available(root fs.FS) uint64 {
	least := uint64(math.MaxUint64)
	limit := func(name string) {
		b, err := fs.ReadFile(root, name)
		if err != nil {
			return // there is no such group, or it has no limit
		}
		if n, err := strconv.ParseUint(string(bytes.TrimSpace(b)), 10, 64); err == nil { // "max" is none
			least = min(least, n)
		}
	}
	groups, _ := fs.ReadFile(root, "proc/self/cgroup")
	for line := range strings.Lines(string(groups)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3) // number, controllers, path
		if len(parts) < 3 {
			continue
		}
		var at, file string
		switch {
		case parts[1] == "":
			at, file = "sys/fs/cgroup", "memory.max"
		case strings.Contains(","+parts[1]+",", ",memory,"):
			at, file = "sys/fs/cgroup/memory", "memory.limit_in_bytes"
		default:
			continue
		}
		// In a container the path may be that of the host: then only the top is there.
		for dir := path.Clean("/" + parts[2]); ; dir = path.Dir(dir) {
			limit(path.Join(at, dir, file))
			if dir == "/" {
				break
			}
		}
	}
	least = min(least, machine(root))
	if least == math.MaxUint64 {
		return 0
	}
	return least
}

// machine is the memory of the machine.
func machine(root fs.FS) uint64 {
	info, _ := fs.ReadFile(root, "proc/meminfo")
	for s := bufio.NewScanner(bytes.NewReader(info)); s.Scan(); {
		words := strings.Fields(s.Text())
		if len(words) == 3 && words[0] == "MemTotal:" && words[2] == "kB" {
			if n, err := strconv.ParseUint(words[1], 10, 50); err == nil {
				return n << 10
			}
		}
	}
	return math.MaxUint64
}
