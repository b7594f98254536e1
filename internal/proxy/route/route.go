// Package route decides which route a request takes. It is pure: the decision
// depends on nothing but its arguments.
package route

import (
	"bytes"
	"strings"
	"unsafe"

	"github.com/fairlead/fairlead/internal/proxy/config"
)

// A Request is what routes look at. It borrows its bytes for the call.
type Request struct {
	Host []byte // canonical: lower case, no port, no trailing dot
	Path []byte // with query
}

// Match returns the virtual host and the first route of it that matches. Route
// is nil if none does; both are nil if no virtual host serves the host, or if t
// is nil. It does not allocate and keeps nothing of r.
func Match(t *config.RouteTable, r Request) (*config.VirtualHost, *config.Route) {
	if t == nil {
		return nil, nil
	}
	host := t.LookupBytes(r.Host)
	if host == nil {
		return nil, nil
	}
	path := withoutQuery(r.Path)
	for _, route := range host.Routes {
		if hasPrefix(path, route.Prefix) {
			return host, route
		}
	}
	return host, nil
}

// withoutQuery cuts a path at its query or fragment: matchers never see those.
func withoutQuery(path []byte) []byte {
	if i := bytes.IndexAny(path, "?#"); i >= 0 {
		return path[:i]
	}
	return path
}

// hasPrefix reports whether path begins with prefix. The asterisk of
// "OPTIONS *" lies below the root prefix and below no other.
func hasPrefix(path []byte, prefix string) bool {
	if prefix == "" || prefix == "/" {
		return true
	}
	// path is not kept and not written to while it is looked at.
	return strings.HasPrefix(unsafe.String(unsafe.SliceData(path), len(path)), prefix)
}
