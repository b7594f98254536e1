// Demo tells Fairlead's story on a machine with no network: it makes a little
// outside world in a namespace, with a name server and a web server that are
// www.baidu.com, runs the commands a user would type, prints each with what
// came back, and fails if one went otherwise than told.
package main

import (
	"context"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/term"

	"github.com/fairlead/fairlead/test/world"
)

//go:embed entries/*.yaml
var entries embed.FS

// limit bounds the whole story.
const limit = 55 * time.Second

// insideVar marks the process that an ordinary user's demo starts in a user
// namespace, where it may make the others.
const insideVar = "FAIRLEAD_DEMO_INSIDE"

func main() {
	err := demo()
	if code := new(exec.ExitError); errors.As(err, &code) {
		os.Exit(code.ExitCode()) // the process inside has said why
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
}

func demo() error {
	program, err := filepath.Abs("bin/fairlead")
	if err != nil {
		return err
	}
	if _, err := os.Stat(program); err != nil {
		return fmt.Errorf("no program to show: %w; `make demo` builds it", err)
	}
	if os.Geteuid() != 0 && os.Getenv(insideVar) == "" {
		return again()
	}
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	w, err := world.New()
	if err != nil {
		return err
	}
	s := &story{ctx: ctx, world: w, out: os.Stdout, colour: term.IsTerminal(int(os.Stdout.Fd()))}
	err = furnish(w, program)
	if err == nil {
		err = s.tell()
	}
	s.end()
	return errors.Join(err, w.Close())
}

// again runs the demo as root of a user namespace of its own: what root makes
// outright, an ordinary user makes there.
func again() error {
	runtime.LockOSThread() // the parent-death signal follows the thread
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), insideVar+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	err := cmd.Run()
	if errors.As(err, new(*exec.ExitError)) || err == nil {
		return err
	}
	return fmt.Errorf("make a user namespace (does the system allow them? see user.max_user_namespaces): %w", err)
}

// furnish fills the world: the web server that is www.baidu.com, a folder with
// the story's files, and the program on the path.
func furnish(w *world.World, program string) error {
	web := netip.MustParseAddr("198.51.100.10")
	w.DNS.Set("www.baidu.com", 60, web)
	if _, err := w.HTTP("<title>the page of www.baidu.com</title>\n", netip.AddrPortFrom(web, 80)); err != nil {
		return err
	}
	if _, err := w.HTTPS("<title>the page of www.baidu.com, encrypted</title>\n", []string{"www.baidu.com"}, netip.AddrPortFrom(web, 443)); err != nil {
		return err
	}
	bin := filepath.Join(w.Dir, "bin")
	if err := errors.Join(os.Mkdir(bin, 0o755), os.Mkdir(filepath.Join(w.Dir, "entries"), 0o755)); err != nil { //nolint:gosec // a scratch folder
		return err
	}
	if err := os.Symlink(program, filepath.Join(bin, "fairlead")); err != nil {
		return err
	}
	for _, name := range []string{"svc-entry.yaml", "static.yaml"} {
		text, err := fs.ReadFile(entries, "entries/"+name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(w.Dir, name), text, 0o644); err != nil { //nolint:gosec // a scratch folder
			return err
		}
	}
	return nil
}
