// Package streams turns one HTTP/2 connection into streams that goroutines read
// and write, as a server towards callers or as a client towards endpoints. The
// protocol itself is package h2; here are the socket, the clock and the waiting.
//
// One goroutine reads a connection: what one read brings, however many frames,
// is taken under one lock. What is to be sent collects in one buffer; whoever
// adds to an empty one starts a goroutine that first yields, so that answers
// that become ready together leave in one write. A server runs its handler on a
// goroutine for each stream, which serves another one after that.
//
// Heads are HTTP/1.1 text, as package h2 says. What is left to those who pass
// messages on:
//
//   - A request whose Fault is set is refused with its status.
//   - A body ends with the stream, whatever its framing in the text. An answer
//     that has Ended with its head, without trailers, is sent on with end at
//     once: that is how gRPC reports a failure.
//   - Answers to HEAD, and 204 and 304, are sent with end; interim ones without.
//   - A WebSocket towards an endpoint needs its key in h2.Start; the answer 200
//     then reads as 101. One from a caller reads as an upgrade with a key made
//     here, and its 101 is sent as 200. From then on Read and Write carry its bytes.
//   - A body that cannot be completed is a Reset, never an end.
//
// Memory is bounded for each connection: by the flow-control windows for what
// arrives, by maxOut for what is sent. An overload.Account bounds it for all of them:
// when that is lean, windows shrink, though what is read comes back always; when it
// is full, connections that hold more than their share lose the streams that hold
// most; at its brim, each takes no more than its reserve. A connection on which
// nothing happens holds no buffer, and one that waits for the rest of a frame one of
// the size of what came.
package streams

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h2"
	"github.com/fairlead/fairlead/internal/proxy/overload"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

// Sizes and times.
const (
	inSize      = 32 << 10  // of one read
	outSize     = 16 << 10  // of a buffer for what is sent, which may grow
	maxKeep     = 128 << 10 // the largest such buffer that is kept for reuse
	maxOut      = 64 << 10  // data of streams waits beyond
	maxHeads    = 256 << 10 // heads of new requests wait elsewhere beyond
	maxUnread   = 256 << 10 // answers to frames of the peer that it does not read
	turn        = 16 << 10  // data that one stream sends before it lets others
	tick        = 100 * time.Millisecond
	longTick    = time.Second
	longTimeout = 10 * time.Second // from here on, timeouts are looked at every longTick
	partTimeout = 10 * time.Second // from the beginning of a frame or header block to its end
	settleTime  = time.Second      // in which requests on their way come in when a server drains
	stuckTime   = 10 * time.Second // … for which a peer may take nothing while memory is short
	lingerTime  = time.Second      // in which the peer reads our last words
)

// Options of a connection. Zero values mean the defaults.
type Options struct {
	Memory       *Memory       // shared by the connections of a proxy; nil: none is shared
	MaxStreams   int           // at once; 0: 100
	IdleTimeout  time.Duration // the connection ends after so long without a stream; 0: never
	WriteTimeout time.Duration // … and when its peer has taken nothing for so long; 0: 5 minutes

	// Refused is told of each request that was refused without a stream. It
	// must neither block nor use the connection.
	Refused func(*h2.Error)

	// Changed is told when a client may open more streams than before, or none
	// any more. It must neither block nor use the connection.
	Changed func()
}

// What a stream can end with, besides a ResetError, an *h2.Error (the peer broke
// the protocol on it), and what errors.Is finds to be os.ErrDeadlineExceeded.
var (
	// ErrRefused says that the peer has not looked at the request: it may be
	// sent again, whatever its method. A ResetError can be one.
	ErrRefused = errors.New("the endpoint gave the connection up before it took the request")
	// ErrStopped says that the peer has answered and wants no more of the body.
	// It ends writes alone.
	ErrStopped = errors.New("the peer wants no more of the body")
	// ErrCut says that the stream was ended on our side: by Reset or Cut.
	ErrCut = errors.New("the stream was ended here")
	// ErrCapacity says that a client cannot open a stream now.
	ErrCapacity = errors.New("the connection carries no more streams now")
)

// A ResetError is the code with which the peer reset a stream.
type ResetError h2.Code

// Error names the code.
func (e ResetError) Error() string { return "the stream was reset by the peer: " + h2.Code(e).String() }

// Is makes the code that says so an ErrRefused.
func (e ResetError) Is(target error) bool {
	return target == ErrRefused && h2.Code(e) == h2.RefusedStream
}

// A Memory keeps buffers, streams and the goroutines that serve them for reuse.
// The goroutines end with the last connection served. The zero Memory is ready.
// It is safe for concurrent use.
type Memory struct {
	// Account counts what connections hold, and bounds it. It may be shared with
	// other Memories and is set before the first use; nil: there is no bound.
	Account *overload.Account

	ins     sync.Pool // of *[inSize]byte
	outs    sync.Pool // of *[]byte
	holders sync.Pool // of *[]byte, nil: what outs are put back in
	chunks  sync.Pool // of *chunk, long
	shorts  sync.Pool // of *chunk, short
	streams sync.Pool // of *Stream
	crew    crew
}

func (m *Memory) in() *[inSize]byte {
	if b, ok := m.ins.Get().(*[inSize]byte); ok {
		return b
	}
	return new([inSize]byte)
}

