package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/hostname"
)

// A target is what is asked about: a host, a wildcard or an address, and the
// port if only one is meant.
type target struct {
	host hostname.Name
	port uint16
	kind string // of connection: admin.Requests or admin.TLS; empty: any
}

// parseTarget reads a host, host:port, an address of either family with or
// without a port, or a URL, of which host, port and what its scheme says is spoken are what counts.
func parseTarget(s string) (target, error) {
	var text string
	var t target
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		u, err := url.Parse(s)
		if err != nil {
			return target{}, fmt.Errorf("%q is no URL: %w", s, errors.Unwrap(err))
		}
		text = u.Host
		t = map[string]target{
			"http": {port: 80, kind: admin.Requests}, "https": {port: 443, kind: admin.TLS},
			"ws": {port: 80, kind: admin.Requests}, "wss": {port: 443, kind: admin.TLS},
		}[strings.ToLower(scheme)]
	} else if _, err := netip.ParsePrefix(s); err == nil {
		return target{}, fmt.Errorf("%q is a range; give one address of it", s)
	} else if text, _, ok = strings.Cut(s, "/"); ok && text == "" {
		return target{}, fmt.Errorf("%q is a path; give a host", s)
	}
	host, port, err := splitTarget(text)
	if err != nil {
		return target{}, fmt.Errorf("%q is no host: %w", s, err)
	}
	t.host = host
	if port != 0 {
		t.port = port
	}
	return t, nil
}

// splitTarget is hostname.SplitAuthority, but for wildcards and IPv6 addresses
// without brackets.
func splitTarget(s string) (hostname.Name, uint16, error) {
	if ip, err := netip.ParseAddr(s); err == nil && ip.Is6() {
		name, err := hostname.Parse(s)
		return name, 0, err
	}
	if !strings.HasPrefix(s, "*") {
		return hostname.SplitAuthority(s)
	}
	wildcard, text, ok := strings.Cut(s, ":")
	name, err := hostname.Parse(wildcard)
	if err != nil || !ok {
		return name, 0, err
	}
	port, err := strconv.ParseUint(text, 10, 16)
	if err != nil || port == 0 {
		return "", 0, fmt.Errorf("%q is no port", text)
	}
	return name, uint16(port), nil
}
