package sandbox

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

func TestTheResolverConfigurationNamesUs(t *testing.T) {
	for _, tt := range []struct{ name, host, want string }{
		{"none", "", ""},
		{"servers are ours", "nameserver 8.8.8.8\nnameserver 1.1.1.1\n", ""},
		{"the rest stays", "# made by hand\nsearch a.example b.example\noptions ndots:5  edns0\nnameserver 8.8.8.8", "search a.example b.example\noptions ndots:5 edns0\n"},
		{"domain", "domain corp.example\n; text\nsearch\n", "domain corp.example\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff("nameserver 127.0.0.1\n"+tt.want, string(resolver([]byte(tt.host)))); d != "" {
				t.Error(d)
			}
		})
	}
	got := script(t, open(t, Options{}), "grep nameserver /etc/resolv.conf")
	if got.Out != "nameserver 127.0.0.1\n" {
		t.Errorf("in the sandbox: %+v", got)
	}
}

func TestFollowGoesAsFarAsItCan(t *testing.T) {
	dir := testDir(t)
	for name, target := range map[string]string{"a": "b", "b": dir + "/sub/../missing/file", "loop": "loop"} {
		if err := os.Symlink(target, filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, want := range map[string]string{"a": dir + "/missing/file", "plain": dir + "/plain", "loop": ""} {
		if got, _ := follow(filepath.Join(dir, name)); got != want {
			t.Errorf("follow(%s) = %q, want %q", name, got, want)
		}
	}
}

func TestRunIsEmpty(t *testing.T) {
	got := script(t, open(t, Options{}), "find -L /run -mindepth 1 -maxdepth 1 -type d -not -name shm | sort; stat -c %a /run/lock; touch /run/mine && echo ours")
	if d := cmp.Diff(result{Out: "/run/lock\n/run/user\n1777\nours\n"}, got); d != "" {
		t.Error(d)
	}
}

func TestSocketsOfTheHostAreHidden(t *testing.T) {
	dir := testDir(t)
	path, elsewhere := filepath.Join(dir, "a  socket"), filepath.Join(dir, "in another namespace")
	listen := func(path string) {
		t.Helper()
		l, err := net.Listen("unix", path)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
	}
	listen(path)
	// A name that passes for another line of the kernel's table.
	passedOff := filepath.Join(dir, "x\n0: 2 0 00010000 0001 01 1 "+dir)
	if err := os.MkdirAll(passedOff, 0o755); err != nil {
		t.Fatal(err)
	}
	listen(filepath.Join(passedOff, "s"))
	file := filepath.Join(dir, "s")
	if err := os.WriteFile(file, []byte("text"), 0o644); err != nil {
		t.Fatal(err)
	}
	abstract, err := net.Listen("unix", "@fairlead-test-"+filepath.Base(dir))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()
	listenInNamespace(t, elsewhere)

	s := open(t, Options{})
	keep(t, s)
	for _, address := range []string{path, elsewhere, abstract.Addr().String()} {
		if got := inside(t, s, program("send", "unix", address)...); got.Out != "ECONNREFUSED\n" {
			t.Errorf("%s: got %q", address, got.Out)
		}
	}
	if got := inside(t, s, "cat", file); got.Out != "text" {
		t.Errorf("a file was hidden: %+v", got)
	}
}

// listenInNamespace has a process in a network namespace of its own listen at
// path until the test ends.
func listenInNamespace(t *testing.T, path string) {
	t.Helper()
	out, end := pipe(t)
	cmd := exec.Command(executablePath(t), append([]string{asProgram}, "listen", path)...)
	cmd.Stdout = end
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getuid(), HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: os.Getgid(), HostID: os.Getgid(), Size: 1}},
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	end.Close()
	(&lines{t: t, from: out}).until("listening\n")
}

func TestTooManyNetworkNamespacesAreTold(t *testing.T) {
	listenInNamespace(t, filepath.Join(testDir(t), "s"))
	for limit, want := range map[int]bool{1: false, 1 << 20: true} {
		tables, complete, err := socketTables("/proc", limit)
		if err != nil || complete != want || len(tables) > limit || want && len(tables) < 2 {
			t.Errorf("at most %d: %q, complete %v, %v", limit, tables, complete, err)
		}
	}
}

