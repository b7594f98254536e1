package cluster

import (
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/fairlead/fairlead/internal/decision"
)

func TestNamesLeadOutward(t *testing.T) {
	addrs := func(list string) (out []netip.Addr) {
		for a := range strings.FieldsSeq(list) {
			out = append(out, netip.MustParseAddr(a))
		}
		return out
	}
	for _, tt := range []struct {
		answered, want string
		state          decision.DNSState
	}{
		{"192.0.2.1 10.0.0.1 2001:db8::1 fd00::1", "192.0.2.1 10.0.0.1 2001:db8::1 fd00::1", decision.Fresh},
		{"127.0.0.1 192.0.2.1", "192.0.2.1", decision.Fresh},
		{"127.0.0.53", "", decision.Negative},
		{"::1", "", decision.Negative},
		{"::ffff:127.0.0.1", "", decision.Negative},
		{"0.0.0.0 ::", "", decision.Negative},
		{"169.254.169.254", "", decision.Negative},
		{"::ffff:169.254.169.254", "", decision.Negative},
		{"64:ff9b::127.0.0.1 64:ff9b::169.254.169.254", "", decision.Negative},
		{"64:ff9b::192.0.2.1", "64:ff9b::192.0.2.1", decision.Fresh},
		{"fe80::1", "", decision.Negative},
		{"fd00:ec2::254", "", decision.Negative},
		{"224.0.0.1 ff02::1", "", decision.Negative},
	} {
		in := addrs(tt.answered)
		got := outward(answer{Addrs: in, State: decision.Fresh})
		if diff := cmp.Diff(addrs(tt.want), got.Addrs, cmpopts.EquateComparable(netip.Addr{}), cmpopts.EquateEmpty()); diff != "" {
			t.Errorf("%s (-want +got):\n%s", tt.answered, diff)
		}
		if got.State != tt.state {
			t.Errorf("%s: state %v, want %v", tt.answered, got.State, tt.state)
		}
		if local := outward(answer{Addrs: in, State: decision.Fresh, Local: true}); len(local.Addrs) != len(in) || local.Err != nil {
			t.Errorf("%s, said by this machine: %v, %v", tt.answered, local.Addrs, local.Err)
		}
		if left := len(got.Addrs) < len(in); left != (got.Err != nil) {
			t.Errorf("%s: error %v", tt.answered, got.Err)
		}
	}
}
