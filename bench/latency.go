package main

import (
	"context"
	"fmt"
)

// latency is what a proxy adds to the time of an answer under a load that does
// not wait for it.
func latency(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "backend")
	if err != nil {
		return nil, err
	}
	const rate = 5000
	requests := p.amount(10 * rate)
	direct := peer{"direct", func(context.Context, string) (*server, error) { return &server{addr: back.addr, said: new(tail)}, nil }}
	peers := []peer{
		direct,
		ours(fairleadName, "HTTP", true),
		haproxy(haproxyName, haproxyHTTP, "", ""),
		nginx(nginxName, nginxHTTP1),
	}
	return []contest{{
		title: fmt.Sprintf("HTTP/1.1, 1 KiB answers, %d requests/s by a fixed schedule, %d requests a turn", rate, requests),
		columns: []column{
			{name: "p50 us", digits: 1},
			{name: "p99 us", digits: 1},
			{name: "added p50 us", digits: 1, less: direct.name, from: 0},
			{name: "added p99 us", digits: 1, less: direct.name, from: 1},
		},
		contestants: between(back, peers, func(ctx context.Context, s *server, warming bool) ([]float64, error) {
			told, err := runLoad(ctx, "load-paced", append([]string{s.addr}, words(rate, warm(requests, warming))...)...)
			if err != nil {
				return nil, s.blame(err)
			}
			if len(told) != 2 {
				return nil, fmt.Errorf("the load printed %v, want two numbers", told)
			}
			return []float64{told[0] / 1e3, told[1] / 1e3}, nil
		}),
		aims: []aim{
			{fairleadName, haproxyName, 2, 0, 1},
			{fairleadName, haproxyName, 3, 0, 1},
		},
		end: back.stop,
	}}, nil
}
