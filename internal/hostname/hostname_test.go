package hostname

import (
	"strings"
	"testing"
)

var long = strings.Repeat(strings.Repeat("a", 62)+".", 4)

func TestParse(t *testing.T) {
	for _, c := range []struct{ in, want, err string }{
		{"www.baidu.com", "www.baidu.com", ""},
		{"WWW.Baidu.COM", "www.baidu.com", ""},
		{"www.baidu.com.", "www.baidu.com", ""},
		{"localhost", "localhost", ""},
		{"_sip._tcp.example", "_sip._tcp.example", ""},
		{"bücher.example", "xn--bcher-kva.example", ""},
		{"BÜCHER.example", "xn--bcher-kva.example", ""},
		{"XN--BCHER-KVA.example", "xn--bcher-kva.example", ""},
		{"bu\u0308cher.example", "xn--bcher-kva.example", ""},
		{"straße.example", "xn--strae-oqa.example", ""},
		{"bücher。example", "xn--bcher-kva.example", ""},
		{"bücher.example。", "xn--bcher-kva.example", ""},
		{"XN--A", "xn--a", ""},
		{"xn--a", "xn--a", ""},
		{"1.2.3.4", "1.2.3.4", ""},
		{"1.2.3.4.", "1.2.3.4", ""},
		{"2001:DB8:0::1", "2001:db8::1", ""},
		{"[2001:db8::1]", "2001:db8::1", ""},
		{"::ffff:1.2.3.4", "1.2.3.4", ""},
		{"*", "*", ""},
		{"*.example.com", "*.example.com", ""},
		{"*.Example.COM.", "*.example.com", ""},
		{"*example.com", "*example.com", ""},
		{"*.bücher.example", "*.xn--bcher-kva.example", ""},
		{"", "", "empty name"},
		{".", "", "empty name"},
		{"a..b", "", "empty label"},
		{".a", "", "empty label"},
		{"a..", "", "empty label"},
		{"ü。.", "", "empty label"},
		{"*.", "", "empty name"},
		{"*..a", "", "empty label"},
		{"**.a", "", "character '*' is not allowed there"},
		{"a.*.b", "", "character '*' is not allowed there"},
		{"＊.ü", "", "character '*' is not allowed there"},
		{"-a.b", "", "character '-' is not allowed there"},
		{"a-.b", "", "character '-' is not allowed there"},
		{"a b", "", "character ' ' is not allowed there"},
		{"a%00b", "", "character '%' is not allowed there"},
		{"a\x00b", "", `character '\x00' is not allowed there`},
		{"a:80", "", "character ':' is not allowed there"},
		{"user@a", "", "character '@' is not allowed there"},
		{"a/b", "", "character '/' is not allowed there"},
		{"[::1", "", "character '[' is not allowed there"},
		{"::1]", "", "character ':' is not allowed there"},
		{"[1.2.3.4]", "", "character '[' is not allowed there"},
		{"fe80::1%eth0", "", "an address with a zone names no host beyond this machine"},
		{"\xff", "", "not UTF-8"},
		{"xn--\u00fc.a", "", "not a valid internationalised name"},
		{strings.Repeat("a", 64), "", "label longer than 63 characters"},
		{long + "a", long + "a", ""},
		{long + "aa", "", "longer than 253 characters"},
		{"*" + long + "a", "", "longer than 253 characters"},
		{strings.Repeat("ü", 10_000), "", "longer than 253 characters"},
	} {
		got, err := Parse(c.in)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if string(got) != c.want || text != c.err {
			t.Errorf("Parse(%q) = %q, %q; want %q, %q", c.in, got, text, c.want, c.err)
		}
	}
}

func TestMatches(t *testing.T) {
	for _, c := range []struct {
		name, host Name
		want       bool
	}{
		{"a.example", "a.example", true},
		{"a.example", "axexample", false},
		{"a.example", "b.a.example", false},
		{"*.com", "example.com", true},
		{"*.com", "foo.example.com", true},
		{"*.foo.com", "foo.com", false},
		{"*.foo.com", ".foo.com", false},
		{"*foo.com", "barfoo.com", true},
		{"*foo.com", "bar.foo.com", true},
		{"*foo.com", "foo.com", false},
		{"*", "anything", true},
		{"*.com", "com", false},
	} {
		if got := c.name.Matches(c.host); got != c.want {
			t.Errorf("%s matches %s: %v, want %v", c.name, c.host, got, c.want)
		}
	}
}

