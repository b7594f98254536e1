package world

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log"
	"math/big"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// A Site is a web server of the internet. Its paths:
//
//	/             the page, once the request's body has come
//	/request      the request as JSON: method, uri, host, headers
//	/echo         the request's body, as it comes
//	/sum          the SHA-256 of the request's body in hex, a space, its length
//	/bytes/N      N bytes of Pattern with a Content-Length
//	/chunks/N     N bytes of Pattern without one
//	/slow/D       the page after a duration
//	/status/N     an answer with that status
//	/upgrade      101 for any Upgrade, then every byte comes back
//
// It is safe for concurrent use.
type Site struct {
	page     string
	requests atomic.Int64
	conns    atomic.Int64
	hosts    sync.Map // Host header -> *atomic.Int64
}

// Pattern fills p with the bytes that a Site sends at offset: they repeat
// after a prime, so that a lost or doubled buffer shows.
func Pattern(p []byte, offset int64) {
	for i := range p {
		p[i] = byte((offset + int64(i)) % 251)
	}
}

// HTTP opens a web server with that page at each address.
func (w *World) HTTP(page string, at ...netip.AddrPort) (*Site, error) {
	return w.site(page, nil, at)
}

// HTTPS opens a web server behind TLS, with a certificate it signed itself for
// the names.
func (w *World) HTTPS(page string, names []string, at ...netip.AddrPort) (*Site, error) {
	cert, err := selfSigned(names)
	if err != nil {
		return nil, err
	}
	return w.site(page, &tls.Config{Certificates: []tls.Certificate{cert}, MinVersion: tls.VersionTLS12}, at)
}

func (w *World) site(page string, secure *tls.Config, at []netip.AddrPort) (*Site, error) {
	s := &Site{page: page}
	mux := http.NewServeMux()
	mux.HandleFunc("/", s.serveDefault)
	mux.HandleFunc("/request", s.serveRequest)
	mux.HandleFunc("/echo", s.serveEcho)
	mux.HandleFunc("/sum", s.serveSum)
	mux.HandleFunc("/bytes/{n}", s.serveBytes)
	mux.HandleFunc("/chunks/{n}", s.serveBytes)
	mux.HandleFunc("/slow/{d}", s.serveSlow)
	mux.HandleFunc("/status/{n}", s.serveStatus)
	mux.HandleFunc("/upgrade", s.serveUpgrade)
	server := &http.Server{
		Handler: http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
			s.requests.Add(1)
			n, _ := s.hosts.LoadOrStore(r.Host, new(atomic.Int64))
			n.(*atomic.Int64).Add(1)
			mux.ServeHTTP(out, r)
		}),
		ConnState: func(_ net.Conn, state http.ConnState) {
			if state == http.StateNew {
				s.conns.Add(1)
			}
		},
		ReadHeaderTimeout: time.Minute,
		TLSConfig:         secure,
		ErrorLog:          log.New(io.Discard, "", 0), // clients that go away are a part of tests
	}
	if secure == nil {
		server.Protocols = new(http.Protocols)
		server.Protocols.SetHTTP1(true)
		server.Protocols.SetUnencryptedHTTP2(true)
	}
	var serving sync.WaitGroup
	for _, a := range at {
		l, err := w.listen(a)
		if err != nil {
			return nil, errors.Join(err, server.Close())
		}
		if secure != nil {
			l = tls.NewListener(l, secure)
		}
		serving.Go(func() { _ = server.Serve(l) }) // ends by Close
	}
	w.atClose(func() error {
		err := server.Close()
		serving.Wait()
		return err
	})
	return s, nil
}

// Requests is how many requests have come.
func (s *Site) Requests() int64 { return s.requests.Load() }

// Connections is how many connections have come.
func (s *Site) Connections() int64 { return s.conns.Load() }

// RequestsFor is how many requests had this Host header.
func (s *Site) RequestsFor(host string) int64 {
	n, ok := s.hosts.Load(host)
	if !ok {
		return 0
	}
	return n.(*atomic.Int64).Load()
}

func (s *Site) serveDefault(out http.ResponseWriter, r *http.Request) {
	if r.URL.Path != "/" {
		http.NotFound(out, r)
		return
	}
	if _, err := io.Copy(io.Discard, r.Body); err != nil {
		return // a page is for a whole request
	}
	out.Header().Set("Content-Type", "text/plain")
	_, _ = io.WriteString(out, s.page)
}

func (s *Site) serveRequest(out http.ResponseWriter, r *http.Request) {
	out.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(out).Encode(map[string]any{
		"method": r.Method, "uri": r.RequestURI, "host": r.Host, "headers": r.Header, "encoding": r.TransferEncoding,
	})
}

