package streams

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/h1"
	"github.com/fairlead/fairlead/internal/proxy/h2"
)

// relay passes streams on to an endpoint, as a proxy does: bodies both ways at
// once, trailers, and the end of either side for the other.
func relay(up *Client) func(*Stream) {
	return func(down *Stream) {
		var r h1.Request
		if done, err := r.Parse(down.Head()); !done || err != nil {
			down.Reset(h2.InternalError)
			return
		}
		to, err := up.Open(h2.AppendRequest(nil, &r, down.Head(), "http"), h2.Start{End: down.Bodyless()})
		if err != nil {
			down.Reset(h2.RefusedStream)
			return
		}
		defer to.Close()
		down.Tie(to)
		defer down.Untie()
		var sending sync.WaitGroup
		defer sending.Wait()
		if !down.Bodyless() {
			sending.Go(func() { pass(to, down) })
		}
		head, err := to.ReadHead(nil)
		var resp h1.Response
		if err == nil {
			_, err = resp.Parse(head, false)
		}
		bare := err == nil && to.Ended() && len(to.Trailers()) == 0 // as gRPC answers at once
		if err == nil {
			_, err = down.Send(h2.AppendResponse(nil, &resp, head), nil, bare)
		}
		if bare {
			return
		}
		if err != nil {
			down.Reset(h2.InternalError) // wakes the sender, if it reads
			return
		}
		if pass(down, to) != nil {
			down.Reset(h2.InternalError) // likewise
		}
	}
}

// pass sends what one stream brings on another one.
func pass(to, from *Stream) error {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if errors.Is(err, io.EOF) {
			block, _ := h2.AppendTrailer(nil, from.Trailers())
			_, err := to.Send(block, nil, true)
			return err
		}
		if err != nil {
			return err
		}
		if _, err := to.Send(nil, buf[:n], false); err != nil {
			return err
		}
	}
}

// TestRelayUnderChaos sends many requests through a relay of streams while
// callers and the endpoint give up in every way, and sees that those that do not
// are served in full.
func TestRelayUnderChaos(t *testing.T) {
	memory := new(Memory) // shared, so that what one use of an object leaves shows in the next
	end := newServer(t, Options{Memory: memory}, func(s *Stream) {
		switch {
		case !bytes.Contains(s.Head(), []byte("/chaos")):
		case rand.IntN(6) == 0:
			s.Reset(h2.Code(rand.Uint32N(14)))
			return
		case rand.IntN(6) == 0:
			return
		case rand.IntN(6) == 0:
			hello(s)
			return
		}
		echo(s)
	})
	up := newClient(t, end.addr, Options{Memory: memory})
	front := newServer(t, Options{Memory: memory}, relay(up))
	cl := newClient(t, front.addr, Options{Memory: memory})
	calm := block(t, "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	wild := block(t, "POST /chaos HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n")
	trailer, _ := h2.AppendTrailer(nil, []byte("x-in: 7\r\n"))
	rounds := 12
	if testing.Short() {
		rounds = 3
	}
	var wg sync.WaitGroup
	for i := range 30 {
		wg.Go(func() {
			for range rounds {
				if i%2 == 0 {
					misbehave(cl, wild)
					continue
				}
				want := noise(byte(i), rand.IntN(150_000))
				if _, got, tr, err := exchange(cl, calm, want, trailer); err != nil || !bytes.Equal(got, want) || tr != "x-in: 7\r\n" {
					t.Errorf("%d bytes came back as %d, with %q: %v", len(want), len(got), tr, err)
				}
			}
		})
	}
	wg.Wait()
	for up.Streams() > 0 || cl.Streams() > 0 {
		yield()
	}
}

// misbehave begins a request and ends it somehow.
func misbehave(cl *Client, req []byte) {
	s, err := cl.Open(req, h2.Start{})
	if err != nil {
		return
	}
	defer s.Close()
	var sending sync.WaitGroup
	defer sending.Wait()
	switch rand.IntN(5) {
	case 0:
		return
	case 1:
		s.SetDeadline(time.Now().Add(time.Duration(rand.IntN(3)) * time.Millisecond))
	case 2:
		s.SetTimeout(time.Minute)
		sending.Go(s.Cut)
		_, _ = s.ReadHead(nil) // whatever comes
	}
	sending.Go(func() { _, _ = s.Send(nil, make([]byte, rand.IntN(200_000)), true) }) // likewise
	if _, err := s.ReadHead(nil); err != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, s, rand.Int64N(200_000)) // likewise
	if rand.IntN(2) == 0 {
		s.Reset(h2.Cancel)
	}
}
