package l7

import (
	"bytes"
	"context"
	"errors"
	"os"
	"sync/atomic"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/route"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

// Sizes of the buffers an exchange holds: enough for what nearly every message
// needs, so that it goes out in one write.
const (
	headSize   = 8 << 10
	outSize    = 16 << 10
	answerSize = 16 << 10
	bulkSize   = 64 << 10
)

// A buffer is what streaming and large heads need.
type buffer [bulkSize]byte

// An exchange is one request and its answer, with all the memory that takes.
// It is reused; its conn's goroutine owns it, but for what upload says.
type exchange struct {
	server *Server
	conn   *conn

	// From the caller.
	in     []byte // begins with the head of the request
	filled int
	req    h1.Request
	used   int    // bytes of in that belong to this request
	body   []byte // body at hand, decoded; a part of in
	whole  bool   // body is all of it
	left   int64  // of a body with a length: bytes still to arrive
	dec    h1.Decoder
	host   []byte // canonical
	upload upload

	// To and from the endpoint.
	out      []byte // the message being sent: the request, then the answer
	cluster  *cluster.Cluster
	endpoint *cluster.Endpoint
	up       *transport.Conn
	reused   bool
	tried    []*cluster.Endpoint
	answer   []byte
	answered int // bytes in answer
	resp     h1.Response
	interim  int // 1xx answers so far
	sentAt   time.Time
	timeout  time.Duration // of the route, from the last byte of the request on; 0: none
	deadline time.Time     // when that ends, if the request was whole when it was sent

	rec      decision.Record
	closing  bool // the caller's connection ends with this exchange
	linger   bool // … and the caller may still be sending
	started  bool // a part of the final answer went to the caller
	recorded bool

	// Memory that the slices above usually refer to.
	ownIn     [headSize]byte
	ownOut    [outSize]byte
	ownAnswer [answerSize]byte
	ownHost   [255]byte
	ownTried  [8]*cluster.Endpoint
	large     [2]*buffer // in and answer when they outgrew their own
}

func newExchange(s *Server) *exchange {
	x := &exchange{server: s}
	x.upload.done = make(chan struct{}, 1)
	x.in, x.out, x.answer = x.ownIn[:], x.ownOut[:0], x.ownAnswer[:]
	return x
}

// release gives the exchange back for reuse.
func (x *exchange) release() {
	for i, b := range x.large {
		if b != nil {
			x.server.buffers.Put(b)
			x.large[i] = nil
		}
	}
	x.in, x.out, x.answer, x.filled = x.ownIn[:], x.ownOut[:0], x.ownAnswer[:], 0
	x.rec = decision.Record{}
	x.cluster, x.endpoint, x.up, x.conn = nil, nil, nil, nil
	clear(x.ownTried[:])
	x.tried = nil
	x.server.exchanges.Put(x)
}

// begin prepares for the next request.
func (x *exchange) begin() {
	x.req.Reset()
	x.used, x.body, x.whole, x.left, x.dec, x.host = 0, nil, true, 0, h1.Decoder{}, nil
	x.upload.reset()
	x.cluster, x.endpoint, x.up, x.reused = nil, nil, nil, false
	x.tried = x.ownTried[:0]
	x.answered, x.interim = 0, 0
	x.timeout, x.deadline = 0, time.Time{}
	x.closing, x.linger, x.started, x.recorded = false, false, false, false
	x.rec = *x.conn.base
}

// next moves what came after the request to the front.
func (x *exchange) next() {
	n := copy(x.in, x.in[x.used:x.filled])
	if spill := x.upload.spill; len(spill) > 0 {
		for n+len(spill) > len(x.in) {
			x.filled = n
			x.growIn()
		}
		n += copy(x.in[n:], spill)
		x.upload.spill = nil
	}
	x.filled = n
}

// growIn gives the head of the request the room of the largest head allowed.
func (x *exchange) growIn() {
	b := x.server.buffers.Get().(*buffer)
	copy(b[:], x.in[:x.filled])
	x.large[0], x.in = b, b[:]
}

func (x *exchange) growAnswer() {
	b := x.server.buffers.Get().(*buffer)
	copy(b[:], x.answer[:x.answered])
	x.large[1], x.answer = b, b[:]
}

// readHead reads until the head of a request is whole. If there will be none it
// has answered what there was to answer and returns false; so it does if there
// is none yet, but a blank.
func (x *exchange) readHead() bool {
	down := x.conn.down
	slow := false
	x.rec.Start = time.Now()
	for {
		if x.blank() {
			if slow { // its CR came alone
				_ = down.SetReadDeadline(time.Time{}) // fails on a closed conn alone
			}
			return false
		}
		if x.filled > 0 {
			done, err := x.req.Parse(x.in[:x.filled])
			if err != nil {
				x.describe()
				return x.refuse(err)
			}
			if done {
				break
			}
			if !slow {
				// Only a head that comes in pieces pays for a timer.
				slow = true
				_ = down.SetReadDeadline(time.Now().Add(x.server.headTimeout)) // likewise
			}
			if x.filled == len(x.in) {
				x.growIn()
			}
		}
		n, err := down.Read(x.in[x.filled:])
		x.filled += n
		if n > 0 {
			if !x.blank() && !x.conn.awake() {
				return false
			}
			continue
		}
		if x.filled > 0 && errors.Is(err, os.ErrDeadlineExceeded) {
			x.describe()
			x.rec.Reason, x.rec.Err, x.rec.Details = decision.BadRequest, "its head was not complete within 10 seconds", "request_header_timeout"
			x.closing = true
			return x.reply(408)
		}
		return false
	}
	if slow {
		_ = down.SetReadDeadline(time.Time{}) // likewise
	}
	x.describe()
	return true
}

// blank reports that all there is so far is an empty line, which some callers
// send after a request. Nothing has begun with it.
func (x *exchange) blank() bool { return x.filled == 2 && x.in[0] == '\r' && x.in[1] == '\n' }

// describe fills the record with what is known of the request, whose head may
// be broken or not whole.
func (x *exchange) describe() {
	r, in := &x.rec, x.in
	r.ID = x.server.NextID()
	r.Protocol = decision.HTTP11
	if x.req.Minor == 0 && x.req.Method.Len() > 0 {
		r.Protocol = decision.HTTP10
	}
	r.Method = x.req.Method.In(in)
	r.Path = x.req.Path.In(in)
	if len(r.Path) == 0 {
		r.Path = x.req.Target.In(in)
	}
	r.Authority = x.req.Authority.In(in)
	r.UserAgent = x.req.Value(in, h1.UserAgent)
	r.RequestID = x.req.Value(in, h1.RequestID)
}

// serve answers the request whose head is at hand. It reports whether the
// connection can go on.
func (x *exchange) serve(ctx context.Context) bool {
	x.closing = !x.req.Persistent() || x.conn.ending.Err() != nil
	if err := x.takeBody(); err != nil {
		return x.refuse(err)
	}
	if x.req.Connect || x.req.Upgrade == h1.OtherUpgrade {
		x.rec.Reason, x.rec.Details = decision.UpgradeRefused, "upgrade_failed"
		x.closing, x.linger = true, true
		return x.reply(403)
	}
	if x.req.Upgrade == h1.WebSocket && x.req.Framing != h1.NoBody && (x.req.Framing == h1.Chunked || x.req.Length > 0) {
		return x.refuse(h1.ErrBody)
	}
	host, err := canonicalHost(x.rec.Authority, x.ownHost[:0])
	if err != nil {
		return x.refuse(h1.ErrHost)
	}
	x.host = host
	return x.route(ctx)
}

// takeBody finds out how much of the body came with the head.
func (x *exchange) takeBody() error {
	n := x.req.Len
	rest := x.in[n:x.filled]
	switch x.req.Framing {
	case h1.Length:
		have := int(min(int64(len(rest)), x.req.Length))
		x.body, x.used = rest[:have], n+have
		x.left = x.req.Length - int64(have)
		x.whole = x.left == 0
	case h1.Chunked:
		have, used, err := x.dec.Compact(rest)
		x.body, x.used = rest[:have], n+used
		x.whole = x.dec.Done()
		if err != nil {
			x.used = x.filled
			return err
		}
	case h1.NoBody, h1.UntilClose:
		x.used = n
	}
	x.rec.Received = int64(len(x.body))
	return nil
}

// refuse answers a request that breaks the protocol. Where it ends is unknown,
// and so does the connection.
func (x *exchange) refuse(err error) bool {
	status, r := 400, &x.rec
	r.Reason, r.Err, r.Details = decision.BadRequest, err.Error(), "http1.codec_error"
	r.Flags |= decision.DPE
	var fault *h1.Error
	if errors.As(err, &fault) {
		status, r.Details = fault.Status, fault.Details
	}
	if status == 431 {
		r.Reason = decision.TooLarge
	}
	x.closing, x.linger = true, true
	return x.reply(status)
}

// route finds the virtual host and the route, and does what the route says.
func (x *exchange) route(ctx context.Context) bool {
	c, r := x.server.config(), &x.rec
	table := x.conn.manager.Inline
	if table == nil {
		r.RouteTable = x.conn.manager.RouteName
		table = c.RouteTable(x.conn.manager.RouteName)
	} else {
		r.RouteTable = table.Name
	}
	var found *config.Route
	if table != nil {
		path := r.Path
		if x.req.Asterisk || path[0] != '/' { // OPTIONS * and http://host?query ask for the root
			path = slash
		}
		var vh *config.VirtualHost
		vh, found = route.Match(table, route.Request{Host: x.host, Path: path})
		if vh != nil {
			r.VirtualHost, r.Entry = vh.Name, vh.Entry
		}
	}
	if found == nil {
		r.Reason, r.Flags, r.Details = decision.NoRoute, r.Flags|decision.NR, "route_not_found"
		return x.reply(404)
	}
	r.Route = found.Name
	if found.Direct != nil {
		return x.direct(found.Direct)
	}
	r.Cluster = found.Cluster
	if x.cluster = x.server.clusters.Get(found.Cluster); x.cluster == nil {
		r.Reason, r.Flags, r.Details = decision.NoCluster, r.Flags|decision.NC, "cluster_not_found"
		return x.reply(503)
	}
	if e := x.cluster.Config().Entry; e.Kind != "" {
		r.Entry = e
	}
	return x.forward(ctx, found)
}

var slash = []byte("/")

// direct answers at the proxy, as the route says.
func (x *exchange) direct(d *config.DirectResponse) bool {
	x.rec.Details = "direct_response"
	if x.rec.VirtualHost == xds.BlockAll {
		x.rec.Reason = decision.NotDeclared
		return x.reply(d.Status)
	}
	return x.replyText(d.Status, []byte(d.Body))
}

// An upload is the body of a request on its way to the endpoint, from the
// moment a goroutine takes it over until done is received from. Between these
// the goroutine owns err, received and spill, and reads from the caller.
type upload struct {
	done     chan struct{}
	running  bool
	stopping atomic.Bool
	last     atomic.Bool // the last piece is at hand or gone
	err      error       // why it did not get through; nil: it did
	received int64
	spill    []byte // what came after the body
}

func (u *upload) reset() {
	u.running, u.err, u.received, u.spill = false, nil, 0, nil
	u.stopping.Store(false)
	u.last.Store(false)
}

var grpcType = []byte("application/grpc")

func (x *exchange) isGRPC() bool {
	t := x.req.Value(x.in, h1.ContentType)
	return len(t) >= len(grpcType) && bytes.EqualFold(t[:len(grpcType)], grpcType)
}
