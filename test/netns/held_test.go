package netns

import (
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/test/world"
)

// unassigned is an entry that wants no virtual address.
func unassigned(name, host, port string, more ...string) string {
	return strings.Replace(entry(name, host, port, more...), "metadata: {name: "+name+"}",
		"metadata: {name: "+name+", labels: {networking.istio.io/enable-autoallocate-ip: \"false\"}}", 1)
}

// TestAPortThatNothingTellsApartIsRefusedToTheSecond has two databases behind
// real addresses on one port: a run with both does not start, and where the
// second comes later its port is refused by its name.
func TestAPortThatNothingTellsApartIsRefusedToTheSecond(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		if _, err := b.TCP(at(first, 5432), world.Greet("orders\r\n")); err != nil {
			b.Fatal(err)
		}
		users, err := b.TCP(at(second, 5432), world.Greet("users\r\n"))
		if err != nil {
			b.Fatal(err)
		}
		b.DNS.Set("orders.example", 60, first)
		b.DNS.Set("users.example", 60, second)
		holder := unassigned("orders", "orders.example", "5432 pg TCP", "resolution: DNS")
		loser := unassigned("users", "users.example", "5432 pg TCP", "resolution: DNS")
		both := b.file("both.yaml", holder+"---\n"+loser)
		said := []string{"both.yaml:", "ServiceEntry default/users", "port 5432 of host users.example is refused", "host orders.example of ServiceEntry default/orders", "spec.addresses", "enable-autoallocate-ip"}
		b.want("both from the start", b.run("-f "+both, "echo started"), 125, said...)
		b.want("analyze", b.fairlead("analyze", "-f", both), 1, append(said, "error: ")...)

		for _, policy := range []string{"", "--closed "} {
			name := "client" + strings.TrimLeft(strings.TrimSpace(policy), "-")
			dir := name + "-entries"
			b.file(dir+"/orders.yaml", holder)
			log := b.Dir + "/" + name + ".jsonl"
			b.background(name, policy+"--access-log "+log+" -f "+b.Dir+"/"+dir)
			talk := func(to string) result { return b.in(name, "echo quit | client raw "+to) }
			b.want("the first alone", talk("orders.example:5432"), 0, "orders")
			b.file(dir+"/users.yaml", loser)
			b.awaitLog(name, `"level":"ERROR"`, "port 5432 of host users.example is refused", "users.yaml")
			for range 2 {
				b.want("the second", talk("users.example:5432"), 1, "failed:")
				b.want("the first", talk("orders.example:5432"), 0, "orders")
			}
			b.want("an address nobody asked for", talk(other4.String()+":5432"), 0, "orders")
			b.eventually("the refusals in the access log", func() error {
				refused := 0
				for _, line := range b.accessLog(log) {
					why, _ := line["why"].(string)
					if strings.Contains(why, "port 5432 of users.example ("+at(second, 5432).String()+") is refused: ServiceEntry default/orders") &&
						line["entry"] == "ServiceEntry default/users" && line["name"] == "users.example" {
						refused++
					}
				}
				if refused != 2 {
					return fmt.Errorf("%d, want 2", refused)
				}
				return nil
			})
		}
		if n := users.Load(); n != 0 {
			b.Errorf("%d connections came to the second", n)
		}
	})
}
