package l7

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/streams"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// serveStreams serves HTTP/2 on a connection whose next bytes are its preface.
func (s *Server) serveStreams(ctx, drain context.Context, down *transport.Conn, m *config.HTTPManager, base *decision.Record) {
	o := streams.Options{
		Memory:      &s.memory,
		IdleTimeout: idleTimeout,
		Refused:     func(why *h2.Error) { s.refusedStream(base, why) },
	}
	// How a connection ends is told by the records of its streams.
	err := streams.Serve(ctx, drain, down, o, func(stream *streams.Stream) { s.serveStream(ctx, stream, m, base) })
	var panicked *streams.PanicError
	if errors.As(err, &panicked) {
		s.panics.Add(1)
		s.logger.Error("panic while serving a connection of HTTP/2, which was ended; this is a fault of the proxy", "panic", panicked.Value, "stack", string(panicked.Stack))
	}
}

// refusedStream records a request that the codec refused: none of it was seen
// by anything else.
func (s *Server) refusedStream(base *decision.Record, why *h2.Error) {
	if why.Code == h2.StreamClosed {
		return // a frame too late, and no request
	}
	rec := *base
	rec.ID, rec.Start, rec.Protocol = s.NextID(), time.Now(), decision.HTTP2
	o := brokenStream
	if why.Code == h2.RefusedStream {
		o = tooManyStreams
	}
	rec.Reason, rec.Flags, rec.Details, rec.Err = o.reason, o.flags, o.details, why.Error()
	s.log.Add(&rec)
}

// A streamSession is what a stream holds while it is served.
type streamSession struct {
	exchange exchange
	caller   h2Caller
}

func newStreamSession(server *Server) *streamSession {
	s := new(streamSession)
	s.exchange.init(server)
	s.caller.init(&s.exchange)
	return s
}

// serveStream serves the request of one stream.
func (s *Server) serveStream(ctx context.Context, stream *streams.Stream, m *config.HTTPManager, base *decision.Record) {
	session := s.streams.Get().(*streamSession)
	x, from := &session.exchange, &session.caller
	defer func() {
		if p := recover(); p != nil {
			x.crashed(p) // and the session is left to the collector: nobody knows its state
			return
		}
		from.clear()
		x.clear()
		s.streams.Put(session)
	}()
	from.stream = stream
	stream.SetPatience(m.StreamIdleTimeout) // the caller's, which is waited for only here
	x.begin(from, m, base)
	x.serve(ctx, stream.Head(), from.parse())
}

// An h2Caller is a caller on a stream of HTTP/2.
type h2Caller struct {
	stream *streams.Stream
	req    *h1.Request  // the exchange's, parsed here
	resp   *h1.Response // likewise, free while the proxy answers
	block  []byte       // the header block that goes out
	text   []byte       // of an answer of the proxy

	ownBlock [1 << 10]byte // what block usually refers to
	ownText  [512]byte
	ahead    [4 << 10]byte // what came with the head of the body
}

// init prepares a new caller for x.
func (c *h2Caller) init(x *exchange) {
	c.req, c.resp = &x.req, &x.resp
	c.clear()
}

// clear drops what belongs to one stream, or is more than usual.
func (c *h2Caller) clear() {
	c.stream, c.block, c.text = nil, c.ownBlock[:0], c.ownText[:0]
}

// parse parses the head of the request, and returns what is wrong with it.
func (c *h2Caller) parse() error {
	done, err := c.req.Parse(c.stream.Head())
	if f := c.stream.Fault(); f != nil {
		return f
	}
	if err == nil && !done {
		return h1.ErrHeadTooLarge // which cannot be: the text of a block is a whole head
	}
	return err
}

func (c *h2Caller) protocol() decision.Protocol { return decision.HTTP2 }

// open says that a WebSocket or a tunnel has no body: its bytes come by hijack.
func (c *h2Caller) open() (piece, error) {
	if c.stream.Bodyless() || c.req.Connect || c.req.Upgrade == h1.WebSocket {
		return piece{last: true}, nil
	}
	return pieceNow(c.stream, c.ahead[:]), nil
}

// pieceNow is what has come of a body, into b. With the head of a small message
// nearly always all of it has.
func pieceNow(from *streams.Stream, b []byte) piece {
	n, ended := from.ReadNow(b)
	p := piece{data: b[:n], last: ended}
	if ended {
		p.trailer = from.Trailers()
	}
	return p
}

func (c *h2Caller) ready() bool { return c.stream.Readable() }
func (c *h2Caller) wait()       { _ = c.stream.WaitReadable() } // read tells

