package balance

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"pgregory.net/rapid"
)

// loads is a Load that a test sets.
type loads []int64

func (l loads) Active(i int) int64 { return l[i] }

func seeded(seed uint64) Rand { return rand.New(rand.NewPCG(seed, 1)).Uint64 }

// shares returns how many of n picks fell on each host, in percent.
func shares(p *Picker, load loads, n int) []float64 {
	got := make([]float64, len(load))
	for range n {
		got[p.Pick(load)] += 100 / float64(n)
	}
	return got
}

func TestPicksFollowThePolicy(t *testing.T) {
	for _, tt := range []struct {
		name    string
		policy  Policy
		weights []uint32
		load    loads
		want    []float64 // percent
	}{
		{"one host", LeastRequest, []uint32{7}, loads{9}, []float64{100}},
		{"turns", RoundRobin, []uint32{1, 1, 1, 1}, loads{9, 0, 0, 0}, []float64{25, 25, 25, 25}},
		{"turns of equal weights", RoundRobin, []uint32{80, 80}, loads{0, 0}, []float64{50, 50}},
		{"turns by weight", RoundRobin, []uint32{80, 20}, loads{0, 0}, []float64{80, 20}},
		{"turns ignore load", RoundRobin, []uint32{80, 20}, loads{99, 0}, []float64{80, 20}},
		{"weight 0 is 1", RoundRobin, []uint32{0, 1, 2}, loads{0, 0, 0}, []float64{25, 25, 50}},
		{"chance", Random, []uint32{1, 1}, loads{9, 0}, []float64{50, 50}},
		{"chance ignores weights", Random, []uint32{80, 20}, loads{0, 0}, []float64{50, 50}},
		{"idle hosts", LeastRequest, []uint32{1, 1}, loads{0, 0}, []float64{50, 50}},
		{"of two the less loaded", LeastRequest, []uint32{1, 1}, loads{1, 0}, []float64{25, 75}},
		{"of three the less loaded", LeastRequest, []uint32{1, 1, 1}, loads{5, 0, 5}, []float64{22, 56, 22}},
		{"idle hosts by weight", LeastRequest, []uint32{80, 20}, loads{0, 0}, []float64{80, 20}},
		{"loaded as they should be", LeastRequest, []uint32{80, 20}, loads{80, 20}, []float64{80, 20}},
		{"three weights", LeastRequest, []uint32{1, 2, 7}, loads{0, 0, 0}, []float64{10, 20, 70}},
		{"overloaded", LeastRequest, []uint32{50, 100}, loads{98, 0}, []float64{0.5, 99.5}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for seed := range uint64(20) {
				got := shares(New(tt.policy, tt.weights, seeded(seed)), tt.load, 1000)
				for i := range got {
					if d := got[i] - tt.want[i]; d > 4 || d < -4 {
						t.Fatalf("seed %d: shares %.1f, want %.1f ± 4", seed, got, tt.want)
					}
				}
			}
		})
	}
}

// Requests last a while and many are in progress: weights hold all the same,
// and a host that answers ten times as slowly gets less than its share.
func TestWeightsHoldUnderConcurrentLoad(t *testing.T) {
	run := func(slow int) []float64 {
		p := New(LeastRequest, []uint32{80, 20}, seeded(3))
		load := loads{0, 0}
		type request struct{ host, ends int }
		var active []request
		got := make([]float64, 2)
		for now := range 4000 {
			kept := active[:0]
			for _, r := range active {
				if r.ends > now {
					kept = append(kept, r)
				} else {
					load[r.host]--
				}
			}
			active = kept
			h := p.Pick(load)
			load[h]++
			lasts := 40
			if h == slow {
				lasts = 400
			}
			active = append(active, request{h, now + lasts})
			if now >= 3000 {
				got[h] += 0.1
			}
		}
		return got
	}
	if got := run(-1); got[0] < 76 || got[0] > 84 {
		t.Errorf("shares %.1f, want 80 and 20", got)
	}
	if got := run(1); got[1] > 15 {
		t.Errorf("the slow host got %.1f %% of the requests, want well below 20", got[1])
	}
}

