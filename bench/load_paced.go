package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// loadPaced ADDR RATE REQUESTS sends requests by a fixed schedule, whether or
// not answers come, and prints the median and the 99th percentile of the
// nanoseconds from the time at which each was to be sent to the end of its
// answer. What waits for a connection counts its wait.
//
// One thread does it all, paced by a timer of the kernel: the runtime's sleeps
// are too coarse, and spinning would take the core from the backend.
func loadPaced(args []string) error {
	to, err := netip.ParseAddrPort(args[0])
	if err != nil {
		return err
	}
	n, err := numbers(args[1:])
	if err != nil {
		return err
	}
	p := &pacer{interval: time.Second / time.Duration(n[0]), total: n[1], request: h1Request("")}
	if err := p.open(to); err != nil {
		return err
	}
	if err := p.run(); err != nil {
		return err
	}
	slices.Sort(p.took)
	at := func(share float64) int64 {
		return p.took[min(int(share*float64(len(p.took))), len(p.took)-1)].Nanoseconds()
	}
	fmt.Println(at(0.5), at(0.99))
	return nil
}

const pacedConns = 128

type pacer struct {
	interval time.Duration
	total    int
	request  []byte

	set, timer int
	conns      map[int]*pacedConn
	free       []*pacedConn
	due        []time.Duration // of the requests that wait for a connection
	sent       int             // requests whose time has come
	began      time.Time
	took       []time.Duration
}

type pacedConn struct {
	fd   int
	due  time.Duration
	got  []byte
	want int // bytes of the whole answer; 0: not known yet
}

func (p *pacer) open(to netip.AddrPort) (err error) {
	if p.set, err = unix.EpollCreate1(0); err != nil {
		return err
	}
	if p.timer, err = unix.TimerfdCreate(unix.CLOCK_MONOTONIC, unix.TFD_NONBLOCK); err != nil {
		return err
	}
	if err := p.watch(p.timer); err != nil {
		return err
	}
	p.conns = make(map[int]*pacedConn)
	for range pacedConns {
		fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
		if err != nil {
			return err
		}
		if err := unix.Connect(fd, &unix.SockaddrInet4{Port: int(to.Port()), Addr: to.Addr().As4()}); err != nil {
			return fmt.Errorf("connect to %s: %w", to, err)
		}
		if err := errors.Join(unix.SetNonblock(fd, true), unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1), p.watch(fd)); err != nil {
			return err
		}
		c := &pacedConn{fd: fd, got: make([]byte, 0, 4<<10)}
		p.conns[fd] = c
		p.free = append(p.free, c)
	}
	return nil
}

func (p *pacer) watch(fd int) error {
	return unix.EpollCtl(p.set, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)}) //nolint:gosec // descriptors fit
}

func (p *pacer) run() error {
	tick := unix.NsecToTimespec(p.interval.Nanoseconds())
	p.began = time.Now()
	if err := unix.TimerfdSettime(p.timer, 0, &unix.ItimerSpec{Interval: tick, Value: tick}, nil); err != nil {
		return err
	}
	events := make([]unix.EpollEvent, pacedConns+1)
	for len(p.took) < p.total {
		n, err := unix.EpollWait(p.set, events, 10_000)
		if errors.Is(err, unix.EINTR) {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 || time.Since(p.began) > patience {
			return fmt.Errorf("%d of %d answers came", len(p.took), p.total)
		}
		for _, e := range events[:n] {
			if int(e.Fd) == p.timer {
				err = p.ticked()
			} else {
				err = p.read(p.conns[int(e.Fd)])
			}
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// ticked sends what is due by now.
func (p *pacer) ticked() error {
	var count [8]byte
	if _, err := unix.Read(p.timer, count[:]); err != nil {
		return err
	}
	missed := binary.NativeEndian.Uint64(count[:])
	for range min(missed, uint64(p.total-p.sent)) { //nolint:gosec // never more than all
		p.sent++
		p.due = append(p.due, time.Duration(p.sent)*p.interval)
	}
	return p.send()
}

func (p *pacer) send() error {
	for len(p.due) > 0 && len(p.free) > 0 {
		c := p.free[0] // each in turn
		p.free = p.free[1:]
		c.due, p.due = p.due[0], p.due[1:]
		if _, err := unix.Write(c.fd, p.request); err != nil {
			return fmt.Errorf("send a request: %w", err)
		}
	}
	return nil
}

func (p *pacer) read(c *pacedConn) error {
	n, err := unix.Read(c.fd, c.got[len(c.got):cap(c.got)])
	switch {
	case errors.Is(err, unix.EAGAIN):
		return nil
	case err != nil:
		return fmt.Errorf("read an answer: %w", err)
	case n <= 0:
		return errors.New("the proxy ended a connection, or its answer is too long")
	}
	c.got = c.got[:len(c.got)+n]
	if c.want == 0 {
		if c.want, err = answerSize(c.got); err != nil {
			return err
		}
	}
	if c.want == 0 || len(c.got) < c.want {
		return nil
	}
	p.took = append(p.took, time.Since(p.began)-c.due)
	c.got, c.want = c.got[:0], 0
	p.free = append(p.free, c)
	return p.send()
}

// answerSize is the length of an answer with its head, or 0 if that is not
// whole yet.
func answerSize(b []byte) (int, error) {
	end := bytes.Index(b, []byte("\r\n\r\n"))
	if end < 0 {
		return 0, nil
	}
	head := bytes.ToLower(b[:end+2])
	if !bytes.HasPrefix(head, []byte("http/1.1 200")) {
		return 0, fmt.Errorf("unexpected answer %q", head)
	}
	_, rest, _ := bytes.Cut(head, []byte("\r\ncontent-length:"))
	value, _, ok := bytes.Cut(rest, []byte("\r\n"))
	length, err := strconv.Atoi(string(bytes.TrimSpace(value)))
	if !ok || err != nil || length != bodySize {
		return 0, fmt.Errorf("an answer without the length %d: %q", bodySize, head)
	}
	return end + 4 + length, nil
}
