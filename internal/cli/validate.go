package cli

import (
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/term"

	"github.com/fairlead/fairlead/internal/api"
	"github.com/fairlead/fairlead/internal/control/file"
	"github.com/fairlead/fairlead/internal/eventlog"
	"github.com/fairlead/fairlead/internal/supervisor"
)

// inputs are the flags of commands that read objects themselves.
type inputs struct {
	paths     []string
	namespace string
}

func (i *inputs) flags(cmd *cobra.Command) {
	cmd.Flags().StringArrayVarP(&i.paths, "filename", "f", nil, "file, folder or - (standard input) with objects; may be repeated")
	cmd.Flags().StringVarP(&i.namespace, "namespace", "n", "default", "namespace of objects that name none")
	must(cmd.RegisterFlagCompletionFunc("namespace", cobra.NoFileCompletions))
}

func (i *inputs) check(as string) error {
	switch {
	case len(i.paths) == 0:
		return fmt.Errorf("give the objects, as in: %s -f entries/", as)
	case slices.Contains(i.paths, ""):
		return errors.New(`-f "": give a file, a folder, or - for standard input`)
	}
	return supervisor.CheckName("namespace", i.namespace)
}

// onlyFlags refuses arguments, which are most likely files.
func onlyFlags(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%q: give files with -f, as in: %s -f %s", args[0], cmd.CommandPath(), args[0])
}

func newValidate(env Env) *cobra.Command {
	var in inputs
	cmd := &cobra.Command{
		Use:   "validate -f FILE|DIR|-... [flags]",
		Short: "Check objects one by one",
		Long: `Check every object as fairlead run does when it reads it, and name everything that
is wrong with it: severity, file and line, object, field, and what to do. Nothing
is started. What only comes of objects together is what fairlead analyze finds.

The exit code is 1 if there is an error, 0 if there are none or warnings only.`,
		Example: `  fairlead validate -f entries/
  cat entries/*.yaml | fairlead validate -f - -o json`,
		Args:                  onlyFlags,
		DisableFlagsInUseLine: true,
	}
	form := outputFlag(cmd)
	in.flags(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		if err := in.check(cmd.CommandPath()); err != nil {
			return err
		}
		done := progress(env, "reading the objects")
		objects, problems := file.Check(file.Options{Paths: in.paths, Stdin: env.In, Namespace: in.namespace})
		done()
		return newVerdict(objects, problems, nil).write(env, *form)
	}
	return cmd
}

// A verdict is what was found in objects.
type verdict struct {
	Objects  int       `json:"objects"`
	Errors   int       `json:"errors"`
	Warnings int       `json:"warnings"`
	Findings []finding `json:"findings"`
	// Remark says what was not looked at; empty as a rule.
	Remark string `json:"remark,omitempty"`
}

// A finding is a Problem as it is written.
type finding struct {
	Severity string `json:"severity"` // error, warning, note
	File     string `json:"file,omitempty"`
	Line     int    `json:"line,omitempty"`
	Object   string `json:"object,omitempty"`
	Field    string `json:"field,omitempty"`
	Message  string `json:"message"`

	text string
}

func newVerdict(objects int, problems, notes []api.Problem) verdict {
	v := verdict{Objects: objects, Findings: []finding{}}
	for _, p := range problems {
		v.add(p, p.Severity.String())
		if p.Severity == api.Error {
			v.Errors++
		} else {
			v.Warnings++
		}
	}
	for _, p := range notes {
		v.add(p, "note")
	}
	return v
}

func (v *verdict) add(p api.Problem, severity string) {
	v.Findings = append(v.Findings, finding{
		Severity: severity, File: p.File, Line: p.Line, Object: p.Object.String(), Field: p.Field, Message: p.Message, text: p.String(),
	})
}

// write writes the verdict; the error is the exit code.
func (v verdict) write(env Env, form string) error {
	var err error
	if form == short {
		var b strings.Builder
		v.text(&b, term.IsTerminal(int(env.Out.Fd())))
		_, err = env.Out.WriteString(b.String())
	} else {
		err = write(env.Out, form, v, func(*tabwriter.Writer) {})
	}
	if err == nil && v.Errors > 0 {
		return exit(1)
	}
	return err
}

func (v verdict) text(out io.Writer, colour bool) {
	for _, f := range v.Findings {
		fmt.Fprintln(out, eventlog.Severe(f.Severity, colour)+": "+eventlog.Printable(f.text))
	}
	if v.Remark != "" {
		fmt.Fprintln(out, v.Remark)
	}
	fmt.Fprintln(out, v.summary())
}

// summary is "12 objects, 1 error, 2 warnings".
func (v verdict) summary() string {
	parts := []string{counted(v.Objects, "object"), counted(v.Errors, "error"), counted(v.Warnings, "warning")}
	if notes := len(v.Findings) - v.Errors - v.Warnings; notes > 0 {
		parts = append(parts, counted(notes, "note"))
	}
	return strings.Join(parts, ", ")
}

func counted(n int, what string) string {
	switch n {
	case 0:
		return "no " + what + "s"
	case 1:
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}
