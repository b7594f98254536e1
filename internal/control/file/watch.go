package file

import (
	"context"
	"errors"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/fsnotify/fsnotify"
)

const (
	// quiet is how long nothing must happen before the files are read.
	quiet = 25 * time.Millisecond
	// patience is how long changes may go on before the files are read all the same.
	patience = 250 * time.Millisecond
	// pollEvery is how often the files are looked at where they cannot be watched.
	pollEvery = 500 * time.Millisecond
)

// A watch says when files may have changed. Where the system refuses to watch
// them it looks again and again instead, and says so once.
type watch struct {
	log     *slog.Logger
	notify  *fsnotify.Watcher // nil: polling only
	folders map[string]uint64 // watched, with the inode they had
	exact   map[string]bool   // names whose events count
	within  map[string]bool   // folders in which every event counts
	polling bool
}

func newWatch(log *slog.Logger) *watch {
	w := &watch{log: log, folders: map[string]uint64{}}
	notify, err := fsnotify.NewWatcher()
	if err != nil {
		w.poll(err)
		return w
	}
	w.notify = notify
	return w
}

func (w *watch) close() {
	if w.notify != nil {
		w.notify.Close()
	}
}

func (w *watch) poll(err error) {
	if !w.polling {
		w.polling = true
		w.log.Warn("files cannot be watched, so they are looked at twice a second; raise fs.inotify.max_user_instances and max_user_watches", "error", err)
	}
}

// follow watches what the paths need by now, and reports whether that was
// something new. A file is watched through its folder, so that it may be
// replaced; a folder also through the one above it, so that it may come back,
// and through those of the files that links in it lead to.
func (w *watch) follow(paths []string) (added bool) {
	if w.notify == nil {
		return false
	}
	wanted := map[string]bool{}
	w.exact, w.within = map[string]bool{}, map[string]bool{}
	for _, path := range paths {
		path = absolute(path)
		folder := filepath.Dir(path)
		wanted[nearestFolder(folder)] = true
		for name := path; name != filepath.Dir(name); name = filepath.Dir(name) {
			w.exact[name] = true
		}
		if info, err := os.Stat(path); err == nil && info.IsDir() {
			wanted[path], w.within[path] = true, true
			for _, target := range linkedFrom(path) {
				wanted[filepath.Dir(target)], w.exact[target] = true, true
			}
		} else if target, err := filepath.EvalSymlinks(path); err == nil && target != path {
			wanted[filepath.Dir(target)] = true // a link may change at either end
			w.within[folder], w.within[filepath.Dir(target)] = true, true
		}
	}
	for folder := range w.folders {
		if !wanted[folder] {
			w.forget(folder)
		}
	}
	for folder := range wanted {
		added = w.add(folder) || added
	}
	return added
}

// nearestFolder is the folder, or the closest one above it that exists.
func nearestFolder(folder string) string {
	for {
		if info, err := os.Stat(folder); err == nil && info.IsDir() || folder == filepath.Dir(folder) {
			return folder
		}
		folder = filepath.Dir(folder)
	}
}

func (w *watch) add(folder string) bool {
	info, err := os.Stat(folder)
	if err != nil {
		w.forget(folder)
		return false
	}
	inode := stampOf(info).inode
	if had, ok := w.folders[folder]; ok && had == inode && slices.Contains(w.notify.WatchList(), folder) {
		return false // an inode alone proves nothing: a new folder may get that of the old
	}
	w.forget(folder) // its name belongs to another folder now
	if err := w.notify.Add(folder); err != nil {
		if !errors.Is(err, fs.ErrNotExist) {
			w.poll(err)
		}
		return false
	}
	w.folders[folder] = inode
	return true
}

func (w *watch) forget(folder string) {
	if _, ok := w.folders[folder]; ok {
		delete(w.folders, folder)
		w.notify.Remove(folder) //nolint:errcheck,gosec // it may be gone already
	}
}

// run calls look once at the start, then whenever files may have changed, and
// after the time look itself asks for. It returns when ctx ends.
func (w *watch) run(ctx context.Context, look func(now time.Time) (again time.Duration)) error {
	var events chan fsnotify.Event
	var faults chan error
	if w.notify != nil {
		events, faults = w.notify.Events, w.notify.Errors
	}
	timer := time.NewTimer(0)
	defer timer.Stop()
	var first time.Time // of the events not looked at yet
	for {
		select {
		case <-ctx.Done():
			return nil
		case e := <-events:
			if !w.exact[e.Name] && !w.within[filepath.Dir(e.Name)] {
				continue // a neighbour
			}
			now := time.Now()
			if first.IsZero() {
				first = now
			}
			timer.Reset(min(quiet, max(0, patience-now.Sub(first))))
		case err := <-faults: // too many events at once: look at everything
			w.log.Warn("some changes of files were not reported, so all are looked at", "error", err)
			timer.Reset(quiet)
		case <-timer.C:
			first = time.Time{}
			again := look(time.Now())
			if w.polling && (again == 0 || again > pollEvery) {
				again = pollEvery
			}
			if again > 0 {
				timer.Reset(again)
			}
		}
	}
}
