package peer

import (
	"bufio"
	"io"
	"strconv"
	"strings"
)

// A Bound is a unix socket that has a name: a path, as it was given to bind(2)
// and so perhaps relative, or an abstract name, which begins with "@".
type Bound struct {
	Name      string
	Listening bool
}

// accepting is the kernel's flag of a listening socket.
const accepting = 1 << 16

// Table reads the form of /proc/net/unix: address, reference count, protocol,
// flags, type, state, inode, name. It leaves out what has no name. A name may
// hold any byte, even line ends, and thus pass off a part of itself as a line:
// what strangers' sockets are called is a hint and no more.
func Table(r io.Reader) ([]Bound, error) {
	var all []Bound
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		flags, name, ok := columns(lines.Text())
		if !ok {
			continue
		}
		n, err := strconv.ParseUint(flags, 16, 64)
		if err != nil {
			continue // the heading, or what a name passes off
		}
		all = append(all, Bound{Name: name, Listening: n&accepting != 0})
	}
	return all, lines.Err()
}

// columns returns the fourth column of a line and, as it is, all that follows
// the seventh.
func columns(line string) (flags, name string, ok bool) {
	for i := range 7 {
		line = strings.TrimLeft(line, " ") // numbers are padded
		word, rest, more := strings.Cut(line, " ")
		if !more {
			return "", "", false
		}
		if i == 3 {
			flags = word
		}
		line = rest
	}
	return flags, line, line != ""
}
