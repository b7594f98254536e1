package sandbox

import (
	"fmt"
	"net"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Counters say how many packets were refused, by reason. The caller of each
// had an error at once.
type Counters struct {
	UDP   uint64 // to any port but 53: QUIC, NTP, …
	ICMP  uint64 // ping
	Loop  uint64 // TCP to the capture port itself
	Other uint64 // SCTP, raw sockets, anything else
}

const tableName = "fairlead"

// The names of the counters, as `nft list counters` shows them.
const (
	refusedUDP   = "refused_udp"
	refusedICMP  = "refused_icmp"
	refusedLoop  = "refused_loop"
	refusedOther = "refused_other"
)

// table returns the sandbox's table, of which every namespace has at most one.
func table() *nftables.Table {
	return &nftables.Table{Name: tableName, Family: nftables.TableFamilyINet}
}

// applyRules installs
//
//	table inet fairlead {
//	  chain prerouting {
//	    type filter hook prerouting priority mangle; policy accept;
//	    <to loopback or own> accept         # also what comes back to the command
//	    tcp dport 53 accept                 # its socket takes every address
//	    meta l4proto tcp tproxy to :15001 accept
//	    tcp flags & (syn|ack) == syn drop   # nobody else may take it
//	  }
//	  chain output {
//	    type filter hook output priority filter; policy drop;
//	    <to loopback or own> tcp dport 15001 counter refused_loop reject with tcp reset
//	    <to loopback or own> accept
//	    meta l4proto tcp accept
//	    udp dport 53 accept
//	    meta l4proto udp counter refused_udp reject
//	    meta l4proto { icmp, ipv6-icmp } counter refused_icmp reject
//	    counter refused_other reject
//	  }
//	}
//
// A reject in output fails the system call of the sender (EPERM).
func applyRules() error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	t := c.AddTable(table())
	for _, name := range []string{refusedUDP, refusedICMP, refusedLoop, refusedOther} {
		c.AddObj(&nftables.NamedObj{Table: t, Name: name, Type: nftables.ObjTypeCounter, Obj: &expr.Counter{}})
	}
	r := ruleset{conn: c, table: t}
	r.prerouting()
	r.output()
	return c.Flush()
}

// A ruleset adds rules to the chain it is at.
type ruleset struct {
	conn  *nftables.Conn
	table *nftables.Table
	chain *nftables.Chain
}

func (r *ruleset) prerouting() {
	policy := nftables.ChainPolicyAccept
	r.chain = r.conn.AddChain(&nftables.Chain{
		Name: "prerouting", Table: r.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookPrerouting, Priority: nftables.ChainPriorityMangle, Policy: &policy,
	})
	for _, own := range toSelf() {
		r.add(own, verdict(expr.VerdictAccept))
	}
	r.add(protocol(unix.IPPROTO_TCP), port(dnsPort), verdict(expr.VerdictAccept))
	r.add(protocol(unix.IPPROTO_TCP), []expr.Any{
		&expr.Immediate{Register: 1, Data: binaryutil.BigEndian.PutUint16(capturePort)},
		&expr.TProxy{Family: unix.NFPROTO_UNSPEC, TableFamily: unix.NFPROTO_INET, RegPort: 1},
	}, verdict(expr.VerdictAccept))
	const flags, syn, ack = 13, 0x02, 0x10 // offset in the TCP header, bits
	r.add(protocol(unix.IPPROTO_TCP), []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: flags, Len: 1},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{syn | ack}, Xor: []byte{0}},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{syn}},
	}, verdict(expr.VerdictDrop))
}

func (r *ruleset) output() {
	policy := nftables.ChainPolicyDrop
	r.chain = r.conn.AddChain(&nftables.Chain{
		Name: "output", Table: r.table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookOutput, Priority: nftables.ChainPriorityFilter, Policy: &policy,
	})
	for _, own := range toSelf() {
		r.add(own, protocol(unix.IPPROTO_TCP), port(capturePort), count(refusedLoop),
			[]expr.Any{&expr.Reject{Type: unix.NFT_REJECT_TCP_RST}})
	}
	for _, own := range toSelf() {
		r.add(own, verdict(expr.VerdictAccept))
	}
	r.add(protocol(unix.IPPROTO_TCP), verdict(expr.VerdictAccept))
	r.add(protocol(unix.IPPROTO_UDP), port(dnsPort), verdict(expr.VerdictAccept))
	r.add(protocol(unix.IPPROTO_UDP), count(refusedUDP), reject())
	r.add(protocol(unix.IPPROTO_ICMP), count(refusedICMP), reject())
	r.add(protocol(unix.IPPROTO_ICMPV6), count(refusedICMP), reject())
	r.add(count(refusedOther), reject())
}

func (r *ruleset) add(parts ...[]expr.Any) {
	var all []expr.Any
	for _, p := range parts {
		all = append(all, p...)
	}
	r.conn.AddRule(&nftables.Rule{Table: r.table, Chain: r.chain, Exprs: all})
}

// toSelf matches the destinations that are the sandbox itself, one match each.
func toSelf() [][]expr.Any {
	return [][]expr.Any{
		destination(net.IPv4(127, 0, 0, 0).To4(), 8),
		destination(ownIPv4, 32),
		destination(net.IPv6loopback, 128),
		destination(ownIPv6, 128),
	}
}

func destination(ip net.IP, bits int) []expr.Any {
	family, offset := byte(unix.NFPROTO_IPV4), uint32(16) // of the destination in the header
	if len(ip) == net.IPv6len {
		family, offset = unix.NFPROTO_IPV6, 24
	}
	size := uint32(len(ip))
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyNFPROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{family}},
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseNetworkHeader, Offset: offset, Len: size},
		&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: size, Mask: net.CIDRMask(bits, 8*len(ip)), Xor: make([]byte, size)},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: ip},
	}
}

func protocol(p byte) []expr.Any {
	return []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{p}},
	}
}

func port(p uint16) []expr.Any {
	return []expr.Any{
		&expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: 2, Len: 2},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.BigEndian.PutUint16(p)},
	}
}

func count(name string) []expr.Any {
	return []expr.Any{&expr.Objref{Type: unix.NFT_OBJECT_COUNTER, Name: name}}
}

func reject() []expr.Any {
	return []expr.Any{&expr.Reject{Type: unix.NFT_REJECT_ICMPX_UNREACH, Code: unix.NFT_REJECT_ICMPX_ADMIN_PROHIBITED}}
}

func verdict(k expr.VerdictKind) []expr.Any {
	return []expr.Any{&expr.Verdict{Kind: k}}
}

// readCounters reads what the rules have counted so far.
func readCounters() (Counters, error) {
	c, err := nftables.New()
	if err != nil {
		return Counters{}, err
	}
	objects, err := c.GetObjects(table())
	if err != nil {
		return Counters{}, fmt.Errorf("read the counters of the sandbox: %w", err)
	}
	var sum Counters
	for _, o := range objects {
		name, packets := counterOf(o)
		switch name {
		case refusedUDP:
			sum.UDP = packets
		case refusedICMP:
			sum.ICMP = packets
		case refusedLoop:
			sum.Loop = packets
		case refusedOther:
			sum.Other = packets
		}
	}
	return sum, nil
}

func counterOf(o nftables.Obj) (name string, packets uint64) {
	switch o := o.(type) {
	case *nftables.CounterObj:
		return o.Name, o.Packets
	case *nftables.NamedObj:
		if c, ok := o.Obj.(*expr.Counter); ok {
			return o.Name, c.Packets
		}
	}
	return "", 0
}
