package dns

import (
	"encoding/binary"
	"strconv"
	"strings"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/internal/hostname"
	"github.com/fairlead/fairlead/internal/proxy/resolve/exchange"
)

const (
	headerSize  = 12
	minDatagram = 512  // what every client can take
	maxDatagram = 4096 // what we send at most, whatever a client says
	maxMessage  = 65535
	maxName     = 255 // of a name as text in a log
)

// open reads a question. Where that cannot be done it returns nil and the
// reply, or nil and nil where silence is right: no header, or itself a reply.
func open(wire []byte) (q, reply *dns.Msg) {
	if len(wire) < headerSize || wire[2]&0x80 != 0 {
		return nil, nil
	}
	head := dns.MsgHdr{
		Id:               binary.BigEndian.Uint16(wire),
		Response:         true,
		Opcode:           int(wire[2]>>3) & 0xf,
		RecursionDesired: wire[2]&1 != 0,
	}
	if head.Opcode != dns.OpcodeQuery {
		head.Rcode = dns.RcodeNotImplemented
		return nil, &dns.Msg{MsgHdr: head}
	}
	q = new(dns.Msg)
	if err := q.Unpack(wire); err != nil || !wellFormed(q) {
		head.Rcode = dns.RcodeFormatError
		return nil, &dns.Msg{MsgHdr: head}
	}
	return q, nil
}

// wellFormed reports whether q is one question and no more than an OPT record
// and a signature beside it.
func wellFormed(q *dns.Msg) bool {
	opts := 0
	for _, rr := range q.Extra {
		if rr.Header().Rrtype == dns.TypeOPT {
			opts++
		}
	}
	return len(q.Question) == 1 && len(q.Answer)+len(q.Ns) == 0 && len(q.Extra) <= 2 && opts <= 1
}

// seal makes the wire form of reply fit what the client can take. An OPT
// record, with its explanation, goes only to a client that sent one.
func seal(q, reply *dns.Msg, stream bool) []byte {
	size := maxMessage
	asked := q.IsEdns0()
	if !stream {
		size = minDatagram
		if asked != nil {
			size = int(min(max(asked.UDPSize(), minDatagram), maxDatagram))
		}
	}
	switch opt := reply.IsEdns0(); {
	case asked == nil:
		reply.Extra = nil
	case opt == nil:
		reply.SetEdns0(exchange.UDPSize, asked.Do())
	default:
		opt.SetUDPSize(exchange.UDPSize)
		opt.SetDo(asked.Do())
	}
	reply.Truncate(size)
	wire, err := reply.Pack()
	if err != nil || len(wire) > size {
		return bare(q, dns.RcodeServerFailure)
	}
	return wire
}

// bare is a reply of header and question alone.
func bare(q *dns.Msg, rcode int) []byte {
	wire, err := new(dns.Msg).SetRcode(q, rcode).Pack()
	if err != nil {
		return nil
	}
	return wire
}

// unread is the reply SERVFAIL to a message that is better not looked at again,
// of its header alone; nil where silence is right.
func unread(wire []byte) []byte {
	const response, opcodeAndRD = 0x80, 0x79
	if len(wire) < headerSize || wire[2]&response != 0 {
		return nil
	}
	return append([]byte{wire[0], wire[1], response | wire[2]&opcodeAndRD, dns.RcodeServerFailure}, make([]byte, headerSize-4)...)
}

// say is a reply without records: its code and, for clients that can hear it,
// why.
func say(q *dns.Msg, rcode int, code uint16, why string) *dns.Msg {
	reply := new(dns.Msg).SetRcode(q, rcode)
	reply.RecursionAvailable = true
	reply.Extra = []dns.RR{&dns.OPT{
		Hdr:    dns.RR_Header{Name: ".", Rrtype: dns.TypeOPT},
		Option: []dns.EDNS0{&dns.EDNS0_EDE{InfoCode: code, ExtraText: why}},
	}}
	return reply
}

// empty is a reply that says: the name is there, records of this type are not.
func empty(q *dns.Msg) *dns.Msg {
	reply := new(dns.Msg).SetReply(q)
	reply.RecursionAvailable = true
	return reply
}

// international is the name of a host whose labels came as raw UTF-8, as some
// programs send them, in the form that hosts are declared in. It is false for
// names that are ASCII, and for those that are neither a host's nor would be one
// with the same labels. name is in DNS's text form, in which such bytes are escaped.
func international(name string) (string, bool) {
	if strings.IndexByte(name, '\\') < 0 {
		return "", false
	}
	text, ok := unescape(name)
	if !ok {
		return "", false
	}
	host, err := hostname.Parse(text)
	if err != nil || host.IsWildcard() || strings.Count(host.String(), ".") != strings.Count(text, ".") {
		return "", false
	}
	return host.String(), true
}

// unescape turns the escapes of bytes beyond ASCII into those bytes. It is false
// if there are others: no host has them.
func unescape(name string) (string, bool) {
	out := make([]byte, 0, len(name))
	for i := 0; i < len(name); i++ {
		if name[i] != '\\' {
			out = append(out, name[i])
			continue
		}
		if i+3 >= len(name) {
			return "", false
		}
		b, err := strconv.ParseUint(name[i+1:i+4], 10, 8)
		if err != nil || b < 0x80 {
			return "", false
		}
		out = append(out, byte(b))
		i += 3
	}
	return string(out), true
}

// canonical is a name of the wire as the rest of the proxy spells it: lower
// case, no final dot.
func canonical(name string) string { return strings.TrimSuffix(strings.ToLower(name), ".") }
