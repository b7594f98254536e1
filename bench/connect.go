package main

import (
	"context"
	"fmt"
)

// connect is the cost of a connection that brings one request. Towards the
// backend all keep theirs.
func connect(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "backend")
	if err != nil {
		return nil, err
	}
	const workers = 32
	conns := p.amount(10_000)
	peers := []peer{
		ours(fairleadName, "HTTP", true),
		haproxy(haproxyName, haproxyHTTP, "", ""),
		nginx(nginxName, nginxHTTP1),
		nginx(nginxLogged, nginxHTTP1),
	}
	return []contest{{
		title:   fmt.Sprintf("HTTP/1.1, a connection for each request, 1 KiB answers, %d at once, %d connections a turn", workers, conns),
		columns: costColumns("connection"),
		contestants: between(back, peers, func(ctx context.Context, s *server, warming bool) ([]float64, error) {
			n := warm(conns, warming)
			return costOf(ctx, s, n, "load-close", words(n, workers)...)
		}),
		aims: []aim{
			{fairleadName, nginxName, 0, 1.4, 1.1},
			{fairleadName, nginxLogged, 0, 0, 0},
			{fairleadName, haproxyName, 0, 0, 0},
		},
		end: back.stop,
	}}, nil
}
