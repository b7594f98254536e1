package listener

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/sniff"
	"github.com/fairlead/fairlead/internal/proxy/transport"
	"github.com/fairlead/fairlead/internal/xds"
)

const (
	// inspectSize bounds what is read before a chain is chosen: a ClientHello at
	// its limit, with the headers of its records.
	inspectSize = sniff.MaxHello + 64*5
	// slowHello bounds the time from the first byte to the verdict. Bytes of which none
	// is expected any more have as long as a silent caller.
	slowHello = 5 * time.Second
	// silence bounds the time without a first byte where configuration sets no
	// limit: a pre-warmed connection has to stay, a forgotten one not for ever.
	silence = time.Hour
)

// buffers holds *[inspectSize]byte between inspections.
var buffers = sync.Pool{New: func() any { return new([inspectSize]byte) }}

// A finding is what the first bytes of a connection say.
type finding struct {
	tls         bool
	serverName  string
	application []string
}

// The application protocols of HTTP, as findings.
var applications = map[string][]string{
	sniff.HTTP11: {sniff.HTTP11},
	sniff.HTTP10: {sniff.HTTP10},
	sniff.H2C:    {sniff.H2C},
}

// judge tells what b, the first bytes of a connection to dst, are for l, which looks
// for TLS or HTTP. It returns for how long after the first of them more may change that, 0
// if they cannot; what it found so far then is the best guess.
func judge(b []byte, l *config.Listener, dst netip.Addr) (f finding, patience time.Duration) {
	if l.InspectTLS {
		hello, v := sniff.ClientHello(b)
		switch v {
		case sniff.Yes:
			return finding{tls: true, serverName: hello.ServerName, application: hello.Protocols}, 0
		case sniff.More:
			patience = slowHello
		case sniff.No, sniff.Unlikely:
		}
	}
	if !l.InspectHTTP {
		return finding{}, patience
	}
	application, v := sniff.HTTP(b)
	switch v {
	case sniff.More:
		patience = slowHello
	case sniff.Unlikely:
		patience = max(patience, min(cmp.Or(l.InspectTimeout, hush), slowHello))
	case sniff.Yes, sniff.No:
	}
	if (v == sniff.No || v == sniff.Unlikely) && declared(l, dst) {
		switch sniff.Means(b) {
		case sniff.Yes: // which l7 will tell what is wrong with
			application, patience = sniff.HTTP11, 0
		case sniff.More:
			patience = slowHello
		case sniff.No, sniff.Unlikely:
		}
	}
	return finding{application: applications[application]}, patience
}

// declared reports that l is there for requests, and bytes to dst would go where
// nothing is declared.
func declared(l *config.Listener, dst netip.Addr) bool {
	if l.Name == xds.VirtualOutbound {
		return false
	}
	chain := Match(nil, l, factsOf(dst, finding{}))
	return chain == nil || chain.TCP != nil && (chain.TCP.Cluster == xds.BlackHoleCluster || chain.TCP.Cluster == xds.PassthroughCluster)
}

// errSilent means that the caller ended without a word.
var errSilent = errors.New("the caller ended the connection before it sent anything")

// An outlook is what is to come of a caller who stays silent.
type outlook struct {
	patience time.Duration // for how long it may; 0: no limit but silence
	// guess asks the server then. Nil: silence is the verdict.
	guess func() *guess
}

// inspect finds out what c, which is to dst, is for l. The bytes that it reads are given back to c;
// while nothing comes, no buffer is held. lookout is asked only if nothing has come
// yet: nearly all callers speak at once, and cost no more than a look. The end of
// ctx closes c while it is waited for. A guess that was made is returned. The
// error says that there is nobody to serve; then there is no guess.
func inspect(ctx context.Context, c *transport.Conn, l *config.Listener, dst netip.Addr, lookout func() outlook) (f finding, g *guess, err error) {
	spoke := !c.Alive()
	if !spoke {
		if g, spoke, err = await(ctx, c, lookout()); err != nil || !spoke {
			return finding{}, g, err
		}
	}
	if f, err = read(ctx, c, l, dst); err != nil {
		g.drop()
		return f, nil, err
	}
	return f, g, nil
}

// closes makes the end of ctx close c: a connection on which nothing was asked
// by then is not worth a drain. stop ends that.
func closes(ctx context.Context, c *transport.Conn) (stop func() bool) {
	return context.AfterFunc(ctx, func() { _ = c.Close() })
}

// await waits for the first word, and reports whether it is the caller's: not if
// the server spoke first, or nobody in time.
func await(ctx context.Context, c *transport.Conn, o outlook) (g *guess, spoke bool, err error) {
	defer closes(ctx, c)()
	c.SetTimeout(silence)
	defer c.SetTimeout(0)
	if o.patience > 0 {
		quiet, err := hushed(c, time.Now().Add(o.patience))
		if err != nil || !quiet || o.guess == nil {
			return nil, !quiet, err
		}
		g = o.guess()
	}
	err = c.WaitReadable()
	switch {
	case g == nil:
		return nil, err == nil, err
	case err == nil && g.callerFirst():
		return g, true, nil
	case g.serverFirst():
		return g, false, c.SetReadDeadline(time.Time{})
	}
	g.drop()
	return nil, false, err
}

// hushed waits until c can be read, or reports that nothing came in time.
func hushed(c *transport.Conn, until time.Time) (bool, error) {
	if err := c.SetReadDeadline(until); err != nil {
		return false, err
	}
	err := c.WaitReadable()
	if err != nil && !outOfTime(c, err) {
		return false, err
	}
	// Where there is no descriptor to wait on, the end of time is left for Read.
	quiet := err != nil || !time.Now().Before(until) && c.Alive()
	return quiet, c.SetReadDeadline(time.Time{})
}

// read reads the first bytes of c as far as l needs them and gives them back.
func read(ctx context.Context, c *transport.Conn, l *config.Listener, dst netip.Addr) (f finding, err error) {
	buf, _ := buffers.Get().(*[inspectSize]byte)
	defer buffers.Put(buf)
	n := 0
	defer func() { c.Unread(bytes.Clone(buf[:n])) }()
	var patience time.Duration
	var began time.Time // of a second read
	for n < len(buf) {
		m, err := c.Read(buf[n:])
		first := n == 0
		if n += m; m > 0 {
			f, patience = judge(buf[:n], l, dst)
		}
		switch {
		case err == nil:
		case n == 0 && !outOfTime(c, err):
			return f, errSilent
		default:
			// Out of time, ended or broken: what is known decides, and whoever
			// reads next meets the end or the error again.
			return f, nil
		}
		if patience == 0 {
			break
		}
		if first {
			defer closes(ctx, c)()
			began = time.Now()
			defer c.SetReadDeadline(time.Time{}) //nolint:errcheck // it fails only on a closed Conn
		}
		if err := c.SetReadDeadline(began.Add(patience)); err != nil {
			return f, err
		}
	}
	return f, nil
}

// outOfTime reports that a read deadline ran out while the Conn lives on.
func outOfTime(c *transport.Conn, err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !c.TimedOut()
}
