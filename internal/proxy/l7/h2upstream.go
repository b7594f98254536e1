package l7

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net/netip"
	"os"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/streams"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// An h2Upstream is an upstream on a stream of HTTP/2, on a connection that other
// exchanges share.
type h2Upstream struct {
	scheme string // of the request; set before send
	place  cluster.Place
	source netip.AddrPort
	used   bool // the connection had exchanges before

	// What is asked of a stream before there is one is done once there is.
	stream   atomic.Pointer[streams.Stream] // nil: none was opened
	leash    leash
	deadline atomic.Int64 // in Unix nanoseconds; 0: none
	timeout  time.Duration

	answer []byte       // begins with the head parsed last, or a head to parse
	parsed int          // length of that head
	resp   *h1.Response // what was parsed
	failed error        // why there is no stream, once send was tried

	block []byte // the header block that goes out

	ownAnswer [2 << 10]byte // what answer usually refers to
	ownBlock  [2 << 10]byte // what block usually refers to
	ahead     [4 << 10]byte // what came with the head of the body
}

// clear drops what is more than usual.
func (u *h2Upstream) clear() { u.answer, u.block = u.ownAnswer[:0], u.ownBlock[:0] }

// attach heeds no fresh: a connection that refused a request takes no other.
func (u *h2Upstream) attach(ctx context.Context, e *cluster.Endpoint, _ bool, deadline time.Time) (err error) {
	u.clear()
	u.parsed, u.timeout, u.failed = 0, 0, nil
	u.deadline.Store(0)
	if u.place = e.JoinNow(); u.place.Valid() {
		u.source, u.used = u.place.Local, u.place.Used
		return nil
	}
	ctx, release := u.leash.hold(ctx)
	defer release()
	if !deadline.IsZero() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, deadline)
		defer cancel()
	}
	u.place, err = e.Join(ctx)
	u.source, u.used = u.place.Local, u.place.Used
	return err
}

func (u *h2Upstream) local() netip.AddrPort { return u.source }

func (u *h2Upstream) Cut() {
	u.leash.pull()
	if s := u.stream.Load(); s != nil {
		s.Cut()
	}
}

func (u *h2Upstream) setDeadline(t time.Time) {
	n := int64(0)
	if !t.IsZero() {
		n = t.UnixNano()
	}
	u.deadline.Store(n)
	if s := u.stream.Load(); s != nil {
		s.SetDeadline(t)
	}
}

func (u *h2Upstream) setTimeout(d time.Duration) {
	if s := u.stream.Load(); s != nil {
		s.SetTimeout(d)
	} else {
		u.timeout = d
	}
}

func (u *h2Upstream) idle() bool {
	s := u.stream.Load()
	if s == nil || !errors.Is(s.Err(), os.ErrDeadlineExceeded) {
		return false
	}
	end := u.deadline.Load()
	return end == 0 || time.Now().UnixNano() < end
}

// scheme is that of the request: what the caller says it is, and http otherwise.
// How its bytes come to us does not tell: they are plain at this place even where
// they will not be on their way.
func (x *exchange) scheme() string {
	https := false
	if c, is := x.caller.(*h2Caller); is {
		https = c.stream.HTTPS()
	} else {
		for i := range x.req.N() {
			if f := x.req.Field(i); f.Name.Len() == len(forwardedProto) && bytes.EqualFold(f.Name.In(x.in), forwardedProto) {
				https = string(f.Value.In(x.in)) == "https"
				break
			}
		}
	}
	if https {
		return "https"
	}
	return "http"
}

var forwardedProto = []byte("x-forwarded-proto")

// errNoWebSocket says that there is no WebSocket to be had from the endpoint.
var errNoWebSocket = errors.New("it speaks HTTP/2 and does not take WebSockets on streams (extended CONNECT, RFC 8441); if it takes them with HTTP/1.1, declare the port as HTTP")

