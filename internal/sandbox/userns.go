package sandbox

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"syscall"
)

// selfExe is this program, whatever has become of its file.
const selfExe = "/proc/self/exe"

// idMaps returns the mappings of a user namespace below the caller's. Root maps
// every id onto itself, so that chown and setuid work and ids look as ever;
// others their own two.
func idMaps(root bool, uid, gid int) (users, groups []syscall.SysProcIDMap, err error) {
	if !root {
		return []syscall.SysProcIDMap{{ContainerID: uid, HostID: uid, Size: 1}},
			[]syscall.SysProcIDMap{{ContainerID: gid, HostID: gid, Size: 1}}, nil
	}
	if users, err = ontoItself("/proc/self/uid_map"); err != nil {
		return nil, nil, err
	}
	groups, err = ontoItself("/proc/self/gid_map")
	return users, groups, err
}

// maySetGroups says whether setgroups(2) can be allowed in a user namespace
// below this one: a kernel that forbade it here, as it does where an ordinary
// user made the namespace, has it stay forbidden.
func maySetGroups() bool {
	text, err := os.ReadFile("/proc/self/setgroups")
	return err == nil && strings.TrimSpace(string(text)) == "allow"
}

func ontoItself(path string) ([]syscall.SysProcIDMap, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("find out which ids there are: %w", err)
	}
	maps, err := parseIDMap(string(text))
	if err != nil {
		return nil, fmt.Errorf("find out which ids there are: %s: %w", path, err)
	}
	return maps, nil
}

// parseIDMap reads a uid_map or gid_map and maps each range of ids that exists
// there onto itself. (Where that namespace has them from is not its concern.)
func parseIDMap(text string) ([]syscall.SysProcIDMap, error) {
	var maps []syscall.SysProcIDMap
	for line := range strings.Lines(text) {
		f := strings.Fields(line)
		if len(f) != 3 {
			return nil, fmt.Errorf("%q is not three numbers", line)
		}
		first, err1 := strconv.ParseUint(f[0], 10, 32)
		size, err2 := strconv.ParseUint(f[2], 10, 32)
		if err := errors.Join(err1, err2); err != nil {
			return nil, err
		}
		maps = append(maps, syscall.SysProcIDMap{ContainerID: int(first), HostID: int(first), Size: int(size)})
	}
	if len(maps) == 0 {
		return nil, errors.New("no ids are mapped")
	}
	return maps, nil
}

// isRoot says whether the caller may map every id.
func isRoot() bool {
	if os.Geteuid() != 0 {
		return false
	}
	const setgid, setuid = 6, 7
	caps, err := strconv.ParseUint(statusField("CapEff"), 16, 64)
	return err == nil && caps>>setgid&1 == 1 && caps>>setuid&1 == 1
}

// statusField returns a field of /proc/self/status, or nothing.
func statusField(name string) string {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, name+":"); ok {
			return strings.TrimSpace(v)
		}
	}
	return ""
}

// A kernel is what the machine says about namespaces. An empty field is a
// setting that this kernel does not have.
type kernel struct {
	namespaces bool              // /proc/self/ns/user exists
	root       bool              // the caller is
	clone      string            // kernel.unprivileged_userns_clone
	appArmor   string            // kernel.apparmor_restrict_unprivileged_userns
	limits     map[string]string // user.max_…_namespaces
	seccomp    bool              // a filter holds for this process
}

func readKernel() kernel {
	setting := func(path string) string {
		text, err := os.ReadFile("/proc/sys/" + path)
		if err != nil {
			return ""
		}
		return strings.TrimSpace(string(text))
	}
	k := kernel{
		root:     os.Geteuid() == 0,
		clone:    setting("kernel/unprivileged_userns_clone"),
		appArmor: setting("kernel/apparmor_restrict_unprivileged_userns"),
		limits:   map[string]string{},
		seccomp:  statusField("Seccomp") == "2",
	}
	for _, name := range limitNames() {
		k.limits[name] = setting(strings.Replace(name, ".", "/", 1))
	}
	_, err := os.Stat("/proc/self/ns/user")
	k.namespaces = err == nil
	return k
}

func limitNames() []string {
	return []string{"user.max_user_namespaces", "user.max_net_namespaces", "user.max_pid_namespaces", "user.max_mnt_namespaces"}
}

// unknownReason begins the sentence that names no setting.
const unknownReason = "none of the known settings forbids it"

// explain says which setting forbids namespaces and what to do, given the error
// that they failed with. It is empty where no setting does.
func (k kernel) explain(err error) string {
	denied := errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.EACCES)
	full := errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EUSERS)
	switch {
	case !denied && !full && !errors.Is(err, syscall.EINVAL):
		return ""
	case !k.namespaces:
		return "this kernel was built without user namespaces (CONFIG_USER_NS); use another kernel"
	}
	for _, name := range limitNames() {
		if k.limits[name] == "0" && (full || denied) {
			return fmt.Sprintf("%s is 0: allow namespaces with `sysctl -w %s=15000` (and in /etc/sysctl.d to keep it)", name, name)
		}
	}
	switch {
	case full:
		return "there are too many namespaces: user.max_user_namespaces and its sisters (user.max_net_namespaces, …) limit their number, and 32 can be nested; raise the limit with sysctl or end some"
	case denied && k.clone == "0" && !k.root:
		return "kernel.unprivileged_userns_clone is 0: allow user namespaces with `sysctl -w kernel.unprivileged_userns_clone=1` (and in /etc/sysctl.d to keep it), or run as root"
	case denied && k.appArmor == "1" && !k.root:
		return "kernel.apparmor_restrict_unprivileged_userns is 1: allow them with `sysctl -w kernel.apparmor_restrict_unprivileged_userns=0`, or give this program an AppArmor profile with `userns,`"
	case denied && k.seccomp:
		return "a seccomp filter holds for this process, as in a container: start the container with a profile that allows user namespaces (--security-opt seccomp=unconfined; in Kubernetes seccompProfile: Unconfined)"
	case denied:
		return unknownReason + ": a security module (SELinux, a hardened kernel), a chroot, or missing capabilities (CAP_SETUID, CAP_SETGID, CAP_SETFCAP of root) may; see the kernel log"
	}
	return ""
}
