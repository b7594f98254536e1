package cli

import (
	"slices"
	"testing"
)

func TestNumbersInNamesAreInTheirOrder(t *testing.T) {
	want := []string{"", "0.0.0.0_80", "0.0.0.0_443", "0.0.0.0_443x", "10.0.0.1_80", "BlackHoleCluster", "outbound|80||a", "outbound|80||b", "outbound|080||c", "outbound|443||a", "outbound|||", "virtualOutbound"}
	got := slices.Clone(want)
	slices.Reverse(got)
	byName(got, func(s string) string { return s })
	if !slices.Equal(got, want) {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}
