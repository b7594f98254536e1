package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// A command that may connect to a socket of the host has a way out: the one
// who listens there has the host's network. A path name leads to its socket
// from every network namespace, while the kernel lists it in that of the socket
// alone. So every socket with a path name in any network namespace of a process
// that is seen when the sandbox starts is hidden, and beyond those the places
// of known ones, where somebody may listen later. Sockets in /run (docker,
// podman, containerd, D-Bus, systemd-resolved, nscd, avahi, Wayland, keyrings, a
// user's runtime folder) are hidden by an empty /run.

// hiddenFolders returns folders that hold sockets and nothing else.
func hiddenFolders() []string {
	return []string{
		"/tmp/.X11-unix",                  // X servers: send keys to a terminal outside
		"/tmp/.ICE-unix",                  // session managers: start programs at will
		"/var/lib/sss/pipes",              // sssd: looks up names of hosts
		"/var/lib/kubelet/device-plugins", // the kubelet: runs as root outside
	}
}

// hiddenSockets returns sockets outside /run at known places.
func hiddenSockets() []string {
	return []string{
		"/var/snap/lxd/common/lxd/unix.socket", // LXD: root outside
		"/var/lib/lxd/unix.socket",
		"/var/lib/incus/unix.socket", // its fork
		"/var/lib/kubelet/pod-resources/kubelet.sock",
		"/var/spool/postfix/private/smtp", // sends mail
		"/dev/log",                        // a log forwarded elsewhere
	}
}

// socketVariables are variables whose value is, or holds, the address of a
// socket of something that acts for its callers.
func socketVariables() []string {
	return []string{"DOCKER_HOST", "CONTAINER_HOST", "CONTAINERD_ADDRESS", "DBUS_SESSION_BUS_ADDRESS", "DBUS_SYSTEM_BUS_ADDRESS", "WAYLAND_DISPLAY", "TMUX", "STY", "GPG_AGENT_INFO", "SSH_AUTH_SOCK"}
}

// Bounds of what is read to find sockets.
const (
	maxNamespaces = 256
	maxTable      = 16 << 20 // bytes of one /proc/net/unix, a hundred thousand sockets
)

// hiddenPaths returns what to cover, given the caller's environment. Not
// complete is what the bounds left out.
func hiddenPaths(env []string) (paths []string, complete bool, err error) {
	tables, complete, err := socketTables("/proc", maxNamespaces)
	if err != nil {
		return nil, false, fmt.Errorf("find the sockets to hide: %w", err)
	}
	paths = slices.Concat(hiddenFolders(), hiddenSockets(), socketsOf(env))
	for _, table := range tables {
		bound, whole, err := socketsIn(table)
		if err != nil && table == tables[0] {
			return nil, false, fmt.Errorf("find the sockets to hide: %w", err)
		}
		paths = append(paths, bound...)
		complete = complete && whole && err == nil
	}
	slices.Sort(paths)
	return slices.Compact(paths), complete, nil
}

// socketTables returns one path to the table of each network namespace that a
// process in proc is in, the caller's first. (What /proc/PID/net/unix is shows
// everybody, unlike /proc/PID/ns/net: its inode is the namespace's.)
func socketTables(proc string, limit int) (tables []string, complete bool, err error) {
	entries, err := os.ReadDir(proc)
	if err != nil {
		return nil, false, err
	}
	seen := map[uint64]bool{}
	processes := []string{"self"}
	for _, e := range entries {
		if name := e.Name(); name[0] >= '1' && name[0] <= '9' {
			processes = append(processes, name)
		}
	}
	for _, pid := range processes {
		var s unix.Stat_t
		path := proc + "/" + pid + "/net/unix"
		if err := unix.Stat(path, &s); err != nil || seen[s.Ino] {
			continue // it has ended, or is hidden from this user
		}
		if len(tables) == limit {
			return tables, false, nil
		}
		seen[s.Ino] = true
		tables = append(tables, path)
	}
	return tables, true, nil
}

// socketsIn reads a table. One that is gone had nobody left.
func socketsIn(table string) (paths []string, whole bool, err error) {
	f, err := os.Open(table)
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ESRCH) {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	from := &io.LimitedReader{R: f, N: maxTable}
	paths, err = boundSockets(from)
	return paths, from.N > 0, err
}

// boundSockets returns the path names in a /proc/net/unix. (Relative ones lead
// nowhere without knowing whose they are.)
func boundSockets(table io.Reader) ([]string, error) {
	all, err := peer.Table(table)
	if err != nil {
		return nil, err
	}
	var paths []string
	for _, b := range all {
		if p := b.Name; filepath.IsAbs(p) && filepath.Clean(p) == p && !below(p, "/run") && !below(p, "/var/run") {
			paths = append(paths, p)
		}
	}
	return paths, nil
}

// socketsOf returns the socket paths in the environment.
func socketsOf(env []string) []string {
	var paths []string
	for _, name := range socketVariables() {
		for part := range strings.FieldsFuncSeq(valueOf(env, name), func(r rune) bool { return r == ',' || r == ';' }) {
			if path := socketPath(part); path != "" && !below(path, "/run") {
				paths = append(paths, path)
			}
		}
	}
	return paths
}

// socketPath finds a path in unix:///a, unix:path=/a, path=/a and /a.
func socketPath(s string) string {
	if _, after, ok := strings.Cut(s, "path="); ok {
		s = after
		if plain, err := url.PathUnescape(s); err == nil {
			s = plain
		}
	}
	s = strings.TrimPrefix(s, "unix://")
	if !filepath.IsAbs(s) {
		return ""
	}
	return filepath.Clean(s)
}
