package translate

import (
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
	"github.com/fairlead/fairlead/internal/xds/fairleadpb"
)

// A loss is what one claim does not get because another keeps it.
type loss struct {
	loser, keeper *claim
	within        []netip.Prefix // at these destinations only; none: at any
	requestsPass  bool           // HTTP reaches the loser by its Host all the same
	advice        string
}

// refuse notes that connections which mean the loser are to be refused: what
// comes by an address looks the same whoever is meant, so the keeper would
// have them. Where the whole port is lost, that is an error.
func (x *part) refuse(l loss) {
	x.problems = append(x.problems, x.said(l))
	host := l.loser.host()
	x.refused[host] = append(x.refused[host], &fairleadpb.RefusedPort{
		Port:         uint32(x.port),
		Within:       texts(l.within),
		RequestsPass: l.requestsPass,
		Holder:       string(l.keeper.host()),
		Source:       sourceOf(l.keeper.service.Source),
	})
}

// why says by what the keeper goes before the loser, as claim.before orders them.
func (l loss) why() string {
	if l.keeper.service.Created.Before(l.loser.service.Created) {
		return "is older"
	}
	return "comes first by host name"
}

// forget prepares the part to be made anew.
func (x *part) forget() {
	x.problems, x.refused = nil, make(map[hostname.Name][]*fairleadpb.RefusedPort)
}

// refusals returns what a claim does not get on the port: destinations held by
// one host together.
func (p *port) refusals(c *claim) []*fairleadpb.RefusedPort {
	var all []*fairleadpb.RefusedPort
	for x := range p.parts(c) {
	next:
		for _, r := range x.refused[c.host()] {
			for _, a := range all {
				if len(r.GetWithin()) > 0 && len(a.GetWithin()) > 0 && r.GetHolder() == a.GetHolder() && r.GetRequestsPass() == a.GetRequestsPass() {
					a.Within = append(a.Within, r.GetWithin()...)
					continue next
				}
			}
			all = append(all, &fairleadpb.RefusedPort{
				Port: r.GetPort(), Within: slices.Clone(r.GetWithin()), RequestsPass: r.GetRequestsPass(), Holder: r.GetHolder(), Source: r.GetSource(),
			})
		}
	}
	return all
}

// said is the problem of the object that loses.
func (x *part) said(l loss) api.Problem {
	src := l.loser.service.Source
	at := ""
	if len(l.within) > 0 {
		at = " at " + strings.Join(places(l.within), ", ")
	}
	severity, what := api.Error, ""
	if l.requestsPass {
		severity, what = api.Warning, " to all but HTTP"
	}
	return api.Problem{
		Severity: severity,
		Object:   src,
		File:     src.File,
		Line:     src.Line,
		Field:    "spec.ports",
		Message: fmt.Sprintf("port %d of host %s%s is refused%s: host %s of %s %s and holds the connections to it; %s",
			x.port, l.loser.host(), at, what, l.keeper.host(), l.keeper.service.Source.Where(), l.why(), l.advice),
	}
}

// apart says how to make a claim one that an address tells from others.
func apart(c *claim) string {
	const (
		other   = "nothing in a connection tells the two apart, so give each its own spec.addresses, or another port"
		virtual = ", or let this host have a virtual address ("
	)
	s := c.service
	switch {
	case s.Resolution == mesh.None || s.Host.IsWildcard():
		return other // neither can have one
	case len(s.Addresses) > 0:
		return other + virtual + "it gets one if spec.addresses is empty)"
	case s.NoVIP:
		return other + virtual + "take the label networking.istio.io/enable-autoallocate-ip off, or make it \"true\")"
	}
	return other + virtual + "it gets one where the workload's connections are captured on every port)"
}

func serverFirst(port uint16) string {
	return "a server that speaks first cannot share port " + strconv.Itoa(int(port)) + " with HTTP, so give each another port, or the former its own spec.addresses"
}

// sameOutcome reports whether nothing is lost when keeper gets the connections
// of c: both are hosts of one object and the caller's address decides.
func sameOutcome(c, keeper *claim) bool {
	return c.service.Resolution == mesh.None && keeper.service.Resolution == mesh.None &&
		c.service.Source == keeper.service.Source && c.port.TargetPort == keeper.port.TargetPort
}

// rename makes the names anew that are concerned: those of the hosts that this
// round replaced, and of those whose refusals on a port came, changed or went. Their
// short names are those that routes have.
func (r *round) rename() {
	for host := range r.renamed {
		c := r.hosts[host]
		if c == nil || c.service == nil {
			continue
		}
		var refused []*fairleadpb.RefusedPort
		for _, claim := range c.claims {
			if p := r.ports[claim.port.Number]; p != nil {
				refused = append(refused, p.refusals(claim)...)
			}
		}
		short := api.ShortNames(host, r.view.Namespace)
		if len(refused)+len(short) == 0 {
			r.put(c.resource(Key{xds.NameType, string(host)}))
			continue
		}
		slices.SortStableFunc(refused, func(a, b *fairleadpb.RefusedPort) int { return int(a.GetPort()) - int(b.GetPort()) })
		n := nameOf(c.service, r.view.Capture.DNS())
		n.Refused, n.ShortNames = refused, short
		r.put(encode(xds.NameType, n.GetHost(), n))
	}
}

// concerned marks the hosts that are refused something by a part.
func (r *round) concerned(x *part) {
	for host := range x.refused {
		r.renamed[host] = struct{}{}
	}
}

// places are prefixes as people write them: one address without its length.
func places(all []netip.Prefix) []string {
	var out []string
	for _, x := range all {
		if x.IsSingleIP() {
			out = append(out, x.Addr().String())
		} else {
			out = append(out, x.String())
		}
	}
	return out
}

func texts(all []netip.Prefix) []string {
	var out []string
	for _, x := range all {
		out = append(out, x.String())
	}
	return out
}
