package main

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"
)

// patience is how long one turn of a load may take.
const patience = 2 * time.Minute

func h1Request(connection string) []byte {
	return []byte("GET /some/path HTTP/1.1\r\nHost: " + host + "\r\nUser-Agent: bench\r\nAccept: */*\r\n" + connection + "\r\n")
}

// loadH1 ADDR REQUESTS CONNS sends requests over kept connections and prints
// the nanoseconds it took. Any answer that is not the backend's is an error.
func loadH1(args []string) error {
	n, err := numbers(args[1:])
	if err != nil {
		return err
	}
	var left atomic.Int64
	left.Store(int64(n[0]))
	return timed(n[1], func(int) error { return talk(args[0], &left) })
}

// timed runs workers at once and prints the nanoseconds it took.
func timed(workers int, work func(worker int) error) error {
	var wg sync.WaitGroup
	failed := make(chan error, workers)
	begin := time.Now()
	for i := range workers {
		wg.Go(func() {
			if err := work(i); err != nil {
				failed <- err
			}
		})
	}
	wg.Wait()
	took := time.Since(begin)
	close(failed)
	for err := range failed {
		return err
	}
	fmt.Println(took.Nanoseconds())
	return nil
}

func talk(to string, left *atomic.Int64) error {
	c, err := net.Dial("tcp", to)
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return err
	}
	request := h1Request("")
	r := bufio.NewReaderSize(c, 8<<10)
	for left.Add(-1) >= 0 {
		if err := exchange(c, r, request); err != nil {
			return err
		}
	}
	return nil
}

func exchange(c net.Conn, r *bufio.Reader, request []byte) error {
	if _, err := c.Write(request); err != nil {
		return err
	}
	return readAnswer(r)
}

func readAnswer(r *bufio.Reader) error {
	length := -1
	for first := true; ; first = false {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return fmt.Errorf("read an answer: %w", err)
		}
		line = bytes.TrimRight(line, "\r\n")
		switch {
		case first && !bytes.HasPrefix(line, []byte("HTTP/1.1 200")):
			return fmt.Errorf("unexpected answer %q", line)
		case len(line) == 0:
			if length != bodySize {
				return fmt.Errorf("a body of %d bytes, want %d", length, bodySize)
			}
			_, err := r.Discard(length)
			return err
		}
		const field = "content-length:"
		if len(line) > len(field) && bytes.EqualFold(line[:len(field)], []byte(field)) {
			if length, err = strconv.Atoi(string(bytes.TrimSpace(line[len(field):]))); err != nil {
				return err
			}
		}
	}
}

// loadClose ADDR CONNECTIONS WORKERS asks once on each connection and says that
// it will be the last time.
func loadClose(args []string) error {
	n, err := numbers(args[1:])
	if err != nil {
		return err
	}
	var left atomic.Int64
	left.Store(int64(n[0]))
	request := h1Request("Connection: close\r\n")
	return timed(n[1], func(worker int) error {
		// A source for each, so that no port is used again too soon.
		dialer := source(worker)
		r := bufio.NewReaderSize(nil, 8<<10)
		for left.Add(-1) >= 0 {
			c, err := dialer.Dial("tcp", args[0])
			if err != nil {
				return err
			}
			r.Reset(c)
			err = errors.Join(c.SetDeadline(time.Now().Add(patience)), exchange(c, r, request))
			if err == nil {
				err = ends(r)
			}
			if err = errors.Join(err, c.Close()); err != nil {
				return err
			}
		}
		return nil
	})
}

// ends is an error unless the other side ends the connection now.
func ends(r *bufio.Reader) error {
	switch _, err := r.ReadByte(); {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return fmt.Errorf("await the end of the connection: %w", err)
	}
	return errors.New("something follows the last answer")
}

// source dials from a loopback address of its own, which differs from run to run.
func source(i int) *net.Dialer {
	a := net.IPv4(127, byte(1+rand.IntN(250)), byte(rand.IntN(250)), byte(1+i%250))
	return &net.Dialer{LocalAddr: &net.TCPAddr{IP: a}}
}

// hold ADDR CONNS REQUESTS opens connections, asks so often on each, one right after the
// other, prints "held" and keeps them until standard input ends.
func hold(args []string) error {
	n, err := numbers(args[1:])
	if err != nil {
		return err
	}
	const workers = 16
	held := make([]net.Conn, n[0])
	var next atomic.Int64
	var wg sync.WaitGroup
	failed := make(chan error, workers)
	request := h1Request("")
	for i := range workers {
		wg.Go(func() {
			dialer := source(i)
			r := bufio.NewReaderSize(nil, 8<<10)
			for {
				at := int(next.Add(1)) - 1
				if at >= len(held) {
					return
				}
				c, err := dialer.Dial("tcp", args[0])
				if err != nil {
					failed <- err
					return
				}
				held[at] = c
				r.Reset(c)
				err = c.SetDeadline(time.Now().Add(patience))
				for range n[1] {
					err = errors.Join(err, exchange(c, r, request))
				}
				if err != nil {
					failed <- err
					return
				}
			}
		})
	}
	wg.Wait()
	close(failed)
	for err := range failed {
		return fmt.Errorf("hold %d connections: %w", n[0], err)
	}
	fmt.Println("held")
	answer(func(string) string { return stillOpen(held) })
	return nil
}

// stillOpen says "open" if none of the connections was ended by the other side.
func stillOpen(held []net.Conn) string {
	p := make([]byte, 1)
	for i, c := range held {
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err.Error()
		}
		var n int
		var rerr error
		err = raw.Control(func(fd uintptr) {
			n, _, rerr = unix.Recvfrom(int(fd), p, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		})
		if err != nil || !errors.Is(rerr, unix.EAGAIN) {
			return fmt.Sprintf("connection %d of %d was ended: %d bytes, %v", i, len(held), n, errors.Join(err, rerr))
		}
	}
	return "open"
}