func (s *Site) serveEcho(out http.ResponseWriter, r *http.Request) {
	flow := http.NewResponseController(out)
	_ = flow.EnableFullDuplex()
	if r.ContentLength >= 0 {
		out.Header().Set("Content-Length", strconv.FormatInt(r.ContentLength, 10))
	}
	out.Header().Set("Content-Type", "application/octet-stream")
	p := make([]byte, 64<<10)
	for {
		n, err := r.Body.Read(p)
		if n > 0 {
			if _, werr := out.Write(p[:n]); werr != nil {
				return
			}
			if r.ContentLength < 0 {
				_ = flow.Flush()
			}
		}
		if err != nil {
			return
		}
	}
}

func (s *Site) serveSum(out http.ResponseWriter, r *http.Request) {
	h := sha256.New()
	n, err := io.Copy(h, r.Body)
	if err != nil {
		http.Error(out, err.Error(), http.StatusBadRequest)
		return
	}
	_, _ = fmt.Fprintf(out, "%s %d", hex.EncodeToString(h.Sum(nil)), n)
}

func (s *Site) serveBytes(out http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 {
		http.Error(out, "how many bytes?", http.StatusBadRequest)
		return
	}
	if !strings.HasPrefix(r.URL.Path, "/chunks/") {
		out.Header().Set("Content-Length", strconv.FormatInt(n, 10))
	}
	p := make([]byte, 64<<10)
	for at := int64(0); at < n; at += int64(len(p)) {
		if rest := n - at; rest < int64(len(p)) {
			p = p[:rest]
		}
		Pattern(p, at)
		if _, err := out.Write(p); err != nil {
			return
		}
	}
}

func (s *Site) serveSlow(out http.ResponseWriter, r *http.Request) {
	d, err := time.ParseDuration(r.PathValue("d"))
	if err != nil {
		http.Error(out, "how slow?", http.StatusBadRequest)
		return
	}
	wait := time.NewTimer(d)
	defer wait.Stop()
	select {
	case <-wait.C:
		_, _ = io.WriteString(out, s.page)
	case <-r.Context().Done():
	}
}

func (s *Site) serveStatus(out http.ResponseWriter, r *http.Request) {
	n, err := strconv.Atoi(r.PathValue("n"))
	if err != nil || n < 200 || n > 599 {
		http.Error(out, "which status?", http.StatusBadRequest)
		return
	}
	out.WriteHeader(n)
}

func (s *Site) serveUpgrade(out http.ResponseWriter, r *http.Request) {
	to := r.Header.Get("Upgrade")
	if to == "" {
		http.Error(out, "upgrade to what?", http.StatusUpgradeRequired)
		return
	}
	conn, rw, err := http.NewResponseController(out).Hijack()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_, _ = fmt.Fprintf(rw, "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: %s\r\n\r\n", to)
	if rw.Flush() != nil {
		return
	}
	_, _ = io.Copy(conn, rw.Reader)
}

// TCP opens a server that hands every connection to serve, which owns it until
// it returns; the connection is closed then. served counts them.
func (w *World) TCP(at netip.AddrPort, serve func(*net.TCPConn)) (served *atomic.Int64, err error) {
	l, err := w.listen(at)
	if err != nil {
		return nil, err
	}
	served = new(atomic.Int64)
	ctx, cancel := context.WithCancel(context.Background())
	var serving sync.WaitGroup
	serving.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			served.Add(1)
			serving.Go(func() {
				stop := context.AfterFunc(ctx, func() { _ = c.Close() })
				defer stop()
				defer func() { _ = c.Close() }()
				serve(c.(*net.TCPConn))
			})
		}
	})
	w.atClose(func() error {
		cancel()
		err := l.Close()
		serving.Wait()
		return err
	})
	return served, nil
}

// Echo sends back every byte until the caller ends its half, then says so with
// the words "\nbye\n" on the half that is still open.
func Echo(c *net.TCPConn) {
	if _, err := io.Copy(c, c); err == nil {
		_, _ = io.WriteString(c, "\nbye\n")
	}
}

// Greet returns a server that speaks first, then is an Echo.
func Greet(greeting string) func(*net.TCPConn) {
	return func(c *net.TCPConn) {
		if _, err := io.WriteString(c, greeting); err == nil {
			Echo(c)
		}
	}
}

func selfSigned(names []string) (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("make a key: %w", err)
	}
	now := time.Now()
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1),
		Subject:      pkix.Name{CommonName: names[0]},
		DNSNames:     names,
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.Add(24 * time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("sign a certificate: %w", err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
