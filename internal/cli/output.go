package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"sigs.k8s.io/yaml"
)

// Forms of output.
const (
	short    = "short"
	jsonForm = "json"
	yamlForm = "yaml"
)

// outputFlag adds -o to cmd.
func outputFlag(cmd *cobra.Command) *string {
	form := cmd.Flags().StringP("output", "o", short, "form of the output: short, json or yaml")
	must(cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions([]cobra.Completion{short, jsonForm, yamlForm}, cobra.ShellCompDirectiveNoFileComp)))
	cmd.PreRunE = func(*cobra.Command, []string) error { return checkForm(*form) } // before anybody is asked
	return form
}

func checkForm(form string) error {
	switch form {
	case short, jsonForm, yamlForm:
		return nil
	}
	return fmt.Errorf("-o %s: use short, json or yaml", form)
}

// write writes v as JSON or YAML, or calls table for the short form.
func write(out io.Writer, form string, v any, table func(*tabwriter.Writer)) error {
	switch form {
	case short:
		w := tabwriter.NewWriter(out, 0, 8, 3, ' ', 0)
		table(w)
		return w.Flush()
	case jsonForm:
		b, err := json.MarshalIndent(v, "", "  ")
		if err != nil {
			return err
		}
		_, err = fmt.Fprintln(out, string(b))
		return err
	case yamlForm:
		b, err := yaml.Marshal(v)
		if err != nil {
			return err
		}
		_, err = out.Write(b)
		return err
	}
	return checkForm(form)
}

// dash is what a table shows where there is nothing.
func dash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}
