package eventlog

import (
	"bytes"
	"log/slog"
	"regexp"
	"strings"
	"testing"
	"time"
)

func TestEventsAreShownAsSentences(t *testing.T) {
	clock := regexp.MustCompile(`(?m)^\d\d:\d\d:\d\d `)
	for _, tt := range []struct {
		name string
		log  func(*slog.Logger)
		want string
	}{
		{
			"a fault in a file comes with its place",
			func(l *slog.Logger) {
				l.Error("no such value", "file", "a.yaml", "line", 16, "object", "ServiceEntry default/a", "field", "spec.resolution")
			},
			"ERROR a.yaml:16: ServiceEntry default/a: spec.resolution: no such value\n",
		},
		{
			"a file without a line",
			func(l *slog.Logger) { l.Warn("kept", "file", "a.yaml", "line", 0, "object", "", "field", "") },
			"WARN  a.yaml: kept\n",
		},
		{
			"attributes follow in order",
			func(l *slog.Logger) { l.Info("ready", "pid", 7, "took", 1500*time.Millisecond, "why", "two words") },
			"INFO  ready pid=7 took=1.5s why=\"two words\"\n",
		},
		{
			"control characters do not reach the terminal",
			func(l *slog.Logger) { l.Info("name refused", "name", "x\x1b[2J") },
			"INFO  name refused name=x\uFFFD[2J\n",
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var line, shown bytes.Buffer
			tt.log(New(&line))
			if err := Show(&shown, &line, false); err != nil {
				t.Fatal(err)
			}
			got := shown.String()
			if !clock.MatchString(got) {
				t.Errorf("no time in %q", got)
			}
			if got = clock.ReplaceAllString(got, ""); got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestWhatIsNoEventIsCopied(t *testing.T) {
	var shown bytes.Buffer
	in := "panic: oh\n{\"a\":1}\nnot whole"
	if err := Show(&shown, strings.NewReader(in), false); err != nil {
		t.Fatal(err)
	}
	if got := shown.String(); got != in+"\n" {
		t.Errorf("got %q, want %q", got, in+"\n")
	}
}

func TestColourIsForTheLevelAlone(t *testing.T) {
	var line, shown bytes.Buffer
	New(&line).Error("broken \x1b[31m")
	if err := Show(&shown, &line, true); err != nil {
		t.Fatal(err)
	}
	if got := shown.String(); !strings.Contains(got, "\x1b[31mERROR \x1b[0mbroken \uFFFD[31m") {
		t.Errorf("got %q", got)
	}
}

func TestTheLastErrorOfAPart(t *testing.T) {
	var log bytes.Buffer
	l := New(&log)
	proxy := l.With("part", "proxy")
	if got := LastError(bytes.NewReader(log.Bytes()), "proxy"); got != "" {
		t.Errorf("of an empty log: %q", got)
	}
	proxy.Error("proxy failed", "error", "the first")
	proxy.Error("proxy failed", "error", "open the \x1b log")
	proxy.Info("proxy said")
	l.Error("the proxy ended", "error", "exit status 1")
	log.WriteString("panic: oh\n")
	for _, before := range []int{0, 1 << 20} {
		text := strings.Repeat("x", before) + "\n" + log.String()
		if got := LastError(strings.NewReader(text), "proxy"); got != "proxy failed: open the \uFFFD log" {
			t.Errorf("after %d bytes: %q", before, got)
		}
	}
}
