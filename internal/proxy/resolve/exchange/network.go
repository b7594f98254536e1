package exchange

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/miekg/dns"
)

// UDPSize is the size of datagram we ask for: what passes any path unfragmented.
const UDPSize = 1232

// A Network exchanges messages over UDP, and over TCP where an answer does not
// fit. The zero Network is ready; it is safe for concurrent use.
type Network struct {
	ignored atomic.Uint64
}

// Ignored is how many datagrams came from a server's address without being the
// answer: wrong id, wrong question, malformed.
func (n *Network) Ignored() uint64 { return n.ignored.Load() }

// Exchange is a Func. A server that does not know EDNS is asked again without.
func (n *Network) Exchange(ctx context.Context, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	reply, err := n.exchange(ctx, q, server)
	if err != nil || q.IsEdns0() == nil || reply.Rcode != dns.RcodeFormatError && reply.Rcode != dns.RcodeNotImplemented {
		return reply, err
	}
	plain := q.Copy()
	plain.Extra = nil
	return n.exchange(ctx, plain, server)
}

func (n *Network) exchange(ctx context.Context, q *dns.Msg, server netip.AddrPort) (*dns.Msg, error) {
	q = q.Copy()
	var id [2]byte
	_, _ = rand.Read(id[:]) // never fails
	q.Id = binary.BigEndian.Uint16(id[:])
	wire, err := q.Pack()
	if err != nil {
		return nil, fmt.Errorf("could not be asked: the question cannot be written: %w", err)
	}
	reply, err := n.datagram(ctx, q, wire, server)
	if err != nil || !reply.Truncated {
		return reply, err
	}
	return n.stream(ctx, q, wire, server)
}

func (n *Network) datagram(ctx context.Context, q *dns.Msg, wire []byte, server netip.AddrPort) (*dns.Msg, error) {
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(server))
	if err != nil {
		return nil, fmt.Errorf("cannot be asked: %w", plain(err))
	}
	defer conn.Close()
	defer closeWith(ctx, conn)()
	if _, err = conn.Write(wire); err != nil {
		return nil, fmt.Errorf("cannot be asked: %w", ended(ctx, err))
	}
	buf := make([]byte, 4096)
	for {
		size, err := conn.Read(buf)
		if err != nil {
			return nil, fmt.Errorf("did not answer: %w", ended(ctx, err))
		}
		reply, err := unpack(buf[:size])
		// A server may cut a truncated answer anywhere: its header is enough.
		if err != nil && !reply.Truncated || !belongs(reply, q) {
			n.ignored.Add(1)
			continue
		}
		return reply, nil
	}
}

func (n *Network) stream(ctx context.Context, q *dns.Msg, wire []byte, server netip.AddrPort) (*dns.Msg, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	raw, err := d.DialContext(ctx, "tcp", server.String())
	if err != nil {
		return nil, fmt.Errorf("cannot be asked over TCP, and its answer does not fit a datagram: %w", ended(ctx, err))
	}
	conn := &dns.Conn{Conn: raw}
	defer conn.Close()
	defer closeWith(ctx, raw)()
	if _, err = conn.Write(wire); err != nil {
		return nil, fmt.Errorf("cannot be asked over TCP: %w", ended(ctx, err))
	}
	wire, err = conn.ReadMsgHeader(nil)
	if err != nil {
		return nil, fmt.Errorf("gave no answer over TCP: %w", ended(ctx, err))
	}
	reply, err := unpack(wire)
	if err != nil {
		return nil, fmt.Errorf("gave an answer over TCP that cannot be read: %w", err)
	}
	if !belongs(reply, q) || reply.Truncated {
		return nil, errors.New("answered another question over TCP")
	}
	return reply, nil
}

// unpack reads a message. On error the message holds what was read before.
func unpack(wire []byte) (*dns.Msg, error) {
	m := new(dns.Msg)
	if err := m.Unpack(wire); err != nil {
		return m, err
	}
	// The library takes a message that ends between two records for a whole one.
	counts := []int{len(m.Question), len(m.Answer), len(m.Ns), len(m.Extra)}
	for i, n := range counts {
		if said := binary.BigEndian.Uint16(wire[4+2*i:]); int(said) != n {
			return m, fmt.Errorf("it says that section %d holds %d records and holds %d", i+1, said, n)
		}
	}
	return m, nil
}

// belongs reports whether reply answers q. An error may come without the
// question: a server that could not read it cannot repeat it.
func belongs(reply, q *dns.Msg) bool {
	if reply.Id != q.Id || !reply.Response || reply.Opcode != q.Opcode {
		return false
	}
	if len(reply.Question) == 0 {
		bare := len(reply.Answer)+len(reply.Ns) == 0 && !reply.Truncated
		return bare && (reply.Rcode == dns.RcodeFormatError || reply.Rcode == dns.RcodeNotImplemented)
	}
	a, b := reply.Question[0], q.Question[0]
	return len(reply.Question) == 1 && a.Qtype == b.Qtype && a.Qclass == b.Qclass && strings.EqualFold(a.Name, b.Name)
}

// closeWith makes I/O on conn fail once ctx ends; the result undoes it.
func closeWith(ctx context.Context, conn net.Conn) (undo func()) {
	stop := context.AfterFunc(ctx, func() { _ = conn.SetDeadline(time.Unix(1, 0)) })
	return func() { stop() }
}

// ended prefers the context's reason over the I/O error it caused.
func ended(ctx context.Context, err error) error {
	if cause := ctx.Err(); cause != nil && errors.Is(err, os.ErrDeadlineExceeded) {
		return cause
	}
	return plain(err)
}

// plain takes the system's words out of the net package's wrapping, which
// repeats addresses that the caller names anyway.
func plain(err error) error {
	var errno syscall.Errno
	if errors.As(err, &errno) {
		return errno
	}
	return err
}
