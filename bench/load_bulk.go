package main

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"
)

// loadBulk ADDR BYTES CONNS has so many bytes sent over each connection, throws
// them away, and prints the nanoseconds it took.
func loadBulk(args []string) error {
	n, err := numbers(args[1:])
	if err != nil {
		return err
	}
	return timed(n[1], func(int) error {
		c, err := net.Dial("tcp", args[0])
		if err != nil {
			return err
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		if _, err := fmt.Fprintf(c, "%d\n", n[0]); err != nil {
			return err
		}
		got := 0
		for p := make([]byte, 256<<10); ; {
			m, err := c.Read(p)
			got += m
			switch {
			case errors.Is(err, io.EOF) && got == n[0]:
				return nil
			case err != nil:
				return fmt.Errorf("after %d of %d bytes: %w", got, n[0], noEOF(err))
			}
		}
	})
}
