package exchange

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/miekg/dns"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// sockets are a packet connection and a listener on the same port, at ip.
// Another program may have the port that is free for the one, for the other.
func sockets(t *testing.T, ip string) (*net.UDPConn, *net.TCPListener) {
	t.Helper()
	for range 100 {
		conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.ParseIP(ip)})
		if err != nil {
			t.Fatal(err)
		}
		l, err := net.ListenTCP("tcp", net.TCPAddrFromAddrPort(conn.LocalAddr().(*net.UDPAddr).AddrPort()))
		if err == nil {
			return conn, l
		}
		conn.Close()
	}
	t.Fatalf("no port of %s is free for UDP and TCP", ip)
	return nil, nil
}

// serve answers raw datagrams and TCP messages on one loopback port.
// A nil stream handler leaves TCP closed.
func serve(t *testing.T, ip string, datagram func(q *dns.Msg) [][]byte, stream dns.HandlerFunc) netip.AddrPort {
	t.Helper()
	conn, l := sockets(t, ip)
	if stream == nil {
		l.Close()
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		for {
			n, peer, err := conn.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			q := new(dns.Msg)
			if q.Unpack(buf[:n]) != nil {
				continue
			}
			for _, b := range datagram(q) {
				_, _ = conn.WriteToUDPAddrPort(b, peer)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	if stream != nil {
		s := &dns.Server{Listener: l, Handler: stream}
		ended := make(chan struct{})
		started := make(chan struct{})
		s.NotifyStartedFunc = func() { close(started) }
		go func() { defer close(ended); _ = s.ActivateAndServe() }()
		<-started
		t.Cleanup(func() { _ = s.Shutdown(); <-ended })
	}
	return addr
}

func question() *dns.Msg {
	q := new(dns.Msg)
	q.SetQuestion("www.x.", dns.TypeA)
	q.SetEdns0(UDPSize, false)
	return q
}

// answer is the wire form of an answer to q, changed by f.
func answer(q *dns.Msg, addr string, f func(*dns.Msg)) []byte {
	m := new(dns.Msg)
	m.SetReply(q)
	if addr != "" {
		rr, err := dns.NewRR("www.x. 60 A " + addr)
		if err != nil {
			panic(err)
		}
		m.Answer = append(m.Answer, rr)
	}
	if f != nil {
		f(m)
	}
	b, err := m.Pack()
	if err != nil {
		panic(err)
	}
	return b
}

func TestFault29OnlyWhatBelongsIsBelieved(t *testing.T) {
	for _, ip := range []string{"127.0.0.1", "::1"} {
		t.Run(ip, func(t *testing.T) {
			addr := serve(t, ip, func(q *dns.Msg) [][]byte {
				return [][]byte{
					answer(q, "6.6.6.1", func(m *dns.Msg) { m.Id++ }),
					answer(q, "6.6.6.2", func(m *dns.Msg) { m.Question[0].Name = "bank.x." }),
					answer(q, "6.6.6.3", func(m *dns.Msg) { m.Question[0].Qtype = dns.TypeAAAA }),
					answer(q, "6.6.6.4", func(m *dns.Msg) { m.Question[0].Qclass = dns.ClassCHAOS }),
					answer(q, "6.6.6.5", func(m *dns.Msg) { m.Response = false }),
					answer(q, "6.6.6.6", func(m *dns.Msg) { m.Question = nil }),
					answer(q, "6.6.6.7", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) }),
					answer(q, "6.6.6.8", nil)[:40],
					{1, 2, 3},
					answer(q, "1.1.1.1", func(m *dns.Msg) { m.Question[0].Name = "WWW.x." }),
				}
			}, nil)
			var n Network
			reply, err := n.Exchange(t.Context(), question(), addr)
			if err != nil {
				t.Fatal(err)
			}
			if got := reply.Answer[0].(*dns.A).A.String(); got != "1.1.1.1" {
				t.Errorf("believed %s", got)
			}
			if n.Ignored() != 9 {
				t.Errorf("ignored %d datagrams, want 9", n.Ignored())
			}
		})
	}
}

func TestFault29AnotherSourceIsNotHeard(t *testing.T) {
	stranger, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	defer stranger.Close()
	asked, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 4096)
		n, peer, err := asked.ReadFromUDPAddrPort(buf)
		if err != nil {
			return
		}
		q := new(dns.Msg)
		_ = q.Unpack(buf[:n])
		_, _ = stranger.WriteToUDPAddrPort(answer(q, "6.6.6.6", nil), peer)
		_, _ = asked.WriteToUDPAddrPort(answer(q, "1.1.1.1", nil), peer)
	}()
	defer func() { asked.Close(); <-done }()
	reply, err := new(Network).Exchange(t.Context(), question(), asked.LocalAddr().(*net.UDPAddr).AddrPort())
	if err != nil {
		t.Fatal(err)
	}
	if got := reply.Answer[0].(*dns.A).A.String(); got != "1.1.1.1" {
		t.Errorf("believed %s", got)
	}
}

