// Package feature tests whole features in one process: objects in, and out what
// a proxy makes of them, with the real stream of resources between the halves.
package feature
