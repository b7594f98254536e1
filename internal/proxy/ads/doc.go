// Package ads gets a proxy's configuration from its control plane over Envoy's
// aggregated discovery service, in its delta form.
//
// What to ask for and what to answer is decided by [Session], a state machine
// without goroutines, clock or connection; the scripts in testdata are its
// documentation. [Client] keeps a stream under it and calls back with each
// change. A response is taken whole or refused whole, with the resource that
// was to blame. While the control plane is away the last good configuration
// stays, and on return only what differs is sent.
package ads
