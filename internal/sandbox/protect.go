package sandbox

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// protectAll makes the paths read-only and fixes them where they are. A mount
// point can be neither renamed nor removed, but a folder above it could be, and
// another path put in its place: so the folders above become mount points too,
// which can be written to as ever.
func protectAll(paths []string) error {
	for _, dir := range above(paths) {
		if err := fix(dir); err != nil {
			return err
		}
	}
	for _, path := range paths {
		if err := protect(path); err != nil {
			return err
		}
	}
	return nil
}

// above returns the folders above the paths but for "/", outer ones first, each
// once.
func above(paths []string) []string {
	var dirs []string
	for _, path := range paths {
		for dir := filepath.Dir(path); dir != "/" && dir != "."; dir = filepath.Dir(dir) {
			dirs = append(dirs, dir)
		}
	}
	slices.Sort(dirs) // a prefix comes before what it is one of
	return slices.Compact(dirs)
}

// fix makes dir a mount point, with what is mounted in it, where a command
// could otherwise rename it.
func fix(dir string) error {
	var s unix.Statx_t
	err := unix.Statx(unix.AT_FDCWD, dir, unix.AT_SYMLINK_NOFOLLOW, unix.STATX_TYPE, &s)
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ENOTDIR), errors.Is(err, unix.EACCES):
		return nil // what is below it is not there either, for this user
	case err != nil && !errors.Is(err, unix.ENOSYS):
		return fmt.Errorf("protect what is in %s: %w", dir, err)
	case err == nil && s.Attributes&unix.STATX_ATTR_MOUNT_ROOT != 0, !mayChange(filepath.Dir(dir)):
		return nil
	}
	if err := unix.Mount(dir, dir, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("protect what is in %s: %w", dir, err)
	}
	return nil
}

// mayChange says whether this user can rename what is in dir, or give himself
// the right to.
func mayChange(dir string) bool {
	var s unix.Stat_t
	if err := unix.Stat(dir, &s); err != nil {
		return true // not known that he cannot
	}
	return int64(s.Uid) == int64(os.Geteuid()) || unix.Faccessat(unix.AT_FDCWD, dir, unix.W_OK, unix.AT_EACCESS) == nil
}

// protect makes path and what is mounted in it read-only, and a mount point,
// so that it cannot be renamed or removed. What is not there is left out.
func protect(path string) error {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err := unix.Mount(path, path, "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("protect %s: %w", path, err)
	}
	return setReadOnly(path)
}

// setReadOnly makes the mount at path and those in it read-only.
func setReadOnly(path string) error {
	attr := &unix.MountAttr{Attr_set: unix.MOUNT_ATTR_RDONLY}
	err := unix.MountSetattr(-1, path, unix.AT_RECURSIVE, attr)
	if errors.Is(err, unix.ENOSYS) { // before Linux 5.12
		err = remountReadOnly(path)
	}
	if err != nil {
		return fmt.Errorf("make %s read-only: %w", path, err)
	}
	return nil
}

// remountReadOnly does the same mount by mount, keeping each one's flags, which
// may be locked.
func remountReadOnly(path string) error {
	text, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return err
	}
	for _, point := range mountPoints(text) {
		if !below(point, path) {
			continue
		}
		var s unix.Statfs_t
		if err := unix.Statfs(point, &s); err != nil {
			return fmt.Errorf("%s: %w", point, err)
		}
		// The ST_ flags and the MS_ flags are the same numbers up to RELATIME.
		const same = unix.MS_RDONLY | unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_NOATIME | unix.MS_NODIRATIME
		flags := uintptr(s.Flags) & same
		if s.Flags&unix.ST_RELATIME != 0 {
			flags |= unix.MS_RELATIME
		}
		if err := unix.Mount("", point, "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY|flags, ""); err != nil {
			return fmt.Errorf("%s: %w", point, err)
		}
	}
	return nil
}

// mountPoints returns the fifth field of each line of a mountinfo file.
func mountPoints(text []byte) []string {
	var points []string
	for line := range strings.Lines(string(text)) {
		if f := strings.Fields(line); len(f) > 4 {
			points = append(points, unescape(f[4]))
		}
	}
	return points
}

// unescape undoes the kernel's octal escapes of blanks and backslashes.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
