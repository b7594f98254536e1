package api

import (
	"maps"
	"slices"
	"strings"

	networking "istio.io/api/networking/v1alpha3"
)

// Sizes of the tables of consistent hashing that Envoy takes.
const (
	maglevBound = 5000011 // one more than the largest
	largestRing = 8 << 20
)

func (v *validator) loadBalancer(field string, l *networking.LoadBalancerSettings, detects bool) {
	if l == nil {
		return
	}
	if h, ok := l.LbPolicy.(*networking.LoadBalancerSettings_ConsistentHash); ok {
		v.consistentHash(field+".consistentHash", h.ConsistentHash)
	}
	if l.GetSimple() == networking.LoadBalancerSettings_LEAST_CONN { //nolint:staticcheck // deprecated, and in use
		v.warn(field+".simple", "LEAST_CONN is deprecated; write LEAST_REQUEST, which is the same")
	}
	if l.LocalityLbSetting != nil && l.ZoneAwareLbSetting != nil {
		v.err(field+".zoneAwareLbSetting", "cannot go with localityLbSetting; remove one")
	}
	v.localities(field+".localityLbSetting", l.LocalityLbSetting, detects)
	v.zones(field+".zoneAwareLbSetting", l.ZoneAwareLbSetting)
	v.warmup(field, l)
}

