package sandbox

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"
	"golang.org/x/term"
)

// lastOutput is how long a terminal stays quiet after the command has ended
// until its output counts as read.
const lastOutput = 200 * time.Millisecond

// maxDrained bounds what is copied after that: more than a terminal holds.
const maxDrained = 1 << 20

// A view is what a command in the sandbox has for standard streams: the
// caller's own files, or, in the place of terminals, a new terminal whose other
// side is relayed to the caller's. The caller's terminal cannot be passed on: it
// is the controlling terminal of the caller's session, and a session of the
// sandbox needs one too.
type view struct {
	files    [3]*os.File
	terminal int // the controlling terminal, plus one; 0: none

	in, out  *os.File // the caller's terminal; nil: no terminal
	master   *os.File // the new one's other side
	slave    *os.File
	before   *term.State
	wake     *os.File // closing it ends the relay of input
	relaying sync.WaitGroup
	ending   atomic.Bool // the command has ended
}

func openView(files [3]*os.File) (*view, error) {
	v := &view{files: files}
	for i, f := range files {
		if f != nil {
			continue
		}
		null, err := os.OpenFile(os.DevNull, os.O_RDWR, 0)
		if err != nil {
			return nil, err
		}
		v.files[i] = null // closed with the process, which is about to end
	}
	if !term.IsTerminal(int(v.files[0].Fd())) {
		return v, nil
	}
	master, slave, err := pty.Open()
	if err != nil {
		return nil, fmt.Errorf("open a terminal: %w", err)
	}
	v.master, v.slave, v.in = master, slave, files[0]
	v.terminal = 1
	for i, f := range v.files {
		if term.IsTerminal(int(f.Fd())) {
			if i > 0 && v.out == nil {
				v.out = f
			}
			v.files[i] = slave
		}
	}
	if v.out == nil {
		v.out = v.in // terminals are usually open both ways
	}
	v.resize()
	return v, nil
}

// resize gives the new terminal the size of the caller's.
func (v *view) resize() {
	if v.master != nil {
		_ = pty.InheritSize(v.in, v.master) // a size is a comfort
	}
}

// relay starts to relay between the two terminals. The command has its files.
func (v *view) relay() error {
	if v.master == nil {
		return nil
	}
	// With no slave of ours, reading the master fails when the last of the
	// command's is closed.
	err := v.slave.Close()
	v.slave = nil
	if err != nil {
		return err
	}
	if v.before, err = term.MakeRaw(int(v.in.Fd())); err != nil {
		return fmt.Errorf("put the terminal into raw mode: %w", err)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return err
	}
	v.wake = w
	v.relaying.Add(2)
	go func() {
		defer v.relaying.Done()
		v.relayOutput()
	}()
	go func() {
		defer v.relaying.Done()
		defer r.Close()
		v.relayInput(r)
	}()
	return nil
}

// relayOutput copies until the last of the command's terminals is closed (EIO),
// or, once the command has ended, nothing comes for a while. The caller's
// terminal may be slow, and take any time for what has come.
func (v *view) relayOutput() {
	buf := make([]byte, 32<<10)
	for {
		n, err := v.master.Read(buf)
		if n > 0 {
			if _, err := v.out.Write(buf[:n]); err != nil {
				return
			}
		}
		if err == nil && v.ending.Load() {
			err = v.master.SetReadDeadline(time.Now().Add(lastOutput))
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			v.drain(buf)
		}
		if err != nil {
			return
		}
	}
}

// drain copies what is there to be read. On a busy machine the deadline may
// have passed before anybody got to read it.
func (v *view) drain(buf []byte) {
	if v.master.SetReadDeadline(time.Time{}) != nil {
		return
	}
	raw, err := v.master.SyscallConn()
	if err != nil {
		return
	}
	for range maxDrained / len(buf) {
		n := 0
		err := raw.Read(func(fd uintptr) bool {
			n, _ = unix.Read(int(fd), buf) // it does not block
			return true
		})
		if err != nil || n <= 0 {
			return
		}
		if _, err := v.out.Write(buf[:n]); err != nil {
			return
		}
	}
}

// relayInput copies until wake is closed, and never takes a byte after that:
// what is typed then is for the caller's shell.
func (v *view) relayInput(wake *os.File) {
	buf := make([]byte, 4096)
	fds := []unix.PollFd{{Fd: int32(v.in.Fd()), Events: unix.POLLIN}, {Fd: int32(wake.Fd()), Events: unix.POLLIN}}
	for {
		if _, err := unix.Poll(fds, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return
		}
		if fds[1].Revents != 0 {
			return
		}
		if fds[0].Revents == 0 {
			continue
		}
		n, err := v.in.Read(buf)
		if n > 0 {
			_, err = v.master.Write(buf[:n])
		}
		if err != nil {
			return
		}
	}
}

// close ends the relay and gives the caller's terminal back as it was.
func (v *view) close() error {
	if v.master == nil {
		return nil
	}
	var errs []error
	if v.slave != nil {
		errs = append(errs, v.slave.Close())
	}
	if v.wake != nil {
		errs = append(errs, v.wake.Close())
	}
	// What the command wrote is there to be read. What it left running in the
	// background may hold the terminal: the caller does not wait for that.
	v.ending.Store(true)
	errs = append(errs, v.master.SetReadDeadline(time.Now().Add(lastOutput)))
	v.relaying.Wait()
	errs = append(errs, v.master.Close())
	if v.before != nil {
		errs = append(errs, term.Restore(int(v.in.Fd()), v.before))
	}
	return errors.Join(errs...)
}
