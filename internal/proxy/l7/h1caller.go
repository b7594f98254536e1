package l7

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// Why there is no head of a request to serve.
var (
	errNoHead   = errors.New("the connection is over, or waits for a request that has not begun")
	errNothing  = errors.New("nothing has come")
	errPreface  = errors.New("the connection speaks HTTP/2")
	errSlowHead = errors.New("its head was not complete within 10 seconds")
	errNoStart  = fmt.Errorf("%w; if callers speak something else than HTTP here, declare the port's protocol", errSlowHead)
)

// An h1Caller is a caller on a connection of HTTP/1, for one request after the
// other. Its conn's goroutine owns it, but for what an upload's read changes:
// body, over and spill.
type h1Caller struct {
	conn *conn
	req  *h1.Request // the exchange's, parsed here

	in     []byte // begins with the head of the request
	filled int
	used   int // bytes of in that belong to this request
	body   incoming
	over   atomic.Bool // all of the request has been read
	told   atomic.Bool // a part of the final answer goes to it
	spill  []byte      // what an upload read behind it

	chunked bool // the answer being sent is
	untold  bool // … or only the end of the connection tells its end
	closing bool // the connection ends with this exchange
	linger  bool // … and the caller may still be sending

	ownIn [headSize]byte // what in usually refers to
	large *buffer        // in when it outgrew its own
}

// init prepares a new caller, which parses heads into req.
func (c *h1Caller) init(req *h1.Request) {
	c.req, c.in = req, c.ownIn[:]
}

// begin prepares for the next request.
func (c *h1Caller) begin() {
	c.used, c.body, c.spill = 0, incoming{}, nil
	c.over.Store(false)
	c.told.Store(false)
	c.chunked, c.untold, c.closing, c.linger = false, false, false, false
}

// clear drops what belongs to one connection, or is more than usual.
func (c *h1Caller) clear() {
	if c.large != nil {
		c.conn.front.server.buffers.Put(c.large)
	}
	c.conn, c.large, c.filled, c.spill = nil, nil, 0, nil
	c.in = c.ownIn[:]
}

// next moves what came after the request to the front, and reports whether
// there was anything.
func (c *h1Caller) next() bool {
	n := copy(c.in, c.in[c.used:c.filled])
	if len(c.spill) > 0 {
		for n+len(c.spill) > len(c.in) {
			c.filled = n
			c.grow()
		}
		n += copy(c.in[n:], c.spill)
	}
	c.filled = n
	return n > 0
}

// grow makes room for the largest head allowed.
func (c *h1Caller) grow() {
	b := c.conn.front.server.buffers.Get().(*buffer)
	copy(b[:], c.in[:c.filled])
	c.large, c.in = b, b[:]
}

// text is what has been read: the head and what followed it.
func (c *h1Caller) text() []byte { return c.in[:c.filled] }

// readHead reads until the head of a request is whole. It returns errNoHead if
// there will be none, or none yet but a blank, errNothing if it was woken for nothing, errPreface if the connection begins
// with that of HTTP/2, errSlowHead (wrapped, perhaps), or an *h1.Error.
func (c *h1Caller) readHead() error {
	down, slow := c.conn.down, false
	for {
		if c.blank() {
			if slow { // its CR came alone
				_ = down.SetReadDeadline(time.Time{}) // fails on a closed conn alone
			}
			return errNoHead
		}
		if c.filled > 0 {
			done, err := c.parse()
			if err != nil && err != errPreface { //nolint:errorlint // never wrapped
				return err
			}
			if done {
				if slow {
					_ = down.SetReadDeadline(time.Time{}) // likewise
				}
				return err
			}
			if !slow {
				// Only a head that comes in pieces pays for a timer.
				slow = true
				_ = down.SetReadDeadline(time.Now().Add(c.conn.front.server.headTimeout)) // likewise
			}
			if c.filled == len(c.in) {
				c.grow()
			}
		}
		n, err := c.fill()
		if n > 0 {
			if !c.blank() && !c.conn.awake() {
				return errNoHead
			}
			continue
		}
		switch {
		case err == nil:
			return errNothing
		case c.filled > 0 && errors.Is(err, os.ErrDeadlineExceeded):
			if !c.conn.begun { // it may have been taken for a request by its first word
				return errNoStart
			}
			return errSlowHead
		}
		return errNoHead
	}
}

