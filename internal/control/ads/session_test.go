package ads

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/internal/control/translate"
	"github.com/fairlead/fairlead/internal/golden"
	"github.com/fairlead/fairlead/internal/xds"
)

// TestSession plays the scripts in testdata. A line is an event; a line that
// begins with > is a response and is rewritten by UPDATE=1.
//
//	publish cds/a=1 -rds/80   resources that changed, with version, or went
//	ask cds a b               subscribe; no names: everything
//	known cds a=1             first request of a stream, with versions held
//	drop eds a                unsubscribe
//	ack cds 1                 response 1 was accepted
//	nack cds 1 why            response 1 was refused
//	status
func TestSession(t *testing.T) {
	files, err := filepath.Glob("testdata/*.session")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			golden.Check(t, file, play(t, file))
		})
	}
}

var short = map[string]string{
	"cds": xds.ClusterType, "eds": xds.EndpointType, "lds": xds.ListenerType,
	"rds": xds.RouteType, "vhds": xds.VirtualHostType, "name": xds.NameType,
}

func shortOf(url string) string {
	for s, u := range short {
		if u == url {
			return s
		}
	}
	return url
}

func play(t *testing.T, file string) string {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	var s Session
	var set *translate.Set
	var out strings.Builder
	now := time.Unix(0, 0)
	for sc := bufio.NewScanner(f); sc.Scan(); {
		line := sc.Text()
		if strings.HasPrefix(line, ">") {
			continue
		}
		fmt.Fprintln(&out, line)
		word := strings.Fields(line)
		if len(word) == 0 || word[0] == "#" {
			continue
		}
		req := Request{}
		if len(word) > 1 {
			req.Type = short[word[1]]
		}
		switch word[0] {
		case "publish":
			var keys []translate.Key
			set, keys = change(set, word[1:])
			s.Publish(set, keys)
		case "ask":
			req.Subscribe = word[2:]
		case "known":
			req.Held = make(map[string]string)
			for _, w := range word[2:] {
				name, version, versioned := strings.Cut(w, "=")
				if versioned {
					req.Held[name] = version
				}
				if req.Type != xds.ClusterType {
					req.Subscribe = append(req.Subscribe, name)
				}
			}
		case "drop":
			req.Unsubscribe = word[2:]
		case "ack":
			req.Nonce = word[2]
		case "nack":
			req.Nonce, req.Error = word[2], strings.Join(word[3:], " ")
		case "status":
			for _, st := range s.Status() {
				fmt.Fprintf(&out, "> %s %s resources %d sent %d acked %d nacked %d %s\n", shortOf(st.Type), st.State(), st.Resources, st.Sent, st.Acked, st.Nacked, st.Error)
			}
		default:
			t.Fatalf("unknown event %q", line)
		}
		if req.Type != "" {
			if err := s.Receive(now, req); err != nil {
				fmt.Fprintf(&out, "> end: %v\n", err)
			}
		}
		for _, r := range s.Due(now) {
			fmt.Fprintf(&out, "> %s %s:", r.Nonce, shortOf(r.Type))
			for _, x := range r.Updated {
				fmt.Fprintf(&out, " %s=%s", x.Name, x.Version)
			}
			for _, n := range r.Removed {
				fmt.Fprintf(&out, " -%s", n)
			}
			fmt.Fprintln(&out)
		}
	}
	return out.String()
}

func change(set *translate.Set, words []string) (*translate.Set, []translate.Key) {
	var keys []translate.Key
	changed := make(map[translate.Key]*translate.Resource)
	for _, w := range words {
		w, gone := strings.CutPrefix(w, "-")
		typ, rest, _ := strings.Cut(w, "/")
		name, version, _ := strings.Cut(rest, "=")
		k := translate.Key{Type: short[typ], Name: name}
		keys = append(keys, k)
		if changed[k] = nil; !gone {
			changed[k] = &translate.Resource{Key: k, Version: version}
		}
	}
	return set.With(changed), keys
}

func TestASubscriberOfTooManyNamesIsEnded(t *testing.T) {
	var s Session
	names := make([]string, maxNames+1)
	if err := s.Receive(time.Unix(0, 0), Request{Type: xds.EndpointType, Subscribe: names}); err == nil {
		t.Error("no error for more names than one client may ask for")
	}
}
