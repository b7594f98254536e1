// Package ads serves resources to proxies over Envoy's aggregated discovery
// service, in its delta form.
//
// What one stream is to be told is decided by [Session], a state machine
// without goroutines, clock or connection; the scripts in testdata are its
// documentation. [Server] puts a stream under each session. Resources are
// shared by every stream of a view and encoded once; what a stream holds of its
// own is bounded by the number of names it is subscribed to, however slowly its
// client reads, and no stream waits for another.
package ads
