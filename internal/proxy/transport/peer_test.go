package transport

import (
	"errors"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// The number is a promise: what notices a vanished peer, for those who wait for it
// and for those who send to it, adds up to no more.
func TestFault67AVanishedPeerIsNoticedWithinFifteenSeconds(t *testing.T) {
	k := KeepAlive()
	waiting := k.Idle + time.Duration(k.Count)*k.Interval
	// A first look finds that we send again, a later one that we have for too long.
	sending := 2*tick*shards/peersPerTick + lostPeer
	if waiting > 15*time.Second || sending > 15*time.Second {
		t.Errorf("after %s while we wait for it, %s while we send", waiting, sending)
	}
}

func TestPeersAreLostWhenTheyConfirmNothing(t *testing.T) {
	const second = int64(time.Second)
	type look struct {
		at   int64 // seconds
		info unix.TCPInfo
		lost bool
	}
	resend := func(silent time.Duration) unix.TCPInfo {
		return unix.TCPInfo{Unacked: 1, Retransmits: 3, Last_ack_recv: uint32(silent.Milliseconds())}
	}
	for _, tt := range []struct {
		name  string
		looks []look
	}{
		{"nothing outstanding", []look{{1, unix.TCPInfo{Last_ack_recv: 1 << 30}, false}, {99, unix.TCPInfo{Last_ack_recv: 1 << 30}, false}}},
		{"sent a moment ago", []look{{1, unix.TCPInfo{Unacked: 1, Last_ack_recv: 1 << 30}, false}, {99, unix.TCPInfo{Unacked: 1, Last_ack_recv: 1 << 30}, false}}},
		{"one packet lost after an hour of silence", []look{{1, resend(time.Hour), false}, {3, unix.TCPInfo{}, false}, {15, resend(time.Hour), false}}},
		{"a lossy path that confirms now and then", []look{{1, resend(time.Second), false}, {8, resend(8 * time.Second), false}, {20, resend(5 * time.Second), false}}},
		{"cut", []look{{1, resend(2 * time.Second), false}, {8, resend(9 * time.Second), false}, {12, resend(13 * time.Second), true}}},
		{"cut after a long silence", []look{{1, resend(time.Hour), false}, {11, resend(time.Hour), false}, {12, resend(time.Hour), true}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := New(nil, nil)
			for _, l := range tt.looks {
				if got := c.peerLost(&l.info, l.at*second); got != l.lost {
					t.Errorf("at %d s: lost %v, want %v", l.at, got, l.lost)
				}
			}
		})
	}
}

// Back pressure is no fault, however long it lasts.
func TestAPeerThatDoesNotReadIsNotLost(t *testing.T) {
	var s Sweeper
	c, _ := accepted(t, "tcp", "127.0.0.1:0")
	s.Adopt(c)
	c.WatchPeer()
	if err := c.SetWriteDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	piece := make([]byte, 1<<16)
	for {
		if _, err := c.Conn.Write(piece); errors.Is(err, os.ErrDeadlineExceeded) {
			break // both buffers are full
		} else if err != nil {
			t.Fatal(err)
		}
	}
	for at := range int64(10) {
		for i := range s.shards {
			lookAtPeers((at+1)*int64(10*time.Second), s.shards[i].peers(nil))
		}
	}
	if !c.Alive() {
		t.Error("cut a peer that only does not read")
	}
}

func TestALostPeerReadsAsTimedOutByTheNetwork(t *testing.T) {
	var s Sweeper
	c, _ := accepted(t, "tcp", "127.0.0.1:0")
	s.Adopt(c)
	c.WatchPeer()
	if n := len(c.shard.peers(nil)); n != 1 {
		t.Fatalf("%d peers watched, want 1", n)
	}
	c.expire(lost)
	if _, err := c.Read(make([]byte, 1)); !errors.Is(err, syscall.ETIMEDOUT) || c.TimedOut() {
		t.Errorf("read: %v, idle timeout %v", err, c.TimedOut())
	}
	if n := s.Len(); n != 0 {
		t.Errorf("%d still adopted", n)
	}
}