func TestNoHostsNoPick(t *testing.T) {
	for _, policy := range []Policy{LeastRequest, RoundRobin, Random} {
		p := New(policy, nil, seeded(1))
		if got := p.Pick(loads{}); got != -1 {
			t.Errorf("policy %d picked %d of none", policy, got)
		}
		if got := p.PickOther(loads{}, 3, func(int) bool { return true }); got != -1 {
			t.Errorf("policy %d picked %d of none", policy, got)
		}
	}
}

func TestTurnsStartAnywhere(t *testing.T) {
	starts := map[int]bool{}
	for seed := range uint64(50) {
		starts[New(RoundRobin, make([]uint32, 4), seeded(seed)).Pick(nil)] = true
	}
	if len(starts) != 4 {
		t.Errorf("50 pickers started at %v only", starts)
	}
}

func TestAnotherTryAvoidsTriedHosts(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 8).Draw(t, "hosts")
		weights := rapid.SliceOfN(rapid.Uint32Range(0, 100), n, n).Draw(t, "weights")
		tried := rapid.SliceOfN(rapid.Bool(), n, n).Draw(t, "tried")
		policy := Policy(rapid.IntRange(0, 2).Draw(t, "policy"))
		p := New(policy, weights, seeded(rapid.Uint64().Draw(t, "seed")))
		others := 0
		for _, x := range tried {
			if !x {
				others++
			}
		}
		for range 10 {
			got := p.PickOther(make(loads, n), 3, func(i int) bool { return tried[i] })
			if got < 0 || got >= n {
				t.Fatalf("picked %d of %d", got, n)
			}
			if others > 0 && tried[got] {
				t.Fatalf("picked tried host %d although %d were not", got, others)
			}
		}
	})
}

func TestPicksAreSafeForConcurrentUse(t *testing.T) {
	for _, policy := range []Policy{LeastRequest, RoundRobin} {
		p := New(policy, []uint32{3, 1}, rand.Uint64)
		var mu sync.Mutex
		got := [2]int{}
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				mine := [2]int{}
				for range 100 {
					mine[p.Pick(loads{0, 0})]++
				}
				mu.Lock()
				defer mu.Unlock()
				got[0] += mine[0]
				got[1] += mine[1]
			})
		}
		wg.Wait()
		if d := got[0] - 600; d < -1 || d > 1 {
			t.Errorf("policy %d: %v, want 600 and 200", policy, got)
		}
	}
}

func TestPicksAllocateNothing(t *testing.T) {
	load := &loads{0, 0, 0}
	for _, policy := range []Policy{LeastRequest, RoundRobin, Random} {
		for _, weights := range [][]uint32{{1, 1, 1}, {1, 2, 3}} {
			p := New(policy, weights, rand.Uint64)
			if n := testing.AllocsPerRun(100, func() {
				p.Pick(load)
				p.PickOther(load, 3, func(i int) bool { return i == 0 })
			}); n != 0 {
				t.Errorf("policy %d, weights %v: %v allocations", policy, weights, n)
			}
		}
	}
}

func BenchmarkPick(b *testing.B) {
	names := map[Policy]string{LeastRequest: "least", RoundRobin: "turns", Random: "random"}
	for _, policy := range []Policy{LeastRequest, RoundRobin, Random} {
		for _, n := range []int{2, 10, 1000} {
			for _, weighted := range []bool{false, true} {
				weights := make([]uint32, n)
				for i := range weights {
					weights[i] = 1
					if weighted {
						weights[i] = uint32(i%5 + 1)
					}
				}
				p, load := New(policy, weights, rand.Uint64), make(loads, n)
				b.Run(fmt.Sprintf("%s/hosts=%d/weighted=%v", names[policy], n, weighted), func(b *testing.B) {
					l := Load(&load)
					for b.Loop() {
						p.Pick(l)
					}
				})
			}
		}
	}
}
