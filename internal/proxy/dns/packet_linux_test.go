package dns

import (
	"encoding/binary"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

// control makes one control message as the kernel writes it.
func control(level, kind int32, data []byte) []byte {
	b := make([]byte, unix.CmsgSpace(len(data)))
	binary.NativeEndian.PutUint64(b, uint64(unix.CmsgLen(len(data))))
	binary.NativeEndian.PutUint32(b[8:], uint32(level))
	binary.NativeEndian.PutUint32(b[12:], uint32(kind))
	copy(b[16:], data)
	return b
}

func pktinfo4(addr string, index uint32) []byte {
	a := netip.MustParseAddr(addr).As4()
	data := binary.NativeEndian.AppendUint32(nil, index)
	data = append(data, 127, 0, 0, 1) // the address that would be replied from
	return control(unix.SOL_IP, unix.IP_PKTINFO, append(data, a[:]...))
}

func pktinfo6(addr string, index uint32) []byte {
	a := netip.MustParseAddr(addr).As16()
	return control(unix.SOL_IPV6, unix.IPV6_PKTINFO, binary.NativeEndian.AppendUint32(a[:], index))
}

func original4(addr string) []byte {
	a := netip.MustParseAddr(addr).As4()
	data := append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET), 0, 53)
	return control(unix.SOL_IP, unix.IP_ORIGDSTADDR, append(append(data, a[:]...), make([]byte, 8)...))
}

func original6(addr string) []byte {
	a := netip.MustParseAddr(addr).As16()
	data := append(binary.NativeEndian.AppendUint16(nil, unix.AF_INET6), 0, 53, 0, 0, 0, 0)
	return control(unix.SOL_IPV6, unix.IPV6_ORIGDSTADDR, append(append(data, a[:]...), 0, 0, 0, 0))
}

func TestTheOriginalDestinationGoesFirst(t *testing.T) {
	join := func(all ...[]byte) (b []byte) {
		for _, x := range all {
			b = append(b, x...)
		}
		return b
	}
	tests := []struct {
		name string
		oob  []byte
		six  bool   // family of the socket
		want string // source of the reply; empty: the kernel's choice
		link uint32
	}{
		{"nothing", nil, false, "", 0},
		{"garbage", []byte{1, 2, 3}, false, "", 0},
		{"packet, v4", pktinfo4("127.0.0.53", 1), false, "127.0.0.53", 0},
		{"packet, v6", pktinfo6("2001:db8::53", 1), true, "2001:db8::53", 0},
		{"packet, v4 on a v6 socket", pktinfo6("::ffff:127.0.0.53", 1), true, "127.0.0.53", 0},
		{"both, v4", join(pktinfo4("127.0.0.1", 1), original4("8.8.8.8")), false, "8.8.8.8", 0},
		{"both, other order", join(original4("8.8.8.8"), pktinfo4("127.0.0.1", 1)), false, "8.8.8.8", 0},
		{"both, v6", join(original6("2001:db8::53"), pktinfo6("::1", 1)), true, "2001:db8::53", 0},
		{"v4 original on a v6 socket", join(pktinfo6("::ffff:127.0.0.1", 1), original4("8.8.8.8")), true, "8.8.8.8", 0},
		{"link-local", pktinfo6("fe80::1", 7), true, "fe80::1", 7},
		{"multicast", pktinfo4("224.0.0.251", 1), false, "", 0},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := replySource(tt.oob, tt.six)
			if tt.want == "" {
				if got != nil {
					t.Errorf("control message %v, want none", got)
				}
				return
			}
			messages, err := unix.ParseSocketControlMessage(got)
			if err != nil || len(messages) != 1 {
				t.Fatalf("%v, error %v", messages, err)
			}
			data := messages[0].Data
			var from netip.Addr
			var link uint32
			if tt.six {
				from, link = netip.AddrFrom16([16]byte(data)), binary.NativeEndian.Uint32(data[16:])
			} else {
				from, link = netip.AddrFrom4([4]byte(data[4:8])), binary.NativeEndian.Uint32(data)
			}
			if from.Unmap().String() != tt.want || link != tt.link {
				t.Errorf("from %s on %d, want %s on %d", from.Unmap(), link, tt.want, tt.link)
			}
			if wantLevel := map[bool]int32{true: unix.SOL_IPV6, false: unix.SOL_IP}[tt.six]; messages[0].Header.Level != wantLevel {
				t.Errorf("level %d on the socket's family, want %d", messages[0].Header.Level, wantLevel)
			}
		})
	}
}

func FuzzDestination(f *testing.F) {
	f.Add(pktinfo4("127.0.0.53", 1), false)
	f.Add(append(pktinfo6("::1", 1), original6("2001:db8::53")...), true)
	f.Fuzz(func(t *testing.T, oob []byte, six bool) {
		if addr, _ := destination(oob); !addr.IsValid() && replySource(oob, six) != nil {
			t.Error("a source out of nothing")
		}
	})
}
