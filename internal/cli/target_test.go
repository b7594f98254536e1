package cli

import (
	"strings"
	"testing"

	"github.com/fairlead/fairlead/internal/admin"
	"github.com/fairlead/fairlead/internal/hostname"
)

func TestWhatIsAskedAbout(t *testing.T) {
	for text, want := range map[string]target{
		"www.baidu.com":                 {"www.baidu.com", 0, ""},
		"WWW.Baidu.com.:80":             {"www.baidu.com", 80, ""},
		"www.baidu.com/index.html":      {"www.baidu.com", 0, ""},
		"https://api.x.com/v1":          {"api.x.com", 443, admin.TLS},
		"HTTP://user:pw@api.x.com?q=1":  {"api.x.com", 80, admin.Requests},
		"https://api.x.com:8443/a:9/b":  {"api.x.com", 8443, admin.TLS},
		"wss://api.x.com":               {"api.x.com", 443, admin.TLS},
		"postgres://db.x.com/orders":    {"db.x.com", 0, ""},
		"postgres://db.x.com:5432/x":    {"db.x.com", 5432, ""},
		"http://[2001:db8::1]/":         {"2001:db8::1", 80, admin.Requests},
		"192.0.2.1":                     {"192.0.2.1", 0, ""},
		"192.0.2.1:80":                  {"192.0.2.1", 80, ""},
		"2001:DB8::1":                   {"2001:db8::1", 0, ""},
		"[2001:db8::1]":                 {"2001:db8::1", 0, ""},
		"[2001:db8::1]:443":             {"2001:db8::1", 443, ""},
		"::ffff:192.0.2.1":              {"192.0.2.1", 0, ""},
		"*.x.com":                       {"*.x.com", 0, ""},
		"*.x.com:443":                   {"*.x.com", 443, ""},
		"*":                             {"*", 0, ""},
		"bücher.example":                {"xn--bcher-kva.example", 0, ""},
		"https://bücher.example:8443/ä": {"xn--bcher-kva.example", 8443, admin.TLS},
	} {
		if got, err := parseTarget(text); got != want || err != nil {
			t.Errorf("%q: got %v, %v; want %v", text, got, err, want)
		}
	}
}

func TestWhatCannotBeAskedAboutIsNamed(t *testing.T) {
	for text, want := range map[string]string{
		"":                   "empty name",
		"a..b":               "empty label",
		"a b":                "not allowed",
		"x.com:0":            "no port",
		"x.com:65536":        "no port",
		"*.x.com:http":       "no port",
		"10.0.0.0/8":         "a range",
		"2001:db8::/32":      "a range",
		"/index.html":        "a path",
		"http://":            "empty name",
		"http://x.com:port/": "no URL",
		"fe80::1%eth0":       "zone",
		"[2001:db8::1":       "bracket",
	} {
		if got, err := parseTarget(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: got %v, %v; want an error that says %q", text, got, err, want)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"x.com", "x.com:80", "https://x.com/", "*.x.com:1", "[::1]:2", "::1", "10.0.0.0/8", "http://%zz", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		got, err := parseTarget(s)
		if err != nil {
			return
		}
		if name, err := hostname.Parse(string(got.host)); name != got.host || err != nil {
			t.Errorf("%q: the host %q is not canonical: %q, %v", s, got.host, name, err)
		}
	})
}
