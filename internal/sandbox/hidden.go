package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// A command that may connect to a socket of the host has a way out: the one
// who listens there has the host's network. So every socket with a path name
// that anybody listens on when the sandbox starts is hidden, and beyond those
// the places of known ones, where somebody may listen later. Sockets in /run
// (docker, podman, containerd, D-Bus, systemd-resolved, nscd, avahi, Wayland,
// keyrings, a user's runtime folder) are hidden by an empty /run.

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

// hiddenPaths returns what to cover, given the caller's environment and the
// sockets to keep.
func hiddenPaths(env, keep []string) ([]string, error) {
	text, err := os.ReadFile("/proc/net/unix")
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("find the sockets to hide: %w", err)
	}
	paths := slices.Concat(hiddenFolders(), hiddenSockets(), boundSockets(string(text)), socketsOf(env))
	slices.Sort(paths)
	paths = slices.Compact(paths)
	return slices.DeleteFunc(paths, func(p string) bool { return slices.Contains(keep, p) }), nil
}

// boundSockets returns the path names in a /proc/net/unix. (Relative ones lead
// nowhere without knowing whose they are.)
func boundSockets(text string) []string {
	var paths []string
	for line := range strings.Lines(text) {
		// Num RefCount Protocol Flags Type St Inode Path; a path may have blanks.
		f := strings.SplitN(strings.TrimRight(line, "\n"), " /", 2)
		if len(f) != 2 {
			continue
		}
		if path := "/" + f[1]; filepath.Clean(path) == path && !below(path, "/run") && !below(path, "/var/run") {
			paths = append(paths, path)
		}
	}
	return paths
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
