package main

import (
	"context"
	"fmt"
)

// The shape of the load over HTTP/2.
const (
	h2Conns   = 4
	h2Streams = 16
)

// h2 is the cost of an exchange that comes over HTTP/2 and goes on over
// HTTP/1.1.
func h2(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "backend")
	if err != nil {
		return nil, err
	}
	requests := p.amount(40_000)
	reverse := ofThisProgram("net/http ReverseProxy", "reverse-proxy")
	peers := []peer{
		ours(fairleadName, "HTTP", true),
		haproxy(haproxyName, haproxyHTTP, "proto h2", ""),
		nginx(nginxName, nginxHTTP2),
		nginx(nginxLogged, nginxHTTP2),
		reverse,
	}
	return []contest{{
		title:       fmt.Sprintf("HTTP/2 by prior knowledge to HTTP/1.1, GET, 1 KiB answers, %d streams on each of %d connections, %d requests a turn", h2Streams, h2Conns, requests),
		columns:     costColumns("request"),
		contestants: between(back, peers, h2Turn(requests, "get")),
		aims: []aim{
			{fairleadName, haproxyName, 0, 1.15, 1.0},
			{fairleadName, nginxName, 0, 0.7, 0},
			{fairleadName, reverse.name, 0, 0.3, 0},
		},
		end: back.stop,
	}}, nil
}

func h2Turn(requests int, kind string) func(context.Context, *server, bool) ([]float64, error) {
	return func(ctx context.Context, s *server, warming bool) ([]float64, error) {
		n := warm(requests, warming)
		return costOf(ctx, s, n, "load-h2", append(words(n, h2Conns, h2Streams), kind)...)
	}
}