// fill reads more. For the first of a request it does not wait: that is done where
// no buffer is held.
func (c *h1Caller) fill() (n int, err error) {
	if down := c.conn.down; c.filled == 0 {
		n, err = down.ReadNow(c.in)
	} else {
		n, err = down.Read(c.in[c.filled:])
	}
	c.filled += n
	return n, err
}

// parse looks for a whole head in what was read, or for the preface of HTTP/2
// where a connection begins.
func (c *h1Caller) parse() (done bool, err error) {
	if c.conn.begun {
		return c.req.Parse(c.text())
	}
	switch n := min(c.filled, len(h2.Preface)); {
	case string(c.in[:n]) != h2.Preface[:n]:
		done, err = c.req.Parse(c.text())
		c.conn.begun = done
		return done, err
	case n < len(h2.Preface):
		return false, nil
	}
	return true, errPreface
}

// blank reports that all there is so far is an empty line, which some callers
// send after a request. Nothing has begun with it.
func (c *h1Caller) blank() bool { return c.filled == 2 && c.in[0] == '\r' && c.in[1] == '\n' }

func (c *h1Caller) protocol() decision.Protocol {
	if c.req.Minor == 0 && c.req.Method.Len() > 0 {
		return decision.HTTP10
	}
	return decision.HTTP11
}

func (c *h1Caller) open() (piece, error) {
	c.closing = !c.req.Persistent()
	c.drained()
	c.body.begin(&c.req.Fields)
	p, used, err := c.body.take(c.in[c.req.Len:c.filled])
	if c.used = c.req.Len + used; err != nil {
		c.used = c.filled
		return piece{}, err
	}
	c.over.Store(p.last)
	return p, nil
}

func (c *h1Caller) ready() bool { return !c.conn.down.Alive() }

// wait waits for something to read, and not for an event alone: read waits, too, and
// has a buffer then.
func (c *h1Caller) wait() { _ = c.conn.down.WaitReadable() } // read tells

func (c *h1Caller) read(b *buffer) (piece, error) {
	for {
		data := b.data()
		if c.body.framing == h1.Length { // what follows may be the next request
			data = data[:min(int64(len(data)), c.body.left)]
		}
		n, err := c.conn.down.Read(data)
		if n == 0 && err != nil {
			return piece{}, errGone
		}
		p, used, err := c.body.take(data[:n])
		if err != nil {
			return piece{}, fmt.Errorf("%w: %w", errUpload, err)
		}
		if p.last {
			if used < n {
				c.spill = bytes.Clone(data[used:n])
			}
			c.over.Store(true)
		}
		if p.last || len(p.data) > 0 {
			return p, nil
		}
	}
}

func (c *h1Caller) stopReading() {
	_ = c.conn.down.SetReadDeadline(time.Unix(1, 0)) // fails on a closed conn alone
}

// drained ends the connection with this exchange if there is a drain. The caller
// does not know yet, and may have sent its next request.
func (c *h1Caller) drained() {
	if c.conn.front.drain.Err() != nil {
		c.closing, c.linger = true, true
	}
}

func (c *h1Caller) stopWriting() {
	_ = c.conn.down.SetWriteDeadline(time.Unix(1, 0)) // likewise
}

// giveUp ends the connection with this exchange: where the request would end,
// the next one would begin.
func (c *h1Caller) giveUp() { c.closing, c.linger = true, true }

func (c *h1Caller) interim(r *h1.Response, text []byte) error {
	if c.req.Minor == 0 {
		return nil
	}
	out := c.conn.front.server.sheets.Get().(*sheet)
	defer c.conn.front.server.sheets.Put(out)
	return c.send(r.AppendTo(out[:0], text, h1.Reply{}))
}