func (m *Memory) out() []byte {
	p, ok := m.outs.Get().(*[]byte)
	if !ok {
		return make([]byte, 0, outSize)
	}
	b := *p
	*p = nil
	m.holders.Put(p)
	return b[:0]
}

func (m *Memory) putOut(b []byte) {
	if cap(b) == 0 || cap(b) > maxKeep {
		return
	}
	p, ok := m.holders.Get().(*[]byte)
	if !ok {
		p = new([]byte)
	}
	*p = b
	m.outs.Put(p)
}

func (m *Memory) chunk(short bool) *chunk {
	from, size := &m.chunks, longChunk
	if short {
		from, size = &m.shorts, shortChunk
	}
	if k, ok := from.Get().(*chunk); ok {
		return k
	}
	return &chunk{data: make([]byte, size)}
}

func (m *Memory) putChunk(k *chunk) {
	if len(k.data) == shortChunk {
		m.shorts.Put(k)
	} else {
		m.chunks.Put(k)
	}
}

func (m *Memory) stream() *Stream {
	if s, ok := m.streams.Get().(*Stream); ok {
		return s
	}
	return newStream()
}

// Serve serves the streams that the peer opens on t, each by a call of handle at
// the same time as the others, and closes t. The stream is handle's until it returns;
// what it left open then is reset. Serve returns when the connection and the
// last handler are done.
//
// drain ending gives the connection up in order: requests that are on their way
// come in, what was begun is finished. ctx ending cuts it off.
func Serve(ctx, drain context.Context, t *transport.Conn, o Options, handle func(*Stream)) error {
	c := newConn(t, o)
	c.handle = handle
	c.mem.crew.join()
	defer c.mem.crew.leave()
	c.start(h2.Config{Server: true, MaxStreams: o.MaxStreams, Random: rand.Uint64, Open: c.accept})
	stopDrain := context.AfterFunc(drain, c.drain)
	stopCut := context.AfterFunc(ctx, t.Cut)
	err := c.run()
	stopDrain()
	stopCut()
	return err
}

// A Client opens streams on a connection to an endpoint. It is safe for
// concurrent use.
type Client struct{ c *conn }

// NewClient begins to speak HTTP/2 on t, which it owns from now on. Nothing
// arrives before Run, which must be called.
func NewClient(t *transport.Conn, o Options) *Client {
	c := newConn(t, o)
	c.start(h2.Config{MaxStreams: o.MaxStreams})
	return &Client{c}
}

// Run reads the connection until it ends: by its peer, by Close, by ctx, or once
// it has been idle or given up. It closes it and returns why it ended.
func (cl *Client) Run(ctx context.Context) error {
	defer context.AfterFunc(ctx, cl.c.t.Cut)()
	return cl.c.run()
}

// Capacity is how many more streams can be opened now. It is 0 for good once
// Done.
func (cl *Client) Capacity() int {
	c := cl.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead != nil || c.draining || c.lost != nil {
		return 0
	}
	return c.core.Capacity()
}

// Streams is how many streams are open.
func (cl *Client) Streams() int {
	cl.c.mu.Lock()
	defer cl.c.mu.Unlock()
	return cl.c.core.Live()
}

// Done reports whether no stream will ever be opened any more.
func (cl *Client) Done() bool {
	c := cl.c
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead != nil || c.draining || c.lost != nil || c.core.GivenUp()
}

// WebSockets reports whether the endpoint takes WebSockets on streams. It waits
// for its settings, which say so, but not for longer than d.
func (cl *Client) WebSockets(d time.Duration) bool {
	c := cl.c
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.core.Settled() {
		late := false
		defer time.AfterFunc(d, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			late = true
			c.settled.Broadcast()
		}).Stop()
		for !c.core.Settled() && c.dead == nil && !late {
			c.settled.Wait()
		}
	}
	return c.core.Connects()
}

// Local is our end of the connection.
func (cl *Client) Local() netip.AddrPort { return cl.c.t.Local() }

// Drain lets the streams end and then the connection; no more are opened.
func (cl *Client) Drain() { cl.c.drain() }

// Close ends the connection and its streams.
func (cl *Client) Close() error { return cl.c.t.Close() }

// Open opens a stream with the header block of a request, which it does not keep.
// The stream must be closed. The error is ErrCapacity where the connection takes no
// more now, h2.ErrNotConnecting where the endpoint takes no WebSockets, one that is
// ErrRefused where the connection has ended, and one that is ErrShort where memory is
// short and the connection holds more than its share.
func (cl *Client) Open(block []byte, how h2.Start) (*Stream, error) {
	c := cl.c
	c.lock()
	defer c.unlock()
	switch {
	case c.dead != nil:
		return nil, fmt.Errorf("%w: %w", ErrRefused, c.dead)
	case c.lost != nil:
		return nil, fmt.Errorf("%w: %w", ErrRefused, c.lost)
	case c.excessive():
		return nil, c.mem.short()
	case how.Accept != "" && !c.core.Connects():
		return nil, h2.ErrNotConnecting
	}
	if len(c.core.Out) > maxHeads {
		return nil, ErrCapacity // its peer reads slowly; heads know no window
	}
	s := c.mem.stream()
	if !c.core.Start(&s.core, block, how) {
		c.mem.streams.Put(s)
		return nil, ErrCapacity
	}
	s.begin(c)
	return s, nil
}
