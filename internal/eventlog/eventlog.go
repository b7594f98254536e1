// Package eventlog is the form of a run's log: how the parts of Fairlead write
// it, one JSON line per event, and how people are shown it.
package eventlog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"time"
)

// New returns a logger that writes JSON lines to w. Durations are written as
// people write them.
func New(w io.Writer) *slog.Logger {
	return slog.New(slog.NewJSONHandler(w, &slog.HandlerOptions{
		ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
			if a.Value.Kind() == slog.KindDuration {
				return slog.String(a.Key, a.Value.Duration().String())
			}
			return a
		},
	}))
}

// maxLine bounds a line that is shown; a longer one is cut.
const maxLine = 64 << 10

// Show copies the lines of r to w in a form for people:
//
//	20:36:44 ERROR entries/a.yaml:16: ServiceEntry default/a: spec.resolution: "STATICK" is no value here
//	20:36:44 INFO  proxy ready pid=6909
//
// A line that is no event is copied as it is. The last line need not be whole.
// Colour, if asked for, is for the level alone.
func Show(w io.Writer, r io.Reader, colour bool) error {
	return show(w, r, func(line []byte) string { return human(line, colour) })
}

func show(w io.Writer, r io.Reader, rewrite func([]byte) string) error {
	br := bufio.NewReaderSize(r, maxLine)
	for {
		line, err := br.ReadSlice('\n')
		if len(line) > 0 {
			if _, err := fmt.Fprintln(w, rewrite(bytes.TrimSuffix(line, []byte("\n")))); err != nil {
				return err
			}
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case errors.Is(err, bufio.ErrBufferFull):
		case err != nil:
			return err
		}
	}
}

// LastError returns, in one line, the last error that a part of Fairlead (the
// attribute "part") logged in the last 64 KiB of r, or "".
func LastError(r io.ReadSeeker, part string) string {
	if end, err := r.Seek(0, io.SeekEnd); err != nil {
		return ""
	} else if _, err := r.Seek(max(0, end-maxLine), io.SeekStart); err != nil {
		return ""
	}
	text, err := io.ReadAll(io.LimitReader(r, maxLine))
	if err != nil {
		return ""
	}
	lines := bytes.Split(text, []byte("\n"))
	for _, line := range slices.Backward(lines) {
		_, values, ok := fields(line)
		if !ok || values["part"] != part || values["level"] != slog.LevelError.String() {
			continue
		}
		if cause := values["error"]; cause != "" {
			return Printable(values["msg"] + ": " + cause)
		}
		return Printable(values["msg"])
	}
	return ""
}

// human rewrites one line.
func human(line []byte, colour bool) string {
	keys, values, ok := fields(line)
	if !ok || values["msg"] == "" {
		return Printable(string(line))
	}
	var b strings.Builder
	if t, err := time.Parse(time.RFC3339Nano, values["time"]); err == nil {
		b.WriteString(t.Local().Format("15:04:05 "))
	}
	start := b.Len()
	fmt.Fprintf(&b, "%-5s ", values["level"])
	end := b.Len()
	if file := values["file"]; file != "" {
		b.WriteString(file)
		if line := values["line"]; line != "" && line != "0" {
			b.WriteString(":" + line)
		}
		b.WriteString(": ")
		for _, k := range []string{"object", "field"} {
			if v := values[k]; v != "" {
				b.WriteString(v + ": ")
			}
		}
	}
	b.WriteString(values["msg"])
	for _, k := range keys {
		switch k {
		case "time", "level", "msg":
			continue
		case "file", "line", "object", "field":
			if values["file"] != "" {
				continue
			}
		}
		if v := values[k]; v != "" {
			b.WriteString(" " + k + "=" + quoted(v))
		}
	}
	text := b.String()
	if code := colours[values["level"]]; colour && code != "" {
		return Printable(text[:start]) + code + Printable(text[start:end]) + "\x1b[0m" + Printable(text[end:])
	}
	return Printable(text)
}

// Severe returns a word such as "error" or "warning", in its colour if wanted.
func Severe(word string, colour bool) string {
	code := map[string]string{"error": colours["ERROR"], "warning": colours["WARN"]}[word]
	if !colour || code == "" {
		return word
	}
	return code + word + "\x1b[0m"
}

var colours = map[string]string{"ERROR": "\x1b[31m", "WARN": "\x1b[33m"}

// fields returns the members of a flat JSON object, in order.
func fields(line []byte) (keys []string, values map[string]string, ok bool) {
	d := json.NewDecoder(bytes.NewReader(line))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return nil, nil, false
	}
	values = map[string]string{}
	for d.More() {
		t, err := d.Token()
		key, isKey := t.(string)
		if err != nil || !isKey {
			return nil, nil, false
		}
		var raw json.RawMessage
		if err := d.Decode(&raw); err != nil {
			return nil, nil, false
		}
		var s string
		if json.Unmarshal(raw, &s) != nil {
			s = string(raw)
		}
		keys = append(keys, key)
		values[key] = s
	}
	return keys, values, true
}

func quoted(v string) string {
	if strings.ContainsAny(v, " \t\n\"") {
		return strconv.Quote(v)
	}
	return v
}

// Printable keeps what a line may not do to a terminal out of it.
func Printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' && r != '\t' || r == 0x7f || 0x80 <= r && r < 0xa0 {
			return '\uFFFD'
		}
		return r
	}, s)
}
