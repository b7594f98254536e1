package main

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// between makes contestants of peers. Each is started in front of the backend,
// and stopped when the contest is over.
func between(backend *server, peers []peer, turn func(ctx context.Context, s *server, warming bool) ([]float64, error)) []contestant {
	var out []contestant
	for _, x := range peers {
		out = append(out, contestant{x.name, func(ctx context.Context) (entrant, error) {
			s, err := x.start(ctx, backend.addr)
			if err != nil {
				return entrant{}, err
			}
			return entrant{
				turn:  func(ctx context.Context, warming bool) ([]float64, error) { return turn(ctx, s, warming) },
				leave: s.stop,
			}, nil
		}})
	}
	return out
}

// The columns of costOf, for a unit of work named in the first two.
func costColumns(unit string) []column {
	return []column{{name: "CPU us/" + unit, digits: 1}, {name: unit + "s/s", digits: 0}, {name: "allocations/" + unit, digits: 2}}
}

// costOf has a load work on a proxy, and returns the CPU time that the proxy
// needed for each unit of it in microseconds, the units in a second, and the
// allocations for each; NaN if the proxy does not count them.
func costOf(ctx context.Context, s *server, units int, load string, args ...string) ([]float64, error) {
	before, allocated, err := s.spent()
	if err != nil {
		return nil, err
	}
	told, err := runLoad(ctx, load, append([]string{s.addr}, args...)...)
	if err != nil {
		return nil, s.blame(err)
	}
	after, allocatedAfter, err := s.spent()
	if err != nil {
		return nil, err
	}
	n := float64(units)
	return []float64{float64((after - before).Nanoseconds()) / 1e3 / n, n / told[0] * 1e9, (allocatedAfter - allocated) / n}, nil
}

// spent is the CPU time of a proxy so far and its count of allocations.
func (s *server) spent() (cpu time.Duration, allocated float64, err error) {
	allocated = math.NaN()
	if s.part {
		if allocated, err = s.mallocs(); err != nil {
			return 0, 0, err
		}
	}
	cpu, err = s.cpu()
	return cpu, allocated, err
}

// runLoad runs a load to its end, and returns the numbers that it prints.
func runLoad(ctx context.Context, name string, args ...string) ([]float64, error) {
	cmd, err := partCommand(ctx, loadCore, name, args...)
	if err != nil {
		return nil, err
	}
	said := new(tail)
	cmd.Stderr = said
	out, err := cmd.Output()
	if err != nil {
		if text := said.String(); text != "" {
			return nil, fmt.Errorf("%s", text)
		}
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	var numbers []float64
	for _, word := range bytes.Fields(out) {
		n, err := strconv.ParseFloat(string(word), 64)
		if err != nil {
			return nil, err
		}
		numbers = append(numbers, n)
	}
	if len(numbers) == 0 {
		return nil, fmt.Errorf("%s printed nothing", name)
	}
	return numbers, nil
}

// warm is what of an amount there is to be done in a turn.
func warm(amount int, warming bool) int {
	if warming {
		return max(1, amount/4)
	}
	return amount
}

func words(n ...int) []string {
	return strings.Fields(strings.Trim(fmt.Sprint(n), "[]"))
}

const (
	fairleadName = "fairlead"
	haproxyName  = "haproxy, no log"
)
