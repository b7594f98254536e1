package world_test

import (
	"bytes"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/test/world"
)

// say sends words over TCP, ends its half, and returns all that came back.
func say(w *world.World, to, words string) (said string, err error) {
	var c net.Conn
	if err := w.InHost(func() (err error) { c, err = net.Dial("tcp", to); return err }); err != nil {
		return "", err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		return "", err
	}
	if _, err := io.WriteString(c, words); err != nil {
		return "", err
	}
	if err := c.(*net.TCPConn).CloseWrite(); err != nil {
		return "", err
	}
	all, err := io.ReadAll(c)
	return string(all), err
}

func TestTheHostReachesTheInternetAndNothingElse(t *testing.T) {
	t.Parallel()
	w, err := world.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if cerr := w.Close(); cerr != nil {
			t.Error(cerr)
		}
	})
	four, six := netip.MustParseAddr("198.51.100.7"), netip.MustParseAddr("2001:db8::7")
	w.DNS.Set("www.baidu.com", 60, four, six)
	site, err := w.HTTP("the page", netip.AddrPortFrom(four, 80), netip.AddrPortFrom(six, 80))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.HTTPS("the secret page", []string{"www.baidu.com"}, netip.AddrPortFrom(four, 443)); err != nil {
		t.Fatal(err)
	}
	if _, err := w.TCP(netip.AddrPortFrom(four, 25), world.Greet("220 hello\r\n")); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ command, want string }{
		{"busybox wget -q -O - http://www.baidu.com", "the page"},
		{"curl -s -6 http://www.baidu.com", "the page"},
		{"curl -s -k https://www.baidu.com", "the secret page"},
		{"curl -s --data-binary abc http://www.baidu.com/echo", "abc"},
		{"curl -s --max-time 5 http://192.168.0.100 || echo nobody", "nobody"},
		{"curl -s --max-time 5 http://nowhere.example || echo nobody", "nobody"},
		{"cat /etc/resolv.conf | head -1", "nameserver 10.1.0.1"},
	} {
		var out bytes.Buffer
		cmd := exec.CommandContext(t.Context(), "timeout", "20", "sh", "-c", c.command)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := w.Start(cmd); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // the output tells
		if got := strings.TrimSpace(out.String()); got != c.want {
			t.Errorf("%s\ngot  %q\nwant %q", c.command, got, c.want)
		}
	}
	said, err := say(w, "198.51.100.7:25", "hi")
	if err != nil || said != "220 hello\r\nhi\nbye\n" {
		t.Errorf("the greeter said %q, %v", said, err)
	}
	if got := site.RequestsFor("www.baidu.com"); got != 3 {
		t.Errorf("the site saw %d requests, want 3", got)
	}
	if links, err := net.Interfaces(); err != nil || strings.Contains(links[0].Name, "world") {
		t.Errorf("the test itself has moved into the world: %v %v", links, err)
	}
}
