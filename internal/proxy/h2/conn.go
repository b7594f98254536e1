package h2

import "github.com/fairlead/fairlead/internal/proxy/h1"

// Defaults of a Config.
const (
	DefaultMaxStreams = 100
	DefaultMaxWindow  = 1 << 20
	DefaultGrowth     = 2 << 20
)

// LeanWindow is the least window of a stream that is read: enough for one frame.
const LeanWindow = 16 << 10

// A Config says how a Conn behaves. Zero values mean the defaults.
type Config struct {
	Server     bool
	MaxStreams int // open at once; advertised by a server, kept to by a client

	// What a stream may hold that nobody has read yet begins at Window, and grows up
	// to MaxWindow where its reader waits for more. The streams of a connection share
	// Growth for that. Window is 64 KiB less one by default and at most, which is also
	// what it is until the peer has heard of a smaller one; MaxWindow is no less. Where
	// a Conn may be Lean, Window is LeanWindow at least.
	//
	// The window of the connection is large enough for MaxStreams windows and the
	// Growth, so that no stream waits for the reader of another.
	Window    int
	MaxWindow int
	Growth    int

	Random func() uint64  // for the keys of WebSockets
	Open   func() *Stream // server: the object for the next stream
}

// A Conn is the state of one connection. Its methods must not run at the same time.
type Conn struct {
	// Out is what is to be sent. The driver may take it at any time and leave
	// another buffer or none.
	Out []byte

	// Lean says that memory is short. While it is set, the window of a stream does
	// not grow, and comes back, as its data is read, only as far as LeanWindow. The
	// driver may change it at any time.
	Lean bool

	cfg     Config
	dec     decoder
	streams map[uint32]*Stream
	live    int // opened and not released
	dead    bool

	// Receiving.
	preface  int // bytes of it that came
	settled  bool
	last     uint32 // highest stream of the peer (server)
	block    []byte // a header block so far
	blockID  uint32 // 0: none
	blockEnd bool
	recv     int // what the peer may still send
	credit   int // what it may be given back
	target   int
	growth   int
	initial  int     // what a stream begins with; the peer's ACK makes it cfg.Window
	killed   history // streams that we reset: the peer may not know yet
	ended    history // streams that ended otherwise

	// Sending.
	next     uint32 // of our streams (client)
	send     int64
	window   int64 // that a new stream begins with
	maxFrame int
	peerMax  uint32 // streams at once
	connect  bool   // extended CONNECT is allowed
	shrunk   bool   // the next block must empty the table
	encoder  bool   // … which has happened

	drain   drainState
	goaway  bool   // the peer gives the connection up
	limit   uint32 // streams above are not served any more (server, drain)
	budget  int    // of what carries nothing
	updates int    // WINDOW_UPDATEs beyond what our data explains
}

// A drainState says how far giving up the connection has come.
type drainState uint8

const (
	serving  drainState = iota
	warned              // GOAWAY without a last stream is sent, to be followed by one with it
	draining            // only the streams up to the limit go on
)

// A Stream is what a Conn knows of one stream. The zero Stream is ready to be
// opened; after Release and Reset it may be used again.
type Stream struct {
	ID    uint32
	Owner any // the driver's

	// Text is the head of the request, or the heads of the answers so far, which
	// the driver takes by emptying it.
	Text    []byte
	Trailer []byte    // once the peer has ended the stream; field lines
	Large   *h1.Error // the request's head is too large, and not all there
	Length  int64     // what Content-Length says; -1: nothing

	RemoteEnd bool // nothing more comes
	LocalEnd  bool // nothing more is sent
	Tunnel    bool // a CONNECT or an extended one; for a client once it is answered
	HTTPS     bool // the scheme of the request is https, not http; a server's

	open    bool
	head    bool // the final head came (client)
	noBody  bool
	toHEAD  bool
	wants   bool   // a tunnel was asked for (client)
	accept  string // key of the WebSocket that was asked for (client)
	interim int
	send    int64
	recv    int
	credit  int
	target  int
	got     int64
}

// Reset makes s ready for another use. It keeps Owner and its memory.
func (s *Stream) Reset() {
	text, trailer := s.Text[:0], s.Trailer[:0]
	if cap(text) > 8<<10 {
		text = nil
	}
	if cap(trailer) > 2<<10 {
		trailer = nil
	}
	*s = Stream{Owner: s.Owner, Text: text, Trailer: trailer}
}

// Open reports that the stream has not ended in both directions and was not reset.
func (s *Stream) Open() bool { return s.open }

// An EventKind says what happened.
type EventKind uint8

// The kinds of event.
const (
	None     EventKind = iota // every whole frame is taken
	Opened                    // server: a request begins; Stream.Text is its head
	Head                      // client: Stream.Text has one head more
	Data                      // Event.Data came, or the end of the stream without a trailer
	Trailer                   // Stream.Trailer came, and the end of the stream
	Failed                    // the stream is over: Code by the peer, or Err for our part
	Credit                    // the stream may send more; nil: the connection may
	Settings                  // every stream may send more, and a client may have opened more
	Goaway                    // client: the peer gives the connection up, Last is the last stream it serves
	Refused                   // server: a request was refused because of Err; there is no stream
	Echo                      // our PING came back
)

// An Event is what a frame means.
type Event struct {
	Kind   EventKind
	Stream *Stream
	Data   []byte // a part of the bytes given to Next
	Code   Code
	Err    *Error
	Last   uint32
}

