package listener

import (
	"bytes"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/proxy/sniff"
	"github.com/fairlead/fairlead/internal/proxy/transport"
)

const (
	// inspectSize bounds what is read before a chain is chosen: a ClientHello at
	// its limit, with the headers of its records.
	inspectSize = sniff.MaxHello + 64*5
	// slowHello bounds the time from the first byte to the verdict.
	slowHello = 5 * time.Second
	// silence bounds the time without a first byte where configuration sets no
	// limit: a pre-warmed connection has to stay, a forgotten one not for ever.
	silence = time.Hour
	// refusal bounds it where every outcome is a refusal: a caller that waits for
	// the server to speak first has to be told, too.
	refusal = time.Second
)

// buffers holds *[inspectSize]byte between inspections.
var buffers = sync.Pool{New: func() any { return new([inspectSize]byte) }}

// A finding is what the first bytes of a connection say.
type finding struct {
	tls         bool
	serverName  string
	application []string
}

// The first lines of HTTP, as findings.
var (
	http11 = []string{"http/1.1"}
	http10 = []string{"http/1.0"}
)

// judge tells what b, the first bytes of a connection, are for a listener that
// looks for TLS or HTTP. It reports whether more bytes could change that; what
// it found so far then is the best guess.
func judge(b []byte, lookTLS, lookHTTP bool) (f finding, more bool) {
	if lookTLS {
		hello, v := sniff.ClientHello(b)
		switch v {
		case sniff.Yes:
			return finding{tls: true, serverName: hello.ServerName, application: hello.Protocols}, false
		case sniff.More:
			more = true
		case sniff.No:
		}
	}
	if !lookHTTP {
		return finding{}, more
	}
	application, v := sniff.HTTP(b)
	switch v {
	case sniff.Yes:
		return finding{application: spoken(application)}, false
	case sniff.More:
		// A method and a space: a request with a long or slow first line. What is
		// wrong with it is for HTTP to say.
		if bytes.IndexByte(b, ' ') > 0 {
			f.application = http11
		}
		more = true
	case sniff.No:
	}
	return f, more
}

// spoken returns the application protocols to match for a first line. HTTP/2
// without TLS is not among them until it is served: it counts as bytes.
func spoken(application string) []string {
	switch application {
	case "http/1.1":
		return http11
	case "http/1.0":
		return http10
	}
	return nil
}

// errSilent means that the caller ended without a word.
var errSilent = errors.New("the caller ended the connection before it sent anything")

// inspect reads the first bytes of c as far as l needs them and gives them back
// to c. A listener that asks nothing about them does not read: there the server
// may have to speak first. While nothing comes, no buffer is held. The error
// says that there is nobody to serve.
func inspect(c *transport.Conn, l *config.Listener, refused bool) (finding, error) {
	if !l.InspectTLS && !l.InspectHTTP {
		return finding{}, nil
	}
	c.SetTimeout(silence)
	defer c.SetTimeout(0)
	patience := l.InspectTimeout
	if refused && (patience <= 0 || patience > refusal) {
		patience = refusal
	}
	if patience > 0 {
		if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return finding{}, err
		}
		defer c.SetReadDeadline(time.Time{}) //nolint:errcheck // it fails only on a closed Conn
	}
	if err := c.WaitReadable(); err != nil {
		if patience > 0 && outOfTime(c, err) {
			return finding{}, nil
		}
		return finding{}, err
	}
	return read(c, l)
}

func read(c *transport.Conn, l *config.Listener) (f finding, err error) {
	buf, _ := buffers.Get().(*[inspectSize]byte)
	defer buffers.Put(buf)
	n := 0
	defer func() { c.Unread(bytes.Clone(buf[:n])) }()
	for more := true; more && n < len(buf); {
		m, err := c.Read(buf[n:])
		n += m
		if m > 0 {
			f, more = judge(buf[:n], l.InspectTLS, l.InspectHTTP)
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
		if more && m == n { // once, after the first bytes
			if err := c.SetReadDeadline(time.Now().Add(slowHello)); err != nil {
				return f, err
			}
			defer c.SetReadDeadline(time.Time{}) //nolint:errcheck // it fails only on a closed Conn
		}
	}
	return f, nil
}

// outOfTime reports that a read deadline ran out while the Conn lives on.
func outOfTime(c *transport.Conn, err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded) && !c.TimedOut()
}
