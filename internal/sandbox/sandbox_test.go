package sandbox

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"
)

func TestConnectionsAreCapturedWithTheirDestination(t *testing.T) {
	s := open(t, Options{})
	startProxy(t, s)
	keep(t, s)
	for _, tt := range []struct{ deed, address string }{
		{"get", "93.184.216.34:80"},
		{"get", "240.240.0.1:443"},
		{"get", "10.0.0.1:15001"},
		{"get", "[2606:2800::1]:8080"},
		{"get", "[2001:2::7]:1"},
		{"get", "169.254.169.254:80"},
		{"mptcp", "93.184.216.34:80"},
		{"mptcp", "[2606:2800::1]:8080"},
	} {
		t.Run(tt.deed+" "+tt.address, func(t *testing.T) {
			got := inside(t, s, program(tt.deed, tt.address)...)
			want := result{Out: "connected\nyou asked for " + tt.address + "\n"}
			if d := cmp.Diff(want, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestAnyNameServerIsOurs(t *testing.T) {
	s := open(t, Options{})
	startProxy(t, s)
	keep(t, s)
	for _, server := range []string{
		"8.8.8.8:53", "127.0.0.53:53", "127.0.0.1:53", "192.0.0.8:53", "240.240.0.1:53",
		"[2001:4860::8888]:53", "[::1]:53", "[fd00:64::2]:53",
	} {
		t.Run(server, func(t *testing.T) {
			want := result{Out: server + " 192.0.2.7\n"}
			if d := cmp.Diff(want, inside(t, s, program("dns-udp", server)...)); d != "" {
				t.Error("UDP", d)
			}
			want = result{Out: "192.0.2.7\n"}
			if d := cmp.Diff(want, inside(t, s, program("dns-tcp", server)...)); d != "" {
				t.Error("TCP", d)
			}
		})
	}
	t.Run("getaddrinfo", func(t *testing.T) {
		got := inside(t, s, "getent", "ahostsv4", "example.com")
		if !strings.HasPrefix(got.Out, "192.0.2.7 ") {
			t.Errorf("got %+v", got)
		}
	})
}

func TestTheRestIsRefusedAtOnceAndCounted(t *testing.T) {
	s := open(t, Options{})
	startProxy(t, s)
	keep(t, s)
	for _, tt := range []struct {
		args  []string
		out   string
		count Counters
	}{
		{[]string{"send", "udp", "8.8.8.8:443"}, "EPERM\n", Counters{UDP: 1}},
		{[]string{"send", "udp", "[2001:4860::8888]:443"}, "EPERM\n", Counters{UDP: 1}},
		{[]string{"send", "udp", "224.0.0.251:5353"}, "EPERM\n", Counters{UDP: 1}},
		{[]string{"send", "icmp", "8.8.8.8"}, "EPERM\n", Counters{ICMP: 1}},
		{[]string{"send", "icmp6", "2001:4860::8888"}, "EACCES\n", Counters{ICMP: 1}},
		{[]string{"get", "127.0.0.1:15001"}, "error: dial tcp 127.0.0.1:15001: connect: connection refused\n", Counters{Loop: 1}},
		{[]string{"get", "[fd00:64::2]:15001"}, "error: dial tcp [fd00:64::2]:15001: connect: connection refused\n", Counters{Loop: 1}},
		{[]string{"socket", "raw"}, "EPERM\n", Counters{}},
		{[]string{"socket", "packet"}, "EPERM\n", Counters{}},
		{[]string{"socket", "vsock"}, "EAFNOSUPPORT\n", Counters{}},
		{[]string{"socket", "uring"}, "ENOSYS\n", Counters{}},
		{[]string{"keys"}, "ENOSYS\nENOSYS\nENOSYS\n", Counters{}},
		{[]string{"serve", "tcp", "127.0.0.1:53"}, "error: listen tcp 127.0.0.1:53: bind: address already in use\n", Counters{}},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			if tt.args[0] == "serve" && os.Geteuid() != 0 {
				tt.out = strings.Replace(tt.out, "address already in use", "permission denied", 1)
			}
			before := counters(t, s)
			got := inside(t, s, program(tt.args...)...)
			after := counters(t, s)
			if d := cmp.Diff(tt.out, got.Out); d != "" {
				t.Error(d)
			}
			counted := Counters{after.UDP - before.UDP, after.ICMP - before.ICMP, after.Loop - before.Loop, after.Other - before.Other}
			if d := cmp.Diff(tt.count, counted); d != "" {
				t.Error(d)
			}
		})
	}
}

func counters(t *testing.T, s *Sandbox) Counters {
	t.Helper()
	c, err := s.Counters()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestItsOwnServersAreItsOwn(t *testing.T) {
	s := open(t, Options{})
	startProxy(t, s)
	keep(t, s)
	addresses := []string{"127.0.0.1:0", "127.9.9.9:0", "[::1]:0", "192.0.0.8:0", "0.0.0.0:0"}
	if os.Geteuid() == 0 {
		addresses = append(addresses, "127.0.0.1:80")
	}
	for _, address := range addresses {
		t.Run(address, func(t *testing.T) {
			got := inside(t, s, program("serve", "tcp", address)...)
			if d := cmp.Diff(result{Out: "connected\nserved by myself\n"}, got); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestConnectionsWaitForTheNextProxy(t *testing.T) {
	s := open(t, Options{})
	first := startProxy(t, s)
	keep(t, s)
	inside(t, s, program("get", "192.0.2.1:80")...)
	first.stop()

	out, end := pipe(t)
	p, err := s.Exec(Command{Args: program("get", "192.0.2.2:80"), Dir: "/", Files: [3]*os.File{nil, end, end}})
	if err != nil {
		t.Fatal(err)
	}
	end.Close()
	said := &lines{t: t, from: out}
	if got := said.next(); got != "connected" {
		t.Fatal(got)
	}
	startProxy(t, s)
	if got := said.next(); got != "you asked for 192.0.2.2:80" {
		t.Error(got)
	}
	if status, err := p.Wait(); err != nil || status.Code != 0 {
		t.Error(status, err)
	}
}

func TestExitCodes(t *testing.T) {
	dir := testDir(t)
	for name, text := range map[string]string{"plain": "hello", "orphan": "#!/no/such/interpreter\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(dir, "denied"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		err  string
	}{
		{[]string{"true"}, 0, ""},
		{[]string{"sh", "-c", "exit 7"}, 7, ""},
		{[]string{"sh", "-c", "kill -9 $$"}, 137, ""},
		{[]string{"sh", "-c", "kill -TERM $$"}, 143, ""},
		{[]string{"no-such-command"}, 127, "no-such-command: command not found"},
		{[]string{""}, 127, ": command not found"},
		{[]string{"./missing"}, 127, "./missing: no such file or directory"},
		{[]string{"./denied"}, 126, "./denied: cannot execute: permission denied"},
		{[]string{"denied"}, 126, "denied: cannot execute " + dir + "/denied: permission denied"},
		{[]string{"/tmp"}, 126, "/tmp: cannot execute: it is a directory"},
		{[]string{"./plain"}, 126, "./plain: cannot execute " + dir + "/plain: exec format error"},
		{[]string{"./orphan"}, 126, "./orphan: the interpreter that " + dir + "/orphan names was not found"},
	} {
		t.Run(strings.Join(tt.args, " "), func(t *testing.T) {
			s := open(t, Options{})
			err := s.Run(Command{Args: tt.args, Env: append(os.Environ(), "PATH="+os.Getenv("PATH")+":"+dir), Dir: dir})
			var failed *StartError
			if errors.As(err, &failed) {
				if failed.Code != tt.code || failed.Error() != tt.err {
					t.Errorf("got %d %q, want %d %q", failed.Code, failed, tt.code, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			status, err := s.Wait()
			if err != nil || status.ExitCode() != tt.code || tt.err != "" {
				t.Errorf("got %d, %v; want %d %q", status.ExitCode(), err, tt.code, tt.err)
			}
		})
	}
}

func TestTheCommandKeepsUserFolderAndFiles(t *testing.T) {
	dir := testDir(t)
	s := open(t, Options{})
	got := runIn(t, s, Command{
		Args: []string{"sh", "-c", "pwd; id -u; echo text > file; ls -n file | cut -d' ' -f3; echo $SPECIAL | od -An -tx1"},
		Env:  append(os.Environ(), "SPECIAL=\xff"), Dir: dir,
	})
	uid := "0"
	if os.Geteuid() != 0 {
		uid = "65534"
	}
	if d := cmp.Diff(result{Out: dir + "\n" + uid + "\n" + uid + "\n ff 0a\n"}, got); d != "" {
		t.Error(d)
	}
	if text, err := os.ReadFile(filepath.Join(dir, "file")); string(text) != "text\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestTheEndOfTheCommandIsTheEndOfAll(t *testing.T) {
	s := open(t, Options{})
	out, end := pipe(t)
	err := s.Run(Command{Args: []string{"sh", "-c", "setsid sleep 1000 & echo started"}, Env: os.Environ(), Dir: "/", Files: [3]*os.File{nil, end, nil}})
	if err != nil {
		t.Fatal(err)
	}
	end.Close()
	said := &lines{t: t, from: out}
	said.until("started\n")
	if _, err := s.Wait(); err != nil {
		t.Fatal(err)
	}
	if n, err := out.Read(make([]byte, 1)); n != 0 || err == nil || errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("something still holds the output: %d, %v", n, err)
	}
	if _, err := s.Exec(Command{Args: []string{"true"}}); !errors.Is(err, ErrEnded) {
		t.Errorf("exec after the end: %v", err)
	}
}

func TestNothingOutlivesAKilledSupervisor(t *testing.T) {
	cmd, said := supervisor(t, "sh", "-c", "setsid sleep 1000 & setsid sleep 1000 & echo started; wait")
	said.until("started\n")
	all := descendants(t, cmd.Process.Pid)
	if len(all) < 5 { // init, starter, sh, two sleeps
		t.Fatalf("only %d processes below the supervisor", len(all))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	awaitEnd(t, all)
}

func TestCloseEndsEverything(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	s, err := Start(t.Context(), Options{Self: self()})
	if err != nil {
		t.Fatal(err)
	}
	keep(t, s)
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := s.Wait(); !errors.Is(err, ErrEnded) {
		t.Errorf("Wait after Close: %v", err)
	}
	if _, err := s.Counters(); err == nil {
		t.Error("counters of nothing")
	}
}

func TestACommandCannotWriteToTheLog(t *testing.T) {
	path := filepath.Join(testDir(t), "log")
	log, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	if _, err := log.WriteString("before\n"); err != nil {
		t.Fatal(err)
	}
	s := open(t, Options{Stderr: log})
	in, inEnd := pipe(t)
	// Its parent is the starter.
	err = s.Run(Command{Args: []string{"sh", "-c", `read go
		for f in /proc/$PPID/fd/*; do true > $f; echo "forged
line" > $f; done
		kill -9 $PPID`}, Env: os.Environ(), Dir: "/", Files: [3]*os.File{in, nil, nil}})
	if err != nil {
		t.Fatal(err)
	}
	inEnd.Close()
	if _, err := s.Wait(); !errors.Is(err, ErrEnded) {
		t.Errorf("Wait without a starter: %v", err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	// What it could say comes as the starter's last words, quoted.
	want := "before\nsandbox: the starter of commands ended: killed by SIGKILL: \"forged\\nline\\n\"\n"
	if d := cmp.Diff(want, string(text)); d != "" {
		t.Error(d)
	}
}

func BenchmarkStart(b *testing.B) {
	for b.Loop() {
		s, err := Start(b.Context(), Options{Self: self()})
		if err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
