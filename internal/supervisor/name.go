package supervisor

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"strings"
)

// label is a DNS-1123 label, as Kubernetes has it for names of pods.
var label = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)

// CheckName says what is wrong with the name of a run or a namespace.
func CheckName(what, name string) error {
	if !label.MatchString(name) {
		return fmt.Errorf("%s %q: use at most 63 lower-case letters, digits and dashes, with a letter or digit at both ends", what, name)
	}
	return nil
}

// NewName makes a name for a run of command: its base name and five random characters.
func NewName(command string) string {
	const letters = "bcdfghjklmnpqrstvwxz2456789" // no vowels, nothing that reads alike
	var suffix [5]byte
	for i := range suffix {
		suffix[i] = letters[rand.IntN(len(letters))] //nolint:gosec // a name, not a secret
	}
	base := strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '-'
	}, strings.ToLower(filepath.Base(command)))
	base = strings.Trim(base[:min(len(base), 40)], "-")
	if base == "" {
		base = "run"
	}
	return base + "-" + string(suffix[:])
}
