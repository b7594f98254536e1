package feature

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/net/dns/dnsmessage"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/proxy/cluster"
	"github.com/fairlead/fairlead/internal/proxy/resolve"
)

// TestBehaviours25To27WhatAnswersLeave follows a cluster of each kind while its
// name server fails, answers, fails again and says that there is nothing: what
// was good is kept, and marked. Failures are retried at the refresh rate, which
// is short here.
func TestBehaviours25To27WhatAnswersLeave(t *testing.T) {
	for file, name := range map[string]string{
		"25-dns.yaml":             "outbound|80||b.example.com",
		"26-dns-round-robin.yaml": "outbound|80||a.example.com",
	} {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var code atomic.Uint32
			var answers atomic.Bool
			server := nameServer(t, func() (netip.Addr, uint32) {
				if answers.Load() {
					return netip.MustParseAddr("198.51.100.1"), 1
				}
				return netip.Addr{}, 0
			}, func() dnsmessage.RCode { return dnsmessage.RCode(code.Load()) }) //nolint:gosec // small
			data, err := os.ReadFile("testdata/numbered/" + file)
			if err != nil {
				t.Fatal(err)
			}
			c := newScene(t, file, data).config("default", mesh.AllowAny)
			r := resolve.New(resolve.Options{Servers: []netip.AddrPort{server}, Refresh: 20 * time.Millisecond})
			defer r.Close()
			set := cluster.New(r, slog.New(slog.DiscardHandler))
			defer set.Close()
			for _, step := range []struct {
				what    string
				code    dnsmessage.RCode
				answers bool
				state   decision.DNSState
				failure string
				address string
			}{
				{"failing at first", dnsmessage.RCodeServerFailure, false, decision.Never, "SERVFAIL", ""},
				{"answering", dnsmessage.RCodeSuccess, true, decision.Fresh, "", "198.51.100.1:80"},
				{"failing later", dnsmessage.RCodeServerFailure, false, decision.Stale, "the last good answer is kept", "198.51.100.1:80"},
				{"saying there is nothing", dnsmessage.RCodeNameError, false, decision.Stale, "kept for 5m0s", "198.51.100.1:80"},
				{"answering again", dnsmessage.RCodeSuccess, true, decision.Fresh, "", "198.51.100.1:80"},
			} {
				code.Store(uint32(step.code))
				answers.Store(step.answers)
				set.Update(c, whole(c))
				x := set.Get(name)
				for limit := time.Now().Add(time.Minute); ; <-time.NewTimer(time.Millisecond).C {
					state, failure := x.DNS()
					var at []string
					for _, e := range x.Endpoints() {
						if e.Addr.IsValid() {
							at = append(at, e.Addr.String())
						}
					}
					if state == step.state && strings.Contains(failure, step.failure) && strings.Join(at, " ") == step.address {
						break
					}
					if time.Now().After(limit) {
						t.Fatalf("the server %s: state %s, endpoints %v, failure %q; want %s, %s, %q", step.what, state, at, failure, step.state, step.address, step.failure)
					}
				}
			}
		})
	}
}
