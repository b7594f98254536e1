package l7

import (
	"context"
	"net/netip"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// A caller is the side of an exchange that asked: one request coming in, and
// its answer going out. Whatever the protocol, heads are HTTP/1.1 text that h1
// has parsed; how a body is framed is the caller's own affair.
//
// The exchange's goroutine calls everything but read, which the goroutine of an
// upload may be in at the same time; anyone calls stopReading and stopWriting. Text
// and data passed in are used before a method returns. Methods that send wait for
// room no longer than the idle timeout of streams; their error is errGone.
type caller interface {
	// protocol is what the request came in, as far as its head was understood.
	protocol() decision.Protocol
	// open returns what came with the head of the request's body. It is called
	// once, before read. The data stays as it is until end.
	open() (piece, error)
	// read waits for more of the body, into b. Its error is errGone if the caller
	// went away, or wraps errUpload if what came breaks the protocol.
	read(b *buffer) (piece, error)
	// stopReading makes a read that waits return at once with an error, and every
	// later one.
	stopReading()
	// stopWriting does the same to what is written.
	stopWriting()
	// giveUp says that nobody will read the rest of the request. It comes before
	// the answer, or after one that was early.
	giveUp()

	// interim sends a 1xx answer on, unless this caller would not know what it is.
	interim(r *h1.Response, text []byte) error
	// answer sends the head of the final answer and the first of its body.
	answer(r *h1.Response, text []byte, p piece) error
	// write sends more of the body. The data lies in b, with room around it.
	write(b *buffer, p piece) error
	// reply sends an answer of the proxy: a head that lacks its last, empty line,
	// and the body.
	reply(head, body []byte) error
	// abort says that the answer cannot be completed because of cause. The caller
	// must see that.
	abort(cause error)
	// end ends the exchange, and reports whether another may follow.
	end() (more bool)

	// tie lets what is worked on for the caller be cut when it is found gone, or is
	// to be cut off: ctx being over already included. It holds until untie, which
	// reports whether it held still; false says that it is being cut, or has been.
	tie(ctx context.Context, work transport.Cutter)
	untie() bool
	// trouble returns errGone if the caller was found gone,
	// os.ErrDeadlineExceeded if it took nothing for too long, else nil.
	trouble() error
	// hijack hands over the stream of bytes that the exchange turns into after an
	// answer of 101, or one that opens a tunnel, and the first bytes that came on it.
	hijack() (stream *transport.Conn, ahead []byte)
}

// An upstream is the side of an exchange that answers: one try to have the
// request served by an endpoint. As for a caller, heads are HTTP/1.1 text.
//
// The exchange's goroutine calls everything, but for write, setDeadline and
// setTimeout, which the goroutine of an upload may be in at the same time, and
// Cut.
type upstream interface {
	// Cut may come before it already.
	//
	// attach finds a way to the endpoint: a kept one that still stands, else a new
	// one before the deadline, if there is one. fresh says that the request was sent
	// on a kept one already, and that it shall be a new one. If it fails, no other
	// method may be called; else done must be.
	attach(ctx context.Context, e *cluster.Endpoint, fresh bool, deadline time.Time) error
	// local is our address on the way to the endpoint.
	local() netip.AddrPort
	// Cut ends the try: whoever waits in another method wakes, and it fails. Anyone
	// may call it, at any time from before attach to done.
	Cut()
	// setDeadline ends the try at t, setTimeout once no byte moved for d; zero
	// values mean never. Errors then are os.ErrDeadlineExceeded. idle reports that
	// it was the timeout.
	setDeadline(t time.Time)
	setTimeout(d time.Duration)
	idle() bool

	// send sends the head of the request and of the first of its body what there is
	// room for; what is left is write's to send.
	send(ctx context.Context, r *h1.Request, text []byte, p piece) (left piece, err error)
	// write sends more of the body. The data lies in b, with room around it.
	write(b *buffer, p piece) error

	// readHead waits for the next head, interim or final, and parses it into r.
	// The text is valid until the next call, or done.
	readHead(r *h1.Response, toHEAD bool) (text []byte, err error)
	// open returns what came with the final head of the body, which may be nothing;
	// after a 101, or where a tunnel opens, it is the first of what follows. The data
	// is valid until done.
	open() (piece, error)
	// read waits for more of the body, into b.
	read(b *buffer) (piece, error)

	// hijack is that of a caller; open has returned the first bytes.
	hijack() *transport.Conn

	// served judges a try that failed, by the error readHead returned.
	served(failure error) served
	// done ends the try. whole says that nothing is missing of either message and
	// that nobody cuts it: what it used may be kept for another exchange.
	done(whole bool)
}

// A waiter is a side that can wait for more of its body without a buffer to read
// it into, so that a long-lived stream holds none while it is silent.
type waiter interface {
	// ready reports whether read would return at once.
	ready() bool
	// wait parks until it would.
	wait()
}

// rest gives *b back while from has nothing to say, and gets another one then. In
// between *b is nil: nobody holds it.
func (s *Server) rest(from any, b **buffer) {
	w, can := from.(waiter)
	if !can || w.ready() {
		return
	}
	s.buffers.Put(*b)
	*b = nil
	w.wait()
	*b = s.buffers.Get().(*buffer)
}

// putBuffer gives b back if there is one.
func (s *Server) putBuffer(b *buffer) {
	if b != nil {
		s.buffers.Put(b)
	}
}

// A piece is what is at hand of a body.
type piece struct {
	data    []byte
	last    bool   // nothing follows
	trailer []byte // of the whole body, if last: field lines as they stand in a head
}

// none reports that there is nothing to send.
func (p *piece) none() bool { return len(p.data) == 0 && !p.last }

// A served says whether an endpoint may have acted on a request that got no answer.
type served uint8

// The judgements. The zero value never lets a request be sent twice.
const (
	perhaps   served = iota // or it is still at work on it
	hardly                  // it ended a kept connection while the request was on its way
	untouched               // certainly not: nothing was sent, or the endpoint says so
	another                 // nor was this a try: a kept connection was found to be of no use
)
