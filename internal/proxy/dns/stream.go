package dns

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"
)

const (
	maxConns  = 256 // TCP connections at one time
	pipelined = 32  // questions of one connection being answered at one time
	idleTime  = 30 * time.Second
	lastTime  = time.Second // for questions on their way when Serve is to end
	writeTime = 5 * time.Second
)

// serveListener answers on the connections of one listener until ctx ends.
// It returns after the last is closed.
func (s *Server) serveListener(ctx context.Context, l net.Listener, conns chan struct{}) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for failures := 0; ; {
		conn, err := l.Accept()
		switch {
		case err != nil && ctx.Err() != nil: // who was accepted is served
			return nil
		case errors.Is(err, net.ErrClosed), err != nil && failures == maxReadErrors:
			return fmt.Errorf("accept DNS connections on %s: %w", l.Addr(), err)
		case err != nil: // out of descriptors, for one
			failures++
			pause(ctx)
			continue
		}
		failures = 0
		select {
		case conns <- struct{}{}:
			wg.Go(func() {
				defer func() { <-conns }()
				s.serveConn(ctx, conn)
			})
		default:
			s.shed.Add(1)
			_ = conn.Close()
		}
	}
}

// serveConn answers the questions of one connection, in the order in which the
// answers are found. It closes the connection.
func (s *Server) serveConn(ctx context.Context, conn net.Conn) {
	defer conn.Close()
	var (
		wg      sync.WaitGroup
		writing sync.Mutex
		room    = make(chan struct{}, pipelined)
	)
	defer wg.Wait()
	last := func() { _ = conn.SetReadDeadline(time.Now().Add(lastTime)) }
	defer context.AfterFunc(ctx, last)()
	send := func(reply []byte) {
		writing.Lock()
		defer writing.Unlock()
		if err := writeFrame(conn, reply); err != nil {
			_ = conn.Close() // ends the reads as well
		}
	}
	alive := context.WithoutCancel(ctx)
	for {
		if ctx.Err() == nil {
			if conn.SetReadDeadline(time.Now().Add(idleTime)) != nil {
				return
			}
			if ctx.Err() != nil { // meanwhile
				last()
			}
		}
		wire, err := readFrame(conn)
		if err != nil {
			return
		}
		room <- struct{}{}
		answer := func() {
			defer func() { <-room }()
			send(s.respond(alive, wire, true))
		}
		if !s.within(&wg, answer) {
			<-room
			send(s.overloaded(wire))
		}
	}
}

// readFrame reads one message, which follows its length.
func readFrame(r io.Reader) ([]byte, error) {
	var size [2]byte
	if _, err := io.ReadFull(r, size[:]); err != nil {
		return nil, err
	}
	wire := make([]byte, binary.BigEndian.Uint16(size[:]))
	_, err := io.ReadFull(r, wire)
	return wire, err
}

// writeFrame writes one message after its length, nothing if there is none.
func writeFrame(conn net.Conn, wire []byte) error {
	if len(wire) == 0 {
		return nil
	}
	if err := conn.SetWriteDeadline(time.Now().Add(writeTime)); err != nil {
		return err
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(wire)), uint16(len(wire))) //nolint:gosec // a message is never longer
	_, err := conn.Write(append(frame, wire...))
	return err
}
