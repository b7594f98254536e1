package transport

import (
	"fmt"
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// A peer that vanished without a word (its machine lost, the path to it cut) is
// noticed within 15 s. While we wait for it, by the kernel's probes: the first
// after probeIdle of silence, then one every probeInterval, probeCount
// unanswered before the end. While it should confirm what we sent, by the
// Sweeper: the kernel sends again for a quarter of an hour, and its
// TCP_USER_TIMEOUT, which would shorten that, also cuts a peer that is well
// and only slow to read.
const (
	probeIdle     = 6 * time.Second
	probeInterval = 2 * time.Second
	probeCount    = 4
	lostPeer      = 11 * time.Second // without a confirmation, while we send again and again
	peersPerTick  = shards / 16      // shards whose peers are looked at in one tick: all in 1.6 s
)

// KeepAlive is the configuration for net.Dialer and net.ListenConfig that
// makes the kernel probe silent peers.
func KeepAlive() net.KeepAliveConfig {
	return net.KeepAliveConfig{Enable: true, Idle: probeIdle, Interval: probeInterval, Count: probeCount}
}

// WatchPeer makes the Sweeper that adopted c close it when its peer confirms
// nothing of what we sent; reads and writes then fail with ETIMEDOUT, as if the
// kernel had noticed. It is called once, after Adopt and before c is shared.
// Where there is no TCP it does nothing.
func (c *Conn) WatchPeer() {
	if _, ok := c.Conn.(*net.TCPConn); !ok || c.raw == nil || c.shard == nil {
		return
	}
	c.shard.mu.Lock()
	defer c.shard.mu.Unlock()
	c.watched = true
}

// errLost is what reads and writes of a Conn end with whose peer was lost.
var errLost = fmt.Errorf("the peer confirms nothing any more: %w", syscall.ETIMEDOUT)

// peers appends the Conns of the shard whose peers are to be looked at.
func (sh *shard) peers(conns []*Conn) []*Conn {
	sh.mu.Lock()
	defer sh.mu.Unlock()
	for _, c := range sh.conns {
		if c.watched {
			conns = append(conns, c)
		}
	}
	return conns
}

// lookAtPeers closes those of conns whose peers are lost. It returns conns, emptied.
func lookAtPeers(clock int64, conns []*Conn) []*Conn {
	for i, c := range conns {
		if info, ok := c.tcpInfo(); ok && c.peerLost(info, clock) {
			c.expire(lost)
		}
		conns[i] = nil
	}
	return conns[:0]
}

// peerLost decides from what the kernel knows at the time clock. That nothing
// was confirmed for long means little by itself: there may have been nothing to
// confirm. Sending again does, if it goes on. A peer that only does not read
// confirms that, and has nothing outstanding.
func (c *Conn) peerLost(info *unix.TCPInfo, clock int64) bool {
	if info.Unacked == 0 || info.Retransmits == 0 {
		c.resends = 0
		return false
	}
	if c.resends == 0 {
		c.resends = clock
		return false
	}
	silent := time.Duration(info.Last_ack_recv) * time.Millisecond
	return clock-c.resends >= int64(lostPeer) && silent >= lostPeer
}

func (c *Conn) tcpInfo() (info *unix.TCPInfo, ok bool) {
	var err error
	cerr := c.raw.Control(func(fd uintptr) {
		info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO)
	})
	return info, err == nil && cerr == nil // closed meanwhile: nothing to decide
}
