package transport

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that vanished without a word (its machine lost, the path to it cut) is
// noticed within deadPeer, whether we wait for it or it should confirm what we
// sent: the first probe after probeIdle of silence, then one every
// probeInterval, four unanswered before the end.
const (
	deadPeer      = 14 * time.Second
	probeIdle     = 6 * time.Second
	probeInterval = 2 * time.Second
)

// KeepAlive is the configuration for net.Dialer and net.ListenConfig that
// makes the kernel probe silent peers.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{
		Enable:   true,
		Idle:     probeIdle,
		Interval: probeInterval,
		Count:    int((deadPeer - probeIdle) / probeInterval),
	}
}

// DetectDeadPeer makes the kernel give up on c when the peer has confirmed
// nothing of what we sent for 14 seconds; unset it would try for a quarter of
// an hour. A peer that confirms but takes nothing for as long is given up too.
func DetectDeadPeer(c *net.TCPConn) error {
	raw, err := c.SyscallConn()
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	var set error
	err = raw.Control(func(fd uintptr) {
		set = unix.SetsockoptInt(int(fd), syscall.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(deadPeer.Milliseconds()))
	})
	if err == nil {
		err = set
	}
	if err != nil {
		return fmt.Errorf("set TCP_USER_TIMEOUT: %w", err)
	}
	return nil
}
