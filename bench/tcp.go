package main

import (
	"context"
	"fmt"
)

// bulk is the cost of bytes through a TCP entry.
func bulk(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "bulk-backend")
	if err != nil {
		return nil, err
	}
	const conns = 4
	each := p.amount(1_000_000_000)
	peers := []peer{
		ours(fairleadName, "TCP", true),
		haproxy("haproxy, splice-auto", haproxyTCP+"-auto", "", ""),
		haproxy("haproxy, splice-response", haproxyTCP+"-response", "", ""),
		nginx(nginxName, nginxStream),
	}
	return []contest{{
		title:   fmt.Sprintf("bytes from the server through a TCP entry, %d connections, %.2f GB a turn", conns, float64(each)*conns/1e9),
		columns: []column{{name: "CPU s/GB", digits: 3}, {name: "GB/s", digits: 2}},
		contestants: between(back, peers, func(ctx context.Context, s *server, warming bool) ([]float64, error) {
			n := warm(each, warming)
			cost, err := costOf(ctx, s, n*conns, "load-bulk", words(n, conns)...)
			if err != nil {
				return nil, err
			}
			return []float64{cost[0] * 1e3, cost[1] / 1e9}, nil // from us/byte and bytes/s
		}),
		aims: []aim{
			{fairleadName, "haproxy, splice-auto", 0, 0.6, 0.5},
			{fairleadName, "haproxy, splice-response", 0, 0.6, 0.5},
			{fairleadName, nginxName, 0, 0, 0},
		},
		end: back.stop,
	}}, nil
}
