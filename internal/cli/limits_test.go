package cli

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/bootstrap"
)

func TestLimitsOfARun(t *testing.T) {
	for _, tt := range []struct {
		memory      string
		connections int
		want        bootstrap.Limits
		err         string
	}{
		{"", 0, bootstrap.Limits{}, ""},
		{"none", 7, bootstrap.Limits{Memory: -1, Connections: 7}, ""},
		{"64MiB", 0, bootstrap.Limits{Memory: 64 << 20}, ""},
		{"64Mi", 0, bootstrap.Limits{Memory: 64 << 20}, ""},
		{"65536KiB", 0, bootstrap.Limits{Memory: 64 << 20}, ""},
		{"1Gi", 0, bootstrap.Limits{Memory: 1 << 30}, ""},
		{"67108864", 0, bootstrap.Limits{Memory: 64 << 20}, ""},
		{"1MiB", 0, bootstrap.Limits{}, "a proxy needs at least 24MiB"},
		{"lots", 0, bootstrap.Limits{}, "is no size"},
		{"-1GiB", 0, bootstrap.Limits{}, "is no size"},
		{"99999999999999999999GiB", 0, bootstrap.Limits{}, "is no size"},
		{"", -1, bootstrap.Limits{}, "give a number above 0"},
	} {
		got, err := parseLimits(tt.memory, tt.connections)
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%q, %d: %+v, %v; want %+v", tt.memory, tt.connections, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%q, %d: error %v, want %q in it", tt.memory, tt.connections, err, tt.err)
		}
	}
}

func TestLimitsAreFoundWhereNobodySays(t *testing.T) {
	connections, memory, err := limits(bootstrap.Limits{})
	if err != nil || connections == 0 || memory < leastMemory {
		t.Errorf("%d connections, %d bytes, %v", connections, memory, err)
	}
	if connections, memory, err = limits(bootstrap.Limits{Connections: -1, Memory: -1}); err != nil || connections != 0 || memory != 0 {
		t.Errorf("no limits are %d connections, %d bytes, %v", connections, memory, err)
	}
	if connections, memory, err = limits(bootstrap.Limits{Connections: 5, Memory: 6}); err != nil || connections != 5 || memory != 6 {
		t.Errorf("limits as told are %d connections, %d bytes, %v", connections, memory, err)
	}
}
