package sandbox

import (
	"fmt"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestIDMapsOntoThemselves(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []syscall.SysProcIDMap
	}{
		{"the whole machine", "         0          0 4294967295\n", []syscall.SysProcIDMap{{Size: 4294967295}}},
		{"a container's", "0 100000 65536\n70000 1000 1\n", []syscall.SysProcIDMap{{Size: 65536}, {ContainerID: 70000, HostID: 70000, Size: 1}}},
		{"nobody's", "", nil},
		{"broken", "0 0\n", nil},
		{"negative", "-1 0 1\n", nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseIDMap(tt.text)
			if (err != nil) != (tt.want == nil) {
				t.Errorf("error %v", err)
			}
			if d := cmp.Diff(tt.want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestTheSettingThatForbidsNamespacesIsNamed(t *testing.T) {
	limits := map[string]string{"user.max_user_namespaces": "0"}
	for _, tt := range []struct {
		name   string
		kernel kernel
		err    error
		want   string // in the sentence; empty: no sentence
	}{
		{"Debian's", kernel{namespaces: true, clone: "0"}, syscall.EPERM, "kernel.unprivileged_userns_clone is 0"},
		{"not root's concern", kernel{namespaces: true, clone: "0", root: true, seccomp: true}, syscall.EPERM, "seccomp"},
		{"Ubuntu's", kernel{namespaces: true, appArmor: "1"}, fmt.Errorf("wrapped: %w", syscall.EACCES), "apparmor_restrict_unprivileged_userns is 1"},
		{"a limit of none", kernel{namespaces: true, limits: limits}, syscall.ENOSPC, "sysctl -w user.max_user_namespaces="},
		{"a limit that is reached", kernel{namespaces: true}, syscall.ENOSPC, "too many namespaces"},
		{"a container", kernel{namespaces: true, seccomp: true}, syscall.EPERM, "seccomp filter"},
		{"an old kernel", kernel{}, syscall.EINVAL, "CONFIG_USER_NS"},
		{"something else", kernel{namespaces: true}, syscall.EPERM, "none of the known settings"},
		{"another error", kernel{namespaces: true}, syscall.ENOMEM, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			got := tt.kernel.explain(tt.err)
			if !strings.Contains(got, tt.want) || (tt.want == "") != (got == "") {
				t.Errorf("got %q, want %q in it", got, tt.want)
			}
		})
	}
}

const unixTable = `Num       RefCount Protocol Flags    Type St Inode Path
0000000000000000: 00000002 00000000 00010000 0001 01 12345 /tmp/a socket
0000000000000000: 00000002 00000000 00010000 0001 01 12346 @/tmp/abstract
0000000000000000: 00000003 00000000 00000000 0001 03 12347
0000000000000000: 00000002 00000000 00000000 0002 01 12348 /dev/log
0000000000000000: 00000002 00000000 00010000 0001 01 12349 /run/docker.sock
0000000000000000: 00000002 00000000 00010000 0001 01 12350 relative
`

func TestSocketsToHideAreFound(t *testing.T) {
	bound, err := boundSockets(strings.NewReader(unixTable))
	if d := cmp.Diff([]string{"/tmp/a socket", "/dev/log"}, bound); d != "" || err != nil {
		t.Error(d, err)
	}
	env := []string{
		"DOCKER_HOST=unix:///home/u/docker.sock", "DBUS_SESSION_BUS_ADDRESS=unix:path=/tmp/dbus%2d1,guid=1;unix:abstract=x",
		"TMUX=/tmp/tmux-1/default,1,0", "WAYLAND_DISPLAY=wayland-0", "SSH_AUTH_SOCK=/run/user/1/keyring", "OTHER=/tmp/x",
	}
	if d := cmp.Diff([]string{"/home/u/docker.sock", "/tmp/dbus-1", "/tmp/tmux-1/default"}, socketsOf(env)); d != "" {
		t.Error(d)
	}
}

func FuzzHostTables(f *testing.F) {
	f.Add(unixTable)
	f.Add("0 0 4294967295\n")
	f.Add("36 35 98:0 / /a\\040b rw - ext3 x rw\n")
	f.Add("search a\noptions b")
	f.Fuzz(func(t *testing.T, text string) {
		bound, _ := boundSockets(strings.NewReader(text))
		for _, p := range append(bound, socketsOf([]string{"TMUX=" + text})...) {
			if !filepath.IsAbs(p) || filepath.Clean(p) != p {
				t.Errorf("%q is not a path", p)
			}
		}
		maps, _ := parseIDMap(text)
		for _, m := range maps {
			if m.Size < 0 || m.ContainerID < 0 || m.HostID != m.ContainerID {
				t.Errorf("%+v", m)
			}
		}
		mountPoints([]byte(text))
		if got := resolver([]byte(text)); strings.Count("\n"+string(got), "\nnameserver ") != 1 {
			t.Errorf("servers: %q", got)
		}
	})
}
