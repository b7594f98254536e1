package h2

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/net/http2/hpack"

	"github.com/fairlead/fairlead/internal/golden"
)

// TestScripts plays testdata/*.script: what the peer sends ("settings",
// "headers 1 end: …", "data 1 "text"", …) and what the driver does ("send",
// "consumed", "drain", …), and after each line what it means ("=") and what goes
// to the peer (">"). With UPDATE=1 it writes the answers.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.script")
	if err != nil || len(files) < 5 {
		t.Fatal(files, err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".script"), func(t *testing.T) {
			src, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var out strings.Builder
			p := &player{t: t, out: &out}
			for line := range strings.Lines(string(src)) {
				line = strings.TrimSuffix(line, "\n")
				if strings.HasPrefix(line, "= ") || strings.HasPrefix(line, "> ") {
					continue
				}
				fmt.Fprintln(&out, line)
				if line != "" && line[0] != '#' {
					p.play(line)
					p.flush()
				}
			}
			golden.Check(t, file, out.String())
		})
	}
}

// A player is a connection and its peer.
type player struct {
	t    *testing.T
	out  *strings.Builder
	c    *Conn
	enc  *hpack.Encoder // the peer's
	buf  bytes.Buffer
	dec  *hpack.Decoder // the peer's
	list []string
	ours map[uint32]*Stream

	last  string // the answer to be written
	times int    // that it was given
}

func (p *player) start(server bool, streams int) {
	p.c = new(Conn)
	p.enc = hpack.NewEncoder(&p.buf)
	p.dec = hpack.NewDecoder(tableSize, func(f hpack.HeaderField) { p.list = append(p.list, f.Name+"="+f.Value) })
	p.ours = map[uint32]*Stream{}
	p.c.Init(Config{Server: server, MaxStreams: streams, Open: func() *Stream { return new(Stream) }})
}

func (p *player) block(list string) []byte {
	p.buf.Reset()
	encode(p.enc, fields(p.t, list))
	return bytes.Clone(p.buf.Bytes())
}

// args takes a line apart: words before ": ", and what is after.
func args(line string) (words []string, rest string) {
	head, rest, _ := strings.Cut(line, ": ")
	return strings.Fields(strings.TrimSuffix(head, ":")), rest
}

func (p *player) play(line string) {
	w, rest := args(line)
	flags := map[string]int{}
	for _, x := range w[1:] {
		k, v, _ := strings.Cut(x, "=")
		flags[k] = 1
		if v != "" {
			flags[k] = p.int(v)
		}
	}
	var id uint32
	if len(w) > 1 {
		if n, err := strconv.Atoi(w[1]); err == nil {
			id = uint32(n)
		}
	}
	switch w[0] {
	case "server", "client":
		p.start(w[0] == "server", flags["max"])
	case "repeat":
		for range p.int(w[1]) {
			p.play(strings.TrimPrefix(line, "repeat "+w[1]+" "))
		}
	case "send", "open", "abort", "consumed", "release", "drain", "settle", "tick", "room":
		p.drive(w, flags, id, rest)
	default:
		p.feed(p.peer(w, flags, id, rest))
	}
}

// drive does what a driver does.
func (p *player) drive(w []string, flags map[string]int, id uint32, rest string) {
	s := p.ours[id]
	if s == nil && id > 0 && w[0] != "tick" {
		p.t.Fatalf("no stream %d", id)
	}
	switch w[0] {
	case "send":
		if n := flags["n"]; n > 0 {
			p.c.Data(s, make([]byte, n), flags["end"] > 0)
		} else {
			p.c.Headers(s, p.literal(rest), flags["end"] > 0)
		}
	case "open":
		how := Start{End: flags["end"] > 0, HEAD: flags["head"] > 0, Tunnel: flags["tunnel"] > 0}
		if flags["websocket"] > 0 {
			how.Accept = "key"
		}
		s := new(Stream)
		if !p.c.Start(s, p.literal(rest), how) {
			p.say("= no capacity\n")
			return
		}
		p.ours[s.ID] = s
	case "abort":
		p.c.Abort(s, Cancel)
	case "consumed":
		p.c.Consumed(s, flags["n"], flags["waited"] > 0)
	case "release":
		p.c.Release(s)
	case "drain":
		p.c.Drain()
	case "settle":
		p.c.Settle()
	case "tick":
		p.c.Tick(int(id))
	case "room":
		p.say("= room %d, capacity %d, live %d\n", p.c.Room(s), p.c.Capacity(), p.c.Live())
	}
}

