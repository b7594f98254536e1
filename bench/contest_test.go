package main

import (
	"context"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// scripted is a contestant with its values given, the first for the warming up.
// It writes its turns to order.
func scripted(name string, order *strings.Builder, values ...[]float64) contestant {
	return contestant{name, func(context.Context) (entrant, error) {
		turn := func(_ context.Context, warming bool) ([]float64, error) {
			order.WriteString(name)
			if warming {
				order.WriteByte('\'')
			}
			if len(values) == 0 {
				return nil, errors.New("fell over")
			}
			v := values[0]
			values = values[1:]
			return v, nil
		}
		return entrant{turn: turn, leave: func() { order.WriteString("." + name) }}, nil
	}}
}

func one(values ...float64) (out [][]float64) {
	for _, v := range values {
		out = append(out, []float64{v})
	}
	return out
}

func TestContestantsTakeTurnsAndOneThatFailsDropsOut(t *testing.T) {
	var order strings.Builder
	c := contest{
		columns: []column{{name: "cost"}},
		contestants: []contestant{
			scripted("a", &order, one(9, 1, 2, 3)...),
			scripted("b", &order, one(9, 4)...),
			{"c", func(context.Context) (entrant, error) { return entrant{}, errMissing }},
		},
		end: func() { order.WriteString("!") },
	}
	results := c.run(t.Context(), 3)
	if want := "a'b'" + "ba" + "ab" + "a" + ".b.a!"; order.String() != want {
		t.Errorf("turns %q, want %q", order.String(), want)
	}
	if diff := cmp.Diff(one(1, 2, 3), results[0].rounds); diff != "" || results[0].err != nil {
		t.Errorf("a: %v, error %v", diff, results[0].err)
	}
	if diff := cmp.Diff(one(4), results[1].rounds); diff != "" || results[1].err == nil {
		t.Errorf("b: %v, error %v, want one", diff, results[1].err)
	}
	if !errors.Is(results[2].err, errMissing) {
		t.Errorf("c: error %v, want %v", results[2].err, errMissing)
	}
}

func TestADifferenceIsTakenWithinEachRound(t *testing.T) {
	var order strings.Builder
	c := contest{
		columns: []column{{name: "p50"}, {name: "added", less: "direct", from: 0}},
		contestants: []contestant{
			scripted("direct", &order, one(0, 10, 20)...),
			scripted("proxy", &order, one(0, 15, 22)...),
		},
	}
	results := c.run(t.Context(), 2)
	if diff := cmp.Diff([][]float64{{15, 5}, {22, 2}}, results[1].rounds); diff != "" {
		t.Error(diff)
	}
}

func TestTheTableSaysWhatIsMetMissedAndNotMeasured(t *testing.T) {
	nan := math.NaN()
	c := contest{
		title:   "things",
		columns: []column{{name: "CPU us/thing", digits: 1}, {name: "allocations/thing", digits: 2}},
		aims: []aim{
			{"ours", "theirs", 0, 1.0, 0.4},
			{"ours", "", 1, 0.1, 0},
			{"ours", "gone", 0, 0.8, 0},
		},
		notes: []string{"A remark."},
	}
	results := []result{
		{name: "ours", rounds: [][]float64{{10, 0.05}, {30, 0.3}, {20, 0.2}}},
		{name: "theirs", rounds: [][]float64{{20, nan}, {40, nan}, {50, nan}}},
		{name: "gone", err: errMissing},
		{name: "broken", err: errors.New("fell over")},
	}
	var out strings.Builder
	c.print(&out, "x", 3, results)
	want := `== x: things; 3 interleaved rounds: median (least to most)

        CPU us/thing         allocations/thing
ours    20.0 (10.0 to 30.0)  0.20 (0.05 to 0.30)
theirs  40.0 (20.0 to 50.0)  -
gone    -                    -
broken  -                    -

aim                            measured             bar             stretch
CPU us/thing of ours / theirs  0.50 (0.40 to 0.75)  <= 1.00 met     <= 0.40 MISSED
allocations/thing of ours      0.20 (0.05 to 0.30)  <= 0.10 MISSED  -
CPU us/thing of ours / gone    -                    <= 0.80         -
gone: not measured: not on this machine
broken: failed: fell over
A remark.

`
	if diff := cmp.Diff(want, out.String()); diff != "" {
		t.Error(diff)
	}
}