func TestProtectedPathsStayAsTheyAre(t *testing.T) {
	dir := testDir(t)
	folder, file := filepath.Join(dir, "entries"), filepath.Join(dir, "entry.yaml")
	for _, err := range []error{
		os.Mkdir(folder, 0o755),
		os.WriteFile(filepath.Join(folder, "a.yaml"), []byte("good"), 0o644),
		os.WriteFile(file, []byte("good"), 0o644),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Options{ReadOnly: []string{folder, file, filepath.Join(dir, "missing")}})
	got := runIn(t, s, Command{Env: os.Environ(), Dir: folder, Args: []string{"sh", "-c", `
		try() { if "$@"; then echo "worked: $*"; fi; }
		try sh -c 'echo bad > a.yaml'
		try sh -c 'echo bad > ../entries/new.yaml'
		try sh -c 'echo bad > ../entry.yaml'
		try rm -f a.yaml ../entry.yaml
		try mv ../entries ../others
		try mv ../entry.yaml ../other.yaml
		echo bad > ../replacement
		try mv ../replacement ../entry.yaml
		try umount ../entry.yaml
		try umount -l ../entries
		try mount -o remount,rw,bind ../entries
		try mount -o remount,rw,bind ../entry.yaml
		cat a.yaml ../entry.yaml`}})
	if got.Out != "goodgood" {
		t.Errorf("got %+v", got)
	}
	for _, path := range []string{file, filepath.Join(folder, "a.yaml")} {
		if text, err := os.ReadFile(path); string(text) != "good" {
			t.Errorf("%s: %q, %v", path, text, err)
		}
	}
}

