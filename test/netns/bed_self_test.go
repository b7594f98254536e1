package netns

import "testing"

// What the tests ask of their client holds without any proxy: a failure
// elsewhere is then the proxy's.
func TestTheClientWorksWithoutAProxy(t *testing.T) {
	asEachUser(t, func(b *bed) {
		if _, err := b.TCP(at(other4, 2525), greet); err != nil {
			b.Fatal(err)
		}
		for _, c := range []struct{ script, want string }{
			{"client get 3 http://www.baidu.com", "3 200 the page"},
			{"client load http://www.baidu.com < /dev/null", "200 the page"},
			{"client hold 203.0.113.20:2525 < /dev/null || true", "failed:"},
			{"echo hi | client raw 203.0.113.20:2525", "220 welcome\r\nhi\n\nbye\n"},
			{"client mptcp http://www.baidu.com", "200 the page"},
			{"client many 1000 www.baidu.com:80 www.baidu.com", "1000 of 1000 answered"},
			{"client echo http://www.baidu.com/echo 3000000 length", "every one the same"},
			{"client echo http://www.baidu.com/echo 3000000 chunked", "every one the same"},
			{"client fetch http://www.baidu.com/chunks/3000000 3000000", "every one the same"},
			{"client upgrade www.baidu.com:80 www.baidu.com", "upgraded"},
			{"client expect www.baidu.com:80 www.baidu.com", "200 body"},
			{"busybox nslookup www.baidu.com", baidu4.String()},
			{"curl -s --http2-prior-knowledge -w '%{http_version}' http://www.baidu.com", "the page\n2"},
			{"curl -sk https://www.baidu.com", "the secure page"},
			{"curl -sS -m 5 http://192.168.0.100 2>&1 || echo none", "none"},
			{"client udp 198.51.100.10:443 || true", "failed:"},
		} {
			b.want(c.script, b.host("", "sh", "-c", c.script), 0, c.want)
		}
	})
}