// literal makes a block that changes no table.
func (p *player) literal(list string) (b []byte) {
	for _, f := range fields(p.t, list) {
		b = AppendField(b, f[0], f[1])
	}
	return b
}

// peer makes what the peer sends.
func (p *player) peer(w []string, flags map[string]int, id uint32, rest string) []byte {
	var bits byte
	for name, bit := range map[string]byte{"end": flagEndStream, "ack": flagAck} {
		if flags[name] > 0 {
			bits |= bit
		}
	}
	pad := func(b []byte) []byte {
		n, ok := flags["pad"]
		if !ok {
			return b
		}
		bits |= flagPadded
		return append(append([]byte{byte(n)}, b...), make([]byte, n)...)
	}
	framed := func(kind frameType, payload []byte) []byte {
		return append(appendFrame(nil, len(payload), kind, bits, id), payload...)
	}
	switch w[0] {
	case "preface":
		return []byte(Preface)
	case "settings":
		id = 0
		var b []byte
		for i, name := range settingNames {
			if v, ok := flags[name]; ok {
				b = appendSetting(b, uint16(i), uint32(v))
			}
		}
		return framed(frameSettings, b)
	case "headers", "continuation":
		kind := frameContinuation
		if flags["open"] == 0 {
			bits |= flagEndHeaders
		}
		b := p.block(rest)
		if n, ok := flags["zeros"]; ok {
			b = append(b, make([]byte, n)...)
		}
		if w[0] == "headers" {
			kind = frameHeaders
			if n, ok := flags["dep"]; ok {
				bits |= flagPriority
				b = append([]byte{0, 0, 0, byte(n), 9}, b...)
			}
		}
		return framed(kind, pad(b))
	case "data":
		b := []byte(rest)
		if n := flags["n"]; n > 0 {
			b = make([]byte, n)
		}
		return framed(frameData, pad(b))
	case "reset":
		return framed(frameReset, appendUint32(nil, uint32(flags["code"])))
	case "window":
		return framed(frameWindowUpdate, appendUint32(nil, uint32(flags["by"])))
	case "ping":
		id = 0
		return framed(framePing, []byte(rest))
	case "goaway":
		last := id
		id = 0
		return framed(frameGoaway, appendUint32(appendUint32(nil, last), uint32(flags["code"])))
	case "priority":
		return framed(framePriority, []byte{0, 0, 0, byte(flags["dep"]), 9}[:5-flags["short"]])
	case "raw":
		return framed(frameType(flags["kind"]), []byte(rest))
	}
	p.t.Fatalf("unknown: %s", w[0])
	return nil
}

func (p *player) int(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil {
		p.t.Fatal(err)
	}
	return n
}

// feed gives bytes to the connection and says what they mean.
func (p *player) feed(b []byte) {
	for {
		ev, used, err := p.c.Next(b)
		b = b[used:]
		if err != nil {
			p.say("= connection error: %v\n", err)
			return
		}
		if ev.Kind == None {
			return
		}
		p.tell(&ev)
	}
}