func TestFoldersAboveProtectedPathsStayWhereTheyAre(t *testing.T) {
	dir := testDir(t)
	entries := filepath.Join(dir, "home", "a", "b", "entries")
	for _, err := range []error{
		os.MkdirAll(entries, 0o755),
		os.WriteFile(filepath.Join(entries, "a.yaml"), []byte("good"), 0o644),
		os.Chmod(filepath.Join(dir, "home", "a"), 0o311), // not to be listed
		os.Mkdir(filepath.Join(dir, "home", "mine"), 0o755),
	} {
		if err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, Options{ReadOnly: []string{entries, filepath.Join(dir, "home", "a", "b", "other", "missing")}})
	got := runIn(t, s, Command{Env: os.Environ(), Dir: filepath.Dir(entries), Args: []string{"sh", "-c", `
		try() { if "$@"; then echo "worked: $*"; fi; }
		top=` + dir + `
		try mv entries others
		try mv $top/home/a/b $top/home/a/c
		try mv $top/home/a $top/home/c
		try mv $top/home $top/home2
		try mv $top $top-2
		try rm -rf $top
		try umount -l $top/home
		try unshare -Ur mv $top/home $top/home2
		try unshare -Urm mv $top/home $top/home2
		pwd; ls
		echo new > file && mkdir $top/home/d && mv file $top/home/d/file && cat $top/home/d/file entries/a.yaml`}})
	if want := filepath.Dir(entries) + "\nentries\nnew\ngood"; got.Out != want {
		t.Errorf("got %+v, want %q", got, want)
	}
	if text, err := os.ReadFile(filepath.Join(entries, "a.yaml")); string(text) != "good" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestOnlyFoldersThatCouldBeRenamedAreFixed(t *testing.T) {
	if d := cmp.Diff([]string{"/a", "/a/b", "/a/b/c", "/a/x"}, above([]string{"/a/b/c/file", "/a/x/y", "/a/b/e", "/top"})); d != "" {
		t.Error(d)
	}
	dir := testDir(t)
	own := filepath.Join(dir, "own")
	if err := os.Mkdir(own, 0o555); err != nil { // its owner can change that
		t.Fatal(err)
	}
	for folder, want := range map[string]bool{own: true, "/tmp": true, "/usr/bin": os.Geteuid() == 0} {
		if got := mayChange(folder); got != want {
			t.Errorf("mayChange(%s) = %v, want %v", folder, got, want)
		}
	}
}

// TestNothingLeadsOut tries what root, or whoever makes himself root, might.
func TestNothingLeadsOut(t *testing.T) {
	s := open(t, Options{})
	startProxy(t, s)
	keep(t, s)
	net, err := os.Open("/proc/self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	defer net.Close()
	for name, attempt := range map[string]string{
		"enter the host's namespace by a descriptor": "nsenter --net=/proc/self/fd/3 true 3<&0",
		"enter by a descriptor from a namespace":     "unshare -Ur nsenter --net=/proc/self/fd/3 true 3<&0",
		"enter what init has":                        "nsenter --net --mount --user -t 1 true",
		"see init's files":                           "ls -H /proc/1/root",
		"flush the rules":                            "nft flush ruleset",
		"flush the rules from a namespace":           "unshare -Ur nft flush ruleset",
		"add an interface":                           "ip link add type dummy",
		"add a route":                                "ip route add 1.2.3.4/32 dev lo",
		"remove the route":                           "ip route del local default dev lo table local",
		"set a system parameter":                     "echo '|/bin/false' > /proc/sys/kernel/core_pattern",
		"make parameters writable":                   "mount -o remount,rw,bind /proc/sys",
		"uncover the host's processes":               "umount -l /proc",
		"uncover the host's run":                     "umount -l /run",
		"write to /sys":                              "echo x > /sys/kernel/uevent_helper || echo 0 > /sys/kernel/mm/ksm/run",
		"make /sys writable":                         "mount -o remount,rw,bind /sys",
		"trace init":                                 "cat /proc/1/mem /proc/1/environ",
		"kill init":                                  "kill -9 1 && kill -0 1 && exit 1",
		"move to the first process's folder":         "cd /proc/1/cwd",
		"load a filter":                              "ip link set lo down",
	} {
		t.Run(name, func(t *testing.T) {
			out, end := pipe(t)
			p, err := s.Exec(Command{Args: []string{"sh", "-c", attempt}, Env: os.Environ(), Dir: "/", Files: [3]*os.File{net, end, end}})
			if err != nil {
				t.Fatal(err)
			}
			end.Close()
			if got := finish(t, p.Wait, out, out); got.Status.ExitCode() == 0 {
				t.Errorf("it worked: %+v", got)
			}
		})
	}
	if got := inside(t, s, program("get", "8.8.8.8:80")...); !strings.Contains(got.Out, "you asked for 8.8.8.8:80") {
		t.Errorf("the way through the proxy was lost: %+v", got)
	}
	if got := inside(t, s, program("send", "udp", "8.8.8.8:123")...); got.Out != "EPERM\n" {
		t.Errorf("the rules were lost: %+v", got)
	}
}

func TestProcShowsTheSandboxAlone(t *testing.T) {
	got := script(t, open(t, Options{}), "cat /proc/[0-9]*/comm | sort -u")
	for name := range strings.Lines(got.Out) {
		if !slices.Contains([]string{"exe\n", "sh\n", "cat\n", "sort\n"}, name) {
			t.Errorf("a process of the host's is seen: %s", name)
		}
	}
	if got.Out == "" {
		t.Errorf("nothing is seen: %+v", got)
	}
}

func TestOldKernelsRemountOneByOne(t *testing.T) {
	text := "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw\n37 36 0:1 / /mnt2/a\\040b rw - tmpfs tmpfs rw\nshort\n"
	if d := cmp.Diff([]string{"/mnt2", "/mnt2/a b"}, mountPoints([]byte(text))); d != "" {
		t.Error(d)
	}
}

func TestDescriptorsAreNotPassedOn(t *testing.T) {
	var fds [2]int
	if err := unix.Pipe(fds[:]); err != nil { // without O_CLOEXEC
		t.Fatal(err)
	}
	defer unix.Close(fds[0])
	defer unix.Close(fds[1])
	high, err := unix.FcntlInt(uintptr(fds[1]), unix.F_DUPFD, 50)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(high)
	got := script(t, open(t, Options{}), "ls /proc/self/fd")
	if d := cmp.Diff("0\n1\n2\n3\n", got.Out); d != "" { // 3 is the folder that ls reads
		t.Error(d)
	}
}
