package netns

import (
	"bufio"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"

	"github.com/fairlead/fairlead/test/world"
)

// clientMain is this test binary inside a sandbox: `client VERB ARG…` does what
// curl cannot and says in plain lines what came of it.
func clientMain(verb string, args []string) int {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	verbs := map[string]func(context.Context, []string) error{
		"get": clientGet, "load": clientLoad, "hold": clientHold, "raw": clientRaw, "udp": clientUDP,
		"mptcp": clientMPTCP, "many": clientMany, "echo": clientEcho, "fetch": clientFetch,
		"stall": clientStall, "upgrade": clientUpgrade, "expect": clientExpect, "lookup": clientLookup,
	}
	do := verbs[verb]
	if do == nil {
		fmt.Fprintln(os.Stderr, "unknown verb", verb)
		return 2
	}
	if err := do(ctx, args); err != nil {
		fmt.Println("failed:", err)
		return 1
	}
	return 0
}

// get N URL: N requests one after the other; prints how often what came.
func clientGet(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	seen := map[string]int{}
	for range n {
		seen[once(ctx, http.DefaultClient, http.MethodGet, args[1])]++
	}
	var lines []string
	for what, count := range seen {
		lines = append(lines, fmt.Sprintf("%d %s", count, what))
	}
	slices.Sort(lines)
	fmt.Println(strings.Join(lines, "\n"))
	return nil
}

func once(ctx context.Context, c *http.Client, method, url string) string {
	r, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return err.Error()
	}
	a, err := c.Do(r)
	if err != nil {
		return err.Error()
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	if err != nil {
		return err.Error()
	}
	line, _, _ := strings.Cut(string(body), "\n")
	return strconv.Itoa(a.StatusCode) + " " + line
}

// load URL [fresh|post|h2]: requests without a pause until standard input ends,
// each on a connection of its own if they are to be fresh, or as POST, which
// nobody sends twice, or on HTTP/2; prints when each began, when it ended (both in
// ns), and what came.
func clientLoad(ctx context.Context, args []string) error {
	ctx, stop := untilStdin(ctx)
	defer stop()
	out := bufio.NewWriter(os.Stdout)
	way := strings.Join(args[1:], " ")
	t := &http.Transport{DisableKeepAlives: way == "fresh", TLSClientConfig: &tls.Config{InsecureSkipVerify: true}}
	method := http.MethodGet
	switch way {
	case "post":
		method = http.MethodPost
	case "h2":
		t.Protocols = new(http.Protocols)
		t.Protocols.SetUnencryptedHTTP2(true)
	}
	c := &http.Client{Transport: t}
	for more := true; more; more = ctx.Err() == nil {
		begin := time.Now()
		what := once(context.WithoutCancel(ctx), c, method, args[0])
		fmt.Fprintln(out, begin.UnixNano(), time.Now().UnixNano(), what)
		if err := out.Flush(); err != nil {
			return err
		}
		time.Sleep(2 * time.Millisecond)
	}
	return nil
}