func (u *h2Upstream) send(ctx context.Context, r *h1.Request, text []byte, p piece) (left piece, err error) {
	how := h2.Start{HEAD: string(r.Method.In(text)) == "HEAD"}
	u.block = h2.AppendRequest(u.block[:0], r, text, u.scheme)
	switch {
	case r.Connect:
		how.Tunnel = true
	case r.Upgrade == h1.WebSocket:
		if !u.webSockets(ctx) {
			u.failed = errNoWebSocket
		}
		how.Accept = webSocketKey(r, text)
	default:
		how.End = p.last && len(p.data) == 0 && len(p.trailer) == 0
	}
	if u.leash.pulled.Load() {
		u.failed = errEnded
	}
	if u.failed != nil {
		return piece{}, u.failed
	}
	s, err := u.place.Open(u.block, how)
	if err != nil {
		u.failed = err
		return piece{}, err
	}
	u.stream.Store(s)
	if n := u.deadline.Load(); n != 0 {
		s.SetDeadline(time.Unix(0, n))
	}
	if u.timeout > 0 {
		s.SetTimeout(u.timeout)
	}
	if u.leash.pulled.Load() {
		s.Cut()
	}
	if how.End || how.Tunnel || how.Accept != "" || p.none() {
		return piece{}, nil
	}
	n, err := s.SendNow(p.data, p.last && len(p.trailer) == 0)
	if p.data = p.data[n:]; err != nil || len(p.data) > 0 {
		return p, err
	}
	if len(p.trailer) > 0 {
		err = sendPiece(s, nil, p, &u.block)
	}
	return piece{}, err
}

// webSockets waits for the settings of a new connection.
func (u *h2Upstream) webSockets(ctx context.Context) bool {
	ctx, release := u.leash.hold(ctx)
	defer release()
	if n := u.deadline.Load(); n != 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithDeadline(ctx, time.Unix(0, n))
		defer cancel()
	}
	return u.place.WebSockets(ctx)
}

// webSocketKey is what the answer to the request for a WebSocket depends on. A
// caller that sent none does not look at it.
func webSocketKey(r *h1.Request, text []byte) string {
	for i := range r.N() {
		if f := r.Field(i); bytes.EqualFold(f.Name.In(text), []byte("sec-websocket-key")) && f.Value.Len() > 0 {
			return string(f.Value.In(text))
		}
	}
	return "-"
}

func (u *h2Upstream) write(_ *buffer, p piece) error {
	return sendPiece(u.stream.Load(), nil, p, &u.block)
}

func (u *h2Upstream) readHead(r *h1.Response, toHEAD bool) (text []byte, err error) {
	s := u.stream.Load()
	if s == nil {
		return nil, u.failed
	}
	u.answer = u.answer[:copy(u.answer, u.answer[u.parsed:])]
	u.parsed = 0
	if len(u.answer) == 0 {
		if u.answer, err = s.ReadHead(u.answer); err != nil {
			return nil, err
		}
	}
	r.Reset()
	done, err := r.Parse(u.answer, toHEAD)
	switch {
	case err != nil:
		return nil, err
	case !done:
		return nil, h1.ErrHeadTooLarge // which cannot be: the text of a block is a whole head
	}
	u.parsed, u.resp = r.Len, r
	return u.answer, nil
}

// open says that an answer which has no body is over, though its stream may not be.
func (u *h2Upstream) open() (piece, error) {
	if u.resp.Framing == h1.NoBody && u.resp.Status != 101 {
		return piece{last: true}, nil
	}
	return pieceNow(u.stream.Load(), u.ahead[:]), nil
}

func (u *h2Upstream) ready() bool { return u.stream.Load().Readable() }
func (u *h2Upstream) wait()       { _ = u.stream.Load().WaitReadable() } // read tells

func (u *h2Upstream) read(b *buffer) (piece, error) {
	s := u.stream.Load()
	n, err := s.Read(b.data())
	if err != nil && err != io.EOF { //nolint:errorlint // as io.Reader has it
		return piece{}, err
	}
	p := piece{data: b.data()[:n]}
	if err != nil || s.Ended() {
		p.last, p.trailer = true, s.Trailers()
	}
	return p, nil
}

func (u *h2Upstream) hijack() *transport.Conn {
	return transport.New(&streamConn{u.stream.Load()}, nil)
}

// served knows what the endpoint says itself, and the ordinary race of HTTP/1:
// that it ended a connection while the request was on its way.
func (u *h2Upstream) served(failure error) served {
	switch {
	case errors.Is(failure, streams.ErrRefused), errors.Is(failure, streams.ErrCapacity):
		return untouched
	case u.used && (errors.Is(failure, io.ErrUnexpectedEOF) || errors.Is(failure, syscall.ECONNRESET) || errors.Is(failure, syscall.EPIPE)):
		return hardly
	}
	return perhaps
}

// done closes the stream, which resets it if anything is missing.
func (u *h2Upstream) done(bool) {
	u.place.Leave()
	if s := u.stream.Swap(nil); s != nil {
		s.Close()
	}
}