func (c *h1Caller) answer(r *h1.Response, text []byte, p piece) error {
	c.told.Store(true)
	out := c.conn.front.server.sheets.Get().(*sheet)
	defer c.conn.front.server.sheets.Put(out)
	head := r.AppendTo(out[:0], text, c.frame(r))
	return c.send(appendPiece(head, p, c.chunked))
}

// frame decides how the answer is framed, and whether the connection survives it.
func (c *h1Caller) frame(r *h1.Response) h1.Reply {
	if r.Status == 101 {
		c.closing = true
		return h1.Reply{WebSocket: true}
	}
	if r.Tunnel {
		return h1.Reply{}
	}
	unknown := r.Framing == h1.Chunked || r.Framing == h1.UntilClose
	c.chunked = unknown && c.req.Minor == 1
	c.untold = unknown && c.req.Minor == 0
	c.drained()
	if c.untold || !c.over.Load() {
		// That of an early answer too: what the caller still sends is the rest of
		// this request, never another one.
		c.closing = true
	}
	return h1.Reply{Chunked: c.chunked, Close: c.closing, KeepAlive: !c.closing && c.req.Minor == 0}
}

// write drops a trailer: a caller of HTTP/1 seldom looks for one, and what
// merges it into the head lets it say what the head must not (RFC 9110 section 6.5.1).
func (c *h1Caller) write(b *buffer, p piece) error {
	if len(p.data) == 0 && !c.chunked {
		return nil
	}
	return c.send(b.framed(p, c.chunked))
}

// send bounds how long the caller may take nothing.
func (c *h1Caller) send(b []byte) error {
	down := c.conn.down
	if idle := c.conn.manager.StreamIdleTimeout; idle > 0 {
		down.SetTimeout(idle)
		defer down.SetTimeout(0) // it is not the caller that is waited for
	}
	if _, err := down.Write(b); err != nil {
		return errGone
	}
	return nil
}

func (c *h1Caller) reply(head, body []byte) error {
	room := c.conn.front.server.sheets.Get().(*sheet)
	defer c.conn.front.server.sheets.Put(room)
	out := append(room[:0], head...)
	switch {
	case c.closing:
		out = append(out, "connection: close\r\n"...)
	case c.req.Minor == 0:
		out = append(out, "connection: keep-alive\r\n"...)
	}
	out = append(out, "\r\n"...)
	return c.send(append(out, body...))
}

// abort ends the connection: with a reset where its end would otherwise tell
// that the answer is whole.
func (c *h1Caller) abort(error) {
	c.closing, c.linger = true, false
	if c.untold {
		_ = c.conn.down.Reset() // the connection is given up either way
	}
}

func (c *h1Caller) end() (more bool) {
	if c.closing && c.linger {
		c.drain()
	}
	return !c.closing
}

// Bounds of waiting for a caller to stop sending.
const (
	lingerTime = 5 * time.Second
	lingerIdle = time.Second
)

// drain lets a caller that is still sending read its answer: closing a socket
// with unread bytes would reset it and could destroy the answer.
func (c *h1Caller) drain() {
	down := c.conn.down
	if down.CloseWrite() != nil {
		return
	}
	end := time.Now().Add(lingerTime)
	for now := time.Now(); now.Before(end); now = time.Now() {
		if down.SetReadDeadline(now.Add(lingerIdle)) != nil {
			return
		}
		if n, err := io.ReadFull(down, c.in); n == 0 || err != nil {
			return
		}
	}
}

func (c *h1Caller) tie(ctx context.Context, work transport.Cutter) {
	c.conn.down.Tie(work, c)
	if ctx.Err() != nil {
		c.conn.down.Cut() // the one that came with the end of ctx did not see the tie
	}
}

// Waits reports that the caller has asked, and was told nothing: an end of what it
// sends may be a farewell then.
func (c *h1Caller) Waits() bool { return c.over.Load() && !c.told.Load() }

func (c *h1Caller) untie() bool { return c.conn.down.Untie() }

func (c *h1Caller) trouble() error {
	switch down := c.conn.down; {
	case down.PeerGone():
		return errGone
	case down.TimedOut():
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (c *h1Caller) hijack() (stream *transport.Conn, ahead []byte) {
	return c.conn.down, c.in[c.used:c.filled]
}
