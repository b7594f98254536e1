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
		{"64M", 0, bootstrap.Limits{}, "write a number with KiB, MiB or GiB"},
		{"64MB", 0, bootstrap.Limits{}, "write a number with KiB, MiB or GiB"},
		{"lots", 0, bootstrap.Limits{}, "is no size"},
		{"-1GiB", 0, bootstrap.Limits{}, "is no size"},
		{"99999999999999999999GiB", 0, bootstrap.Limits{}, "is no size"},
		{"", -1, bootstrap.Limits{}, "give a number above 0"},
	} {
		given := &tt.connections
		if tt.connections == 0 {
			given = nil
		}
		got, err := parseLimits(tt.memory, given)
		switch {
		case tt.err == "" && (err != nil || got != tt.want):
			t.Errorf("%q, %d: %+v, %v; want %+v", tt.memory, tt.connections, got, err, tt.want)
		case tt.err != "" && (err == nil || !strings.Contains(err.Error(), tt.err)):
			t.Errorf("%q, %d: error %v, want %q in it", tt.memory, tt.connections, err, tt.err)
		}
	}
}

func TestNoConnectionsAreNoLimit(t *testing.T) {
	if _, err := parseLimits("", new(int)); err == nil || !strings.Contains(err.Error(), "--max-connections 0: give a number above 0") {
		t.Error(err)
	}
}

func TestLimitsAboveWhatThereIsAreSaidToBe(t *testing.T) {
	const there, descriptors = 64 << 20, 1000
	for _, tt := range []struct {
		l    bootstrap.Limits
		want []string
	}{
		{bootstrap.Limits{}, nil},
		{bootstrap.Limits{Memory: -1}, nil},
		{bootstrap.Limits{Memory: there, Connections: descriptors}, nil},
		{bootstrap.Limits{Memory: there + 1, Connections: descriptors + 1}, []string{"more than the 64MiB there are", "--max-connections 1001 is more than the 1000 descriptors"}},
	} {
		got := exceeding(tt.l, there, descriptors)
		if len(got) != len(tt.want) {
			t.Errorf("%+v: %q", tt.l, got)
			continue
		}
		for i := range got {
			if !strings.Contains(got[i], tt.want[i]) {
				t.Errorf("%+v: %q; want %q in it", tt.l, got[i], tt.want[i])
			}
		}
	}
	if got := exceeding(bootstrap.Limits{Memory: 1 << 50}, 0, descriptors); got != nil {
		t.Errorf("of memory that is not known: %q", got)
	}
	if memory, n := here(); memory == 0 || n == 0 {
		t.Errorf("here are %d bytes and %d descriptors", memory, n)
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
