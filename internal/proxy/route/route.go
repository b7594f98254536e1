// Package route decides which route a request takes. It is pure: the decision
// depends on nothing but its arguments.
package route

import "github.com/fairlead/fairlead/internal/proxy/config"

// STUB: owned by the listener helper; signatures are the contract.

// A Request is what routes look at.
type Request struct {
	Host   []byte // canonical: lower case, no port, no trailing dot
	Path   []byte // with query
	Method []byte
}

// Match returns the virtual host and the first route of it that matches. Route
// is nil if none does; both are nil if no virtual host serves the host. It does
// not allocate.
func Match(t *config.RouteTable, r Request) (*config.VirtualHost, *config.Route) { panic("stub") }
