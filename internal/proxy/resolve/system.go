package resolve

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/internal/hostname"
)

// The bounds of what is read of a system's files; the rest is not looked at.
const (
	maxResolvConf = 64 << 10
	maxHosts      = 4 << 20
	maxHostNames  = 10_000
	maxServers    = 8
	maxSearch     = 32
)

// FromSystem reads /etc/resolv.conf and /etc/hosts.
func FromSystem() (Options, error) { return FromFiles("/etc/resolv.conf", "/etc/hosts") }

// FromFiles reads files of the form of /etc/resolv.conf and /etc/hosts. One
// that does not exist says nothing: without servers only addresses and names in
// the hosts file are known. Files are read once, not followed.
func FromFiles(resolvConf, hosts string) (Options, error) {
	var o Options
	var errs [2]error
	errs[0] = readFile(resolvConf, func(r io.Reader) error { return o.readResolvConf(r) })
	errs[1] = readFile(hosts, func(r io.Reader) error { return o.readHosts(r) })
	return o, errors.Join(errs[:]...)
}

// Parse reads the contents of /etc/resolv.conf and /etc/hosts. As in libc, what
// it does not understand it passes over.
func Parse(resolvConf, hosts io.Reader) (Options, error) {
	var o Options
	return o, errors.Join(o.readResolvConf(resolvConf), o.readHosts(hosts))
}

func readFile(path string, read func(io.Reader) error) error {
	f, err := os.Open(path) //nolint:gosec // the operator's own path
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("read name service configuration: %w", err)
	}
	defer f.Close()
	if err = read(f); err != nil {
		return fmt.Errorf("read name service configuration %s: %w", path, err)
	}
	return nil
}

func (o *Options) readResolvConf(r io.Reader) error {
	return lines(r, maxResolvConf, func(word string, rest []string) bool {
		switch word {
		case "nameserver":
			// A zone (fe80::1%eth0) is part of the address.
			if addr, err := netip.ParseAddr(first(rest)); err == nil && len(o.Servers) < maxServers {
				o.Servers = append(o.Servers, netip.AddrPortFrom(addr, 53))
			}
		case "domain":
			o.setSearch(rest[:min(len(rest), 1)])
		case "search":
			o.setSearch(rest)
		case "options":
			for _, option := range rest {
				o.setOption(option)
			}
		}
		return true
	})
}

// setSearch replaces the list: of several lines the last counts.
func (o *Options) setSearch(domains []string) {
	o.Search = nil
	for _, d := range domains {
		if name, err := hostname.Parse(d); err == nil && !name.IsWildcard() && len(o.Search) < maxSearch {
			o.Search = append(o.Search, name.String())
		}
	}
}

func (o *Options) setOption(option string) {
	key, value, _ := strings.Cut(option, ":")
	n, err := strconv.Atoi(value)
	if err != nil || n < 1 {
		return
	}
	switch key {
	case "timeout":
		o.Timeout = time.Duration(min(n, 30)) * time.Second
	case "attempts":
		o.Attempts = min(n, 5)
	}
}

func (o *Options) readHosts(r io.Reader) error {
	o.Hosts = map[string][]netip.Addr{}
	names := 0
	return lines(r, maxHosts, func(word string, rest []string) bool {
		addr, err := netip.ParseAddr(word)
		if err != nil {
			return true
		}
		for _, host := range rest {
			name, err := hostname.Parse(host)
			if err != nil || name.IsWildcard() {
				continue
			}
			if names++; names > maxHostNames {
				return false
			}
			key := name.String()
			if known := o.Hosts[key]; len(known) < MaxAddresses && !slices.Contains(known, addr.Unmap()) {
				o.Hosts[key] = append(known, addr.Unmap())
			}
		}
		return true
	})
}

// lines calls on with the words of each line that has some, comments left out,
// until it returns false or limit bytes are read.
func lines(r io.Reader, limit int64, on func(word string, rest []string) bool) error {
	s := bufio.NewScanner(io.LimitReader(r, limit))
	s.Buffer(nil, maxResolvConf)
	for s.Scan() {
		text := s.Text()
		if i := strings.IndexAny(text, "#;"); i >= 0 {
			text = text[:i]
		}
		if words := strings.Fields(text); len(words) > 0 && !on(words[0], words[1:]) {
			return nil
		}
	}
	return s.Err()
}

func first(words []string) string {
	if len(words) == 0 {
		return ""
	}
	return words[0]
}
