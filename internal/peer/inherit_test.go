package peer

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

func TestAListenerIsPassedOn(t *testing.T) {
	at := name(t, "admin")
	ln, err := Listen(at)
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	for range 2 { // one after another
		f, err := Pass(ln)
		if err != nil {
			t.Fatal(err)
		}
		next, err := Inherit(f)
		f.Close()
		if err != nil {
			t.Fatal(err)
		}
		if _, checks := next.(*listener); !checks {
			t.Errorf("a %T does not ask who comes", next)
		}
		c, err := Dial(t.Context(), at)
		if err != nil {
			t.Fatal(err)
		}
		served, err := next.Accept()
		if err != nil {
			t.Fatal(err)
		}
		served.Close()
		c.Close()
		next.Close()
	}
	if _, err := Listen(at); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("the name went with those that inherited it: %v", err)
	}
}

func TestOnlyListenersOfThisHostArePassedOn(t *testing.T) {
	var lc net.ListenConfig
	ln, err := lc.Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	if f, err := Pass(ln); err == nil {
		f.Close()
		t.Error("a TCP listener was passed on")
	}
	tcp, ok := ln.(*net.TCPListener)
	if !ok {
		t.Fatalf("a %T", ln)
	}
	f, err := tcp.File()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if _, err := Inherit(f); err == nil {
		t.Error("a TCP listener was inherited")
	}
}
