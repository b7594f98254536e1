package l7

import (
	"encoding/binary"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// A reuser asks for the same page over and over on one connection of HTTP/2, and
// allocates nothing.
type reuser struct {
	c    *client
	id   uint32
	ask  []byte
	head [9]byte
	body []byte
}

func (r *rig) reuser(method byte, body string) *reuser {
	r.t.Helper()
	c := r.dial()
	c.SetDeadline(time.Now().Add(time.Minute))
	c.say(h2.Preface + "\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00")
	u := &reuser{c: c, id: 1, body: make([]byte, 64<<10)}
	block := "\x86\x84\x41\x09x.example"
	flags := byte(0x5)
	if body != "" {
		flags = 0x4
	}
	u.ask = append(u.ask, 0, 0, byte(len(block)+1), 1, flags, 0, 0, 0, 0, method)
	u.ask = append(u.ask, block...)
	if body != "" {
		u.ask = append(u.ask, 0, 0, byte(len(body)), 0, 1, 0, 0, 0, 0)
		u.ask = append(u.ask, body...)
	}
	return u
}

const (
	askGET  = 0x82
	askPOST = 0x83
)

// again asks, and reads up to the end of the answer.
func (u *reuser) again() {
	binary.BigEndian.PutUint32(u.ask[5:], u.id)
	if n := 9 + int(u.ask[2]); n < len(u.ask) {
		binary.BigEndian.PutUint32(u.ask[n+5:], u.id)
	}
	if _, err := u.c.Write(u.ask); err != nil {
		u.c.t.Fatal(err)
	}
	for {
		if _, err := io.ReadFull(u.c.r, u.head[:]); err != nil {
			u.c.t.Fatal(err)
		}
		n := int(u.head[0])<<16 | int(u.head[1])<<8 | int(u.head[2])
		if _, err := io.ReadFull(u.c.r, u.body[:n]); err != nil {
			u.c.t.Fatal(err)
		}
		kind, flags, id := u.head[3], u.head[4], binary.BigEndian.Uint32(u.head[5:])
		if kind == 3 || kind == 7 {
			u.c.t.Fatalf("reset or given up: %x", u.body[:n])
		}
		if id == u.id && kind < 2 && flags&1 != 0 {
			u.id += 2
			return
		}
	}
}

func TestAStreamAllocatesLittle(t *testing.T) {
	if raceEnabled {
		t.Log("the race detector allocates; counted without it")
		return
	}
	for _, tt := range []struct {
		name   string
		to     config.HTTPVersion
		method byte
		body   string
		most   float64
	}{
		{"h2 to h1", config.HTTP1, askGET, "", 1.5},
		{"h2 to h2", config.HTTP2, askPOST, "hello", 2.5},
	} {
		t.Run(tt.name, func(t *testing.T) {
			up := pages(t)
			if tt.to == config.HTTP2 {
				up = newEndpoint(t, answering).addr
			}
			r := newRig(t, entry{host: "x.example", endpoints: []netip.AddrPort{up}, http: tt.to})
			r.server.log = quietLog{}
			u := r.reuser(tt.method, tt.body)
			n := testing.AllocsPerRun(2000, u.again)
			t.Logf("%v allocations per request", n)
			if n > tt.most {
				t.Errorf("%v allocations per request", n)
			}
		})
	}
}

// answering is an endpoint that answers every stream that ends, and allocates nothing.
func answering(c *client) {
	c.SetDeadline(time.Now().Add(time.Minute))
	c.hear(h2.Preface)
	c.say("\x00\x00\x00\x04\x00\x00\x00\x00\x00" + "\x00\x00\x04\x08\x00\x00\x00\x00\x00\x7f\x00\x00\x00")
	body := make([]byte, 64<<10)
	answer := []byte("\x00\x00\x01\x01\x04\x00\x00\x00\x00\x88" + "\x00\x00\x02\x00\x01\x00\x00\x00\x00ok")
	var head [9]byte
	for {
		if _, err := io.ReadFull(c.r, head[:]); err != nil {
			return
		}
		n := int(head[0])<<16 | int(head[1])<<8 | int(head[2])
		if _, err := io.ReadFull(c.r, body[:n]); err != nil {
			return
		}
		if head[3] < 2 && head[4]&1 != 0 {
			copy(answer[5:9], head[5:9])
			copy(answer[15:19], head[5:9])
			if _, err := c.Write(answer); err != nil {
				return
			}
		}
	}
}
