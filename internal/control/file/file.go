// Package file is the source of objects that reads files and folders, and
// follows their changes.
package file

import (
	"context"
	"io"
	"log/slog"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/registry"
)

// STUB: owned by the objects helper; signatures are the contract.

// Options of a Source.
type Options struct {
	Paths     []string  // files, folders, or "-" for Stdin
	Stdin     io.Reader // read once
	Namespace string    // of objects that name none
	Log       *slog.Logger
}

// A Source reads objects from files.
type Source struct{}

// Load reads everything once. Any problem of severity Error makes err non-nil;
// problems has the warnings too.
func Load(o Options) (s *Source, changes []registry.Change, problems []api.Problem, err error) {
	panic("stub")
}

// Run follows the files until ctx ends and calls apply, from one goroutine,
// with what changed. A file that is broken is reported, once per state, through
// the log and keeps its last good objects; a file that is gone takes its objects along.
func (s *Source) Run(ctx context.Context, apply func([]registry.Change)) error { panic("stub") }
