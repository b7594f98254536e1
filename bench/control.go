package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/control/ads"
	"github.com/fairlead/fairlead/internal/control/registry"
	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	proxyconfig "github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// controlPlane is what the control plane needs: for a first load, for one
// change among many entries, and for a name.
func controlPlane(context.Context, plan) ([]contest, error) {
	return []contest{
		buildContest(),
		changeContest(endpointChanges, "HTTP", httpPorts),
		changeContest(endpointChanges, "HTTP and HTTPS", httpPorts+", "+httpsPort),
		changeContest(hostComes, "HTTP", httpPorts),
		changeContest(hostComes, "HTTP and HTTPS", httpPorts+", "+httpsPort),
		nameContest(),
	}, nil
}

func buildContest() contest {
	const entries = 10_000
	name := strconv.Itoa(entries) + " entries"
	return contest{
		title: "from objects to the resources of one view, sent to one session",
		columns: []column{
			{name: "CPU s", digits: 3}, {name: "heap MB", digits: 1}, {name: "CPU s to read the YAML", digits: 3}, {name: "heap MB of the objects", digits: 1},
		},
		contestants: []contestant{{name, func(context.Context) (entrant, error) {
			return entrant{turn: func(ctx context.Context, _ bool) ([]float64, error) {
				return runLoad(ctx, "control-build", words(entries)...)
			}}, nil
		}}},
		aims: []aim{{name, "", 0, 1, 0}, {name, "", 1, 100, 0}},
	}
}

// What changes, as in titles.
const (
	endpointChanges = "an endpoint of one entry changes"
	hostComes       = "a host comes, or goes again"
)

// changeContest is for entries with the ports given.
func changeContest(event, what, ports string) contest {
	const changes = 5000 // as many as make the collector run, among many entries too
	var contestants []contestant
	for _, n := range []int{100, 1_000, 10_000} {
		contestants = append(contestants, contestant{among(n), func(ctx context.Context) (entrant, error) {
			s, err := startPart(ctx, proxyCore, "control-chain", event, ports, strconv.Itoa(n))
			if err != nil {
				return entrant{}, err
			}
			return entrant{leave: s.stop, turn: func(context.Context, bool) ([]float64, error) { return s.each(changes, time.Microsecond) }}, nil
		}})
	}
	return contest{
		title:       fmt.Sprintf("%s, ports %s: registry, translation, one subscribed session; %d changes a turn", event, what, changes),
		columns:     []column{{name: "CPU us/change", digits: 1}, {name: "allocations/change", digits: 0}},
		contestants: contestants,
		aims:        []aim{{among(10_000), "", 0, 1000, 0}, {among(10_000), among(100), 0, 1.2, 0}},
	}
}

// each has the part do its work n times, and returns what one time took of CPU,
// in units, and of allocations.
func (s *server) each(n int, unit time.Duration) ([]float64, error) {
	before, allocated, err := s.spent()
	if err != nil {
		return nil, err
	}
	if answer, err := s.ask(strconv.Itoa(n)); err != nil || answer != "done" {
		return nil, errors.Join(err, errors.New(answer))
	}
	after, allocatedAfter, err := s.spent()
	return []float64{float64(after-before) / float64(unit) / float64(n), (allocatedAfter - allocated) / float64(n)}, err
}

func among(n int) string { return "among " + strconv.Itoa(n) }

func nameContest() contest {
	const registryName, proxyName = "in the registry", "in the proxy"
	const lookups = 1_000_000
	var contestants []contestant
	for _, name := range []string{registryName, proxyName} {
		contestants = append(contestants, contestant{name, func(ctx context.Context) (entrant, error) {
			s, err := startPart(ctx, proxyCore, "control-names", strconv.FormatBool(name == proxyName))
			if err != nil {
				return entrant{}, err
			}
			return entrant{leave: s.stop, turn: func(context.Context, bool) ([]float64, error) { return s.each(lookups, time.Nanosecond) }}, nil
		}})
	}
	return contest{
		title:       fmt.Sprintf("a name looked up among 50000, %d times a turn, another each time", lookups),
		columns:     []column{{name: "CPU ns/name", digits: 0}, {name: "allocations/name", digits: 2}},
		contestants: contestants,
		aims:        []aim{{registryName, "", 0, 1000, 0}, {proxyName, "", 0, 1000, 0}},
	}
}

// The ports of entries.
const (
	httpPorts = "{number: 80, name: http, protocol: HTTP}"
	httpsPort = "{number: 443, name: https, protocol: HTTPS}"
)

// numbered is the YAML of the i-th of many entries that do not meet.
func numbered(i int, ports, endpoint string) string {
	return fmt.Sprintf(`apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: entry-%d, namespace: ns-%d}
spec:
  hosts: [%s]
  ports: [%s]
  resolution: STATIC
  endpoints: [{address: %s}]
---
`, i, i%50, numberedHost(i), ports, endpoint)
}

func numberedHost(i int) string { return fmt.Sprintf("host-%d.example.com", i) }

// objects reads n entries, from files of a size that is read.
func objects(n int, ports string) (all []registry.Change, err error) {
	const file = 5_000
	var yaml strings.Builder
	for i := range n {
		yaml.WriteString(numbered(i, ports, "192.0.2.1"))
		if (i+1)%file != 0 && i+1 != n {
			continue
		}
		changes, err := changesOf(yaml.String())
		if err != nil {
			return nil, err
		}
		all = append(all, changes...)
		yaml.Reset()
	}
	return all, nil
}

