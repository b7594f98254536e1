package transport

import (
	"errors"
	"os"
	"syscall"
)

// ErrStale is why a kept Conn was not asked: its peer has ended it, or has sent
// what nobody asked for, which would be taken for the answer.
var ErrStale = errors.New("the kept connection was ended by its peer, or holds what nobody asked for")

// asking is a question on its way. It is the reader's.
type asking struct {
	step     func(fd uintptr) bool // c.askStep, bound when it is first needed
	question []byte
	kept     bool // to be looked at first
	sent     bool // the question is gone, and we wait
	wrote    int
	err      error
}

// Ask writes question and waits for what the peer says then: a Write and a
// WaitEvent, in one visit to the poller and without a look in between. A kept Conn,
// one that has been without an exchange, is looked at first: the error is ErrStale,
// and nothing was written, if its peer was not quiet.
//
// wrote is less than all of question only if err says why. Ask counts as a read and a write.
func (c *Conn) Ask(question []byte, kept bool) (wrote int, err error) {
	if c.raw == nil || len(c.head) > 0 {
		return c.askSlowly(question, kept)
	}
	a := &c.asking
	if a.step == nil {
		a.step = c.askStep
	}
	a.question, a.kept, a.sent, a.wrote, a.err = question, kept, false, 0, nil
	c.BeginWrite()
	err = c.raw.Read(a.step)
	if !a.sent {
		c.EndWrite(a.err)
	}
	if err == nil {
		err = a.err
	}
	wrote, a.question, a.err = a.wrote, nil, nil
	switch {
	case err == nil && wrote < len(question): // the peer's window is small
		rest, err := c.Write(question[wrote:])
		if wrote += rest; err != nil {
			return wrote, err
		}
		return wrote, c.WaitEvent()
	case err != nil && err != ErrStale:
		err = c.explain(err)
	}
	return wrote, err
}

// askSlowly asks where there is no descriptor, or where something was given back.
func (c *Conn) askSlowly(question []byte, kept bool) (wrote int, err error) {
	if kept && !c.Alive() {
		return 0, ErrStale
	}
	if wrote, err = c.Write(question); err != nil {
		return wrote, err
	}
	return wrote, c.WaitEvent()
}

// askStep is called with the poller's state freshly cleared, and again after
// the wake-up. A kept Conn is written to and then parks without a look that
// would find nothing. No wake-up is lost by that: what was there at the look,
// after the clearing, has ended the asking; what comes later, an end or a reset
// too, is a change after the clearing, which wakes or keeps from parking. A Conn
// that is not kept was not looked at before, and so is now.
func (c *Conn) askStep(fd uintptr) bool {
	a := &c.asking
	if a.sent {
		return true
	}
	if a.err = a.put(fd, c.one[:]); a.err != nil || a.wrote < len(a.question) {
		return true
	}
	a.sent = true
	c.EndWrite(nil)
	return !a.kept && !quiet(fd)
}

// put looks, if it has to, and writes what can be written.
func (a *asking) put(fd uintptr, one []byte) error {
	if a.kept {
		// A read that finds something spoils it: the Conn is of no more use then.
		if _, err := read(fd, one); err != syscall.EAGAIN {
			return ErrStale
		}
	}
	for {
		n, err := write(fd, a.question)
		switch err {
		case nil:
			a.wrote = n
			return nil
		case syscall.EAGAIN:
			return nil
		case syscall.EINTR:
		default:
			return os.NewSyscallError("write", err)
		}
	}
}
