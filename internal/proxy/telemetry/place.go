package telemetry

import (
	"hash/maphash"
	"strconv"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
)

// A place is what of a line follows from the configuration and is the same for
// all that passes the same way, with the text of it.
type place struct {
	cluster, route, virtualHost, listener, chain string
	entry                                        mesh.Ref
	upstreamName, name, sni, dnsError            string
	policy                                       mesh.OutboundPolicy
	dns                                          decision.DNSState

	text []byte // members of an object, a comma before each; nil: none was made
}

// places remembers the texts of some places. Its zero value is ready; it is not
// safe for concurrent use.
type places struct {
	slots [32]place // found by the cluster
	seed  maphash.Seed
	begun bool
}

// maxPlace bounds a text that is remembered, which callers may have a part in.
const maxPlace = 2 << 10

// append appends the text of the place of rec.
func (p *places) append(dst []byte, rec *decision.Record) []byte {
	if !p.begun {
		p.seed, p.begun = maphash.MakeSeed(), true
	}
	slot := &p.slots[maphash.String(p.seed, rec.Cluster)%uint64(len(p.slots))]
	if !slot.of(rec) {
		slot.set(rec)
	}
	dst = append(dst, slot.text...)
	if len(slot.text) > maxPlace {
		*slot = place{}
	}
	return dst
}

// upstreamName is the name beside the address of the endpoint, if it has both.
func upstreamName(rec *decision.Record) string {
	if rec.Endpoint.IsValid() {
		return rec.EndpointName
	}
	return ""
}

// of reports whether p has the text for rec.
func (p *place) of(rec *decision.Record) bool {
	return p.text != nil && p.cluster == rec.Cluster && p.route == rec.Route && p.virtualHost == rec.VirtualHost &&
		p.listener == rec.Listener && p.chain == rec.Chain && p.entry == rec.Entry &&
		p.upstreamName == upstreamName(rec) && p.name == rec.Name && p.sni == rec.SNI && p.dnsError == rec.DNSError &&
		p.policy == rec.Policy && p.dns == rec.DNS
}

// set makes p that of rec.
func (p *place) set(rec *decision.Record) {
	*p = place{
		cluster: rec.Cluster, route: rec.Route, virtualHost: rec.VirtualHost, listener: rec.Listener, chain: rec.Chain,
		entry: rec.Entry, upstreamName: upstreamName(rec), name: rec.Name, sni: rec.SNI, dnsError: rec.DNSError,
		policy: rec.Policy, dns: rec.DNS, text: p.text[:0],
	}
	t := appendMember(p.text, `,"upstream_cluster":"`, p.cluster)
	t = appendMember(t, `,"requested_server_name":"`, p.sni)
	t = appendMember(t, `,"route_name":"`, p.route)
	if e := &p.entry; *e != (mesh.Ref{}) {
		t = append(t, `,"entry":"`...)
		t = appendText(t, e.Kind, maxValue)
		t = append(t, ' ')
		t = appendText(t, e.Namespace, maxValue)
		t = append(t, '/')
		t = appendText(t, e.Name, maxValue)
		t = append(t, '"')
	}
	if e := &p.entry; e.File != "" {
		t = append(t, `,"entry_place":"`...)
		t = appendText(t, e.File, maxValue)
		if e.Line > 0 {
			t = append(t, ':')
			t = strconv.AppendInt(t, int64(e.Line), 10)
		}
		t = append(t, '"')
	}
	t = appendMember(t, `,"upstream_name":"`, p.upstreamName)
	t = appendMember(t, `,"listener":"`, p.listener)
	t = appendMember(t, `,"filter_chain":"`, p.chain)
	t = appendMember(t, `,"virtual_host":"`, p.virtualHost)
	if p.dns != decision.NotResolved {
		t = appendMember(t, `,"dns":"`, p.dns.String())
	}
	t = appendMember(t, `,"dns_error":"`, p.dnsError)
	t = appendMember(t, `,"policy":"`, p.policy.String())
	p.text = appendMember(t, `,"name":"`, p.name)
}
