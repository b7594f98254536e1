package l7

import (
	"context"
	"net/http"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/route"
	"github.com/fairlead/fairlead/internal/xds"
)

// Sizes of the buffers an exchange holds: enough for what nearly every message
// needs, so that it goes out in one write.
const (
	headSize    = 8 << 10               // a request as it comes
	requestSize = headSize + headSize/8 // … and as it goes out
	answerSize  = 16 << 10
	bulkSize    = 64 << 10
)

// A buffer is what streaming and large heads need.
type buffer [bulkSize]byte

// An exchange is one request and its answer, between a caller and one upstream
// after the other. It is reused; one goroutine owns it, but for what upload says.
type exchange struct {
	server  *Server
	manager *config.HTTPManager

	caller caller
	in     []byte // begins with the head of the request
	req    h1.Request
	first  piece  // what came with the head of the body
	whole  bool   // … is all of it, or all of it was passed on
	host   []byte // canonical
	upload upload

	cluster  *cluster.Cluster
	endpoint *cluster.Endpoint
	up       upstream // nil: none is attached
	tried    []*cluster.Endpoint
	answer   []byte // begins with the head of the answer
	resp     h1.Response
	size     measure // of its body, as far as it was sent on
	interim  int     // 1xx answers so far
	sentAt   time.Time
	timeout  time.Duration // of the route, from the last byte of the request on; 0: none
	deadline time.Time     // when that ends, if the request was whole when it was sent

	rec      decision.Record
	asked    headText // the request, for the record
	told     headText // an answer of the proxy, likewise
	kept     kept     // an answer of the endpoint, likewise
	local    []byte   // an answer of the proxy
	counted  bool     // endpoints of the mesh are told how often it was tried
	retries  int      // as the route says
	pace     pace     // of the caller that takes the answer
	claimed  bool     // the try counts as a retry to the cluster
	nap      nap      // the pause before one
	replayed bool     // the request was sent once more
	started  bool     // a part of the final answer went to the caller
	recorded bool

	// Memory that the fields above usually refer to.
	toH1     *h1Upstream // nil until one is needed, if it is not at hand
	toH2     *h2Upstream // nil until one is needed
	ownLocal [1 << 10]byte
	ownHost  [255]byte
	ownTried [8]*cluster.Endpoint
}

// init prepares a new exchange.
func (x *exchange) init(s *Server) {
	x.server = s
	x.upload.done = make(chan struct{}, 1)
	x.local = x.ownLocal[:0]
}

// clear drops what belongs to one caller, or is more than usual.
func (x *exchange) clear() {
	if x.toH1 != nil {
		x.toH1.clear()
	}
	if x.toH2 != nil {
		x.toH2.clear()
	}
	x.local = x.ownLocal[:0]
	x.rec = decision.Record{}
	x.asked, x.told = headText{}, headText{}
	x.kept.reset()
	x.manager, x.caller, x.in, x.answer, x.first = nil, nil, nil, nil, piece{}
	x.cluster, x.endpoint, x.up = nil, nil, nil
	clear(x.ownTried[:])
	x.tried = nil
}

// begin prepares for the next request of c. Its record starts as a copy of base.
func (x *exchange) begin(c caller, m *config.HTTPManager, base *decision.Record) {
	x.req.Reset()
	x.caller, x.manager = c, m
	x.in, x.first, x.whole, x.host = nil, piece{}, true, nil
	x.upload.reset()
	x.pace.reset()
	x.cluster, x.endpoint, x.up = nil, nil, nil
	x.tried = x.ownTried[:0]
	x.answer, x.interim = nil, 0
	x.kept.reset()
	x.timeout, x.deadline, x.retries = 0, time.Time{}, 0
	x.counted, x.claimed, x.replayed, x.started, x.recorded = false, false, false, false, false
	x.rec = *base
	x.rec.Start = time.Now()
}

