package netns

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/fairlead/fairlead/test/world"
)

// undefined is an entry whose port has no protocol.
func undefined(name, host, port string, more ...string) string {
	return strings.Replace(entry(name, host, port+" any none", more...), ", protocol: none", "", 1)
}

// TestFault51WhoSpeaksFirstDecides has ports without a protocol, under both
// policies: a database that greets, requests on a connection that was idle for
// long, and bytes after silence.
func TestFault51WhoSpeaksFirstDecides(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		greeted, err := b.TCP(at(first, 3306), world.Greet("5.7.42 welcome\r\n"))
		if err != nil {
			b.Fatal(err)
		}
		echoed, err := b.TCP(at(first, 9000), world.Echo)
		if err != nil {
			b.Fatal(err)
		}
		b.DNS.Set("db.example", 60, first)
		b.DNS.Set("web.example", 60, baidu4)
		b.DNS.Set("echo.example", 60, first)
		f := b.file("e.yaml", undefined("db", "db.example", "3306", "resolution: DNS")+"---\n"+
			undefined("echo", "echo.example", "9000", "resolution: DNS")+"---\n"+
			undefined("web", "web.example", "80", "resolution: DNS"))
		for _, policy := range []string{"", "--closed "} {
			name := "client" + strings.TrimLeft(strings.TrimSpace(policy), "-")
			log := b.Dir + "/" + name + ".jsonl"
			b.background(name, policy+"--access-log "+log+" -f "+f)

			// The caller never says a word, and ends its half after a while.
			b.want("a server that greets", b.in(name, "sleep 1 | client raw db.example:3306"), 0, "5.7.42 welcome\r\n\nbye")
			b.want("bytes at once", b.in(name, "printf hello | client raw echo.example:9000"), 0, "hello\nbye")
			b.want("bytes after silence", b.in(name, "(sleep 1; printf hello) | client raw echo.example:9000"), 0, "hello\nbye")

			before := b.baidu.Requests()
			request := `printf 'GET / HTTP/1.1\r\nHost: web.example\r\nConnection: close\r\n\r\n'`
			b.want("a request after silence", b.in(name, "(sleep 2; "+request+") | client raw web.example:80"), 0, "HTTP/1.1 200 OK", "the page")
			if n := b.baidu.Requests() - before; n != 1 {
				b.Errorf("%d requests reached the site, want 1", n)
			}
			b.eventually("one line for each, none for a connection made on a guess", func() error {
				lines := b.accessLog(log)
				if len(lines) != 4 {
					return fmt.Errorf("%d lines", len(lines))
				}
				for _, line := range lines {
					if line["response_flags"] != "-" {
						return fmt.Errorf("flags in %v", line)
					}
				}
				if !hasLine(lines, map[string]any{"protocol": "HTTP/1.1"}) {
					return errors.New("no request among them")
				}
				return nil
			})
		}
		if n := greeted.Load(); n != 2 {
			b.Errorf("%d connections came to the server that greets, want one for each caller", n)
		}
		if n := echoed.Load(); n != 4 {
			b.Errorf("%d connections came to the echo, want one for each caller", n)
		}
	})
}