// hold ADDR: one connection to an echo, used until standard input ends.
func clientHold(ctx context.Context, args []string) error {
	ctx, stop := untilStdin(ctx)
	defer stop()
	c, err := dial(ctx, "tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	r := bufio.NewReader(c)
	for n := 1; ; n++ {
		if _, err := fmt.Fprintf(c, "line %d\n", n); err != nil {
			return fmt.Errorf("after %d lines: %w", n, err)
		}
		got, err := r.ReadString('\n')
		if err != nil || got != fmt.Sprintf("line %d\n", n) {
			return fmt.Errorf("after %d lines: got %q, %w", n, got, err)
		}
		if n == 1 {
			fmt.Println("holding")
		}
		if ctx.Err() != nil {
			fmt.Println("held")
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// stall N ADDR HOST PATH: N requests whose answers nobody reads, until standard
// input ends.
func clientStall(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	for range n {
		c, err := dial(ctx, "tcp", args[1])
		if err != nil {
			return err
		}
		defer c.Close()
		fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: %s\r\n\r\n", args[3], args[2])
	}
	fmt.Println("stalling")
	_, err = io.Copy(io.Discard, os.Stdin)
	return err
}

func untilStdin(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin)
		cancel()
	}()
	return ctx, cancel
}

// raw ADDR: standard input to the peer, then end of our half, and all that
// comes back to standard output.
func clientRaw(ctx context.Context, args []string) error {
	c, err := dial(ctx, "tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := io.Copy(c, os.Stdin); err != nil {
		return err
	}
	half := c.(*net.TCPConn).CloseWrite() // fails after a reset; the read then says so
	_, err = io.Copy(os.Stdout, c)
	return errors.Join(err, half)
}

func dial(ctx context.Context, network, to string) (net.Conn, error) {
	var d net.Dialer
	d.SetMultipathTCP(false)
	c, err := d.DialContext(ctx, network, to)
	if err != nil {
		return nil, err
	}
	return c, c.SetDeadline(time.Now().Add(time.Minute))
}

// udp ADDR: one datagram; prints what the caller is told.
func clientUDP(ctx context.Context, args []string) error {
	c, err := dial(ctx, "udp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte("anybody?")); err != nil {
		return err
	}
	if err := c.SetReadDeadline(time.Now().Add(5 * time.Second)); err != nil {
		return err
	}
	_, err = c.Read(make([]byte, 100))
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return errors.New("nobody said anything: the datagram vanished")
	}
	if err != nil {
		return err
	}
	fmt.Println("an answer came")
	return nil
}

// mptcp URL: one request over MPTCP.
func clientMPTCP(ctx context.Context, args []string) error {
	d := new(net.Dialer)
	d.SetMultipathTCP(true)
	c := &http.Client{Transport: &http.Transport{DialContext: d.DialContext}}
	fmt.Println(once(ctx, c, http.MethodGet, args[0]))
	return nil
}

// many N ADDR HOST: N connections that are all open when the first is used.
func clientMany(ctx context.Context, args []string) error {
	n, err := strconv.Atoi(args[0])
	if err != nil {
		return err
	}
	var open, done sync.WaitGroup
	open.Add(n)
	failed := make(chan error, n)
	for range n {
		done.Go(func() {
			c, err := dial(ctx, "tcp", args[1])
			open.Done()
			open.Wait()
			if err != nil {
				failed <- err
				return
			}
			defer c.Close()
			fmt.Fprintf(c, "GET / HTTP/1.1\r\nHost: %s\r\n\r\n", args[2])
			a, err := http.ReadResponse(bufio.NewReader(c), nil)
			if err != nil {
				failed <- err
				return
			}
			defer a.Body.Close()
			if body, err := io.ReadAll(a.Body); err != nil || a.StatusCode != http.StatusOK {
				failed <- fmt.Errorf("status %d %q: %w", a.StatusCode, body, err)
			}
		})
	}
	done.Wait()
	close(failed)
	bad := 0
	for err := range failed {
		if bad == 0 {
			fmt.Println("first failure:", err)
		}
		bad++
	}
	fmt.Printf("%d of %d answered\n", n-bad, n)
	return nil
}

// pattern reads the first n bytes of the world's pattern.
type pattern struct{ at, n int64 }

func (p *pattern) Read(b []byte) (int, error) {
	if p.at >= p.n {
		return 0, io.EOF
	}
	if rest := p.n - p.at; int64(len(b)) > rest {
		b = b[:rest]
	}
	world.Pattern(b, p.at)
	p.at += int64(len(b))
	return len(b), nil
}

// echo URL N length|chunked: N bytes up, and the same down at the same time.
func clientEcho(ctx context.Context, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, args[0], &pattern{n: n})
	if err != nil {
		return err
	}
	if args[2] == "length" {
		r.ContentLength = n
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	if chunked := slices.Contains(a.TransferEncoding, "chunked"); chunked != (args[2] == "chunked") {
		return fmt.Errorf("sent %s, came back with transfer encoding %q", args[2], a.TransferEncoding)
	}
	return same(a.Body, n)
}

// fetch URL N: a body that must be N bytes of the pattern.
func clientFetch(ctx context.Context, args []string) error {
	n, err := strconv.ParseInt(args[1], 10, 64)
	if err != nil {
		return err
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, args[0], nil)
	if err != nil {
		return err
	}
	a, err := http.DefaultClient.Do(r)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	return same(a.Body, n)
}

func same(body io.Reader, n int64) error {
	want, got := sha256.New(), sha256.New()
	if _, err := io.Copy(want, &pattern{n: n}); err != nil {
		return err
	}
	came, err := io.Copy(got, body)
	if err != nil {
		return fmt.Errorf("after %d bytes: %w", came, err)
	}
	if w, g := hex.EncodeToString(want.Sum(nil)), hex.EncodeToString(got.Sum(nil)); w != g {
		return fmt.Errorf("%d bytes with sum %s, want %d with %s", came, g, n, w)
	}
	fmt.Println(came, "bytes, every one the same")
	return nil
}

// upgrade ADDR HOST: a WebSocket handshake, then a talk that never was HTTP.
func clientUpgrade(ctx context.Context, args []string) error {
	c, err := dial(ctx, "tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "GET /upgrade HTTP/1.1\r\nHost: %s\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"+
		"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n", args[1])
	r := bufio.NewReader(c)
	a, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	if a.StatusCode != http.StatusSwitchingProtocols || a.Header.Get("Upgrade") != "websocket" {
		return fmt.Errorf("status %d, upgrade %q", a.StatusCode, a.Header.Get("Upgrade"))
	}
	for i := range 100 {
		words := fmt.Sprintf("\x00\xff frame %d\n", i)
		if _, err := io.WriteString(c, words); err != nil {
			return err
		}
		if got, err := r.ReadString('\n'); err != nil || got != words {
			return fmt.Errorf("frame %d: got %q, %w", i, got, err)
		}
	}
	fmt.Println("upgraded")
	return nil
}

// lookup SERVER NAME: one question over TCP; prints the answer.
func clientLookup(ctx context.Context, args []string) error {
	c := &dns.Client{Net: "tcp", Timeout: 20 * time.Second}
	a, _, err := c.ExchangeContext(ctx, new(dns.Msg).SetQuestion(dns.Fqdn(args[1]), dns.TypeA), args[0])
	if err != nil {
		return err
	}
	fmt.Println(a)
	return nil
}

// expect ADDR HOST: waits for 100 before it sends its body.
func clientExpect(ctx context.Context, args []string) error {
	c, err := dial(ctx, "tcp", args[0])
	if err != nil {
		return err
	}
	defer c.Close()
	fmt.Fprintf(c, "POST /echo HTTP/1.1\r\nHost: %s\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\n", args[1])
	r := bufio.NewReader(c)
	line, err := r.ReadString('\n')
	if err != nil || !strings.HasPrefix(line, "HTTP/1.1 100") {
		return fmt.Errorf("want 100 first, got %q, %w", line, err)
	}
	if line, err = r.ReadString('\n'); err != nil || line != "\r\n" {
		return fmt.Errorf("after 100 came %q, %w", line, err)
	}
	if _, err := io.WriteString(c, "body"); err != nil {
		return err
	}
	a, err := http.ReadResponse(r, nil)
	if err != nil {
		return err
	}
	defer a.Body.Close()
	body, err := io.ReadAll(a.Body)
	fmt.Printf("%d %s\n", a.StatusCode, body)
	return err
}
