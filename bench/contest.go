package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"os"
)

// A contest puts one question to several contestants in turn.
type contest struct {
	title       string
	columns     []column
	contestants []contestant
	aims        []aim
	notes       []string // printed below the table
	end         func()   // called when it is over; nil: nothing to be done
}

// A column is one quantity that is measured of each contestant.
type column struct {
	name   string
	digits int // behind the point
	// less names a contestant: the column is not measured, it is column from
	// less that contestant's of the same round.
	less string
	from int
}

// A contestant enters once and has one turn in each round.
type contestant struct {
	name  string
	enter func(context.Context) (entrant, error)
}

// An entrant is a contestant that is ready.
type entrant struct {
	// turn measures once and returns a value for each column that is measured;
	// NaN where there is none. The first turn is to warm up and is not counted.
	turn  func(ctx context.Context, warming bool) ([]float64, error)
	leave func() // nil: nothing to be done
}

// A result is what was measured of a contestant.
type result struct {
	name   string
	rounds [][]float64 // by round, then column
	err    error       // why there is nothing, or why it ended early
}

// errMissing says that a contestant is not on this machine.
var errMissing = errors.New("not on this machine")

// run returns the results in the order of the contestants. Each round begins
// with the next of them, so that none always follows the same.
func (c contest) run(ctx context.Context, rounds int) []result {
	results := make([]result, len(c.contestants))
	entrants := make([]entrant, len(c.contestants))
	if c.end != nil {
		defer c.end()
	}
	for i, x := range c.contestants {
		results[i].name = x.name
		entrants[i], results[i].err = x.enter(ctx)
		if leave := entrants[i].leave; leave != nil {
			defer leave()
		}
	}
	for round := range rounds + 1 {
		for i := range entrants {
			i = (i + round) % len(entrants)
			r := &results[i]
			if r.err != nil || ctx.Err() != nil {
				continue
			}
			values, err := entrants[i].turn(ctx, round == 0)
			if err != nil {
				r.err = err
				continue
			}
			if round > 0 {
				r.rounds = append(r.rounds, values)
			}
			fmt.Fprint(os.Stderr, ".")
		}
	}
	fmt.Fprintln(os.Stderr)
	c.derive(results)
	return results
}

// derive adds the columns that are differences.
func (c contest) derive(results []result) {
	for i, col := range c.columns {
		if col.less == "" {
			continue
		}
		base := find(results, col.less)
		for _, r := range results {
			for round := range r.rounds {
				v := math.NaN()
				if base != nil && round < len(base.rounds) {
					v = r.rounds[round][col.from] - base.rounds[round][col.from]
				}
				r.rounds[round] = append(r.rounds[round][:i:i], v)
			}
		}
	}
}

func find(results []result, name string) *result {
	for i := range results {
		if results[i].name == name {
			return &results[i]
		}
	}
	return nil
}

// column returns the values that there are of one column.
func (r result) column(i int) (values []float64) {
	for _, row := range r.rounds {
		if !math.IsNaN(row[i]) {
			values = append(values, row[i])
		}
	}
	return values
}

// An aim is a bound for one column of a contestant: for its value, or for how
// many times a peer's it is.
type aim struct {
	of, peer string // peer empty: the value itself
	column   int
	bar      float64 // at most; 0: none, it is only reported
	stretch  float64 // likewise
}

// measured returns the quantity of the aim, round by round.
func (a aim) measured(results []result) (values []float64) {
	of := find(results, a.of)
	if of == nil {
		return nil
	}
	if a.peer == "" {
		return of.column(a.column)
	}
	peer := find(results, a.peer)
	if peer == nil {
		return nil
	}
	for i := range min(len(of.rounds), len(peer.rounds)) {
		if v := of.rounds[i][a.column] / peer.rounds[i][a.column]; !math.IsNaN(v) && !math.IsInf(v, 0) {
			values = append(values, v)
		}
	}
	return values
}