func (p *player) tell(ev *Event) {
	s := ev.Stream
	var id uint32
	if s != nil {
		if id = s.ID; p.ours[id] == nil {
			p.ours[id] = s
		}
	}
	end := func() string {
		if s.RemoteEnd {
			return " end"
		}
		return ""
	}
	switch ev.Kind {
	case Opened:
		p.say("= opened %d%s %q\n", id, end(), s.Text)
	case Head:
		p.say("= head %d%s %q\n", id, end(), s.Text)
		s.Text = s.Text[:0]
	case Data:
		if len(ev.Data) > 40 {
			p.say("= data %d%s n=%d\n", id, end(), len(ev.Data))
		} else {
			p.say("= data %d%s %q\n", id, end(), ev.Data)
		}
	case Trailer:
		p.say("= trailer %d%s %q\n", id, end(), s.Trailer)
	case Failed:
		if ev.Err != nil {
			p.say("= failed %d: %v\n", id, ev.Err)
		} else {
			p.say("= reset %d by the peer: %v\n", id, ev.Code)
		}
	case Credit:
		p.say("= credit %d\n", id)
	case Settings:
		p.say("= settings\n")
	case Goaway:
		p.say("= goaway %d %v\n", ev.Last, ev.Code)
	case Refused:
		p.say("= refused: %v\n", ev.Err)
	case Echo:
		p.say("= echo\n")
	case None:
	}
}

var settingNames = map[int]string{1: "table", 2: "push", 3: "streams", 4: "window", 5: "frame", 6: "list", 8: "connect", 9: "nopriorities", 77: "unknown"}

// say adds a line of answer; many equal ones are one.
func (p *player) say(format string, args ...any) {
	line := strings.TrimSuffix(fmt.Sprintf(format, args...), "\n")
	if line != p.last {
		p.said()
		p.last = line
	}
	p.times++
}

func (p *player) said() {
	switch {
	case p.times > 1:
		fmt.Fprintf(p.out, "%s (%d times)\n", p.last, p.times)
	case p.times == 1:
		fmt.Fprintln(p.out, p.last)
	}
	p.last, p.times = "", 0
}

// flush writes what goes to the peer, frame by frame.
func (p *player) flush() {
	if p.c == nil {
		return
	}
	b, ok := bytes.CutPrefix(p.c.Out, []byte(Preface))
	if ok {
		p.say("> preface\n")
	}
	for len(b) > 0 {
		p.say("> %s\n", p.dump(b[:size(b)]))
		b = b[size(b):]
	}
	p.c.Out = p.c.Out[:0]
	p.said()
}

func (p *player) dump(b []byte) string {
	kind, flags, id, body := frameType(b[3]), b[4], binary.BigEndian.Uint32(b[5:]), b[headerLen:]
	end := ""
	if flags&flagEndStream != 0 {
		end = " end"
	}
	switch kind {
	case frameData:
		return fmt.Sprintf("data %d%s n=%d", id, end, len(body))
	case frameHeaders, frameContinuation:
		p.list = p.list[:0]
		if _, err := p.dec.Write(body); err != nil {
			p.t.Error(err)
		}
		open := " open"
		if flags&flagEndHeaders != 0 {
			open = ""
			if err := p.dec.Close(); err != nil {
				p.t.Error(err)
			}
		}
		if body[0] == tableSizeZero {
			open += " with an empty table"
		}
		name := map[frameType]string{frameHeaders: "headers", frameContinuation: "continuation"}[kind]
		list := strings.Join(p.list, " | ")
		if len(list) > 200 {
			list = fmt.Sprintf("%d bytes", len(body))
		}
		if flags&flagEndStream == 0 || kind == frameContinuation {
			end = ""
		}
		return fmt.Sprintf("%s %d%s%s: %s", name, id, end, open, list)
	case frameReset:
		return fmt.Sprintf("reset %d %v", id, Code(binary.BigEndian.Uint32(body)))
	case frameSettings:
		if flags&flagAck != 0 {
			return "settings ack"
		}
		s := "settings"
		for ; len(body) > 0; body = body[6:] {
			s += fmt.Sprintf(" %s=%d", settingNames[int(binary.BigEndian.Uint16(body))], binary.BigEndian.Uint32(body[2:]))
		}
		return s
	case framePing:
		return strings.TrimSpace(fmt.Sprintf("ping%s %q", map[bool]string{true: " ack"}[flags&flagAck != 0], body))
	case frameGoaway:
		return fmt.Sprintf("goaway %d %v", binary.BigEndian.Uint32(body), Code(binary.BigEndian.Uint32(body[4:])))
	case frameWindowUpdate:
		return fmt.Sprintf("window %d by=%d", id, binary.BigEndian.Uint32(body))
	default:
		return fmt.Sprintf("frame of type %d", kind)
	}
}
