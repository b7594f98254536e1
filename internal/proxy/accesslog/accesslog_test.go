package accesslog_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/proxy/accesslog"
)

type fields map[string]string

func (f fields) Field(name string) []byte {
	if v, ok := f[name]; ok {
		return []byte(v)
	}
	return nil
}

// request is one that went well.
func request() *decision.Record {
	return &decision.Record{
		ID:           7,
		Start:        time.Date(2026, 11, 22, 20, 5, 9, 120_456_000, time.UTC),
		Protocol:     decision.HTTP11,
		Downstream:   netip.MustParseAddrPort("192.0.0.8:40000"),
		Original:     netip.MustParseAddrPort("240.240.0.1:80"),
		Method:       []byte("GET"),
		Authority:    []byte("api.example.com"),
		Path:         []byte("/v1?q=1"),
		UserAgent:    []byte("curl/8"),
		Route:        "default",
		Cluster:      "outbound|80||api.example.com",
		Endpoint:     netip.MustParseAddrPort("192.0.2.1:8080"),
		Upstream:     netip.MustParseAddrPort("198.51.100.1:50000"),
		Tries:        1,
		Details:      "via_upstream",
		Status:       200,
		Received:     3,
		Sent:         1024,
		Duration:     15 * time.Millisecond,
		UpstreamTime: 12 * time.Millisecond,
		Request:      fields{"x-forwarded-for": "10.0.0.1", "x-a": "1"},
		Response:     fields{"server": "nginx", "grpc-status": "3"},
	}
}

// connection is one of TCP that nobody took.
func connection() *decision.Record {
	return &decision.Record{
		Start:      time.Date(2026, 11, 22, 20, 5, 9, 0, time.UTC),
		Protocol:   decision.TCP,
		Downstream: netip.MustParseAddrPort("192.0.0.8:40000"),
		Original:   netip.MustParseAddrPort("[2001:db8::1]:5432"),
		Cluster:    "BlackHoleCluster",
		Flags:      decision.UH,
	}
}

func TestIstiosTextLine(t *testing.T) {
	f, err := accesslog.CompileText(accesslog.Text, false)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name string
		rec  *decision.Record
		want string
	}{
		{"request", request(), `[2026-11-22T20:05:09.120Z] "GET /v1?q=1 HTTP/1.1" 200 - via_upstream - "-" 3 1024 15 12 "10.0.0.1" "curl/8" "-" "api.example.com" ` +
			`"192.0.2.1:8080" outbound|80||api.example.com 198.51.100.1:50000 240.240.0.1:80 192.0.0.8:40000 - default` + "\n"},
		{"connection", connection(), `[2026-11-22T20:05:09.000Z] "- - -" 0 UH - - "-" 0 0 0 - "-" "-" "-" "-" "-" BlackHoleCluster - [2001:db8::1]:5432 192.0.0.8:40000 - -` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(f.AppendLine(nil, tt.rec)); got != tt.want {
				t.Errorf("line:\n got %swant %s", got, tt.want)
			}
		})
	}
}

