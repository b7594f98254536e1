package main

import (
	"bytes"
	"io"
	"net"
	"strconv"
	"strings"

	"google.golang.org/grpc"
)

// host is the declared host of every request.
const host = "bench.example"

const bodySize = 1 << 10

// backend answers every HTTP/1.1 head with the same 1 KiB, as cheaply as it can.
func backend(l net.Listener, _ string) error {
	answer := []byte("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: " + strconv.Itoa(bodySize) + "\r\n\r\n" + strings.Repeat("x", bodySize))
	return accept(l, func(c net.Conn) {
		p := make([]byte, 8<<10)
		have := 0
		for {
			n, err := c.Read(p[have:])
			if err != nil {
				return
			}
			have += n
			for {
				end := bytes.Index(p[:have], []byte("\r\n\r\n"))
				if end < 0 {
					break
				}
				have = copy(p, p[end+4:have])
				if _, err := c.Write(answer); err != nil {
					return
				}
			}
			if have == len(p) {
				return // no head of ours is that long
			}
		}
	})
}

// bulkBackend reads a number in a line and answers with so many bytes.
func bulkBackend(l net.Listener, _ string) error {
	chunk := bytes.Repeat([]byte("x"), 256<<10)
	return accept(l, func(c net.Conn) {
		var ask []byte
		for p := make([]byte, 1); ; {
			if _, err := io.ReadFull(c, p); err != nil || len(ask) > 20 {
				return
			}
			if p[0] == '\n' {
				break
			}
			ask = append(ask, p[0])
		}
		left, err := strconv.Atoi(string(ask))
		for err == nil && left > 0 {
			var n int
			n, err = c.Write(chunk[:min(left, len(chunk))])
			left -= n
		}
	})
}

// grpcBackend answers every unary call with its own message.
func grpcBackend(l net.Listener, _ string) error {
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, stream grpc.ServerStream) error {
		var message []byte
		if err := stream.RecvMsg(&message); err != nil {
			return err
		}
		return stream.SendMsg(&message)
	}))
	return s.Serve(l)
}

func accept(l net.Listener, serve func(net.Conn)) error {
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			serve(c)
		}()
	}
}
