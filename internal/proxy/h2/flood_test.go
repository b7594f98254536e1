package h2

import (
	"bytes"
	"errors"
	"testing"
)

// TestFault42FloodsAreBounded counts the frames of each kind that are taken, with no
// time in between, before the connection ends because of them.
func TestFault42FloodsAreBounded(t *testing.T) {
	request := func(id uint32, flags byte) []byte {
		return append(appendFrame(nil, 6, frameHeaders, flags, id), 0x82, 0x86, 0x84, 0x41, 1, 'a')
	}
	for name, tt := range map[string]struct {
		first, turn []byte
		most        int
	}{
		"empty CONTINUATION": {append(appendFrame(nil, 1, frameHeaders, 0, 3), 0x82), appendFrame(nil, 0, frameContinuation, 0, 3), maxBudget},
		"full CONTINUATION":  {append(appendFrame(nil, 1, frameHeaders, 0, 3), 0x82), append(appendFrame(nil, MaxFrame, frameContinuation, 0, 3), make([]byte, MaxFrame)...), maxBlock/MaxFrame + 1},
		"SETTINGS":           {nil, appendFrame(nil, 0, frameSettings, 0, 0), maxBudget},
		"settings":           {nil, append(appendFrame(nil, 16380, frameSettings, 0, 0), bytes.Repeat([]byte{0, 4, 0, 0, 1, 0}, 2730)...), 4},
		"PING":               {nil, appendPing(nil, false, make([]byte, 8)), maxBudget},
		"window change":      {nil, append(appendFrame(nil, 6, frameSettings, 0, 0), 0, 4, 0, 0, 1, 0), maxBudget},
		"empty DATA":         {request(3, flagEndHeaders), appendFrame(nil, 0, frameData, 0, 3), maxBudget / 10},
		"WINDOW_UPDATE":      {request(3, flagEndHeaders), appendWindowUpdate(nil, 3, 1), 2 * maxBudget},
		"PRIORITY":           {nil, append(appendFrame(nil, 5, framePriority, 0, 3), 0, 0, 0, 1, 1), maxBudget},
		"unknown":            {nil, appendFrame(nil, 0, 99, 0, 0), maxBudget},
		"GOAWAY":             {nil, appendGoaway(nil, 0, NoError), maxBudget / 10},
	} {
		t.Run(name, func(t *testing.T) {
			var c Conn
			c.Init(Config{Server: true, Open: func() *Stream { return new(Stream) }})
			b := append([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0)...)
			b = append(b, request(1, flagEndHeaders)...)
			calm(t, &c, append(b, tt.first...))
			for n := 1; ; n++ {
				c.Out = c.Out[:0]
				if err := taken(&c, tt.turn); err != nil {
					if err.Code != EnhanceYourCalm || n > tt.most+1 {
						t.Errorf("frame %d of %d at most: %v", n, tt.most, err)
					}
					return
				}
				if n > 2*maxBudget {
					t.Fatalf("%d frames are taken", n)
				}
			}
		})
	}
	t.Run("rapid reset", func(t *testing.T) {
		var c Conn
		c.Init(Config{Server: true, Open: func() *Stream { return new(Stream) }})
		calm(t, &c, append([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0)...))
		for id := uint32(1); ; id += 2 {
			err := taken(&c, append(request(id, flagEndHeaders|flagEndStream), appendReset(nil, id, Cancel)...))
			if err != nil {
				if err.Code != EnhanceYourCalm {
					t.Error(err)
				}
				return
			}
			if id > 2*maxBudget+1 {
				t.Fatalf("%d streams are reset", id/2)
			}
		}
	})
}

// taken gives c all of b.
func taken(c *Conn, b []byte) *Error {
	for len(b) > 0 {
		_, used, err := c.Next(b)
		if err != nil {
			return err
		}
		b = b[used:]
	}
	return nil
}

// calm gives c what ends no connection.
func calm(t *testing.T, c *Conn, b []byte) {
	t.Helper()
	if err := taken(c, b); err != nil {
		t.Fatal(err)
	}
}

// TestAWindowOnTheWayCounts names a window that is too large for a stream, and then
// one that is not.
func TestAWindowOnTheWayCounts(t *testing.T) {
	var c Conn
	c.Init(Config{Server: true, Open: func() *Stream { return new(Stream) }})
	calm(t, &c, append([]byte(Preface), appendFrame(nil, 0, frameSettings, 0, 0)...))
	calm(t, &c, append(appendFrame(nil, 6, frameHeaders, flagEndHeaders, 1), 0x82, 0x86, 0x84, 0x41, 1, 'a'))
	calm(t, &c, appendWindowUpdate(nil, 1, 1000))
	list := appendSetting(appendSetting(nil, settingWindow, maxWindow), settingWindow, 10)
	if err := taken(&c, append(appendFrame(nil, len(list), frameSettings, 0, 0), list...)); !errors.Is(err, ErrWindowSize) {
		t.Errorf("%v", err)
	}
}