// Init makes c the beginning of a connection, and Out what we send first.
func (c *Conn) Init(cfg Config) {
	if cfg.MaxStreams <= 0 {
		cfg.MaxStreams = DefaultMaxStreams
	}
	if cfg.MaxWindow <= 0 {
		cfg.MaxWindow = DefaultMaxWindow
	}
	if cfg.Growth <= 0 {
		cfg.Growth = DefaultGrowth
	}
	if cfg.Window <= 0 || cfg.Window > defaultWindow {
		cfg.Window = defaultWindow
	}
	cfg.MaxWindow = max(cfg.MaxWindow, defaultWindow)
	*c = Conn{
		Out: c.Out, cfg: cfg, streams: map[uint32]*Stream{},
		next: 1, send: defaultWindow, window: defaultWindow, maxFrame: smallestMaxFrame, peerMax: DefaultMaxStreams,
		target: max(defaultWindow, min(cfg.MaxStreams*cfg.Window+cfg.Growth, maxWindow)), growth: cfg.Growth, initial: defaultWindow,
		budget: maxBudget, updates: -maxBudget, limit: unlimited,
	}
	c.recv = c.target
	c.dec.init()
	c.begin()
}

func (c *Conn) begin() {
	var list []byte
	if c.cfg.Server {
		list = appendSetting(list, settingMaxStreams, uint32(c.cfg.MaxStreams)) //nolint:gosec // G115: small by Init
		list = appendSetting(list, settingConnect, 1)
	} else {
		c.Out = append(c.Out, Preface...)
		list = appendSetting(list, settingPush, 0)
	}
	if c.cfg.Window != defaultWindow {
		list = appendSetting(list, settingWindow, uint32(c.cfg.Window)) //nolint:gosec // G115: at most 2^16
	}
	list = appendSetting(list, settingMaxHeaderList, MaxHead)
	list = appendSetting(list, settingNoPriorities, 1)
	c.Out = append(appendFrame(c.Out, len(list), frameSettings, 0, 0), list...)
	if more := c.target - defaultWindow; more > 0 {
		c.Out = appendWindowUpdate(c.Out, 0, uint32(more)) //nolint:gosec // G115: below 2^31
	}
}

// heeded is told that the peer has taken our settings: from here on it counts
// with the window that they name, on the streams that are open too.
func (c *Conn) heeded() {
	change := c.cfg.Window - c.initial
	if change == 0 {
		return // it was taken before, or is what every connection begins with
	}
	c.initial += change
	for _, s := range c.streams {
		s.recv += change // perhaps below nothing
		s.target += change
		c.Consumed(s, 0, false) // what was read may be enough now to be given back
	}
}

// Buffered is how many bytes of memory c holds besides Out and its streams: a
// header block that is not whole.
func (c *Conn) Buffered() int { return cap(c.block) }

// Live is the number of streams that were opened and not released.
func (c *Conn) Live() int { return c.live }

// Each calls f for every open stream.
func (c *Conn) Each(f func(*Stream)) {
	for _, s := range c.streams {
		f(s)
	}
}

// Release says that the driver is done with s. Its stream is reset if it is
// still open.
func (c *Conn) Release(s *Stream) {
	if s.open {
		code := Cancel
		if s.LocalEnd && c.cfg.Server {
			code = NoError // the answer is whole; the rest of the request is not wanted
		}
		c.Abort(s, code)
	}
	c.live--
}

func (c *Conn) add(s *Stream, id uint32) {
	s.ID, s.open = id, true
	s.send, s.recv, s.target = c.window, c.initial, c.initial
	c.streams[id] = s
	c.live++
}

func (c *Conn) remove(s *Stream) {
	delete(c.streams, s.ID)
	s.open = false
	c.growth += s.target - c.initial
}

// closeIfDone closes a stream that both sides have ended.
func (c *Conn) closeIfDone(s *Stream) {
	if s.RemoteEnd && s.LocalEnd && s.open {
		c.remove(s)
		c.ended.note(s.ID, endedLen)
		c.earn(2)
	}
}

// A history remembers the streams that were closed last.
type history struct {
	ids  []uint32
	next int
}

// How many it remembers: enough for those whose frames may still be on their
// way; for the others it decides only which error a late frame is.
const (
	killedLen = 256
	endedLen  = 16
)

func (h *history) note(id uint32, most int) {
	if len(h.ids) < most {
		h.ids = append(h.ids, id)
		return
	}
	h.ids[h.next] = id
	h.next = (h.next + 1) % most
}

func (h *history) has(id uint32) bool {
	for _, old := range h.ids {
		if old == id {
			return true
		}
	}
	return false
}

// The budget of frames that carry nothing, and of resets.
const (
	maxBudget  = 1000
	perSecond  = 100
	perData    = 20 // WINDOW_UPDATEs that one frame of data may cause
	maxInterim = 32
)

// spend takes n from the budget.
func (c *Conn) spend(n int) *Error {
	if c.budget -= n; c.budget < 0 {
		return ErrFlood
	}
	return nil
}

func (c *Conn) earn(n int) { c.budget = min(c.budget+n, maxBudget) }

// Tick tells that so many seconds have passed.
func (c *Conn) Tick(seconds int) {
	n := min(seconds, maxBudget/perSecond) * perSecond
	c.earn(n)
	c.updates = min(c.updates, max(c.updates-n, -maxBudget))
}