func TestEveryQuestionHasAnIDOfItsOwn(t *testing.T) {
	var mu sync.Mutex
	ids := map[uint16]bool{}
	addr := serve(t, "127.0.0.1", func(q *dns.Msg) [][]byte {
		mu.Lock()
		defer mu.Unlock()
		ids[q.Id] = true
		return [][]byte{answer(q, "1.1.1.1", nil)}
	}, nil)
	q := question()
	for range 50 {
		if _, err := new(Network).Exchange(t.Context(), q, addr); err != nil {
			t.Fatal(err)
		}
	}
	mu.Lock()
	defer mu.Unlock()
	if len(ids) < 40 {
		t.Errorf("%d ids in 50 questions", len(ids))
	}
}

func TestFault25ATruncatedAnswerIsAskedForOverTCP(t *testing.T) {
	truncated := func(q *dns.Msg) [][]byte {
		return [][]byte{answer(q, "1.1.1.1", func(m *dns.Msg) { m.Truncated = true })}
	}
	cut := func(q *dns.Msg) [][]byte {
		b := answer(q, "1.1.1.1", func(m *dns.Msg) { m.Truncated = true })
		return [][]byte{b[:len(b)-3]}
	}
	whole := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		m := new(dns.Msg)
		m.SetReply(q)
		for range 1000 {
			rr, _ := dns.NewRR("www.x. 60 A 1.1.1.1")
			m.Answer = append(m.Answer, rr)
		}
		_ = w.WriteMsg(m)
	})
	wrong := dns.HandlerFunc(func(w dns.ResponseWriter, q *dns.Msg) {
		q.Id++
		_, _ = w.Write(answer(q, "6.6.6.6", nil))
	})
	tests := []struct {
		name     string
		datagram func(*dns.Msg) [][]byte
		stream   dns.HandlerFunc
		want     int
		err      string
	}{
		{"whole over TCP", truncated, whole, 1000, ""},
		{"cut inside a record", cut, whole, 1000, ""},
		{"TCP refused", truncated, nil, 0, "cannot be asked over TCP, and its answer does not fit a datagram: connection refused"},
		{"wrong id over TCP", truncated, wrong, 0, "answered another question over TCP"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			reply, err := new(Network).Exchange(t.Context(), question(), serve(t, "127.0.0.1", tt.datagram, tt.stream))
			if tt.err != "" {
				if err == nil || err.Error() != tt.err {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if err != nil || len(reply.Answer) != tt.want {
				t.Errorf("error %v, reply %v", err, reply)
			}
		})
	}
}

func TestAServerWithoutEDNSIsAskedAgain(t *testing.T) {
	addr := serve(t, "127.0.0.1", func(q *dns.Msg) [][]byte {
		if q.IsEdns0() != nil {
			return [][]byte{answer(q, "", func(m *dns.Msg) { m.Rcode, m.Question = dns.RcodeFormatError, nil })}
		}
		return [][]byte{answer(q, "1.1.1.1", nil)}
	}, nil)
	reply, err := new(Network).Exchange(t.Context(), question(), addr)
	if err != nil || len(reply.Answer) != 1 {
		t.Errorf("error %v, reply %v", err, reply)
	}
}

func TestTheContextEndsAnExchange(t *testing.T) {
	addr := serve(t, "127.0.0.1", func(*dns.Msg) [][]byte { return nil }, nil)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := new(Network).Exchange(ctx, question(), addr); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %v, want the context's", err)
	}
}

