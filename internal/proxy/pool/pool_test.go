package pool

import (
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/fairlead/fairlead/internal/proxy/transport"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// A peer accepts connections and keeps its ends, in order.
type peer struct {
	t     *testing.T
	ln    net.Listener
	conns []net.Conn
}

func newPeer(t *testing.T) *peer {
	t.Helper()
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &peer{t: t, ln: ln}
	t.Cleanup(func() {
		ln.Close()
		for _, c := range p.conns {
			c.Close()
		}
	})
	return p
}

// dial returns our end of a new connection.
func (p *peer) dial() *transport.Conn {
	p.t.Helper()
	c, err := net.Dial("tcp", p.ln.Addr().String())
	if err != nil {
		p.t.Fatal(err)
	}
	theirs, err := p.ln.Accept()
	if err != nil {
		p.t.Fatal(err)
	}
	p.conns = append(p.conns, theirs)
	p.t.Cleanup(func() { c.Close() })
	return transport.New(c, nil)
}

func isClosed(c *transport.Conn) bool {
	_, err := c.Write([]byte("x"))
	return errors.Is(err, net.ErrClosed)
}

func TestMostRecentlyUsedFirst(t *testing.T) {
	var p Pool
	if p.Take() != nil {
		t.Fatal("took from an empty pool")
	}
	up := newPeer(t)
	a, b := up.dial(), up.dial()
	p.Put(a)
	p.Put(b)
	if got := p.Take(); got != b {
		t.Error("took another than the one put last")
	}
	if got := p.Take(); got != a {
		t.Error("took another than the one put first")
	}
	if p.Take() != nil {
		t.Error("took more than was put")
	}
}

func TestPutDisarmsTheTimeout(t *testing.T) {
	var p Pool
	c := newPeer(t).dial()
	c.SetTimeout(time.Millisecond)
	p.Put(c)
	time.Sleep(2 * time.Millisecond)
	if !isOpen(c) {
		t.Error("an idle connection timed out")
	}
}

func isOpen(c *transport.Conn) bool {
	_, err := c.Write([]byte("x"))
	return err == nil
}

func TestSweepClosesWhatThePeerEnded(t *testing.T) {
	var p Pool
	up := newPeer(t)
	var conns []*transport.Conn
	for range 100 { // more than a batch
		conns = append(conns, up.dial())
		p.Put(conns[len(conns)-1])
	}
	for i, c := range up.conns {
		if i%3 != 1 {
			c.Close()
		}
	}
	eventually(t, func() bool {
		for i, c := range conns {
			if c.Alive() != (i%3 == 1) {
				return false
			}
		}
		return true
	})
	p.Sweep(time.Unix(1000, 0))
	if got := p.Len(); got != 33 {
		t.Errorf("%d kept, want 33", got)
	}
	for i := 97; i >= 0; i -= 3 {
		if got := p.Take(); got != conns[i] {
			t.Fatalf("order lost at %d", i)
		}
	}
	for i, c := range conns {
		if i%3 != 1 && !isClosed(c) {
			t.Errorf("connection %d of a peer that ended is open", i)
		}
	}
}

func TestSweepClosesWhatIsIdleForAnHour(t *testing.T) {
	var p Pool
	up := newPeer(t)
	begin := time.Unix(1000, 0)
	p.Sweep(begin)
	old, used := up.dial(), up.dial()
	p.Put(old)
	p.Put(used)
	p.Sweep(begin.Add(30 * time.Minute))
	p.Put(p.Take())
	p.Sweep(begin.Add(59 * time.Minute))
	if got := p.Len(); got != 2 {
		t.Fatalf("%d kept after 59 minutes, want 2", got)
	}
	p.Sweep(begin.Add(61 * time.Minute))
	if p.Len() != 1 || !isClosed(old) {
		t.Errorf("%d kept after 61 minutes, want the used one only", p.Len())
	}
	p.Sweep(begin.Add(91 * time.Minute))
	if p.Len() != 0 || !isClosed(used) {
		t.Error("the used one was kept for more than an hour")
	}
}

func TestNoMoreThanMaxIdleAreKept(t *testing.T) {
	var p Pool
	up := newPeer(t)
	for range MaxIdle {
		a, b := net.Pipe()
		t.Cleanup(func() { a.Close(); b.Close() })
		p.Put(transport.New(a, nil))
	}
	c := up.dial()
	p.Put(c)
	if p.Len() != MaxIdle || !isClosed(c) {
		t.Errorf("%d kept, the one too many closed: %v", p.Len(), isClosed(c))
	}
	p.Close()
}

func TestCloseClosesWhatIsKeptAndWhatComesLater(t *testing.T) {
	var p Pool
	up := newPeer(t)
	kept, out := up.dial(), up.dial()
	p.Put(kept)
	p.Close()
	if !isClosed(kept) {
		t.Error("a kept connection is open")
	}
	if !isOpen(out) {
		t.Error("a connection in use was closed")
	}
	p.Put(out)
	if !isClosed(out) || p.Len() != 0 {
		t.Error("a connection put later is open")
	}
}

// Between two batches of a Sweep the Pool may shrink below the place reached.
func TestSweepOutlivesTakersOfMost(t *testing.T) {
	for name, shrink := range map[string]func(*Pool){
		"taken": func(p *Pool) {
			for range 30 {
				p.Take()
			}
		},
		"closed": func(p *Pool) { p.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			var p Pool
			up := newPeer(t)
			for range batch + 8 {
				p.Put(up.dial())
			}
			now := time.Unix(1000, 0)
			next, _ := p.sweepBatch(now, 0, nil)
			if next != batch {
				t.Fatalf("the first batch ended at %d, want %d", next, batch)
			}
			shrink(&p)
			left := p.Len()
			if next, gone := p.sweepBatch(now, next, nil); next != -1 || len(gone) > 0 || p.Len() != left {
				t.Errorf("then place %d, %d to close, %d kept; want the end, none and %d", next, len(gone), p.Len(), left)
			}
		})
	}
}

func TestConcurrentUse(t *testing.T) {
	var p Pool
	up := newPeer(t)
	for range 50 {
		p.Put(up.dial())
	}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			var taken []*transport.Conn
			for range 100 {
				for range 12 { // together most of them, so that places vanish under Sweep
					if c := p.Take(); c != nil {
						taken = append(taken, c)
					}
				}
				for _, c := range taken {
					p.Put(c)
				}
				taken = taken[:0]
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			p.Sweep(time.Unix(int64(i), 0))
		}
	})
	wg.Wait()
	if got := p.Len(); got != 50 {
		t.Errorf("%d kept, want 50", got)
	}
	p.Close()
}

func TestTakeAndPutAllocateNothing(t *testing.T) {
	var p Pool
	p.Put(newPeer(t).dial())
	if n := testing.AllocsPerRun(100, func() { p.Put(p.Take()) }); n > 0.5 {
		t.Errorf("%v allocations", n)
	}
}

func eventually(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("not within a minute")
		}
	}
}

func BenchmarkTakePut(b *testing.B) {
	a, c := net.Pipe()
	defer a.Close()
	defer c.Close()
	var p Pool
	conn := transport.New(a, nil)
	var s transport.Sweeper
	s.Adopt(conn)
	p.Put(conn)
	for b.Loop() {
		p.Put(p.Take())
	}
}
