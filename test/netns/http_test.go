package netns

import (
	"strings"
	"testing"
)

func TestBodiesPassByteForByte(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "--closed -f "+f)
		for _, c := range []struct{ what, script, want string }{
			{"100 MB both ways", "client echo http://www.baidu.com/echo 100000000 length", "100000000 bytes, every one the same"},
			{"100 MB down", "client fetch http://www.baidu.com/bytes/100000000 100000000", "100000000 bytes, every one the same"},
			{"chunked both ways", "client echo http://www.baidu.com/echo 20000000 chunked", "20000000 bytes, every one the same"},
			{"chunked down", "client fetch http://www.baidu.com/chunks/5000000 5000000", "5000000 bytes, every one the same"},
			{"an empty body", "client fetch http://www.baidu.com/bytes/0 0", "0 bytes, every one the same"},
			{"HEAD", "curl -s -I http://www.baidu.com/bytes/1000 | tr -d '\\r' | grep -i content-length", "1000"},
			{"a status without a body", "curl -s -w %{http_code} http://www.baidu.com/status/204", "204"},
		} {
			b.want(c.what, b.in("client", c.script), 0, c.want)
		}
	})
}

func TestExpectUpgradeAndPipeliningWork(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "--closed -f "+f)
		b.want("Expect: 100-continue", b.in("client", "client expect www.baidu.com:80 www.baidu.com"), 0, "200 body")
		b.want("WebSocket", b.in("client", "client upgrade www.baidu.com:80 www.baidu.com"), 0, "upgraded")
		piped := strings.Repeat(`GET / HTTP/1.1\r\nHost: www.baidu.com\r\n\r\n`, 20)
		r := b.in("client", "printf '"+piped+"' | client raw www.baidu.com:80")
		if n := strings.Count(r.out, "HTTP/1.1 200 OK\r\n"); n != 20 || strings.Count(r.out, "the page\n") != 20 {
			b.Errorf("20 pipelined requests, then half-close: %d answers\n%s", n, r)
		}
	})
}

func TestAThousandConnectionsAtOnce(t *testing.T) {
	asEachUser(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.want("many", b.run("--closed -f "+f, "client many 1000 www.baidu.com:80 www.baidu.com"), 0, "1000 of 1000 answered")
	})
}

func TestWhatBreaksHTTPIsRefused(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry)
		b.background("client", "--closed -f "+f)
		for what, request := range map[string]string{
			"length and chunked": `POST /echo HTTP/1.1\r\nHost: www.baidu.com\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n`,
			"two lengths":        `POST /echo HTTP/1.1\r\nHost: www.baidu.com\r\nContent-Length: 4\r\nContent-Length: 5\r\n\r\nabcde`,
			"two hosts":          `GET / HTTP/1.1\r\nHost: www.baidu.com\r\nHost: other.example\r\n\r\n`,
			"space before colon": `GET / HTTP/1.1\r\nHost: www.baidu.com\r\nX : y\r\n\r\n`,
			"two spaces":         `GET  / HTTP/1.1\r\nHost: www.baidu.com\r\n\r\n`,
			"another version":    `GET / HTTP/1.2\r\nHost: www.baidu.com\r\n\r\n`,
			"no host":            `GET / HTTP/1.1\r\nX: y\r\n\r\n`,
		} {
			b.want(what, b.in("client", "printf '"+request+"' | client raw www.baidu.com:80"), 0, "HTTP/1.1 400 ")
		}
		if n := b.baidu.Requests(); n != 0 {
			b.Errorf("%d of them reached the site", n)
		}
	})
}