// TestServersInTurn scripts servers: "ok", "nx", "servfail", "refused",
// "silent" or a delay before "ok".
func TestServersInTurn(t *testing.T) {
	a := []netip.AddrPort{netip.MustParseAddrPort("10.0.0.1:53"), netip.MustParseAddrPort("10.0.0.2:53"), netip.MustParseAddrPort("10.0.0.3:53")}
	tests := []struct {
		name  string
		says  []string
		by    int // server whose answer is taken
		asked int
		took  time.Duration
		err   string
	}{
		{"the first", []string{"ok", "ok"}, 0, 1, 0, ""},
		{"NXDOMAIN is an answer", []string{"nx", "ok"}, 0, 1, 0, ""},
		{"SERVFAIL: the next at once", []string{"servfail", "ok"}, 1, 2, 0, ""},
		{"REFUSED: the next at once", []string{"refused", "refused", "ok"}, 2, 3, 0, ""},
		{"silence: the next after a second", []string{"silent", "ok"}, 1, 2, time.Second, ""},
		{"slow, then joined by a silent one", []string{"1500ms", "silent"}, 0, 2, 1500 * time.Millisecond, ""},
		{"all fail", []string{"servfail", "refused"}, 0, 4, 0, "name server 10.0.0.1:53 answered SERVFAIL; name server 10.0.0.2:53 answered REFUSED"},
		{"all silent", []string{"silent", "silent"}, 0, 4, 5 * time.Second, "name server 10.0.0.1:53 gave no answer in time; name server 10.0.0.2:53 gave no answer in time"},
		{"none", nil, 0, 0, 0, ErrNoServer.Error()},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				asked := make(chan int, 10)
				c := Client{Servers: a[:len(tt.says)], Exchange: func(ctx context.Context, q *dns.Msg, s netip.AddrPort) (*dns.Msg, error) {
					i := slices.Index(a, s)
					asked <- i
					reply := new(dns.Msg)
					reply.SetReply(q)
					reply.Id = uint16(i)
					switch what := tt.says[i]; what {
					case "ok":
					case "nx":
						reply.Rcode = dns.RcodeNameError
					case "servfail":
						reply.Rcode = dns.RcodeServerFailure
					case "refused":
						reply.Rcode = dns.RcodeRefused
					default:
						d, err := time.ParseDuration(what)
						if err != nil {
							d = time.Hour
						}
						timer := time.NewTimer(d)
						defer timer.Stop()
						select {
						case <-timer.C:
						case <-ctx.Done():
							return nil, ctx.Err()
						}
					}
					return reply, nil
				}}
				begun := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
				defer cancel()
				reply, err := c.Ask(ctx, question())
				if took := time.Since(begun); took != tt.took {
					t.Errorf("took %s, want %s", took, tt.took)
				}
				if len(asked) != tt.asked {
					t.Errorf("asked %d times, want %d", len(asked), tt.asked)
				}
				switch {
				case tt.err != "":
					if err == nil || err.Error() != tt.err {
						t.Errorf("error %v, want %s", err, tt.err)
					}
				case err != nil || int(reply.Id) != tt.by:
					t.Errorf("error %v, answer %v", err, reply)
				}
			})
		})
	}
}

func TestRefusedConnectionsAreSaidPlainly(t *testing.T) {
	conn, err := net.ListenUDP("udp", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	addr := conn.LocalAddr().(*net.UDPAddr).AddrPort()
	conn.Close()
	c := Client{Servers: []netip.AddrPort{addr}, Exchange: new(Network).Exchange}
	_, err = c.Ask(t.Context(), question())
	if err == nil || !strings.HasSuffix(err.Error(), addr.String()+" did not answer: connection refused") {
		t.Errorf("error %v", err)
	}
}

// TestFault31 has a name server that sends what cannot be read, then silence;
// over TCP, where the first message counts, it is an error.
func TestFault31MalformedAnswersAreIgnored(t *testing.T) {
	datagrams := func(q *dns.Msg) [][]byte {
		good := answer(q, "6.6.6.6", nil)
		circle := append(answer(q, "", nil)[:12], 0xc0, 12, 0, 1, 0, 1)
		lies := slices.Clone(good)
		lies[7] = 200 // records that are not there
		long := slices.Clone(good[:12])
		for range 64 {
			long = append(long, 3, 'a', 'b', 'c')
		}
		long = append(long, 0, 0, 1, 0, 1)
		none := answer(q, "6.6.6.6", func(m *dns.Msg) { m.Question = nil })
		two := answer(q, "6.6.6.6", func(m *dns.Msg) { m.Question = append(m.Question, m.Question[0]) })
		return [][]byte{{}, {1}, good[:11], good[:13], circle, lies, long, none, two}
	}
	addr := serve(t, "127.0.0.1", datagrams, nil)
	var n Network
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for n.Ignored() < 9 && ctx.Err() == nil {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	reply, err := n.Exchange(ctx, question(), addr)
	if !errors.Is(err, context.Canceled) || n.Ignored() != 9 {
		t.Errorf("reply %v, error %v, ignored %d, want 9", reply, err, n.Ignored())
	}

	truncated := func(q *dns.Msg) [][]byte {
		return [][]byte{answer(q, "", func(m *dns.Msg) { m.Truncated = true })}
	}
	for i := range datagrams(question()) {
		addr := serve(t, "127.0.0.1", truncated, func(w dns.ResponseWriter, q *dns.Msg) {
			_, _ = w.Write(datagrams(q)[i])
			_ = w.Close()
		})
		if reply, err := n.Exchange(t.Context(), question(), addr); err == nil {
			t.Errorf("message %d over TCP: %v", i, reply)
		}
	}
}
