package peer

import (
	"errors"
	"fmt"
	"net"
	"os"
)

// Pass returns a copy of a listener of this package, for another process to
// make one of with Inherit. The listener stays the caller's, the copy is too.
func Pass(ln net.Listener) (*os.File, error) {
	l, ok := ln.(*listener)
	if !ok {
		return nil, fmt.Errorf("pass a listener on: %T is none of these", ln)
	}
	return l.File()
}

// Inherit makes a listener of what Pass returned. It accepts whom that of Listen
// accepts. f stays the caller's.
func Inherit(f *os.File) (net.Listener, error) {
	ln, err := net.FileListener(f)
	if err != nil {
		return nil, fmt.Errorf("take over a listener: %w", err)
	}
	u, ok := ln.(*net.UnixListener)
	if !ok {
		return nil, errors.Join(fmt.Errorf("take over a listener: a %T is not of this host alone", ln), ln.Close())
	}
	return &listener{u}, nil
}