func TestOperators(t *testing.T) {
	tests := []struct{ format, want string }{
		{"100%%", "100%"},
		{"%REQ(X-A)% %REQ(:AUTHORITY)% %REQ(HOST)%", "1 api.example.com api.example.com"},
		{"%REQ(X-MISSING?X-A)% %REQ(X-MISSING)%", "1 -"},
		{"%REQ(USER-AGENT):4%", "curl"},
		{"%RESP(SERVER)% %TRAILER(GRPC-STATUS)%", "nginx -"},
		{"%GRPC_STATUS% %GRPC_STATUS(SNAKE_STRING)% %GRPC_STATUS(NUMBER)% %GRPC_STATUS_NUMBER%", "InvalidArgument INVALID_ARGUMENT 3 3"},
		{"%UPSTREAM_HOST% %UPSTREAM_REMOTE_ADDRESS_WITHOUT_PORT% %UPSTREAM_REMOTE_PORT%", "192.0.2.1:8080 192.0.2.1 8080"},
		{"%DOWNSTREAM_LOCAL_PORT% %DOWNSTREAM_REMOTE_ADDRESS%", "80 192.0.0.8:40000"},
		{"%START_TIME(%Y/%m/%d %H:%M:%S.%3f %%)%", "2026/11/22 20:05:09.120 %"},
		{"%START_TIME(%s%3f)% %EMIT_TIME(%6f)%", "1795377909120 135456"},
		{"%UPSTREAM_REQUEST_ATTEMPT_COUNT% %RESPONSE_DURATION% %CONNECTION_ID%", "1 12 7"},
		{"%DOWNSTREAM_TLS_VERSION% %DYNAMIC_METADATA(a:b)%", "- -"},
	}
	for _, tt := range tests {
		t.Run(tt.format, func(t *testing.T) {
			f, err := accesslog.CompileText(tt.format, false)
			if err != nil {
				t.Fatal(err)
			}
			if got := string(f.AppendLine(nil, request())); got != tt.want+"\n" {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestWhatIsNoFormatIsNamed(t *testing.T) {
	tests := []struct{ format, want string }{
		{"%REQ", `operator "%REQ" has no percent sign at its end`},
		{"%RECEIVED%", "operator %RECEIVED%: no such operator"},
		{"%REQ%", "operator %REQ%: it needs an argument"},
		{"%REQ()%", "operator %REQ()%: its argument is a header name"},
		{"%REQ(A?B?C)%", "its argument is a header name"},
		{"%REQ(A):x%", `operator %REQ(A):x%: ":x" is no length`},
		{"%REQ(A):0%", `":0" is no length`},
		{"%DURATION(1)%", "it takes no argument"},
		{"%START_TIME(%Q)%", `conversion "%Q" is not known`},
		{"%START_TIME(%3S)%", "%3 is followed by f"},
		{"%GRPC_STATUS(LOUD)%", `form "LOUD" does not exist`},
		{strings.Repeat("%DURATION% ", 600), "more than 512 operators"},
		{strings.Repeat("x", 65<<10), "longer than"},
	}
	for _, tt := range tests {
		if _, err := accesslog.CompileText(tt.format, false); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("CompileText(%.40q): error %v, want %q in it", tt.format, err, tt.want)
		}
	}
}

func TestJSONKeepsTypesAndNullsWhatIsMissing(t *testing.T) {
	f, err := accesslog.CompileJSON(map[string]any{
		"code": "%RESPONSE_CODE%", "header": "%RESP(GRPC-STATUS)%", "none": "%REQ(X-NONE)%", "mixed": "%PROTOCOL% %REQ(X-NONE)% 100%%",
		"nested": map[string]any{"ms": "%DURATION%"}, "list": []any{"%REQ(X-A)%", 1.5, true, nil}, `qu"ote`: `lit"eral`,
	}, false)
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"code":200,"header":"3","list":["1",1.5,true,null],"mixed":"HTTP/1.1 - 100%","nested":{"ms":15},"none":null,"qu\"ote":"lit\"eral"}` + "\n"
	if got := string(f.AppendLine(nil, request())); got != want {
		t.Errorf("line:\n got %swant %s", got, want)
	}
	f, err = accesslog.CompileJSON(map[string]any{"code": "%RESPONSE_CODE%", "none": "%REQ(X-NONE)%", "zone": "%ROUTE_NAME%"}, true)
	if err != nil {
		t.Fatal(err)
	}
	if got := string(f.AppendLine(nil, request())); got != `{"code":200,"zone":"default"}`+"\n" {
		t.Errorf("with empty values left out: %s", got)
	}
}

func TestIstiosJSONLineIsJSON(t *testing.T) {
	f, err := accesslog.CompileJSON(accesslog.JSON(), false)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(f.AppendLine(nil, request()), &got); err != nil {
		t.Fatal(err)
	}
	if len(got) != len(accesslog.JSON()) || got["response_code"] != 200.0 || got["upstream_cluster"] != "outbound|80||api.example.com" || got["request_id"] != nil {
		t.Errorf("line: %v", got)
	}
}

func TestFault48NothingACallerSendsEndsALine(t *testing.T) {
	evil := "a\"b\\c\r\n[fake]\x1b[31m\x00\xff\u2028"
	rec := request()
	rec.Path, rec.Authority = []byte("/"+evil), []byte(evil)
	rec.Request = fields{"x-evil": evil + strings.Repeat("x", 9<<10)}
	text, err := accesslog.CompileText("%REQ(:PATH)% %REQ(:AUTHORITY)% %REQ(X-EVIL)%", false)
	if err != nil {
		t.Fatal(err)
	}
	line := string(text.AppendLine(nil, rec))
	if i := strings.IndexFunc(line, func(r rune) bool { return r < ' ' || r >= 0x7f }); i != len(line)-1 {
		t.Errorf("byte %d of the line is not printable ASCII: %q", i, line)
	}
	if len(line) > 12<<10 {
		t.Errorf("the line has %d bytes", len(line))
	}
	object, err := accesslog.CompileJSON(map[string]any{"p": "%REQ(:PATH)%", "x": "<%REQ(X-EVIL)%>"}, false)
	if err != nil {
		t.Fatal(err)
	}
	out := object.AppendLine(nil, rec)
	var got map[string]string
	if err := json.Unmarshal(out, &got); err != nil {
		t.Fatal(err)
	}
	if want := "/" + strings.ToValidUTF8(evil, "\ufffd"); got["p"] != want || strings.Count(string(out), "\n") != 1 || !utf8.Valid(out) {
		t.Errorf("path %q, want %q; line %q", got["p"], want, out)
	}
}

func TestALineTakesNoMemory(t *testing.T) {
	f, err := accesslog.CompileText(accesslog.Text, false)
	if err != nil {
		t.Fatal(err)
	}
	rec := request()
	rec.Request = nil
	rec.UpstreamTime = 0
	buf := make([]byte, 0, 1024)
	if n := testing.AllocsPerRun(100, func() { buf = f.AppendLine(buf[:0], rec) }); n != 0 {
		t.Errorf("AppendLine allocates %v times", n)
	}
}

func FuzzCompileText(f *testing.F) {
	for _, s := range []string{accesslog.Text, "%%", "%START_TIME(%s%3f)%", "%REQ(A?B):7%", "%REQ(%)%", "%(%", "%:1%"} {
		f.Add(s)
	}
	f.Fuzz(func(_ *testing.T, format string) {
		if c, err := accesslog.CompileText(format, len(format)%2 == 0); err == nil {
			c.AppendLine(nil, request())
			c.AppendLine(nil, connection())
		}
	})
}

func TestAFormatSaysWhetherItShowsAnswers(t *testing.T) {
	for format, want := range map[string]bool{
		accesslog.Text:          false,
		"%REQ(X-A)% %DURATION%": false,
		"%RESP(SERVER)%":        true,
		"%TRAILER(X)%":          true,
		"%GRPC_STATUS%":         true,
		"%GRPC_STATUS_NUMBER%":  true,
		"%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME?SERVER)%": true,
	} {
		text, err := accesslog.CompileText(format, false)
		if err != nil {
			t.Fatal(err)
		}
		object, err := accesslog.CompileJSON(map[string]any{"a": map[string]any{"b": []any{format}}}, false)
		if err != nil {
			t.Fatal(err)
		}
		if text.AnswerFields() != want || object.AnswerFields() != want {
			t.Errorf("%s: text says %t, JSON %t, want %t", format, text.AnswerFields(), object.AnswerFields(), want)
		}
	}
	if f := accesslog.None(); f.AnswerFields() || len(f.AppendLine(nil, request())) != 0 {
		t.Error("no log has a line")
	}
	if (*accesslog.Format)(nil).AnswerFields() {
		t.Error("no format shows answers")
	}
}
