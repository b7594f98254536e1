package file

import (
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/api"
)

// TestJudge tells stories of one file, look by look.
func TestJudge(t *testing.T) {
	object := []*api.Object{{}}
	good := func(inode uint64, size int64) *reading {
		return &reading{state: state{stamp: stamp{inode: inode, size: size}, sum: [32]byte{byte(size)}}, objects: object}
	}
	broken := func(size int64) *reading {
		r := good(1, size)
		r.objects, r.problems = nil, []api.Problem{{Severity: api.Error, Message: "broken"}}
		return r
	}
	empty := func() *reading {
		r := good(1, 0)
		r.objects = nil
		return r
	}
	gone := func() *reading { return &reading{state: state{gone: true}} }
	type look struct {
		at      time.Duration
		reading *reading
		wait    time.Duration
		objects int
		gone    bool
	}
	const ms = time.Millisecond
	for name, looks := range map[string][]look{
		"longer is believed at once":      {{0, good(1, 11), 0, 1, false}},
		"another file is believed":        {{0, good(2, 5), 0, 1, false}},
		"shorter is doubted":              {{0, good(1, 5), settle, 1, false}, {settle, good(1, 5), 0, 1, false}},
		"empty is doubted, then believed": {{0, empty(), settle, 1, false}, {100 * ms, empty(), settle - 100*ms, 1, false}, {settle, empty(), 0, 0, false}},
		"a change begins the doubt anew":  {{0, good(1, 5), settle, 1, false}, {100 * ms, good(1, 6), settle, 1, false}, {settle, good(1, 6), 100 * ms, 1, false}},
		"gone is doubted, then forgotten": {{0, gone(), settle, 1, false}, {settle, gone(), 0, 0, true}},
		"gone and back":                   {{0, gone(), settle, 1, false}, {100 * ms, good(2, 10), 0, 1, false}, {settle, gone(), settle, 1, false}},
		"broken keeps its objects":        {{0, broken(20), settle, 1, false}, {settle, broken(20), 0, 1, false}, {time.Hour, broken(20), 0, 1, false}},
		"broken, then gone":               {{0, broken(20), settle, 1, false}, {settle, broken(20), 0, 1, false}, {time.Hour, gone(), settle, 1, false}, {time.Hour + settle, gone(), 0, 0, true}},
		"empty, then whole":               {{0, empty(), settle, 1, false}, {10 * ms, good(1, 10), 0, 1, false}},
	} {
		t.Run(name, func(t *testing.T) {
			start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
			f := &tracked{}
			f.judge(good(1, 10), start, 0)
			for i, l := range looks {
				wait, gone := f.judge(l.reading, start.Add(l.at), settle)
				if wait != l.wait || gone != l.gone || len(f.objects) != l.objects {
					t.Errorf("look %d: wait %v, gone %v, %d objects; want %v, %v, %d", i, wait, gone, len(f.objects), l.wait, l.gone, l.objects)
				}
			}
		})
	}
}
