package sandbox

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/fairlead/fairlead/internal/peer"
)

// A starter starts the commands of a sandbox and says how they ended. It lives
// in the same namespaces as they do, with the same rights, so that nothing has
// to be entered.
type starter struct {
	channel *peer.Channel
	heard   *echo

	mu       sync.Mutex
	commands map[int]command // guarded by mu; those that run, by the supervisor's number
}

type command struct {
	process *os.Process
	group   bool // leads a process group of its own
}

// starterMain runs until the main command has ended or the supervisor is gone.
func starterMain() error {
	c, err := givenChannel(channelFD)
	if err != nil {
		return err
	}
	defer c.Close()
	s := &starter{channel: c, heard: listen(), commands: map[int]command{}}
	defer s.heard.stop()
	gone := make(chan error, 1) // the first reason counts
	end := func(err error) {
		select {
		case gone <- err:
		default:
		}
	}
	go func() {
		for {
			var o order
			files, err := c.Receive(peer.MaxFrame, &o)
			if errors.Is(err, io.EOF) {
				err = nil
				end(err)
				return
			}
			if err == nil {
				err = s.obey(o, files, end)
			}
			peer.CloseAll(files)
			if err != nil {
				end(err)
				return
			}
		}
	}()
	return <-gone // the whole process ends with it
}

// obey does one order. An error means that the supervisor is gone.
func (s *starter) obey(o order, files []*os.File, end func(error)) error {
	switch {
	case o.Start != nil:
		return s.start(o.ID, *o.Start, files, end)
	case o.Signal != 0:
		s.signal(o.ID, syscall.Signal(o.Signal))
	}
	return nil
}

func (s *starter) start(id int, c start, files []*os.File, end func(error)) error {
	p, code, err := c.run(files)
	if err != nil {
		err = s.channel.Send(event{ID: id, Failure: err.Error(), Code: code})
		if c.Main {
			end(err)
		}
		return err
	}
	if c.Main {
		s.heard.begin()
	}
	s.mu.Lock()
	s.commands[id] = command{process: p, group: !c.Main}
	s.mu.Unlock()
	if err := s.channel.Send(event{ID: id, Started: true}); err != nil {
		return err
	}
	go func() {
		err := s.wait(id, p)
		if c.Main || err != nil {
			end(err)
		}
	}()
	return nil
}

// wait reports the end of a command.
func (s *starter) wait(id int, p *os.Process) error {
	state, err := p.Wait()
	s.mu.Lock()
	delete(s.commands, id)
	s.mu.Unlock()
	if err != nil {
		return fmt.Errorf("wait for a command: %w", err)
	}
	e := event{ID: id, Ended: true}
	switch ws, ok := state.Sys().(syscall.WaitStatus); {
	case ok && ws.Signaled():
		e.Signal = int(ws.Signal())
	default:
		e.Code = state.ExitCode()
	}
	return s.channel.Send(e)
}

// signal sends sig to a command, unless the command has had it already as a
// member of the process group that it was sent to.
func (s *starter) signal(id int, sig syscall.Signal) {
	s.mu.Lock()
	c, ok := s.commands[id]
	s.mu.Unlock()
	if !ok {
		return
	}
	if c.group {
		_ = syscall.Kill(-c.process.Pid, sig) // it may just have ended
		return
	}
	go func() {
		if !s.heard.also(sig) {
			_ = c.process.Signal(sig)
		}
	}()
}

// The exit codes that shells use where a command could not be started.
const (
	cannotExecute = 126
	notFound      = 127
)

