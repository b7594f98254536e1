package cli

import (
	"errors"
	"fmt"
	"net/netip"
	"net/url"
	"strconv"
	"strings"

	"github.com/fairlead/fairlead/internal/hostname"
)

// A target is what is asked about: a host, a wildcard or an address, and the
// port if only one is meant.
type target struct {
	host hostname.Name
	port uint16
}

// parseTarget reads a host, host:port, an address of either family with or
// without a port, or a URL, of which host and port are what counts.
func parseTarget(s string) (target, error) {
	var text string
	var byDefault uint16
	if scheme, _, ok := strings.Cut(s, "://"); ok {
		u, err := url.Parse(s)
		if err != nil {
			return target{}, fmt.Errorf("%q is no URL: %w", s, errors.Unwrap(err))
		}
		text = u.Host
		byDefault = map[string]uint16{"http": 80, "ws": 80, "https": 443, "wss": 443}[strings.ToLower(scheme)]
	} else if _, err := netip.ParsePrefix(s); err == nil {
		return target{}, fmt.Errorf("%q is a range; give one address of it", s)
	} else if text, _, ok = strings.Cut(s, "/"); ok && text == "" {
		return target{}, fmt.Errorf("%q is a path; give a host", s)
	}
	host, port, err := splitTarget(text)
	if err != nil {
		return target{}, fmt.Errorf("%q is no host: %w", s, err)
	}
	if port == 0 {
		port = byDefault
	}
	return target{host, port}, nil
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
