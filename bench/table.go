package main

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// print writes the tables of a contest: what was measured, and how it stands
// to what is aimed at.
func (c contest) print(out io.Writer, name string, rounds int, results []result) {
	fmt.Fprintf(out, "== %s: %s; %d interleaved rounds: median (least to most)\n\n", name, c.title, rounds)
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	cells := []string{""}
	for _, col := range c.columns {
		cells = append(cells, col.name)
	}
	line(w, cells)
	var failures []string
	for _, r := range results {
		cells := []string{r.name}
		for i, col := range c.columns {
			cells = append(cells, spread(r.column(i), col.digits))
		}
		switch {
		case errors.Is(r.err, errMissing):
			failures = append(failures, fmt.Sprintf("%s: not measured: %v", r.name, r.err))
		case r.err != nil:
			failures = append(failures, fmt.Sprintf("%s: failed: %v", r.name, r.err))
		}
		line(w, cells)
	}
	if len(c.aims) > 0 {
		line(w, nil)
		line(w, []string{"aim", "measured", "bar", "stretch"})
	}
	for _, a := range c.aims {
		line(w, c.judge(a, results))
	}
	_ = w.Flush() // out is a terminal or a file; neither would tell more
	for _, text := range slices.Concat(failures, c.notes) {
		fmt.Fprintln(out, text)
	}
	fmt.Fprintln(out)
}

func line(w io.Writer, cells []string) { fmt.Fprintln(w, strings.Join(cells, "\t")) }

// judge is the line of an aim.
func (c contest) judge(a aim, results []result) []string {
	col := c.columns[a.column]
	what, digits := col.name+" of "+a.of, col.digits
	if a.peer != "" {
		what, digits = what+" / "+a.peer, 2
	}
	values := a.measured(results)
	return []string{what, spread(values, digits), verdict(values, a.bar, digits), verdict(values, a.stretch, digits)}
}

func verdict(values []float64, limit float64, digits int) string {
	switch {
	case limit == 0:
		return "-"
	case len(values) == 0:
		return fmt.Sprintf("<= %.*f", digits, limit)
	case median(values) <= limit:
		return fmt.Sprintf("<= %.*f met", digits, limit)
	default:
		return fmt.Sprintf("<= %.*f MISSED", digits, limit)
	}
}

// spread writes values as their median and their range.
func spread(values []float64, digits int) string {
	if len(values) == 0 {
		return "-"
	}
	return fmt.Sprintf("%.*f (%.*f to %.*f)", digits, median(values), digits, slices.Min(values), digits, slices.Max(values))
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}