func (v *validator) consistentHash(field string, h *networking.LoadBalancerSettings_ConsistentHashLB) {
	switch key := h.HashKey.(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpHeaderName:
		if fault := headerFault(strings.TrimPrefix(key.HttpHeaderName, ":")); fault != "" {
			v.err(field+".httpHeaderName", "%s is no name of a header: %s", quote(key.HttpHeaderName), fault)
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpCookie:
		v.cookie(field+".httpCookie", key.HttpCookie)
	case *networking.LoadBalancerSettings_ConsistentHashLB_UseSourceIp:
		if !key.UseSourceIp {
			v.warn(field+".useSourceIp", "false leaves nothing to hash, so endpoints are chosen at random; write true, or another key")
		}
	case *networking.LoadBalancerSettings_ConsistentHashLB_HttpQueryParameterName:
		if key.HttpQueryParameterName == "" {
			v.err(field+".httpQueryParameterName", "names no parameter; name one")
		}
	default:
		v.err(field, "does not say what to hash; give it httpHeaderName, httpCookie, useSourceIp or httpQueryParameterName")
	}
	switch a := h.HashAlgorithm.(type) {
	case *networking.LoadBalancerSettings_ConsistentHashLB_Maglev:
		v.maglev(field+".maglev", a.Maglev)
	case *networking.LoadBalancerSettings_ConsistentHashLB_RingHash_:
		v.ring(field+".ringHash.minimumRingSize", a.RingHash.GetMinimumRingSize())
	}
	if field += ".minimumRingSize"; v.object.has(field) {
		size := h.MinimumRingSize //nolint:staticcheck // deprecated, and in use
		v.warn(field, "is deprecated; write ringHash: {minimumRingSize: %d}", size)
		v.ring(field, size)
	}
}

func (v *validator) cookie(field string, c *networking.LoadBalancerSettings_ConsistentHashLB_HTTPCookie) {
	if fault := headerFault(c.Name); fault != "" { // a cookie has the same grammar
		v.err(field+".name", "%s is no name of a cookie: %s", quote(c.Name), fault)
	}
	if t := c.Ttl.AsDuration(); t < 0 {
		v.err(field+".ttl", "%s is negative; use 0s for a cookie of the session", t)
	}
	for i, a := range c.Attributes {
		if a.Name == "" {
			v.err(index(field+".attributes", i)+".name", "the attribute has no name; give it one, such as SameSite")
		}
	}
}

func (v *validator) ring(field string, size uint64) {
	if size > largestRing {
		v.err(field, "%d is too large a ring; use at most %d", size, largestRing)
	}
}

func (v *validator) maglev(field string, m *networking.LoadBalancerSettings_ConsistentHashLB_MagLev) {
	size := m.GetTableSize()
	field += ".tableSize"
	switch {
	case size == 0:
		v.err(field, "the table has no size; give it a prime number below %d, such as 65537", maglevBound)
	case size >= maglevBound:
		v.err(field, "%d is too large; use a prime number below %d", size, maglevBound)
	case !prime(size):
		v.err(field, "%d is no prime number; use one, such as 65537", size)
	}
}

// prime is for numbers below maglevBound.
func prime(n uint64) bool {
	for d := uint64(2); d*d <= n; d++ {
		if n%d == 0 {
			return false
		}
	}
	return n > 1
}

func (v *validator) warmup(field string, l *networking.LoadBalancerSettings) {
	if field := field + ".warmupDurationSecs"; v.object.has(field) {
		d := l.WarmupDurationSecs //nolint:staticcheck // deprecated, and in use
		v.warn(field, "is deprecated; write warmup: {duration: %s}", d.AsDuration())
		v.duration(field, d)
	}
	w := l.Warmup
	if w == nil {
		return
	}
	_, hashed := l.LbPolicy.(*networking.LoadBalancerSettings_ConsistentHash)
	field += ".warmup"
	if s := l.GetSimple(); hashed || s == networking.LoadBalancerSettings_RANDOM || s == networking.LoadBalancerSettings_PASSTHROUGH {
		v.warn(field, "is without effect but with ROUND_ROBIN and LEAST_REQUEST; use one of those, or remove it")
	}
	if w.Duration == nil {
		v.err(field+".duration", "does not say how long; give it a duration")
	} else {
		v.duration(field+".duration", w.Duration)
	}
	v.percent(field+".minimumPercent", w.MinimumPercent)
	if a := w.Aggression; a != nil && a.Value < 0 {
		v.err(field+".aggression", "%g is negative; use 1 for even growth, more for a later one", a.Value)
	}
}

// localities checks where traffic goes by the place of its client.
func (v *validator) localities(field string, l *networking.LocalityLoadBalancerSetting, detects bool) {
	if l == nil {
		return
	}
	given := ""
	for _, p := range []part{{"distribute", len(l.Distribute) > 0}, {"failover", len(l.Failover) > 0}, {"failoverPriority", len(l.FailoverPriority) > 0}} {
		switch {
		case !p.there:
		case given != "":
			v.err(join(field, p.name), "cannot go with %s; remove one", given)
		default:
			given = p.name
		}
	}
	if !detects && (given == "failover" || given == "failoverPriority") {
		v.warn(join(field, given), "is without effect without outlierDetection, by which endpoints are known to fail; add that")
	}
	from := newPlaces()
	for i, d := range l.Distribute {
		field := index(field+".distribute", i)
		v.place(field+".from", d.From, from)
		v.distribution(field+".to", d.To)
	}
	for i, f := range l.Failover {
		v.failover(index(field+".failover", i), f.From, f.To)
	}
	v.priorities(field+".failoverPriority", l.FailoverPriority)
}

// distribution checks the shares of places, which are percentages of one whole.
func (v *validator) distribution(field string, to map[string]uint32) {
	sum, seen := uint64(0), newPlaces()
	for _, name := range slices.Sorted(maps.Keys(to)) {
		v.place(join(field, name), name, seen)
		if weight := to[name]; weight == 0 || weight > 100 {
			v.err(join(field, name), "%d is no share; use 1 to 100", weight)
		}
		sum += uint64(to[name])
	}
	if sum != 100 {
		v.err(field, "the shares add up to %d; make them 100", sum)
	}
}

// places is the localities of one list, by what they begin with: the place
// itself and, in above, each that it lies in. The values are fields.
type places struct{ whole, above map[string]string }

func newPlaces() places { return places{map[string]string{}, map[string]string{}} }

// place checks one locality, region/zone/subzone of which the last may be a
// star, and that it has no part in common with the others.
func (v *validator) place(field, text string, seen places) {
	parts := strings.Split(text, "/")
	star := strings.IndexByte(text, '*')
	switch {
	case text == "":
		v.err(field, "names no place; write region/zone/subzone, or * for all")
		return
	case star >= 0 && (star != len(text)-1 || parts[len(parts)-1] != "*"):
		v.err(field, "%s: a star may only be the last part of a place, such as region/*", quote(text))
		return
	case len(parts) > 3 || slices.Contains(parts, ""):
		v.err(field, "%s is no place; write region, region/zone or region/zone/subzone", quote(text))
		return
	}
	if star >= 0 {
		parts = parts[:len(parts)-1] // it stands for the rest
	}
	whole := strings.Join(parts, "/")
	other := seen.above[whole]
	for i := 0; i <= len(parts) && other == ""; i++ {
		other = seen.whole[strings.Join(parts[:i], "/")]
	}
	if other != "" {
		v.err(field, "%s overlaps %s; name places that have nothing in common", quote(text), other)
		return
	}
	seen.whole[whole] = field
	for i := range parts {
		seen.above[strings.Join(parts[:i], "/")] = field
	}
}

func (v *validator) failover(field, from, to string) {
	for _, f := range []struct{ name, region string }{{"from", from}, {"to", to}} {
		switch {
		case f.region == "":
			v.err(join(field, f.name), "names no region; name one")
		case strings.ContainsAny(f.region, "/*"):
			v.err(join(field, f.name), "%s is no region: zones and stars are not allowed here; name a region alone", quote(f.region))
		}
	}
	if from == to && from != "" {
		v.err(field+".to", "%s is the region to fail over from; name another", quote(to))
	}
}

// priorities checks labels by which endpoints are ranked: a key, or key=value.
func (v *validator) priorities(list string, items []string) {
	seen := map[string]int{}
	for i, text := range items {
		field := index(list, i)
		key, value, _ := strings.Cut(text, "=")
		if fault := LabelFault(key, value); fault != "" {
			v.err(field, "%s", fault)
		}
		if j, ok := seen[text]; ok {
			v.warn(field, "%s is the same as %s; remove one", quote(text), index(list, j))
			continue
		}
		seen[text] = i
	}
}

func (v *validator) zones(field string, z *networking.ZoneAwareLoadBalancerSetting) {
	if z == nil {
		return
	}
	for i, f := range z.Failover {
		v.failover(index(field+".failover", i), f.From, f.To)
	}
	v.priorities(field+".failoverPriority", z.FailoverPriority)
	if z.MinClusterSize != nil && z.MinClusterSize.Value == 0 {
		v.err(field+".minClusterSize", "0 is no size; use 1 or more")
	}
}
