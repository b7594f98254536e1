package l7

import "github.com/fairlead/fairlead/internal/hostname"

// canonicalHost returns the canonical host of an authority: a part of a where
// that is canonical as it stands, as it is nearly always, else made in buf.
func canonicalHost(a, buf []byte) ([]byte, error) {
	if n := plainHost(a); n > 0 {
		return a[:n], nil
	}
	name, _, err := hostname.SplitAuthority(string(a))
	if err != nil {
		return nil, err
	}
	return append(buf, name...), nil
}

// plainHost returns the length of the host in a if a is certainly canonical: a
// name in lower case, not over-long, with well-formed labels and a port that is
// none or a plain number. It returns 0 if that takes a closer look.
func plainHost(a []byte) int {
	n, label := 0, 0
	for ; n < len(a) && a[n] != ':'; n++ {
		switch c := a[n]; {
		case 'a' <= c && c <= 'z', '0' <= c && c <= '9', c == '_':
			label++
		case c == '-' && label > 0 && n+1 < len(a) && a[n+1] != '.' && a[n+1] != ':':
			label++
		case c == '.' && label > 0:
			label = 0
			continue
		default:
			return 0
		}
		if label > 63 {
			return 0
		}
	}
	if label == 0 || n > hostname.MaxLength || n < len(a) && !plainPort(a[n+1:]) {
		return 0
	}
	return n
}

func plainPort(p []byte) bool {
	if len(p) == 0 || len(p) > 5 || p[0] == '0' {
		return false
	}
	n := 0
	for _, c := range p {
		if c < '0' || c > '9' {
			return false
		}
		n = n*10 + int(c-'0')
	}
	return n <= 65535
}
