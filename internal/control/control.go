// Package control assembles the control plane: sources, registry, translation
// and the server of the result.
package control

// STUB: owned by the xds helper.
