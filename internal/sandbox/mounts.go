package sandbox

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// buildMounts changes what the mount namespace of the caller shows. Order
// matters: /run hides the sockets in it, and what is read-only comes last.
func buildMounts(s setup) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	resolver, err := hostResolver()
	if err != nil {
		return err
	}
	if err := mountProc(s.Root); err != nil {
		return err
	}
	if err := mountRun(s.UID); err != nil {
		return err
	}
	if err := mountResolver(resolver); err != nil {
		return err
	}
	if err := hide(s.Hide); err != nil {
		return err
	}
	if err := protectAll(s.ReadOnly); err != nil {
		return err
	}
	return setReadOnly("/sys")
}

// mountProc shows this pid namespace alone, and to root nothing of it through
// which its user id (which counts there, not a capability) could change the
// machine: kernel.core_pattern is a command that the host would run. As the
// kernel then shows no unprotected /proc either, root cannot make sandboxes of
// its own in this one; others can.
func mountProc(root bool) error {
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		if errors.Is(err, unix.EPERM) {
			return fmt.Errorf("mount /proc: %w (something covers parts of /proc here, as container runtimes do; in a container, start it with unmasked /proc: --security-opt systempaths=unconfined, or procMount: Unmasked)", err)
		}
		return fmt.Errorf("mount /proc: %w", err)
	}
	if !root {
		return nil
	}
	for _, path := range []string{"/proc/sys", "/proc/sysrq-trigger", "/proc/irq", "/proc/bus", "/proc/fs"} {
		if err := protect(path); err != nil {
			return err
		}
	}
	return nil
}

// mountRun puts an empty /run where the host keeps its sockets. Links that lead
// out of it stay, for on some systems all programs are found through one.
func mountRun(uid int) error {
	links := linksIn("/run")
	if err := mountEmpty("/run"); err != nil {
		return err
	}
	if s, err := os.Lstat("/var/run"); err == nil && s.IsDir() {
		if err := mountEmpty("/var/run"); err != nil {
			return err
		}
	}
	for name, target := range links {
		if err := os.Symlink(target, filepath.Join("/run", name)); err != nil {
			return fmt.Errorf("fill /run: %w", err)
		}
	}
	for _, dir := range []struct {
		path string
		mode fs.FileMode
	}{
		{"/run/lock", 0o777 | fs.ModeSticky},
		{"/run/user", 0o755},
		{fmt.Sprintf("/run/user/%d", uid), 0o700},
	} {
		if err := os.MkdirAll(dir.path, 0o755); err != nil {
			return fmt.Errorf("fill /run: %w", err)
		}
		if err := os.Chmod(dir.path, dir.mode); err != nil {
			return fmt.Errorf("fill /run: %w", err)
		}
	}
	return nil
}

// linksIn returns the symbolic links of a folder that lead out of it.
func linksIn(dir string) map[string]string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil // nothing to keep
	}
	links := map[string]string{}
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink {
			continue
		}
		target, err := os.Readlink(filepath.Join(dir, e.Name()))
		if err == nil && filepath.IsAbs(target) && !strings.HasPrefix(target, dir+"/") && target != dir {
			links[e.Name()] = target
		}
	}
	return links
}

func mountEmpty(dir string) error {
	err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0755,size=10%")
	if err != nil {
		return fmt.Errorf("mount an empty %s: %w", dir, err)
	}
	return nil
}

const resolvConf = "/etc/resolv.conf"

// hostResolver reads the host's resolver configuration; none is no error.
func hostResolver() ([]byte, error) {
	text, err := os.ReadFile(resolvConf)
	if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrPermission) {
		return nil, fmt.Errorf("read the host's resolver configuration: %w", err)
	}
	return resolver(text), nil
}

// resolver returns the resolver configuration of the sandbox, given the host's:
// the same search list and options, one server. Which one does not matter, as
// port 53 of every address is Fairlead's.
func resolver(host []byte) []byte {
	var out bytes.Buffer
	out.WriteString("nameserver 127.0.0.1\n")
	lines := bufio.NewScanner(bytes.NewReader(host))
	for lines.Scan() {
		words := strings.Fields(lines.Text())
		if len(words) < 2 {
			continue
		}
		switch words[0] {
		case "search", "domain", "options", "sortlist":
			out.WriteString(strings.Join(words, " ") + "\n")
		}
	}
	return out.Bytes()
}

// mountResolver puts text where /etc/resolv.conf leads. Where it leads into the
// new /run the file is made there; where it is missing nothing is done, for
// without it every C library asks 127.0.0.1, and the folder is the host's.
func mountResolver(text []byte) error {
	target, err := follow(resolvConf)
	if err != nil {
		return nil //nolint:nilerr // a loop of links: as good as missing
	}
	if below(target, "/run") || below(target, "/var/run") {
		if err := os.MkdirAll(filepath.Dir(target), 0o755); err != nil {
			return fmt.Errorf("make %s: %w", target, err)
		}
		if err := os.WriteFile(target, text, 0o444); err != nil {
			return fmt.Errorf("make %s: %w", target, err)
		}
		return nil
	}
	if _, err := os.Stat(target); err != nil {
		return nil //nolint:nilerr // missing, as said above
	}
	const source = "/run/resolv.conf"
	if err := os.WriteFile(source, text, 0o444); err != nil {
		return fmt.Errorf("write the resolver configuration: %w", err)
	}
	if err := unix.Mount(source, target, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("put the resolver configuration over %s: %w", target, err)
	}
	return os.Remove(source)
}

// follow resolves symbolic links as far as it can: what does not exist is
// where the last of them leads.
func follow(path string) (string, error) {
	for range 40 {
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			dir = filepath.Dir(path)
		}
		path = filepath.Join(dir, filepath.Base(path))
		target, err := os.Readlink(path)
		if err != nil {
			return path, nil //nolint:nilerr // no link, or nothing at all: this is where it leads
		}
		if !filepath.IsAbs(target) {
			target = filepath.Join(dir, target)
		}
		path = target
	}
	return "", fmt.Errorf("follow %s: %w", path, unix.ELOOP)
}

// below says whether path is dir or in it.
func below(path, dir string) bool {
	return path == dir || strings.HasPrefix(path, dir+"/")
}

// hide covers each path with something empty: a socket with a file (to connect
// to it fails with ECONNREFUSED), a folder that is known to hold sockets with a
// folder. What is not there, or not to be reached by this user, needs no cover.
// What is no socket has none: the list has names that strangers chose.
func hide(paths []string) error {
	const empty = "/run/hidden"
	if err := os.WriteFile(empty, nil, 0o666); err != nil {
		return fmt.Errorf("hide the host's sockets: %w", err)
	}
	for _, path := range paths {
		s, err := os.Stat(path)
		switch {
		case err != nil:
			continue
		case s.IsDir() && slices.Contains(hiddenFolders(), path):
			err = unix.Mount("tmpfs", path, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=01777,size=1m")
		case s.Mode()&fs.ModeSocket != 0:
			err = unix.Mount(empty, path, "", unix.MS_BIND, "")
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("hide %s: %w", path, err)
		}
	}
	return os.Remove(empty)
}
