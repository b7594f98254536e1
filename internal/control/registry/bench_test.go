package registry

import (
	"fmt"
	"testing"

	networking "istio.io/api/networking/v1alpha3"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/hostname"
)

// numbered makes the i-th of many entries that do not meet.
func numbered(i int, endpoint string) Change {
	o := &api.Object{
		Key: api.Key{Kind: "ServiceEntry", Namespace: fmt.Sprintf("ns-%d", i%50), Name: fmt.Sprintf("entry-%d", i)},
		Spec: &networking.ServiceEntry{
			Hosts:      []string{fmt.Sprintf("host-%d.example.com", i)},
			Ports:      []*networking.ServicePort{{Number: 80, Name: "http", Protocol: "HTTP"}, {Number: 443, Name: "https", Protocol: "HTTPS"}},
			Resolution: networking.ServiceEntry_STATIC,
			Endpoints:  []*networking.WorkloadEntry{{Address: endpoint}},
		},
	}
	return Change{Key: o.Key, Object: o}
}

func many(n int) []Change {
	changes := make([]Change, n)
	for i := range changes {
		changes[i] = numbered(i, "10.0.0.1")
	}
	return changes
}

func BenchmarkBuild(b *testing.B) {
	for _, n := range []int{100, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			changes := many(n)
			b.ReportAllocs()
			for b.Loop() {
				New(config.Default()).Apply(epoch, changes)
			}
		})
	}
}

// BenchmarkOneChange is the promise of this package: its two numbers are alike.
func BenchmarkOneChange(b *testing.B) {
	for _, n := range []int{100, 10_000, 100_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := New(config.Default())
			r.Apply(epoch, many(n))
			flip := []Change{numbered(n/2, "10.0.0.2"), numbered(n/2, "10.0.0.3")}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, d := r.Apply(epoch, flip[i%2:i%2+1]); len(d.Hosts) != 1 {
					b.Fatalf("touched %v", d.Hosts)
				}
			}
		})
	}
}

// choosing makes entries with a selector each and workloads that they select, four
// each, by a label of their own among labels that many have.
func choosing(entries, workloads int) (all []Change, workload func(i int, address string) Change) {
	for i := range entries {
		c := numbered(i, "")
		c.Key.Namespace, c.Object.Namespace = "shop", "shop"
		se, _ := c.Object.Spec.(*networking.ServiceEntry)
		se.Endpoints, se.WorkloadSelector = nil, &networking.WorkloadSelector{Labels: map[string]string{"tier": "back", "app": fmt.Sprint("app-", i)}}
		all = append(all, c)
	}
	workload = func(i int, address string) Change {
		o := &api.Object{
			Key:  api.Key{Kind: "WorkloadEntry", Namespace: "shop", Name: fmt.Sprint("workload-", i)},
			Spec: &networking.WorkloadEntry{Address: address, Labels: map[string]string{"tier": "back", "version": "one", "app": fmt.Sprint("app-", i%entries)}},
		}
		return Change{Key: o.Key, Object: o}
	}
	for i := range workloads {
		all = append(all, workload(i, "10.0.0.1"))
	}
	return all, workload
}

func BenchmarkBuildSelectors(b *testing.B) {
	changes, _ := choosing(1500, 6000)
	b.ReportAllocs()
	for b.Loop() {
		New(config.Default()).Apply(epoch, changes)
	}
}

func BenchmarkOneWorkload(b *testing.B) {
	for _, n := range []int{15, 1500} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			r := New(config.Default())
			all, workload := choosing(n, 4*n)
			r.Apply(epoch, all)
			flip := []Change{workload(n/2, "10.0.0.2"), workload(n/2, "10.0.0.3")}
			b.ReportAllocs()
			for i := 0; b.Loop(); i++ {
				if _, d := r.Apply(epoch, flip[i%2:i%2+1]); len(d.Hosts) != 1 {
					b.Fatalf("touched %v", d.Hosts)
				}
			}
		})
	}
}

func BenchmarkService(b *testing.B) {
	r := New(config.Default())
	changes := many(50_000)
	s, _ := r.Apply(epoch, changes)
	names := make([]hostname.Name, len(changes))
	for i := range names {
		names[i] = hostname.Name(fmt.Sprintf("host-%d.example.com", i))
	}
	b.ReportAllocs()
	for i := 0; b.Loop(); i += 7919 { // another each time
		if s.Service("elsewhere", names[i%len(names)]) == nil {
			b.Fatal("not found")
		}
	}
}
