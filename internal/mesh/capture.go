package mesh

import (
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// A Capture says which connections and questions of a workload its proxy gets to
// see. It is comparable: equal ones compare equal, however they were written. The
// zero Capture is that of the sandbox: everything.
type Capture struct {
	noTCP, noDNS bool

	listed       bool // of addresses only those in include are taken, and ports in includePorts anywhere
	include      prefixes
	includePorts ports
	exclude      prefixes
	excludePorts ports
}

// The annotations that say what of a workload's traffic is captured, as Istio
// names them.
const (
	includeRanges = "traffic.sidecar.istio.io/includeOutboundIPRanges"
	excludeRanges = "traffic.sidecar.istio.io/excludeOutboundIPRanges"
	includePorts  = "traffic.sidecar.istio.io/includeOutboundPorts"
	excludePorts  = "traffic.sidecar.istio.io/excludeOutboundPorts"
)

// CaptureAnnotations returns the keys of the annotations that ParseCapture reads.
func CaptureAnnotations() []string {
	return []string{includeRanges, excludeRanges, includePorts, excludePorts}
}

// Bounds of one annotation.
const (
	maxCaptureText  = 16 << 10
	maxCaptureItems = 512
)

// ParseCapture reads what a workload says of its capture: its interception mode
// (REDIRECT, TPROXY, NONE), whether DNS is captured (true, false) and its
// annotations. What is empty or not there is as in the sandbox; an annotation
// that is there and lists nothing lists nothing. The error names every fault.
func ParseCapture(mode, dns string, annotations map[string]string) (Capture, error) {
	var c Capture
	var errs []error
	switch mode {
	case "", "REDIRECT", "TPROXY":
	case "NONE":
		c.noTCP = true
	default:
		errs = append(errs, fmt.Errorf("interception mode %s: use REDIRECT, TPROXY or NONE", short(mode)))
	}
	if dns != "" {
		on, err := strconv.ParseBool(dns)
		if err != nil {
			errs = append(errs, fmt.Errorf("DNS capture %s: use true or false", short(dns)))
		}
		c.noDNS = !on
	}
	fault := func(key string, err error) {
		if err != nil {
			errs = append(errs, fmt.Errorf("annotation %s: %w", key, err))
		}
	}
	var err error
	if text, ok := annotations[includeRanges]; ok && strings.TrimSpace(text) != "*" {
		c.listed = true
		c.include, err = parsePrefixes(text)
		fault(includeRanges, err)
	}
	c.exclude, err = parsePrefixes(annotations[excludeRanges])
	fault(excludeRanges, err)
	c.includePorts, err = parsePorts(annotations[includePorts])
	fault(includePorts, err)
	c.excludePorts, err = parsePorts(annotations[excludePorts])
	fault(excludePorts, err)
	if err := errors.Join(errs...); err != nil {
		return Capture{}, err
	}
	if !c.listed {
		c.includePorts = "" // everything is taken anyway
	}
	return c, nil
}

// DNS reports whether the workload's questions come to its proxy.
func (c Capture) DNS() bool { return !c.noDNS }

// WithoutDNS is the capture with the workload's questions let past the proxy.
func (c Capture) WithoutDNS() Capture {
	c.noDNS = true
	return c
}

// Takes reports whether the capture takes connections to an address on every
// one of the ports. What is excluded is let past, whatever is included.
func (c Capture) Takes(to netip.Addr, ports []uint16) bool {
	if c.noTCP || c.exclude.contain(to) {
		return false
	}
	ranged := !c.listed || c.include.contain(to)
	if len(ports) == 0 {
		return ranged
	}
	for _, p := range ports {
		if c.excludePorts.contain(p) || !ranged && !c.includePorts.contain(p) {
			return false
		}
	}
	return true
}

// String says what is let past the proxy: the middle of a sentence. It is empty
// if that is nothing.
func (c Capture) String() string {
	var all []string
	if c.noTCP {
		all = append(all, "all TCP (interception mode NONE)")
	}
	if c.noDNS {
		all = append(all, "DNS (DNS_CAPTURE false)")
	}
	if c.exclude != "" {
		all = append(all, "what goes to "+c.exclude.String()+" (excludeOutboundIPRanges)")
	}
	if c.excludePorts != "" {
		all = append(all, "ports "+c.excludePorts.String()+" (excludeOutboundPorts)")
	}
	if c.listed {
		rest := "all addresses"
		if c.include != "" {
			rest += " but " + c.include.String()
		}
		rest += " (includeOutboundIPRanges)"
		if c.includePorts != "" {
			rest += " on ports other than " + c.includePorts.String() + " (includeOutboundPorts)"
		}
		all = append(all, rest)
	}
	return strings.Join(all, "; ")
}

// prefixes is a set of ranges of addresses: 17 bytes for each, the address in
// its IPv6 form and the length of the prefix, sorted. As text, so that a Capture
// compares.
type prefixes string

const prefixLen = 17

func (p prefixes) all(yield func(netip.Prefix) bool) {
	for ; len(p) >= prefixLen; p = p[prefixLen:] {
		var a [16]byte
		copy(a[:], p)
		if !yield(netip.PrefixFrom(netip.AddrFrom16(a).Unmap(), int(p[16]))) {
			return
		}
	}
}

func (p prefixes) contain(a netip.Addr) bool {
	for x := range p.all {
		if x.Contains(a.Unmap()) {
			return true
		}
	}
	return false
}

// String lists the first few.
func (p prefixes) String() string { return listed(p.all) }

// parsePrefixes reads a list with commas.
func parsePrefixes(text string) (prefixes, error) {
	items, err := items(text)
	if err != nil {
		return "", err
	}
	var all []netip.Prefix
	for _, item := range items {
		x, err := netip.ParsePrefix(item)
		if err != nil || x.Addr().Is4In6() {
			return "", fmt.Errorf("%s is no range of addresses: write it as 10.0.0.0/8", short(item))
		}
		all = append(all, x.Masked())
	}
	slices.SortFunc(all, func(a, b netip.Prefix) int { return cmp.Or(a.Addr().Compare(b.Addr()), a.Bits()-b.Bits()) })
	var packed []byte
	for _, x := range slices.Compact(all) {
		a := x.Addr().As16()
		packed = append(append(packed, a[:]...), byte(x.Bits())) //nolint:gosec // 0 to 128
	}
	return prefixes(packed), nil
}

// ports is a set of ports: two bytes for each, sorted.
type ports string

func (p ports) all(yield func(uint16) bool) {
	for ; len(p) >= 2; p = p[2:] {
		if !yield(uint16(p[0])<<8 | uint16(p[1])) {
			return
		}
	}
}

func (p ports) contain(n uint16) bool {
	for x := range p.all {
		if x == n {
			return true
		}
	}
	return false
}

// String lists the first few.
func (p ports) String() string { return listed(p.all) }

// parsePorts reads a list with commas.
func parsePorts(text string) (ports, error) {
	items, err := items(text)
	if err != nil {
		return "", err
	}
	var all []uint16
	for _, item := range items {
		n, err := strconv.ParseUint(item, 10, 16)
		if err != nil || n == 0 {
			return "", fmt.Errorf("%s is no port: use 1 to 65535", short(item))
		}
		all = append(all, uint16(n))
	}
	slices.Sort(all)
	var packed []byte
	for _, n := range slices.Compact(all) {
		packed = append(packed, byte(n>>8), byte(n&0xff))
	}
	return ports(packed), nil
}

// items cuts a list at its commas. An empty list has none.
func items(text string) ([]string, error) {
	if len(text) > maxCaptureText {
		return nil, fmt.Errorf("is longer than %d bytes", maxCaptureText)
	}
	if strings.TrimSpace(text) == "" {
		return nil, nil
	}
	all := strings.Split(text, ",")
	if len(all) > maxCaptureItems {
		return nil, fmt.Errorf("lists more than %d items", maxCaptureItems)
	}
	for i := range all {
		all[i] = strings.TrimSpace(all[i])
	}
	return all, nil
}

// listed writes the first few of a set.
func listed[T any](set func(yield func(T) bool)) string {
	const most = 4
	var all []string
	for x := range set {
		if len(all) == most {
			all = append(all, "…")
			break
		}
		all = append(all, fmt.Sprint(x))
	}
	return strings.Join(all, ", ")
}

// short quotes foreign text for a sentence.
func short(text string) string {
	const most = 40
	if len(text) > most {
		text = strings.ToValidUTF8(text[:most], "") + "…"
	}
	return strconv.Quote(text)
}
