package file

import (
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Real returns what the paths come down to once links are followed: each file
// or folder, and what the links in a folder lead to. The paths are absolute,
// sorted and none below another. Who can change none of them, and no link on
// the way to them, cannot change the objects. What is not there or cannot be followed is left out, for Load says
// so; so are Stdin and pipes.
func Real(paths []string) []string {
	var all []string
	for _, path := range paths {
		if path == Stdin {
			continue
		}
		target, err := filepath.EvalSymlinks(absolute(path))
		if err != nil {
			continue
		}
		all = append(append(all, target), linkedFrom(target)...)
	}
	slices.Sort(all)
	all = slices.Compact(all)
	return slices.DeleteFunc(slices.Clone(all), func(path string) bool {
		for path != filepath.Dir(path) {
			path = filepath.Dir(path)
			if _, ok := slices.BinarySearch(all, path); ok {
				return true
			}
		}
		return false
	})
}

// linkedFrom returns the files to which the links in a folder lead.
func linkedFrom(folder string) []string {
	entries, err := os.ReadDir(folder)
	if err != nil {
		return nil // a file, or for the reader to say
	}
	var all []string
	for _, e := range entries {
		if e.Type() != fs.ModeSymlink || !isObjectFile(e.Name()) {
			continue
		}
		name := filepath.Join(folder, e.Name())
		if target, err := filepath.EvalSymlinks(name); err == nil && leadsToFile(name) {
			all = append(all, target)
		}
	}
	return all
}
