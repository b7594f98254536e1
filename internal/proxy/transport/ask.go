package transport

import (
	"errors"
	"io"
	"os"
	"syscall"
)

// ErrStale is why a kept Conn was not asked: its peer has ended it, or has sent
// what nobody asked for, which would be taken for the answer.
var ErrStale = errors.New("the kept connection was ended by its peer, or holds what nobody asked for")

// asking is the question a Conn is being asked. It is the reader's.
type asking struct {
	question, answer []byte
	kept, sent       bool // kept: to be looked at first; sent: only the answer is missing
	wrote, read      int
	err              error
}

// Ask writes question and waits for the first bytes of what the peer says then,
// which it reads into answer: a Write and a Read, for the price of the two system
// calls. A kept Conn, one that has been without an exchange, is looked at first:
// the error is ErrStale, and nothing was written, if its peer was not quiet.
//
// wrote is less than all of question only if err says why. The rest is as with
// Write and Read, and Ask counts as both.
func (c *Conn) Ask(question, answer []byte, kept bool) (wrote, n int, err error) {
	if c.raw == nil || len(c.head) > 0 {
		return c.askSlowly(question, answer, kept)
	}
	a := &c.asking
	*a = asking{question: question, answer: answer, kept: kept}
	if c.ask == nil {
		c.ask = c.askStep
	}
	c.BeginWrite()
	err = c.raw.Read(c.ask)
	if !a.sent {
		c.EndWrite(a.err)
	}
	wrote, n = a.wrote, a.read
	if err == nil {
		err = a.err
	}
	a.question, a.answer, a.err = nil, nil, nil
	switch {
	case err == nil && wrote < len(question): // the peer's window is small
		rest, err := c.Write(question[wrote:])
		if wrote += rest; err != nil {
			return wrote, 0, err
		}
		n, err = c.Read(answer)
		return wrote, n, err
	case err == io.EOF: //nolint:errorlint // as askStep says it
		err = c.Ended()
	case err != nil && err != ErrStale: //nolint:errorlint // likewise
		err = c.explain(err)
	}
	return wrote, n, err
}

// askSlowly asks where there is no descriptor, or where something was given back.
func (c *Conn) askSlowly(question, answer []byte, kept bool) (wrote, n int, err error) {
	if kept && !c.Alive() {
		return 0, 0, ErrStale
	}
	if wrote, err = c.Write(question); err != nil {
		return wrote, 0, err
	}
	n, err = c.Read(answer)
	return wrote, n, err
}

// askStep is called with the poller's state freshly cleared, and again after
// every wake-up. A kept Conn is written to and then parks without a read that
// would find nothing. No wake-up is lost by that: what was there at the look,
// after the clearing, has ended the asking; what comes later, an end or a reset
// too, is a change after the clearing, which wakes or keeps from parking. A
// change from before that was still being delivered wakes for nothing, and is
// waited out. A Conn that is not kept was not looked at, and so is read before it parks.
func (c *Conn) askStep(fd uintptr) bool {
	a := &c.asking
	if !a.sent {
		a.err = a.put(fd)
		a.sent = a.err == nil && a.wrote == len(a.question)
		if !a.sent {
			return true
		}
		c.EndWrite(nil)
		if a.kept {
			return false
		}
	}
	a.read, a.err = readOnce(fd, a.answer)
	if a.err == syscall.EAGAIN {
		a.err = nil
		return false
	}
	return true
}

// put looks, if it has to, and writes what can be written.
func (a *asking) put(fd uintptr) error {
	if a.kept {
		// A read that finds something spoils it: the Conn is of no more use then.
		if _, err := read(fd, a.answer); err != syscall.EAGAIN {
			return ErrStale
		}
	}
	for {
		n, err := write(fd, a.question)
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return nil
		case err != nil:
			return os.NewSyscallError("write", err)
		}
		a.wrote = n
		return nil
	}
}