func (c *h2Caller) read(b *buffer) (piece, error) {
	n, err := c.stream.Read(b.data())
	if err != nil && err != io.EOF { //nolint:errorlint // as io.Reader has it
		return piece{}, c.explain(err)
	}
	p := piece{data: b.data()[:n]}
	if err != nil || c.stream.Ended() {
		p.last, p.trailer = true, c.stream.Trailers()
	}
	return p, nil
}

// explain says why a stream ended early: what the caller did, that memory was short,
// or that we closed its connection. (The end of a drain does that too: blame knows.)
func (c *h2Caller) explain(err error) error {
	var fault *h2.Error
	var reset streams.ResetError
	var panicked *streams.PanicError
	switch {
	case errors.As(err, &fault):
		return fmt.Errorf("%w: %w", errUpload, err)
	case errors.As(err, &reset):
		return errReset
	case errors.Is(err, streams.ErrShort):
		return err
	case errors.Is(err, net.ErrClosed), errors.As(err, &panicked):
		return fmt.Errorf("%w: %w", errOurs, err)
	}
	return errGone
}

func (c *h2Caller) stopReading() { c.stream.StopRead() }
func (c *h2Caller) stopWriting() { c.stream.SetDeadline(time.Unix(1, 0)) }

// giveUp leaves what the caller still sends to the end of the stream, which
// tells it that no more is wanted.
func (c *h2Caller) giveUp() {}

func (c *h2Caller) interim(r *h1.Response, text []byte) error {
	c.block = h2.AppendResponse(c.block[:0], r, text)
	return c.send(c.block, piece{})
}

func (c *h2Caller) answer(r *h1.Response, text []byte, p piece) error {
	c.block = h2.AppendResponse(c.block[:0], r, text)
	return c.send(c.block, p)
}

func (c *h2Caller) write(_ *buffer, p piece) error { return c.send(nil, p) }

// send sends a header block, if there is one, and a piece.
func (c *h2Caller) send(block []byte, p piece) error {
	if sendPiece(c.stream, block, p, &c.block) != nil {
		return errGone
	}
	return nil
}

// sendPiece sends a header block, if there is one, and a piece of a body on a
// stream. The block of a trailer is made in scratch, where the other one may lie.
func sendPiece(to *streams.Stream, block []byte, p piece, scratch *[]byte) error {
	if len(p.trailer) == 0 {
		_, err := to.Send(block, p.data, p.last)
		return err
	}
	if _, err := to.Send(block, p.data, false); err != nil {
		return err
	}
	// What does not fit a trailer cannot be there: it was checked as it came. Then
	// the block is empty, and the end goes out without one.
	*scratch, _ = h2.AppendTrailer((*scratch)[:0], p.trailer)
	_, err := to.Send(*scratch, nil, true)
	return err
}

func (c *h2Caller) reply(head, body []byte) error {
	c.text = append(append(c.text[:0], head...), "\r\n"...)
	c.resp.Reset()
	if done, err := c.resp.Parse(c.text, false); err != nil || !done {
		return fmt.Errorf("an answer of the proxy is no HTTP: %w", err)
	}
	return c.answer(c.resp, c.text, piece{data: body, last: true})
}

// abort passes on what an endpoint says of the request with a reset: that it was
// cancelled, or was too much. Other codes are of its connection, which is not the
// caller's.
func (c *h2Caller) abort(cause error) {
	code := h2.InternalError
	var reset streams.ResetError
	if errors.As(cause, &reset) {
		if its := h2.Code(reset); its == h2.Cancel || its == h2.EnhanceYourCalm {
			code = its
		}
	}
	c.stream.Reset(code)
}

// end leaves the stream to be closed; there is never another request on it.
func (c *h2Caller) end() (more bool) { return false }

// tie needs no look at ctx: its end ends the connection, and so the stream.
func (c *h2Caller) tie(_ context.Context, work transport.Cutter) { c.stream.Tie(work) }

func (c *h2Caller) untie() bool { return c.stream.Untie() }

func (c *h2Caller) trouble() error {
	switch err := c.stream.Err(); {
	case err == nil, errors.Is(err, streams.ErrCut):
		return nil
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	default:
		return c.explain(err)
	}
}

func (c *h2Caller) hijack() (stream *transport.Conn, ahead []byte) {
	c.stream.SetPatience(0) // whoever has the stream keeps its time
	return transport.New(&streamConn{Stream: c.stream}, nil), nil
}
