// Package state is the folder in which a run leaves its logs. Nothing in it is
// read back by Fairlead but by people and by `fairlead logs`.
package state

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"time"
)

// Files in a run's folder.
const (
	LogFile    = "fairlead.log" // one JSON line per event of supervisor, control plane and proxy
	AccessFile = "access.log"   // one JSON line per request or connection
)

// keep is how many folders of ended runs stay.
const keep = 20

// A Root is the folder of all runs of one user.
type Root string

// RootFor returns the folder of all runs: below stateHome (XDG_STATE_HOME),
// else below home, else, where home cannot be written, below the temporary
// folder, in one that only this user can enter. It is created.
func RootFor(stateHome, home string) (Root, error) {
	var tried []error
	if stateHome == "" && home != "" {
		stateHome = filepath.Join(home, ".local", "state")
	}
	if filepath.IsAbs(stateHome) {
		dir := filepath.Join(stateHome, "fairlead", "runs")
		err := os.MkdirAll(dir, 0o700)
		if err == nil {
			return Root(dir), nil
		}
		tried = append(tried, err)
	}
	dir := filepath.Join(os.TempDir(), fmt.Sprintf("fairlead-%d", os.Getuid()))
	if err := own(dir); err != nil {
		return "", errors.Join(append(tried, err)...)
	}
	return Root(dir), nil
}

// own makes dir, or checks that it is ours alone: the temporary folder is
// everybody's, and somebody may have been there before.
func own(dir string) error {
	if err := os.Mkdir(dir, 0o700); err != nil && !errors.Is(err, os.ErrExist) {
		return err
	}
	st, err := os.Lstat(dir)
	if err != nil {
		return err
	}
	sys, ok := st.Sys().(*syscall.Stat_t)
	if !st.IsDir() || !ok || int(sys.Uid) != os.Getuid() || st.Mode().Perm()&0o077 != 0 {
		return fmt.Errorf("%s is not a folder that only you can enter; remove it or set XDG_STATE_HOME", dir)
	}
	return nil
}

// Run returns the folder of the run of that name, which may not exist.
func (r Root) Run(name string) string { return filepath.Join(string(r), name) }

// Create makes the folder of a run, empty of an earlier run's logs.
func (r Root) Create(name string) (string, error) {
	dir := r.Run(name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return "", err
	}
	for _, f := range []string{LogFile, AccessFile} {
		if err := os.Remove(filepath.Join(dir, f)); err != nil && !errors.Is(err, os.ErrNotExist) {
			return "", err
		}
	}
	return dir, nil
}

// Prune removes the folders of ended runs, oldest first, until 20 are left;
// running says which names are in use.
func (r Root) Prune(running func(name string) bool) error {
	entries, err := os.ReadDir(string(r))
	if err != nil {
		return err
	}
	type old struct {
		dir  string
		when time.Time
	}
	var ended []old
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || !e.IsDir() || running(e.Name()) {
			continue
		}
		ended = append(ended, old{r.Run(e.Name()), info.ModTime()})
	}
	slices.SortFunc(ended, func(a, b old) int { return b.when.Compare(a.when) })
	var errs []error
	for i, o := range ended {
		if i >= keep {
			errs = append(errs, os.RemoveAll(o.dir))
		}
	}
	return errors.Join(errs...)
}
