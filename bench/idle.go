package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"
)

// A quick burst of many requests makes a connection a busy one, in case that makes a
// difference for what it keeps afterwards.
const manyRequests = 10

// idle is the memory of a connection that is kept and does nothing, after one request
// and after many. Each turn has a fresh proxy, as memory once got is seldom given back.
func idle(ctx context.Context, p plan) ([]contest, error) {
	back, err := startPart(ctx, loadCore, "backend")
	if err != nil {
		return nil, err
	}
	wanted := p.amount(20_000)
	// Holder and proxy need some for themselves and for the backend.
	conns := max(1, min(wanted, openFiles()-300))
	var notes []string
	if conns < wanted {
		notes = append(notes, fmt.Sprintf("This machine lets a process open %d files: %d connections, not %d.", openFiles(), conns, wanted))
	}
	title := fmt.Sprintf("%d idle HTTP/1.1 connections, each after %%s; growth of the proxy's resident memory, the kernel's not counted", conns)
	once := held{conns: conns, requests: 1}
	often := held{conns: conns, requests: manyRequests, after: 8 * time.Second}
	return []contest{
		once.contest(fmt.Sprintf(title, "one request"), back.addr, notes, nil),
		often.contest(fmt.Sprintf(title, fmt.Sprintf("%d requests in a row and some seconds", manyRequests)), back.addr, notes, back.stop),
	}, nil
}

// held is how connections are held.
type held struct {
	conns, requests int
	after           time.Duration // for which they are idle before the memory is looked at
}

func (h held) contest(title, to string, notes []string, end func()) contest {
	peers := []peer{
		ours(fairleadName, "HTTP", true),
		haproxy(haproxyName, haproxyHTTP, "", ""),
		nginx(nginxName, nginxHTTP1),
	}
	var contestants []contestant
	for _, x := range peers {
		contestants = append(contestants, contestant{x.name, func(context.Context) (entrant, error) {
			return entrant{turn: func(ctx context.Context, warming bool) ([]float64, error) {
				if warming {
					return nil, nil // a fresh proxy is never warm
				}
				return h.by(ctx, x, to)
			}}, nil
		}})
	}
	return contest{
		title:       title,
		columns:     []column{{name: "KB/connection", digits: 2}, {name: "MB before", digits: 1}, {name: "MB after", digits: 1}},
		contestants: contestants,
		aims: []aim{
			{fairleadName, "", 0, 6, 2},
			{fairleadName, haproxyName, 0, 0, 0},
			{fairleadName, nginxName, 0, 0, 0},
		},
		notes: notes,
		end:   end,
	}
}

// by is what x needs to hold the connections, and what it has before and after.
func (h held) by(ctx context.Context, x peer, to string) ([]float64, error) {
	s, err := x.start(ctx, to)
	if err != nil {
		return nil, err
	}
	defer s.stop()
	// What a few busy connections need is not the idle ones'.
	if _, err := runLoad(ctx, "load-h1", append([]string{s.addr}, words(2000, 64)...)...); err != nil {
		return nil, s.blame(err)
	}
	before, err := h.look(ctx, x, s)
	if err != nil {
		return nil, err
	}
	holder, err := startPart(ctx, loadCore, "hold", append([]string{s.addr}, words(h.conns, h.requests)...)...)
	if err != nil {
		return nil, s.blame(err)
	}
	defer holder.stop()
	after, err := h.look(ctx, x, s)
	if err != nil {
		return nil, err
	}
	answer, err := holder.ask("open?")
	if err != nil {
		return nil, err
	}
	if answer != "open" {
		return nil, errors.New(answer)
	}
	return []float64{(after - before) / 1e3 / float64(h.conns), before / 1e6, after / 1e6}, nil
}

// look is the resident memory. Our collector, which gives back what was in use before,
// runs by itself only after two minutes in which there was nothing to do.
func (h held) look(ctx context.Context, x peer, s *server) (float64, error) {
	if h.after > 0 {
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.NewTimer(h.after).C:
		}
		if x.name == fairleadName {
			if _, err := s.ask("collect"); err != nil {
				return 0, err
			}
		}
	}
	return s.settled(ctx)
}

// settled is the resident memory once it has been the same, to half a percent,
// for three seconds, or after twenty.
func (s *server) settled(ctx context.Context) (float64, error) {
	last, since := math.Inf(1), time.Now()
	for begin := time.Now(); time.Since(begin) < 20*time.Second; {
		now, err := s.resident()
		if err != nil {
			return 0, err
		}
		if math.Abs(now-last) > last/200 || math.IsInf(last, 1) {
			last, since = now, time.Now()
		}
		if time.Since(since) > 3*time.Second {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return 0, ctx.Err()
		case <-time.NewTimer(100 * time.Millisecond).C:
		}
	}
	return s.resident()
}
