package main

import (
	"context"
	"fmt"
)

// h1 is the cost of an HTTP/1.1 exchange on kept connections.
func h1(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "backend")
	if err != nil {
		return nil, err
	}
	const conns = 64
	requests := p.amount(40_000)
	reverse, relay := ofThisProgram("httputil.ReverseProxy", "reverse-proxy"), ofThisProgram("blind relay in Go", "relay")
	peers := []peer{
		ours(fairleadName, "HTTP", true),
		ours("fairlead, no log", "HTTP", false),
		haproxy(haproxyName, haproxyHTTP, "", ""),
		nginx(nginxName, nginxHTTP1),
		nginx(nginxLogged, nginxHTTP1),
		caddy,
		reverse,
		relayInC,
		relay,
	}
	return []contest{{
		title:   fmt.Sprintf("HTTP/1.1, GET, 1 KiB answers, %d connections, %d requests a turn", conns, requests),
		columns: costColumns("request"),
		contestants: between(back, peers, func(ctx context.Context, s *server, warming bool) ([]float64, error) {
			n := warm(requests, warming)
			return costOf(ctx, s, n, "load-h1", words(n, conns)...)
		}),
		aims: []aim{
			{fairleadName, haproxyName, 0, 1.0, 0.9},
			{fairleadName, nginxName, 0, 0.8, 0},
			{fairleadName, nginxLogged, 0, 0, 0},
			{fairleadName, relayInC.name, 0, 1.5, 1.4},
			{fairleadName, reverse.name, 0, 0.45, 0},
			{fairleadName, "", 2, 0.1, 0},
		},
		end: back.stop,
	}}, nil
}