func TestSplitAuthority(t *testing.T) {
	for _, c := range []struct {
		in   string
		host Name
		port uint16
		err  string
	}{
		{"www.baidu.com", "www.baidu.com", 0, ""},
		{"WWW.baidu.com.:8080", "www.baidu.com", 8080, ""},
		{"a:", "a", 0, ""},
		{"1.2.3.4:80", "1.2.3.4", 80, ""},
		{"[::1]", "::1", 0, ""},
		{"[2001:DB8::1]:443", "2001:db8::1", 443, ""},
		{"[::ffff:1.2.3.4]:80", "1.2.3.4", 80, ""},
		{"", "", 0, "empty name"},
		{":80", "", 0, "empty name"},
		{"a:0", "", 0, `"0" is no port`},
		{"a:65536", "", 0, `"65536" is no port`},
		{"a:+80", "", 0, `"+80" is no port`},
		{"a:80:80", "", 0, "an IPv6 address needs brackets"},
		{"::1", "", 0, "an IPv6 address needs brackets"},
		{"2001:db8::1:80", "", 0, "an IPv6 address needs brackets"},
		{"[::1", "", 0, "unclosed bracket"},
		{"[::1]x", "", 0, "text after the bracket"},
		{"[1.2.3.4]", "", 0, "no IPv6 address in the brackets"},
		{"[fe80::1%25eth0]", "", 0, "an address with a zone names no host beyond this machine"},
		{"*.example.com", "", 0, "a wildcard is no host"},
		{"user@a", "", 0, "character '@' is not allowed there"},
	} {
		host, port, err := SplitAuthority(c.in)
		text := ""
		if err != nil {
			text = err.Error()
		}
		if host != c.host || port != c.port || text != c.err {
			t.Errorf("SplitAuthority(%q) = %q, %d, %q; want %q, %d, %q", c.in, host, port, text, c.host, c.port, c.err)
		}
	}
}

// FuzzParse checks that there is one canonical form: parsing it changes
// nothing, and neither letter case nor a final dot matters.
func FuzzParse(f *testing.F) {
	for _, s := range []string{"www.baidu.com", "WWW.x.", "*.bücher.example", "*", "[::1]", "::ffff:1.2.3.4", "xn--a", "ü。", "a%00", "1.2.3.4", "ＡＢＣ.ß", "a\u00adb.c"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		name, err := Parse(s)
		if err != nil {
			if name != "" {
				t.Errorf("Parse(%q) = %q and %v", s, name, err)
			}
			return
		}
		for _, same := range []string{string(name), strings.ToUpper(string(name)), string(name) + "."} {
			if strings.HasSuffix(same, ":.") || same == "*." || strings.Contains(same, ":") && strings.HasSuffix(same, ".") {
				continue // an IPv6 address and a lone star have no final dot
			}
			if again, err := Parse(same); again != name || err != nil {
				t.Errorf("Parse(%q) = %q, but Parse(%q) = %q, %v", s, name, same, again, err)
			}
		}
		if !name.IsWildcard() && !name.Matches(name) {
			t.Errorf("%q does not match itself", name)
		}
	})
}

// FuzzSplitAuthority checks that the host found is canonical.
func FuzzSplitAuthority(f *testing.F) {
	for _, s := range []string{"a:80", "[::1]:443", "WWW.x.:8080", ":", "[", "]", "a:b:c", "*:1"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		host, _, err := SplitAuthority(s)
		if err != nil {
			return
		}
		if again, err := Parse(string(host)); again != host || err != nil || host.IsWildcard() {
			t.Errorf("SplitAuthority(%q) = %q, which parses to %q, %v", s, host, again, err)
		}
	})
}

func BenchmarkParse(b *testing.B) {
	b.ReportAllocs()
	for b.Loop() {
		if _, err := Parse("www.example.com"); err != nil {
			b.Fatal(err)
		}
	}
}

func TestSubsetOf(t *testing.T) {
	for _, c := range []struct {
		n, of Name
		want  bool
	}{
		{"a.example", "a.example", true},
		{"a.example", "b.example", false},
		{"a.example", "*.example", true},
		{"a.example", "*", true},
		{"example", "*.example", false},
		{"*.example", "*.example", true},
		{"*.a.example", "*.example", true},
		{"*.example", "*.a.example", false},
		{"*example", "*.example", false},
		{"*.example", "*example", true},
		{"*", "*", true},
		{"*", "*.example", false},
		{"*.example", "a.example", false},
	} {
		if got := c.n.SubsetOf(c.of); got != c.want {
			t.Errorf("%s in %s: %v", c.n, c.of, got)
		}
	}
}
