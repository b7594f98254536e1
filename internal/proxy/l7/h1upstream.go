package l7

import (
	"context"
	"errors"
	"io"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// An h1Upstream is an upstream on a connection of HTTP/1, kept or new.
type h1Upstream struct {
	server *Server

	endpoint *cluster.Endpoint
	conn     *transport.Conn
	leash    leash
	wire     atomic.Pointer[transport.Conn] // conn, once anything was sent on it
	reused   bool
	staged   bool // all of the request lies in out, to go out with the wait for the answer
	stale    bool // a kept connection was of no use
	unsent   bool // the connection was broken before anything went out
	chunked  bool // the request's body goes out in chunks

	answer []byte // nil until something comes
	filled int
	resp   *h1.Response // what the head in answer was parsed into; nil: none was
	body   incoming
	extra  bool // bytes followed that belong to no answer

	out []byte // what goes out in one write

	ownOut [requestSize]byte
	sheet  *sheet  // what answer usually refers to; nil: none was taken
	large  *buffer // … when it outgrew that
}

// init prepares a new upstream.
func (u *h1Upstream) init(s *Server) {
	u.server, u.out = s, u.ownOut[:0]
}

// clear gives back what answers lie in, and drops what is more than usual.
func (u *h1Upstream) clear() {
	if u.sheet != nil {
		u.server.sheets.Put(u.sheet)
	}
	if u.large != nil {
		u.server.buffers.Put(u.large)
	}
	u.sheet, u.large, u.answer, u.out = nil, nil, nil, u.ownOut[:0]
}

func (u *h1Upstream) attach(ctx context.Context, e *cluster.Endpoint, fresh bool, deadline time.Time) (err error) {
	u.endpoint, u.filled, u.resp, u.extra = e, 0, nil, false
	u.staged, u.stale, u.unsent = false, false, false
	if !fresh {
		u.conn = e.Take()
	}
	if u.reused = u.conn != nil; u.reused {
		return nil
	}
	ctx, release := u.leash.hold(ctx)
	defer release()
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	u.conn, err = e.Dial(ctx)
	return err
}

func (u *h1Upstream) local() netip.AddrPort      { return u.conn.Local() }
func (u *h1Upstream) setTimeout(d time.Duration) { u.conn.SetTimeout(d) }
func (u *h1Upstream) idle() bool                 { return u.conn.TimedOut() }
func (u *h1Upstream) hijack() *transport.Conn    { return u.conn }

func (u *h1Upstream) Cut() {
	u.leash.pull()
	if c := u.wire.Load(); c != nil {
		c.Drop()
	}
}

// commit lets Cut reach the connection, on which something is sent now. One that a
// try was cut on before goes back as it was.
func (u *h1Upstream) commit() error {
	if u.leash.pulled.Load() {
		return errEnded
	}
	u.wire.Store(u.conn)
	if u.leash.pulled.Load() {
		u.conn.Drop()
	}
	return nil
}

func (u *h1Upstream) setDeadline(t time.Time) {
	_ = u.conn.SetDeadline(t) // fails on a closed conn alone
}

// send leaves a request that is at hand as a whole to readHead. A kept connection is
// looked at before it is written to: one on which anything has arrived is not
// used, as an answer nobody asked for would be taken for the next one.
func (u *h1Upstream) send(_ context.Context, r *h1.Request, text []byte, p piece) (left piece, err error) {
	u.chunked = r.Framing == h1.Chunked
	u.out = r.AppendTo(u.out[:0], text)
	u.out = appendPiece(u.out, p, u.chunked)
	if u.staged = p.last; u.staged {
		return piece{}, nil
	}
	if u.stale = u.reused && !u.conn.Alive(); u.stale {
		return piece{}, transport.ErrStale
	}
	if err := u.commit(); err != nil {
		return piece{}, err
	}
	n, err := u.conn.Write(u.out)
	u.unsent = err != nil && n == 0
	return piece{}, err
}

// write drops a trailer, as that of a caller does.
func (u *h1Upstream) write(b *buffer, p piece) error {
	if len(p.data) == 0 && !u.chunked {
		return nil
	}
	_, err := u.conn.Write(b.framed(p, u.chunked))
	return err
}

func (u *h1Upstream) readHead(r *h1.Response, toHEAD bool) ([]byte, error) {
	if u.resp != nil { // of an interim answer
		u.filled = copy(u.answer, u.answer[u.resp.Len:u.filled])
		u.resp = nil
	}
	r.Reset()
	for {
		if u.filled > 0 {
			done, err := r.Parse(u.answer[:u.filled], toHEAD)
			if err != nil {
				return nil, err
			}
			if done {
				u.resp = r
				return u.answer[:u.filled], nil
			}
		}
		n, err := u.hear()
		if n == 0 && err != nil {
			return nil, err
		}
	}
}

// hear reads more of the answer, and sends the request first if that is still to be done.
func (u *h1Upstream) hear() (n int, err error) {
	if u.stale {
		return 0, transport.ErrStale
	}
	asked := u.staged
	if asked {
		u.staged = false
		if err := u.commit(); err != nil {
			return 0, err
		}
		wrote, err := u.conn.Ask(u.out, u.reused)
		u.stale = errors.Is(err, transport.ErrStale)
		u.unsent = wrote == 0 && err != nil
		switch {
		case wrote < len(u.out) && !u.stale:
			asked = false // it may have answered before it stopped reading
		case err != nil:
			return 0, err
		}
	}
	switch {
	case u.wire.Load() == nil:
		return 0, errEnded
	case u.answer == nil:
		u.sheet = u.server.sheets.Get().(*sheet)
		u.answer = u.sheet[:answerSize]
	case u.filled == len(u.answer):
		u.grow()
	}
	if asked {
		n, err = u.conn.ReadNow(u.answer)
	}
	if n == 0 && err == nil {
		n, err = u.conn.Read(u.answer[u.filled:])
	}
	u.filled += n
	return n, err
}

// grow makes room for the largest head allowed.
func (u *h1Upstream) grow() {
	b := u.server.buffers.Get().(*buffer)
	copy(b[:], u.answer[:u.filled])
	u.large, u.answer = b, b[:]
}

func (u *h1Upstream) open() (piece, error) {
	rest := u.answer[u.resp.Len:u.filled]
	if u.resp.Status == 101 || u.resp.Tunnel {
		return piece{data: rest}, nil
	}
	u.body.begin(&u.resp.Fields)
	return u.take(rest)
}

func (u *h1Upstream) ready() bool { return !u.conn.Alive() }
func (u *h1Upstream) wait()       { _ = u.conn.WaitEvent() } // read tells

func (u *h1Upstream) read(b *buffer) (piece, error) {
	for {
		n, err := u.conn.Read(b.data())
		if n == 0 && err != nil {
			if u.body.framing == h1.UntilClose && errors.Is(err, io.EOF) {
				return piece{last: true}, nil
			}
			return piece{}, err
		}
		p, err := u.take(b.data()[:n])
		if err != nil || p.last || len(p.data) > 0 {
			return p, err
		}
	}
}

func (u *h1Upstream) take(b []byte) (piece, error) {
	p, used, err := u.body.take(b)
	u.extra = p.last && used < len(b)
	return p, err
}

// served knows one failure that is no fault of the endpoint: it ended the kept
// connection while the request was on its way, the ordinary race. An endpoint
// that only says nothing is still at work.
func (u *h1Upstream) served(failure error) served {
	switch {
	case u.stale:
		return another
	case !u.reused || u.filled > 0:
		return perhaps
	case !errors.Is(failure, io.EOF) && !errors.Is(failure, syscall.ECONNRESET) && !errors.Is(failure, syscall.EPIPE):
		return perhaps
	case u.unsent:
		return untouched
	}
	return hardly
}

func (u *h1Upstream) done(whole bool) {
	switch {
	case u.wire.Swap(nil) == nil && !u.stale: // nothing was sent
		u.setDeadline(time.Time{})
		u.endpoint.Keep(u.conn)
	case whole && u.resp.Persistent() && u.body.framing != h1.UntilClose && !u.extra:
		u.endpoint.Keep(u.conn)
	default:
		_ = u.conn.Close()
	}
	u.conn, u.endpoint, u.resp = nil, nil, nil
}