// run starts the command with the three files as its standard streams.
func (c start) run(files []*os.File) (p *os.Process, code int, err error) {
	args, env, dir := fromBytes(c.Args), fromBytes(c.Env), string(c.Dir)
	if len(args) == 0 || len(files) != 3 {
		return nil, cannotExecute, errors.New("a command needs a name and three files")
	}
	if dir == "" {
		dir = "/"
	}
	if err := unix.Access(dir, unix.X_OK); err != nil {
		return nil, cannotExecute, fmt.Errorf("%s: cannot change to %s in the sandbox: %w", args[0], dir, err)
	}
	path, err := lookPath(args[0], dir, valueOf(env, "PATH"))
	if err != nil {
		return nil, codeOf(err), err
	}
	attr := &os.ProcAttr{Dir: dir, Env: env, Files: files, Sys: &syscall.SysProcAttr{}}
	if !c.Main {
		attr.Sys.Setsid = true
		attr.Sys.Setctty = c.Terminal > 0
		attr.Sys.Ctty = max(c.Terminal-1, 0)
	}
	p, err = os.StartProcess(path, args, attr)
	if err != nil {
		var e *os.PathError
		if errors.As(err, &e) {
			err = e.Err
		}
		if errors.Is(err, fs.ErrNotExist) { // the file is there: we looked
			return nil, cannotExecute, fmt.Errorf("%s: the interpreter that %s names was not found", args[0], path)
		}
		return nil, cannotExecute, fmt.Errorf("%s: cannot execute %s: %w", args[0], path, err)
	}
	return p, 0, nil
}

// codeOf says what a shell's exit code for a failed look-up is.
func codeOf(err error) int {
	if errors.Is(err, fs.ErrPermission) {
		return cannotExecute
	}
	return notFound
}

// defaultPath is where commands are looked for without PATH, as execvp does.
const defaultPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// lookPath finds the file of a command as execvp would from dir: a name with a
// slash is a path, others are looked for in the folders of list.
func lookPath(name, dir, list string) (string, error) {
	absolute := func(p string) string {
		if filepath.IsAbs(p) {
			return p
		}
		return filepath.Join(dir, p)
	}
	if strings.Contains(name, "/") {
		path := absolute(name)
		if err := executable(path); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return "", fmt.Errorf("%s: no such file or directory%w", name, quiet{err})
			}
			return "", fmt.Errorf("%s: cannot execute: %w", name, err)
		}
		return path, nil
	}
	if list == "" {
		list = defaultPath
	}
	var refused error
	for _, folder := range filepath.SplitList(list) {
		path := absolute(filepath.Join(folder, name))
		if s, err := os.Stat(path); name == "" || err != nil || s.IsDir() {
			continue
		}
		err := executable(path)
		if err == nil {
			return path, nil
		}
		if refused == nil {
			refused = fmt.Errorf("%s: cannot execute %s: %w", name, path, err)
		}
	}
	if refused != nil {
		return "", refused
	}
	return "", fmt.Errorf("%s: command not found%w", name, quiet{fs.ErrNotExist})
}

// executable says why path is not a file that this process may execute.
func executable(path string) error {
	s, err := os.Stat(path)
	switch {
	case errors.Is(err, syscall.ENOTDIR):
		return fs.ErrNotExist
	case err != nil:
		var e *os.PathError
		if errors.As(err, &e) {
			return e.Err
		}
		return err
	case s.IsDir():
		return errDirectory
	}
	return unix.Access(path, unix.X_OK)
}

// errDirectory is a permission error, as it is to execve.
var errDirectory = fmt.Errorf("it is a directory%w", quiet{fs.ErrPermission})

// quiet lets errors.Is see an error that the sentence has said already.
type quiet struct{ error }

func (quiet) Error() string   { return "" }
func (q quiet) Unwrap() error { return q.error }

// valueOf returns the value of an environment variable; the last one counts.
func valueOf(env []string, name string) string {
	value := ""
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, name+"="); ok {
			value = v
		}
	}
	return value
}

func fromBytes(words [][]byte) []string {
	out := make([]string, len(words))
	for i, w := range words {
		out[i] = string(w)
	}
	return out
}

func toBytes(words []string) [][]byte {
	out := make([][]byte, len(words))
	for i, w := range words {
		out[i] = []byte(w)
	}
	return out
}