func changesOf(yaml string) ([]registry.Change, error) {
	read, problems := api.Read("bench.yaml", []byte(yaml), "default")
	for _, x := range problems {
		if x.Severity == api.Error {
			return nil, errors.New(x.String())
		}
	}
	changes := make([]registry.Change, len(read))
	for i, o := range read {
		changes[i] = registry.Change{Key: o.Key, Object: o}
	}
	return changes, nil
}

// A chain is the control plane from the registry to one session that is
// subscribed to everything.
type chain struct {
	registry   *registry.Registry
	snapshot   *registry.Snapshot
	translator *translate.Translator
	session    ads.Session
}

// newChain applies the first changes and sends what comes of them.
func newChain(now time.Time, first []registry.Change) (*chain, error) {
	c := &chain{registry: registry.New(config.Default())}
	c.snapshot, _ = c.registry.Apply(now, first)
	c.translator, _ = translate.New(translate.View{Namespace: "default", Policy: mesh.RegistryOnly}, c.snapshot.Through(nil, mesh.Capture{}))
	c.session.Publish(c.translator.Set(), nil)
	for _, t := range xds.Types {
		if err := c.session.Receive(now, ads.Request{Type: t, Subscribe: []string{"*"}}); err != nil {
			return nil, err
		}
	}
	_, err := c.send(now)
	return c, err
}

// send takes what is due, and accepts it as a client would. It returns how many
// resources there were.
func (c *chain) send(now time.Time) (resources int, err error) {
	for {
		due := c.session.Due(now)
		if len(due) == 0 {
			return resources, nil
		}
		for _, r := range due {
			resources += len(r.Updated) + len(r.Removed)
			if err := c.session.Receive(now, ads.Request{Type: r.Type, Nonce: r.Nonce}); err != nil {
				return resources, err
			}
		}
	}
}

// apply is a change from the registry to the session.
func (c *chain) apply(now time.Time, change registry.Change) error {
	var delta registry.Delta
	c.snapshot, delta = c.registry.Apply(now, []registry.Change{change})
	keys, _ := c.translator.Update(c.snapshot.Through(nil, mesh.Capture{}), delta.Hosts)
	c.session.Publish(c.translator.Set(), keys)
	sent, err := c.send(now)
	if err == nil && sent == 0 {
		err = errors.New("the change reached nobody")
	}
	return err
}

// controlBuild ENTRIES prints the CPU seconds and the heap, in MB, that a first
// load needs, and then those that reading its objects needed.
func controlBuild(args []string) error {
	n, err := numbers(args)
	if err != nil {
		return err
	}
	empty := heap()
	begin := ownCPU()
	first, err := objects(n[0], httpPorts+", "+httpsPort)
	if err != nil {
		return err
	}
	read := ownCPU()
	held := heap()
	built := ownCPU()
	c, err := newChain(time.Now(), first)
	if err != nil {
		return err
	}
	done := ownCPU()
	full := heap()
	fmt.Println((done - built).Seconds(), (full-held)/1e6, (read - begin).Seconds(), (held-empty)/1e6)
	runtime.KeepAlive(first)
	runtime.KeepAlive(c)
	return nil
}

// heap is what lives on it.
func heap() float64 {
	runtime.GC()
	runtime.GC() // what finalizers held
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}

// ownCPU is the CPU time of this process, collector included.
func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// controlChain EVENT PORTS ENTRIES holds a control plane with so many entries, and
// for each number it is given makes the event happen so many times.
func controlChain(args []string) error {
	event, ports := args[0], args[1]
	n, err := numbers(args[2:])
	if err != nil {
		return err
	}
	first, err := objects(n[0], ports)
	if err != nil {
		return err
	}
	which := n[0] / 2
	if event == hostComes {
		which = n[0] // a further one
	}
	flip, err := changesOf(numbered(which, ports, "192.0.2.2") + numbered(which, ports, "192.0.2.3"))
	if err != nil {
		return err
	}
	if len(flip) != 2 {
		return fmt.Errorf("%d objects, want 2 states of one", len(flip))
	}
	if event == hostComes {
		flip[1].Object = nil
	}
	now := time.Now()
	c, err := newChain(now, first)
	if err != nil {
		return err
	}
	fmt.Println("ready")
	turns := 0
	answer(repeated(func(int) error {
		turns++
		return c.apply(now, flip[(turns-1)%2])
	}))
	return nil
}

// controlNames PROXY holds 50,000 names, in the proxy's tables or in the registry.
func controlNames(args []string) error {
	const n = 50_000
	names := make([]string, n)
	for i := range names {
		names[i] = numberedHost(i)
	}
	missing := func(name string) error { return fmt.Errorf("%s is not there", name) }
	var lookUp func(i int) error
	if args[0] == "true" {
		var d proxyconfig.Delta
		for _, name := range names {
			d.Names = append(d.Names, &proxyconfig.Name{Host: name})
		}
		c := (*proxyconfig.Config)(nil).Apply(d)
		lookUp = func(i int) error {
			if name := names[i%n]; c.Name(name) == nil {
				return missing(name)
			}
			return nil
		}
	} else {
		first, err := objects(n, httpPorts)
		if err != nil {
			return err
		}
		s, _ := registry.New(config.Default()).Apply(time.Now(), first)
		lookUp = func(i int) error {
			if name := names[i%n]; s.Service("elsewhere", hostname.Name(name)) == nil {
				return missing(name)
			}
			return nil
		}
	}
	fmt.Println("ready")
	answer(repeated(lookUp))
	return nil
}

// repeated does something as often as it is told, with numbers that follow each
// other, spread out.
func repeated(do func(i int) error) func(string) string {
	i := 0
	return func(times string) string {
		n, err := strconv.Atoi(times)
		for ; err == nil && n > 0; n-- {
			err = do(i)
			i += 7919
		}
		if err != nil {
			return err.Error()
		}
		return "done"
	}
}