// serve answers the request whose head lies in text and was parsed, or failed
// to be for the reason in fault. It reports whether another may follow.
func (x *exchange) serve(ctx context.Context, text []byte, fault error) (more bool) {
	x.in = text
	x.describe()
	if fault != nil {
		return x.refuse(fault)
	}
	if x.first, fault = x.caller.open(); fault != nil {
		return x.refuse(fault)
	}
	x.whole = x.first.last
	x.rec.Received = int64(len(x.first.data))
	if x.req.Connect || x.req.Upgrade == h1.OtherUpgrade {
		x.caller.giveUp() // what follows is no request, whatever the answer is
	}
	if x.crowded() {
		return x.reply(overloaded.status)
	}
	if x.req.Upgrade == h1.OtherUpgrade {
		return x.settle(upgradeRefused, "")
	}
	if x.req.Upgrade == h1.WebSocket && (x.req.Framing == h1.Chunked || x.req.Length > 0) {
		return x.refuse(h1.ErrBody)
	}
	x.upload.size.begin(&x.req.Fields)
	if fault = x.upload.size.take(x.first); fault != nil {
		return x.refuse(fault)
	}
	host, err := canonicalHost(x.rec.Authority, x.ownHost[:0])
	if err != nil {
		return x.refuse(h1.ErrHost)
	}
	x.host = host
	return x.route(ctx)
}

// refuse answers a request that breaks the protocol. Where it ends is unknown.
func (x *exchange) refuse(fault error) (more bool) {
	x.caller.giveUp()
	return x.settle(x.malformed(fault), fault.Error())
}

// route finds the virtual host and the route, and does what the route says.
func (x *exchange) route(ctx context.Context) (more bool) {
	found := x.match()
	if found == nil {
		return x.settle(noRoute, "")
	}
	r := &x.rec
	r.Route = found.Name
	if found.Direct != nil {
		return x.direct(found.Direct)
	}
	r.Cluster = found.Cluster
	if x.cluster = x.server.clusters.Get(found.Cluster); x.cluster == nil {
		return x.settle(noCluster, "")
	}
	if e := x.cluster.Config().Entry; e.Kind != "" {
		r.Entry = e
	}
	return x.forward(ctx, found)
}

// match returns the route of the request, or nil.
func (x *exchange) match() *config.Route {
	c, r := x.server.config(), &x.rec
	table := x.manager.Inline
	if table == nil {
		r.RouteTable = x.manager.RouteName
		table = c.RouteTable(x.manager.RouteName)
	} else {
		r.RouteTable = table.Name
	}
	if table == nil {
		return nil
	}
	path := r.Path
	if x.req.Asterisk || path[0] != '/' { // OPTIONS * and http://host?query ask for the root
		path = slash
	}
	vh, found := route.Match(table, route.Request{Host: x.host, Path: path})
	if vh != nil {
		r.VirtualHost, r.Entry = vh.Name, vh.Entry
		x.counted = vh.AttemptCount
	}
	return found
}

var slash = []byte("/")

// direct answers at the proxy, as the route says.
func (x *exchange) direct(d *config.DirectResponse) (more bool) {
	if x.rec.VirtualHost == xds.BlockAll {
		if n := x.server.config().Name(string(x.host)); n != nil {
			x.rec.Declared = &n.Declared
		}
		return x.settle(notDeclared.as(d.Status), "")
	}
	if d.Status >= 200 && d.Status < 300 && x.asksTunnel() {
		x.judge(directResponse, "the route answers at the proxy with a status that would open a tunnel, and there is nobody at its end")
		return x.replyText(http.StatusForbidden, d.Body)
	}
	x.judge(directResponse, "")
	return x.replyText(d.Status, d.Body)
}

// asksTunnel reports whether an answer of 2xx would make a tunnel of the request: a
// CONNECT, or a WebSocket of HTTP/2, which is one too.
func (x *exchange) asksTunnel() bool {
	return x.req.Connect || x.req.Upgrade == h1.WebSocket && x.rec.Protocol == decision.HTTP2
}

// finish ends the exchange towards the caller and records it.
func (x *exchange) finish() (more bool) {
	x.record()
	return x.caller.end()
}
