// Package sandbox runs a command in namespaces from which nothing leaves but
// what the proxy takes.
package sandbox

// STUB: owned by the sandbox helper (design its API itself; see the brief).
