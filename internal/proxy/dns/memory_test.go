package dns

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/config"
)

func TestMemoryForgetsWhatIsOutOfUse(t *testing.T) {
	m := newMemory(10)
	start := time.Unix(1e9, 0)
	a, b, c := netip.MustParseAddr("1.1.1.1"), netip.MustParseAddr("::ffff:2.2.2.2"), netip.MustParseAddr("::3")
	m.put(a, "short.x", false, time.Second, start)
	m.put(b, "long.x", true, time.Hour, start)
	m.put(c, "endless.x", false, 1<<31*time.Second, start)
	tests := []struct {
		after      time.Duration
		a, b, c    string
		bIsDeclard bool
	}{
		{0, "short.x", "long.x", "endless.x", true},
		{time.Minute, "short.x", "long.x", "endless.x", true},
		{time.Minute + 1, "", "long.x", "endless.x", true},
		{time.Hour + 1, "", "", "endless.x", false},
		{24*time.Hour + 1, "", "", "", false},
	}
	for _, tt := range tests {
		now := start.Add(tt.after)
		ga, _ := m.nameOf(a, now)
		gb, declared := m.nameOf(netip.MustParseAddr("2.2.2.2"), now)
		gc, _ := m.nameOf(c, now)
		if ga != tt.a || gb != tt.b || gc != tt.c || declared != tt.bIsDeclard {
			t.Errorf("after %s: %q %q %q, declared %t", tt.after, ga, gb, gc, declared)
		}
	}
	if len(m.byAddr) != 0 || m.order.Len() != 0 {
		t.Errorf("%d addresses and %d in order are left", len(m.byAddr), m.order.Len())
	}
}

func TestMemoryIsBoundedAndKeepsTheLatest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const limit = 5
		m := newMemory(limit)
		now := time.Unix(1e9, 0)
		var latest []byte // addresses, the last put at the end
		for i, n := range rapid.SliceOf(rapid.ByteRange(0, 9)).Draw(t, "puts") {
			m.put(netip.AddrFrom4([4]byte{10, 0, 0, n}), fmt.Sprint(i), false, time.Minute, now)
			latest = append(bytes.ReplaceAll(latest, []byte{n}, nil), n)
		}
		latest = latest[max(0, len(latest)-limit):]
		for n := range byte(10) {
			name, _ := m.nameOf(netip.AddrFrom4([4]byte{10, 0, 0, n}), now)
			if (name != "") != bytes.Contains(latest, []byte{n}) {
				t.Fatalf("10.0.0.%d is %q, the latest are %v", n, name, latest)
			}
		}
	})
}

func TestLogLinesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log bytes.Buffer
		n := newNotes(slog.New(slog.NewJSONHandler(&log, nil)))
		lines := func() int {
			defer log.Reset()
			return strings.Count(log.String(), "\n")
		}
		for i := range 5000 {
			n.refused(fmt.Sprintf("n%d.x", i), "A", 0)
		}
		if got := lines(); got != 5*noteRate {
			t.Errorf("%d lines at once, want %d", got, 5*noteRate)
		}
		for range 3600 {
			time.Sleep(time.Second)
			n.refused("same.x", "A", 0)
			n.unanswered("same.x", "A", errors.New("silence"))
		}
		if got := lines(); got < 2*59 || got > 2*61 {
			t.Errorf("%d lines in an hour about one name, want one of each kind a minute", got)
		}
		for i := range 3 * noteNames {
			time.Sleep(time.Second)
			n.refused(fmt.Sprintf("n%d.x", i), "A", 0)
		}
		if len(n.last) > noteNames {
			t.Errorf("%d names are remembered", len(n.last))
		}
		lines()
		n.refused(strings.Repeat("x", 5000)+"\n", "A", 0)
		if got := log.Len(); got > 600 {
			t.Errorf("a line of %d bytes", got)
		}
	})
}

func TestReverse(t *testing.T) {
	tests := map[string]string{
		"4.3.2.1.in-addr.arpa":   "1.2.3.4",
		"256.3.2.1.in-addr.arpa": "",
		"3.2.1.in-addr.arpa":     "",
		"in-addr.arpa":           "",
		"b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa": "4321:0:1:2:3:4:567:89ab",
		"g.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.4.ip6.arpa": "",
		"b.a.9.8.7.6.5.0.4.0.0.0.3.0.0.0.2.0.0.0.1.0.0.0.0.0.0.0.1.2.3.ip6.arpa":   "",
		"www.baidu.com": "",
	}
	for name, want := range tests {
		addr, ok := reverse(name)
		if ok != (want != "") || ok && addr.String() != want {
			t.Errorf("reverse(%q) = %v, %t, want %q", name, addr, ok, want)
		}
	}
}

// A connection by the address in an answer with an alias of the search list is
// one to the host that is declared.
func TestTheMemoryHasTheHostBehindASearchDomain(t *testing.T) {
	s := serverOf(&world{}, declared(), mesh.AllowAny)
	ask(t, s, "vip.corp.svc.local.", "A", nil)
	if got := s.NameOf(vip4); got != "vip.corp" {
		t.Errorf("NameOf = %q", got)
	}
}

func TestTheNameOfAVirtualAddressNeedsNoMemory(t *testing.T) {
	c := (*config.Config)(nil).Apply(config.Delta{Names: []*config.Name{{Host: "vip.corp", Addresses: []netip.Addr{vip4}, Virtual: true}}})
	w := &world{}
	if got := ask(t, serverOf(w, c, mesh.AllowAny), "1.0.240.240.in-addr.arpa.", "PTR", nil); got != "NOERROR; 1.0.240.240.in-addr.arpa. 30 IN PTR vip.corp." {
		t.Errorf("got %q", got)
	}
	if len(w.asked) > 0 {
		t.Errorf("forwarded %q", w.asked)
	}
}
