package eventlog

import (
	"bytes"
	"regexp"
	"strings"
	"testing"
)

func TestRecordsAreShownOnOneLine(t *testing.T) {
	clock := regexp.MustCompile(`^\d\d:\d\d:\d\d `)
	const start = `{"start_time":"2026-11-22T19:04:05.067Z",`
	for _, tt := range []struct{ name, line, want string }{
		{
			"a request that failed",
			start + `"method":"GET","path":"/p","protocol":"HTTP/1.1","response_code":503,"response_flags":"UF,URX","duration":12,"authority":"a.example","upstream_host":"192.168.0.100:80","upstream_cluster":"outbound|80||a.example","why":"no route"}`,
			"GET http://a.example/p 503 UF,URX 12ms -> 192.168.0.100:80 outbound|80||a.example  no route",
		},
		{
			"a connection",
			start + `"protocol":"TLS","response_code":0,"response_flags":"-","duration":0,"downstream_local_address":"192.0.2.1:443","requested_server_name":"a.example"}`,
			"TLS a.example 192.0.2.1:443 - 0ms",
		},
		{
			"a request that could not be read",
			start + `"protocol":"HTTP/1.1","response_code":400,"response_flags":"DPE","duration":1,"downstream_local_address":"192.0.2.1:80"}`,
			"- http://192.0.2.1:80 400 DPE 1ms",
		},
		{
			"a tunnel",
			start + `"method":"CONNECT","path":"a.example:443","protocol":"HTTP/1.1","response_code":502,"response_flags":"UF","duration":1,"authority":"a.example:443"}`,
			"CONNECT a.example:443 502 UF 1ms",
		},
		{
			"a tunnel that says no port",
			start + `"method":"CONNECT","path":"a","protocol":"HTTP/1.1","response_code":400,"response_flags":"DPE","duration":1,"authority":"a"}`,
			"CONNECT a 400 DPE 1ms",
		},
		{
			"a question about the server itself",
			start + `"method":"OPTIONS","path":"*","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","duration":1,"authority":"a.example"}`,
			"OPTIONS http://a.example * 200 - 1ms",
		},
		{
			"a URL without a path",
			start + `"method":"GET","path":"http://a.example","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","duration":1,"authority":"a.example"}`,
			"GET http://a.example 200 - 1ms",
		},
		{
			"a URL that is all query",
			start + `"method":"GET","path":"?q","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","duration":1,"authority":"a.example"}`,
			"GET http://a.example?q 200 - 1ms",
		},
		{
			"a connection to a port that another host holds",
			start + `"protocol":"TCP","response_code":0,"response_flags":"-","response_code_details":"port_held","duration":0,"downstream_local_address":"192.0.2.1:3306","why":"port 3306 is refused"}`,
			"TCP 192.0.2.1:3306 port_held 0ms  port 3306 is refused",
		},
		{
			"a call of gRPC that failed",
			start + `"method":"POST","path":"/a.B/C","protocol":"HTTP/2","response_code":200,"grpc_status":"NotFound","response_flags":"-","duration":0,"authority":"a"}`,
			"POST http://a/a.B/C 200 NotFound - 0ms",
		},
		{
			"a call of gRPC that did not",
			start + `"method":"POST","path":"/a.B/C","protocol":"HTTP/2","response_code":200,"grpc_status":"OK","response_flags":"-","duration":0,"authority":"a"}`,
			"POST http://a/a.B/C 200 - 0ms",
		},
		{
			"a call of gRPC that the policy refused, whose status is always 200",
			start + `"method":"POST","path":"/a.B/C","protocol":"HTTP/2","response_code":200,"response_flags":"-","response_code_details":"direct_response","duration":0,"authority":"a","why":"a is not declared"}`,
			"POST http://a/a.B/C 200 undeclared 0ms  a is not declared",
		},
		{
			"an answer that the configuration gives is no refusal",
			start + `"method":"GET","path":"/","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","response_code_details":"direct_response","duration":0,"authority":"a"}`,
			"GET http://a/ 200 - 0ms",
		},
		{
			"a loop",
			start + `"protocol":"TCP","response_code":0,"response_flags":"-","duration":0,"downstream_local_address":"127.0.0.1:80","why":"a loop"}`,
			"TCP 127.0.0.1:80 refused 0ms  a loop",
		},
		{
			"control characters do not reach the terminal",
			start + `"method":"GET","path":"/\u001b[2J\n","protocol":"HTTP/1.1","response_code":200,"response_flags":"-","duration":1,"authority":"a"}`,
			"GET http://a/\uFFFD[2J\uFFFD 200 - 1ms",
		},
		{"no record", `{"a":"` + "\x1b" + `"}`, `{"a":"` + "\uFFFD" + `"}`},
	} {
		var shown bytes.Buffer
		if err := ShowAccess(&shown, strings.NewReader(tt.line)); err != nil {
			t.Fatal(err)
		}
		if got := clock.ReplaceAllString(shown.String(), ""); got != tt.want+"\n" {
			t.Errorf("%s:\ngot  %qwant %q", tt.name, got, tt.want)
		}
	}
}
