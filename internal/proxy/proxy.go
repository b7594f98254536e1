// Package proxy assembles the data plane.
package proxy

// STUB: owned by the engine helper.
