package accesslog

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/decision"
)

// A timePart is literal text or one conversion of strftime(3).
type timePart struct {
	literal string
	verb    byte // 0: literal
	digits  int  // of the fraction, for verb f
}

// timeOf returns the operator of a time of the record, UTC, by a layout of
// strftime with Envoy's additions %f, %1f … %9f (fractions of a second) and %s
// (seconds since 1970; %3f may follow it for milliseconds).
func timeOf(layout string, of func(*decision.Record) time.Time) (known, error) {
	if layout == "" {
		const istio = "2006-01-02T15:04:05.000Z"
		return known{max: maxValue, op: func(dst []byte, r *decision.Record) ([]byte, bool) {
			return of(r).UTC().AppendFormat(dst, istio), true
		}}, nil
	}
	parts, err := parseTime(layout)
	if err != nil {
		return known{}, err
	}
	numeric := len(parts) == 1 && parts[0].verb == 's'
	return known{numeric: numeric, max: maxValue, op: func(dst []byte, r *decision.Record) ([]byte, bool) {
		t := of(r).UTC()
		for i := range parts {
			dst = parts[i].append(dst, t)
		}
		return dst, true
	}}, nil
}

func parseTime(layout string) ([]timePart, error) {
	var parts []timePart
	for rest := layout; rest != ""; {
		before, after, found := strings.Cut(rest, "%")
		if before != "" {
			parts = append(parts, timePart{literal: before})
		}
		if !found {
			break
		}
		p := timePart{digits: 9}
		if after != "" && '1' <= after[0] && after[0] <= '9' {
			p.digits = int(after[0] - '0')
			if after = after[1:]; !strings.HasPrefix(after, "f") {
				return nil, fmt.Errorf("in the layout of a time, %%%d is followed by f", p.digits)
			}
		}
		if after == "" || timeLayout(after[0]) == "" && !strings.ContainsRune("sf%", rune(after[0])) {
			return nil, fmt.Errorf("conversion %q is not known in the layout of a time", "%"+clip(after))
		}
		p.verb = after[0]
		parts = append(parts, p)
		rest = after[1:]
	}
	return parts, nil
}

// timeLayout is the conversion in Go's spelling; empty: none.
func timeLayout(verb byte) string {
	switch verb {
	case 'Y':
		return "2006"
	case 'y':
		return "06"
	case 'm':
		return "01"
	case 'd':
		return "02"
	case 'e':
		return "_2"
	case 'H':
		return "15"
	case 'I':
		return "03"
	case 'M':
		return "04"
	case 'S':
		return "05"
	case 'p':
		return "PM"
	case 'a':
		return "Mon"
	case 'A':
		return "Monday"
	case 'b', 'h':
		return "Jan"
	case 'B':
		return "January"
	case 'j':
		return "002"
	case 'T':
		return "15:04:05"
	case 'R':
		return "15:04"
	case 'F':
		return "2006-01-02"
	case 'D':
		return "01/02/06"
	case 'Z':
		return "MST"
	case 'z':
		return "-0700"
	}
	return ""
}

func (p *timePart) append(dst []byte, t time.Time) []byte {
	switch p.verb {
	case 0:
		return append(dst, p.literal...)
	case '%':
		return append(dst, '%')
	case 's':
		return strconv.AppendInt(dst, t.Unix(), 10)
	case 'f':
		digits := strconv.AppendInt(nil, int64(1e9+t.Nanosecond()), 10)
		return append(dst, digits[1:1+p.digits]...)
	}
	return t.AppendFormat(dst, timeLayout(p.verb))
}
