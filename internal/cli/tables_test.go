package cli

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/internal/peer"
	"github.com/fairlead/fairlead/internal/supervisor"
)

func TestSplitExec(t *testing.T) {
	for _, tt := range []struct {
		args    string
		name    string
		command string
	}{
		{"client -- ls -l", "client", "ls -l"},
		{"client ls -l", "client", "ls -l"},
		{"client ls -- -l", "client", "ls -- -l"},
		{"client -- -- ls", "client", "-- ls"},
		{"client --", "client", ""},
		{"client", "client", ""},
	} {
		name, command := splitExec(strings.Fields(tt.args))
		if got := strings.Join(command, " "); name != tt.name || got != tt.command {
			t.Errorf("%s: %q and %q, want %q and %q", tt.args, name, got, tt.name, tt.command)
		}
	}
}

func TestParseLabels(t *testing.T) {
	for _, tt := range []struct {
		list []string
		want map[string]string
		bad  string
	}{
		{nil, map[string]string{}, ""},
		{[]string{"app=a", "b=", "example.com/c=d_e"}, map[string]string{"app": "a", "b": "", "example.com/c": "d_e"}, ""},
		{[]string{"a=b", "a=b"}, nil, `--label "a=b": a is given twice`},
		{[]string{"a=b=c"}, nil, `--label "a=b=c": "b=c" is no value of a label: only letters, digits, '-', '_' and '.' are allowed`},
		{[]string{"a b=c"}, nil, `--label "a b=c": "a b" is no label: only letters, digits, '-', '_' and '.' are allowed`},
		{[]string{"a=b", "app"}, nil, `--label "app": use key=value`},
		{[]string{"=v"}, nil, `--label "=v": use key=value`},
		{[]string{""}, nil, `--label "": use key=value`},
	} {
		got, err := parseLabels(tt.list)
		if diff := cmp.Diff(tt.want, got); diff != "" || (err != nil) != (tt.bad != "") || err != nil && err.Error() != tt.bad {
			t.Errorf("%q: %v, want %q (-want +got):\n%s", tt.list, err, tt.bad, diff)
		}
	}
}

func TestStatusTable(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	var b strings.Builder
	w := tabwriter.NewWriter(&b, 0, 8, 3, ' ', 0)
	statusTable(w, []supervisor.Status{
		{
			Name: "client", Namespace: "shop", Policy: "ALLOW_ANY", ProxyPID: 7, Errors: 3, Restarts: 2, Started: now.Add(-3 * time.Hour),
			Command: []string{"sh", "-c", "a\nb\x1b[31m"},
			Types: []supervisor.TypeStatus{
				{Type: "Cluster", State: "SYNCED"},
				{Type: "ClusterLoadAssignment", State: "NOT SENT"},
				{Type: "Listener", State: "STALE"},
				{Type: "RouteConfiguration", State: "REFUSED"},
				{Type: "VirtualHost", State: "SYNCED"},
			},
		},
		{Name: "stopped", Error: "it does not answer"},
		{Name: "young", Namespace: "default", Policy: "REGISTRY_ONLY", Started: now, Command: []string{strings.Repeat("x", 99)}},
	}, now)
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	want := `NAME      NAMESPACE   POLICY          CDS      EDS        LDS     RDS       VHDS     NAMES   SNI   ERRORS   PROXY       RESTARTS   AGE   COMMAND
client    shop        ALLOW_ANY       SYNCED   NOT SENT   STALE   REFUSED   SYNCED   -       -     3        7           2          3h    sh -c a b [31m
stopped   -           -               -        -          -       -         -        -       -     -        no answer   -          -     -
young     default     REGISTRY_ONLY   -        -          -       -         -        -       -     0        none        0          0s    ` + strings.Repeat("x", 59) + "…\n"
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestARunThatDoesNotAnswerIsListedAndOneThatEndedIsNot(t *testing.T) {
	names := []string{"runs", "refused", "stranger", "ended", "reset", "stopped"}
	errs := []error{
		nil, fmt.Errorf("x: %w", syscall.ECONNREFUSED), fmt.Errorf("x: %w", peer.ErrStranger),
		fmt.Errorf("x: %w", io.ErrUnexpectedEOF), fmt.Errorf("x: %w", syscall.ECONNRESET), errors.New("no answer in time"),
	}
	answers := make([]supervisor.Status, len(names))
	answers[0] = supervisor.Status{Name: "runs", PID: 1}
	want := []supervisor.Status{{Name: "runs", PID: 1}, {Name: "stopped", Error: "no answer in time"}}
	if diff := cmp.Diff(want, listed(Env{}, names, answers, errs)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

func TestAge(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0s", 119 * time.Second: "119s", 2 * time.Minute: "2m", 119 * time.Minute: "119m", 2 * time.Hour: "2h", 47 * time.Hour: "47h", 49 * time.Hour: "2d",
	} {
		if got := age(d); got != want {
			t.Errorf("%s: %s, want %s", d, got, want)
		}
	}
}

func TestForms(t *testing.T) {
	v := []supervisor.TypeStatus{{Type: "Cluster", State: "SYNCED", Resources: 2}}
	for form, want := range map[string]string{
		short:    "a   b\n",
		jsonForm: "[\n  {\n    \"type\": \"Cluster\",\n    \"state\": \"SYNCED\",\n    \"resources\": 2\n  }\n]\n",
		yamlForm: "- resources: 2\n  state: SYNCED\n  type: Cluster\n",
	} {
		var b strings.Builder
		err := write(&b, form, v, func(w *tabwriter.Writer) { fmt.Fprintln(w, "a\tb") })
		if diff := cmp.Diff(want, b.String()); diff != "" || err != nil {
			t.Errorf("%s: %v (-want +got):\n%s", form, err, diff)
		}
	}
	if err := write(io.Discard, "table", v, nil); err == nil || err.Error() != "-o table: use short, json or yaml" {
		t.Errorf("another form: %v", err)
	}
}
