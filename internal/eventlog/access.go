package eventlog

import (
	"cmp"
	"io"
	"strings"
	"time"
)

// ShowAccess copies the lines of an access log to w in a form for people, one
// line for each request or connection:
//
//	20:36:44 GET http://www.baidu.com/path 503 UF,URX 12ms -> 192.168.0.100:80 outbound|80||www.baidu.com  ServiceEntry default/a …
//	20:36:45 TLS www.baidu.com 240.0.0.1:443 - 30ms -> 103.235.46.115:443 outbound|443||www.baidu.com
//
// Where no flag tells that Fairlead ended it, a word does. What is not known is left out, and a line that is no record is copied. The
// last line need not be whole.
func ShowAccess(w io.Writer, r io.Reader) error { return show(w, r, humanAccess) }

// humanAccess rewrites one line.
func humanAccess(line []byte) string {
	_, v, ok := fields(line)
	if !ok || v["start_time"] == "" || v["response_flags"] == "" {
		return Printable(string(line))
	}
	var words []string
	say := func(word string) {
		if word != "" {
			words = append(words, word)
		}
	}
	if t, err := time.Parse(time.RFC3339Nano, v["start_time"]); err == nil {
		say(t.Local().Format(time.TimeOnly))
	}
	if v["method"] != "" || strings.HasPrefix(v["protocol"], "HTTP") {
		say(cmp.Or(v["method"], "-"))
		say(target(v))
		say(v["response_code"])
		if s := v["grpc_status"]; s != "OK" && s != "0" {
			say(s)
		}
	} else {
		say(v["protocol"])
		say(cmp.Or(v["requested_server_name"], v["name"]))
		say(v["downstream_local_address"])
	}
	say(ended(v))
	if v["duration"] != "" {
		say(v["duration"] + "ms")
	}
	if v["upstream_host"] != "" {
		say("-> " + v["upstream_host"])
	}
	say(v["upstream_cluster"])
	if v["why"] != "" {
		say(" " + v["why"])
	}
	return Printable(strings.Join(words, " "))
}

// target is what a request was for: a URL, the host and port of a CONNECT, or,
// of one that was not understood, what there is.
func target(v map[string]string) string {
	origin, path := "http://"+cmp.Or(v["authority"], v["downstream_local_address"]), v["path"]
	switch {
	case v["method"] == "CONNECT":
		return cmp.Or(path, v["authority"], v["downstream_local_address"])
	case path == "" || path[0] == '/' || path[0] == '?':
		return origin + path
	case strings.Contains(path, "://"): // a URL without a path
		return path
	}
	return origin + " " + path // OPTIONS *
}

// ended is how a request or connection ended in one word: its flags, or, where
// Envoy has none for what happened, what Envoy's details or ours call it. A dash
// says that nothing happened.
func ended(v map[string]string) string {
	flags, details := v["response_flags"], v["response_code_details"]
	switch {
	case flags != "-" || v["why"] == "":
		return flags
	case details == "direct_response": // with a reason: the policy's
		return "undeclared"
	}
	return cmp.Or(details, "refused")
}
