package netns

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

// TestTheAccessLogInIstiosForms writes one request down in each form.
func TestTheAccessLogInIstiosForms(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		meshOf := func(config string) string {
			return dnsEntry + "---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    " + config + "\n"
		}
		const get = "curl -s -o /dev/null -A agent -H 'X-Request-Id: 7' http://www.baidu.com/bytes/3"
		const text = `^\[[-0-9T:.]+Z\] "GET /bytes/3 HTTP/1\.1" 200 - via_upstream - "-" 0 3 \d+ \d+ "-" "agent" "7" "www\.baidu\.com" ` +
			`"\S+:80" outbound\|80\|\|www\.baidu\.com \S+:\d+ 240\.240\.\d+\.\d+:80 \S+:\d+ - default\n$`
		for _, tt := range []struct {
			name, config, flags string
			want                func(log string) bool
		}{
			{"text of the mesh", "accessLogEncoding: TEXT", "", regexp.MustCompile(text).MatchString},
			{"text of the command line", "accessLogEncoding: JSON", "--access-log-format text", regexp.MustCompile(text).MatchString},
			{"a format", `accessLogFormat: "%REQ(USER-AGENT)% %RESP(CONTENT-LENGTH)%"`, "", func(log string) bool { return log == "agent 3\n" }},
			{"JSON of Istio", "accessLogEncoding: JSON", "", func(log string) bool {
				var line map[string]any
				err := json.Unmarshal([]byte(log), &line)
				_, ours := line["entry"]
				return err == nil && line["response_code"] == 200.0 && line["upstream_transport_failure_reason"] == nil && !ours && len(line) == 24
			}},
			{"none", `accessLogFile: ""`, "", func(log string) bool { return log == "" }},
			{"ours, whatever the file is called", "accessLogFile: /dev/stdout", "", func(log string) bool { return strings.Contains(log, `"entry":"ServiceEntry default/`) }},
		} {
			f, log := b.file("e.yaml", meshOf(tt.config)), b.Dir+"/access.log"
			b.want(tt.name, b.run("--closed --access-log "+log+" "+tt.flags+" -f "+f, get), 0)
			r := b.host("", "cat", log)
			if r.code != 0 || !tt.want(r.out) {
				b.Errorf("%s: the log is %q", tt.name, r.out)
			}
			b.want("remove", b.host("", "rm", log), 0)
		}
	})
}

// TestALogThatIsOffIsSaidToBe by whoever is asked for it.
func TestALogThatIsOffIsSaidToBe(t *testing.T) {
	asOrdinary(t, func(b *bed) {
		f := b.file("e.yaml", dnsEntry+"---\napiVersion: v1\nkind: ConfigMap\nmetadata: {name: istio, namespace: istio-system}\ndata:\n  mesh: |\n    accessLogFile: \"\"\n")
		b.background("off", "-f "+f)
		b.background("on", "--access-log-format json -f "+f)
		if r := b.fairlead("logs", "off", "--access"); r.code != 0 || r.out != "" || !strings.Contains(r.err, "The access log of off is off") {
			b.Errorf("a log that is off: %s", r)
		}
		if r := b.fairlead("logs", "on", "--access"); r.code != 0 || r.err != "" {
			b.Errorf("a log that is not: %s", r)
		}
	})
}
