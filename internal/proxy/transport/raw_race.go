//go:build race

package transport

import "syscall"

// The race detector learns from package syscall that what was written before a
// write is seen after the read of it.

func read(fd uintptr, p []byte) (int, error)  { return syscall.Read(int(fd), p) }  //nolint:gosec // G115: a descriptor is an int
func write(fd uintptr, p []byte) (int, error) { return syscall.Write(int(fd), p) } //nolint:gosec // likewise
