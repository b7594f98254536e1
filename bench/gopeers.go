package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
)

// reverseProxy is the standard library's, with as many kept connections as it
// can use, HTTP/2 without TLS allowed, and nothing else changed.
func reverseProxy(l net.Listener, to string) error {
	p := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: to})
	p.Transport = &http.Transport{MaxIdleConns: 1000, MaxIdleConnsPerHost: 1000, DisableCompression: true}
	s := &http.Server{Handler: p, ReadHeaderTimeout: time.Minute, Protocols: new(http.Protocols)}
	s.Protocols.SetHTTP1(true)
	s.Protocols.SetUnencryptedHTTP2(true)
	return s.Serve(l)
}

// relay copies bytes and looks at none: what a proxy of two connections in Go
// costs at least.
func relay(l net.Listener, to string) error {
	return accept(l, func(c net.Conn) {
		up, err := net.Dial("tcp", to)
		if err != nil {
			return
		}
		var both sync.WaitGroup
		pass := func(to, from net.Conn) {
			_, _ = copyPlain(to, from)
			_ = to.Close()
		}
		both.Go(func() { pass(up, c) })
		both.Go(func() { pass(c, up) })
		both.Wait()
	})
}

// copyPlain reads and writes; splice would cost more for messages this small.
func copyPlain(to io.Writer, from io.Reader) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{to}, struct{ io.Reader }{from}, make([]byte, 8<<10))
}

// rawCodec leaves messages as they are. They are *[]byte.
type rawCodec struct{}

func (rawCodec) Marshal(v any) ([]byte, error) {
	message, ok := v.(*[]byte)
	if !ok {
		return nil, fmt.Errorf("a message of type %T, want *[]byte", v)
	}
	return *message, nil
}

func (rawCodec) Unmarshal(data []byte, v any) error {
	message, ok := v.(*[]byte)
	if !ok {
		return fmt.Errorf("a message of type %T, want *[]byte", v)
	}
	*message = append((*message)[:0], data...)
	return nil
}

func (rawCodec) Name() string { return "proto" }

// grpcProxy passes calls of any service on with grpc-go, as short as that can
// be said and be right for calls of every shape.
func grpcProxy(l net.Listener, to string) error {
	up, err := grpc.NewClient("passthrough:///"+to,
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodec(rawCodec{})))
	if err != nil {
		return err
	}
	defer up.Close()
	both := &grpc.StreamDesc{ServerStreams: true, ClientStreams: true}
	s := grpc.NewServer(grpc.ForceServerCodec(rawCodec{}), grpc.UnknownServiceHandler(func(_ any, down grpc.ServerStream) error {
		method, _ := grpc.MethodFromServerStream(down)
		ctx, cancel := context.WithCancel(down.Context())
		defer cancel()
		if md, ok := metadata.FromIncomingContext(ctx); ok {
			ctx = metadata.NewOutgoingContext(ctx, md.Copy())
		}
		stream, err := up.NewStream(ctx, both, method)
		if err != nil {
			return err
		}
		go func() {
			if passMessages(stream, down) == nil {
				_ = stream.CloseSend() // the answer tells of any failure
			} else {
				cancel()
			}
		}()
		if md, err := stream.Header(); err == nil {
			_ = down.SendHeader(md) // likewise
		}
		err = passMessages(down, stream)
		down.SetTrailer(stream.Trailer())
		return err
	}))
	return s.Serve(l)
}

// passMessages sends on what is received until that ends.
func passMessages(to interface{ SendMsg(any) error }, from interface{ RecvMsg(any) error }) error {
	var message []byte
	for {
		if err := from.RecvMsg(&message); err != nil {
			if errors.Is(err, io.EOF) {
				return nil
			}
			return err
		}
		if err := to.SendMsg(&message); err != nil {
			return err
		}
		message = nil // what was sent may still be on its way
	}
}
