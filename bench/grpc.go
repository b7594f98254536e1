package main

import (
	"context"
	"fmt"
)

// grpcUnary is the cost of a unary call, HTTP/2 on both sides.
func grpcUnary(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "grpc-backend")
	if err != nil {
		return nil, err
	}
	calls := p.amount(30_000)
	proxy := ofThisProgram("grpc-go proxy", "grpc-proxy")
	peers := []peer{
		ours(fairleadName, "GRPC", true),
		haproxy(haproxyName, haproxyHTTP, "proto h2", "proto h2"),
		nginx(nginxName, nginxGRPC),
		proxy,
	}
	return []contest{{
		title:       fmt.Sprintf("gRPC, unary, %d bytes each way, HTTP/2 to HTTP/2, %d streams on each of %d connections, %d calls a turn", messageSize, h2Streams, h2Conns, calls),
		columns:     costColumns("call"),
		contestants: between(back, peers, h2Turn(calls, "grpc")),
		aims: []aim{
			{fairleadName, proxy.name, 0, 0.6, 0.4},
			{fairleadName, haproxyName, 0, 0, 0},
		},
		notes: []string{"The backend is a grpc-go server: where it is slower than the proxy, the proxy is not saturated and wakes more often."},
		end:   back.stop,
	}}, nil
}
