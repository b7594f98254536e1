// Package hostname holds names of hosts in one canonical form: lower case,
// ASCII (internationalised names as punycode), no trailing dot. Every
// comparison in the mesh (ownership, routes, DNS, policy) is made on that form.
package hostname

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"unicode/utf8"

	"golang.org/x/net/idna"
)

// A Name is a canonical host name, IP literal or wildcard ("*.example.com",
// "*example.com", "*"). The zero Name is no name. Make one with Parse.
type Name string

// MaxLength is the longest name DNS can carry, in text without the final dot.
const MaxLength = 253

// maxInput bounds the text of a name before it is mapped to ASCII, which
// shortens it to a quarter at most.
const maxInput = 4*MaxLength + len("*..")

var profile = idna.New(idna.MapForLookup(), idna.Transitional(false), idna.StrictDomainName(false))

// Parse canonicalises s, which may be a wildcard whose star is the first
// character. Its errors say what is wrong with s; s is quoted by the caller.
func Parse(s string) (Name, error) {
	if s == "*" {
		return "*", nil
	}
	if len(s) > maxInput {
		return "", fmt.Errorf("longer than %d characters", MaxLength)
	}
	if ip, err := netip.ParseAddr(unbracket(s)); err == nil {
		if ip.Zone() != "" {
			return "", errors.New("an address with a zone names no host beyond this machine")
		}
		return Name(ip.Unmap().String()), nil
	}
	star, rest := "", s
	if after, ok := strings.CutPrefix(s, "*"); ok {
		star, rest = "*", after
		if after, ok = strings.CutPrefix(rest, "."); ok {
			star, rest = "*.", after
		}
	}
	name, err := canonical(rest)
	if err != nil {
		return "", err
	}
	if len(star)+len(name) > MaxLength {
		return "", fmt.Errorf("longer than %d characters", MaxLength)
	}
	return Name(star + name), nil
}

// unbracket takes the brackets off an IPv6 literal.
func unbracket(s string) string {
	if inner, ok := strings.CutPrefix(s, "["); ok && strings.HasSuffix(inner, "]") && strings.Contains(inner, ":") {
		return inner[:len(inner)-1]
	}
	return s
}

func canonical(s string) (string, error) {
	switch {
	case isLowerASCII(s):
	case isASCII(s):
		s = strings.ToLower(s) // and nothing else: a name is the same in any case
	case !utf8.ValidString(s):
		return "", errors.New("not UTF-8")
	default:
		ascii, err := profile.ToASCII(s)
		if err != nil {
			return "", errors.New("not a valid internationalised name")
		}
		s = strings.ToLower(ascii)
	}
	s = strings.TrimSuffix(s, ".") // after the mapping, which makes dots of others
	if s == "" {
		return "", errors.New("empty name")
	}
	for label := range strings.SplitSeq(s, ".") {
		if err := checkLabel(label); err != nil {
			return "", err
		}
	}
	return s, nil
}

func checkLabel(label string) error {
	if label == "" {
		return errors.New("empty label")
	}
	if len(label) > 63 {
		return errors.New("label longer than 63 characters")
	}
	for i := range len(label) {
		c := label[i]
		switch {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_':
		case c == '-' && i > 0 && i < len(label)-1:
		default:
			return fmt.Errorf("character %q is not allowed there", c)
		}
	}
	return nil
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}

func isLowerASCII(s string) bool {
	for i := range len(s) {
		if c := s[i]; c >= 0x80 || 'A' <= c && c <= 'Z' {
			return false
		}
	}
	return true
}

// String returns the canonical text.
func (n Name) String() string { return string(n) }

// IsWildcard reports whether n stands for more than one host.
func (n Name) IsWildcard() bool { return strings.HasPrefix(string(n), "*") }

// Matches reports whether the concrete host falls under n: equal, or n is a
// wildcard and host ends with what follows the star. The star never stands for
// nothing, and it spans labels.
func (n Name) Matches(host Name) bool {
	suffix, wild := strings.CutPrefix(string(n), "*")
	if !wild {
		return n == host
	}
	return len(host) > len(suffix) && strings.HasSuffix(string(host), suffix)
}

// SubsetOf reports whether every host that falls under n falls under of too.
func (n Name) SubsetOf(of Name) bool {
	suffix, wild := strings.CutPrefix(string(of), "*")
	if !wild {
		return n == of
	}
	if rest, ok := strings.CutPrefix(string(n), "*"); ok {
		return strings.HasSuffix(rest, suffix)
	}
	return of.Matches(n)
}

// SplitAuthority takes apart the value of a Host header or :authority: a
// canonical host and a port, 0 if none is given.
func SplitAuthority(s string) (Name, uint16, error) {
	host, port := s, ""
	if strings.HasPrefix(s, "[") {
		end := strings.IndexByte(s, ']')
		if end < 0 {
			return "", 0, errors.New("unclosed bracket")
		}
		host = s[1:end]
		if ip, err := netip.ParseAddr(host); err != nil || !ip.Is6() {
			return "", 0, errors.New("no IPv6 address in the brackets")
		}
		rest := s[end+1:]
		if rest != "" && rest[0] != ':' {
			return "", 0, errors.New("text after the bracket")
		}
		port = strings.TrimPrefix(rest, ":")
	} else if i := strings.LastIndexByte(s, ':'); i >= 0 {
		host, port = s[:i], s[i+1:]
		if strings.Contains(host, ":") {
			return "", 0, errors.New("an IPv6 address needs brackets")
		}
	}
	if strings.HasPrefix(host, "*") {
		return "", 0, errors.New("a wildcard is no host")
	}
	name, err := Parse(host)
	if err != nil {
		return "", 0, err
	}
	if port == "" {
		return name, 0, nil
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil || n == 0 {
		return "", 0, fmt.Errorf("%q is no port", port)
	}
	return name, uint16(n), nil
}
