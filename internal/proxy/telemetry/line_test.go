package telemetry

import (
	"bytes"
	"encoding/json"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/fairlead/fairlead/internal/decision"
	"github.com/fairlead/fairlead/internal/mesh"
)

func request() decision.Record {
	return decision.Record{
		Start:      time.Date(2026, 11, 22, 20, 4, 5, 67e6, time.FixedZone("x", 3600)),
		Protocol:   decision.HTTP11,
		Downstream: netip.MustParseAddrPort("100.64.0.2:41000"),
		Original:   netip.MustParseAddrPort("240.240.0.1:80"),
		Name:       "www.baidu.com",
		Method:     []byte("GET"),
		Authority:  []byte("www.baidu.com"),
		Path:       []byte(`/a"b\c`),
		UserAgent:  []byte("curl/8"),
		Listener:   "0.0.0.0_80",
		Chain:      "http",
		Route:      "default",
		Cluster:    "outbound|80||www.baidu.com",
		Entry:      mesh.Ref{Kind: "ServiceEntry", Namespace: "default", Name: "svc-entry", File: "svc-entry.yaml", Line: 3},
		Endpoint:   netip.MustParseAddrPort("192.168.0.100:80"),
		Tries:      3,
		DNS:        decision.Stale,
		Reason:     decision.ConnectFailed,
		Flags:      decision.UF | decision.URX,
		Err:        "connection refused",
		Status:     503,
		Sent:       120,
		Duration:   1500 * time.Microsecond,
	}
}

// passed is the record of an ordinary request.
func passed() decision.Record {
	r := request()
	r.Reason, r.Flags, r.Err, r.Tries, r.DNS = decision.OK, 0, "", 1, decision.NotResolved
	r.Status, r.Details, r.Path, r.Sent = 200, "via_upstream", []byte("/some/path"), 1024
	r.VirtualHost, r.Upstream, r.UpstreamTime = "www.baidu.com:80", netip.MustParseAddrPort("192.168.0.1:40000"), time.Millisecond
	return r
}

func TestLine(t *testing.T) {
	tests := []struct {
		name string
		rec  decision.Record
		want string
	}{
		{
			"a request that failed", request(),
			`{"start_time":"2026-11-22T19:04:05.067Z","method":"GET","path":"/a\"b\\c","protocol":"HTTP/1.1","response_code":503,"response_flags":"UF,URX",` +
				`"upstream_transport_failure_reason":"connection refused","bytes_received":0,"bytes_sent":120,"duration":1,"user_agent":"curl/8","authority":"www.baidu.com",` +
				`"upstream_host":"192.168.0.100:80","downstream_local_address":"240.240.0.1:80","downstream_remote_address":"100.64.0.2:41000","upstream_cluster":"outbound|80||www.baidu.com",` +
				`"route_name":"default","entry":"ServiceEntry default/svc-entry","entry_place":"svc-entry.yaml:3","listener":"0.0.0.0_80","filter_chain":"http","dns":"stale",` +
				`"policy":"ALLOW_ANY","name":"www.baidu.com","tries":3,"why":"ServiceEntry default/svc-entry (svc-entry.yaml:3): connection to endpoint 192.168.0.100:80 failed: connection refused (tried 3 times)."}` + "\n",
		},
		{
			"a call",
			decision.Record{Start: time.Unix(0, 0), Protocol: decision.HTTP2, Method: []byte("POST"), Status: 200, Call: decision.ToCallStatus(5)},
			`{"start_time":"1970-01-01T00:00:00.000Z","method":"POST","protocol":"HTTP/2","response_code":200,"grpc_status":"NotFound","response_flags":"-",` +
				`"bytes_received":0,"bytes_sent":0,"duration":0,"policy":"ALLOW_ANY"}` + "\n",
		},
		{
			"a connection that passed",
			decision.Record{
				Start: time.Unix(0, 0), Protocol: decision.TLS, SNI: "www.baidu.com", Cluster: "PassthroughCluster",
				EndpointName: "@socket", Received: 517, Sent: 4000, Policy: mesh.RegistryOnly,
			},
			`{"start_time":"1970-01-01T00:00:00.000Z","protocol":"TLS","response_code":0,"response_flags":"-","bytes_received":517,"bytes_sent":4000,"duration":0,` +
				`"upstream_host":"@socket","upstream_cluster":"PassthroughCluster","requested_server_name":"www.baidu.com","policy":"REGISTRY_ONLY"}` + "\n",
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := new(encoder).encode(&tt.rec)
			if string(got) != tt.want {
				t.Errorf("line:\n got %s\nwant %s", got, tt.want)
			}
			if !json.Valid(got) {
				t.Error("not JSON")
			}
		})
	}
}

func TestTextIsEscapedAndCut(t *testing.T) {
	tests := []struct {
		name, in, want string
		limit          int
	}{
		{"plain", "abc", "abc", 10},
		{"plain, of several words", "GET /a/long/path?with=query HTTP/1.1", "GET /a/long/path?with=query HTTP/1.1", 100},
		{"one byte in a word", "abc\"efghijk\\lmnopqrs\x7ftuvwxyz é", `abc\"efghijk\\lmnopqrs\u007ftuvwxyz é`, 100},
		{"quotes and backslash", `a"b\`, `a\"b\\`, 10},
		{"line breaks", "a\r\nb\tc", `a\r\nb\tc`, 10},
		{"control bytes", "\x00\x1b\x7f", `\u0000\u001b\u007f`, 10},
		{"runes stay", "é日𝄞", "é日𝄞", 20},
		{"broken UTF-8", "a\xffb\xe6\x97", "a\ufffdb\ufffd\ufffd", 10},
		{"too long", "abcdef", "abc…", 3},
		{"cut within a rune", "aé", "a\ufffd…", 2},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := string(appendText(nil, tt.in, tt.limit)); got != tt.want {
				t.Errorf("appendText(%q) = %q, want %q", tt.in, got, tt.want)
			}
		})
	}
}

// Every byte, wherever it stands in a word, is told as it is told alone.
func TestTextIsTheSameWherever(t *testing.T) {
	for c := range 256 {
		alone := string(appendText(nil, []byte{byte(c)}, 10))
		for i := range 16 {
			before, after := strings.Repeat("~", i), strings.Repeat(" ", 16-i)
			want := before + alone + after
			if got := string(appendText(nil, []byte(before+string([]byte{byte(c)})+after), 100)); got != want {
				t.Errorf("byte %#x at %d: %q, want %q", c, i, got, want)
			}
		}
	}
}

// The second of a line is not that of the line before it.
func TestLinesTellTheirOwnTime(t *testing.T) {
	var e encoder
	rec := request()
	for _, ms := range []int{0, 7, 999, 1000, 1001, 60_000, 86_400_000, 0} {
		rec.Start = time.Date(2026, 12, 31, 23, 59, 59, 0, time.UTC).Add(time.Duration(ms) * time.Millisecond)
		want := `{"start_time":"` + rec.Start.Format("2006-01-02T15:04:05.000Z") + `",`
		if got := e.encode(&rec); !bytes.HasPrefix(got, []byte(want)) {
			t.Errorf("%s, want %s", got, want)
		}
	}
	rec.Start = time.Unix(0, 0)
	if got := new(encoder).encode(&rec); !bytes.HasPrefix(got, []byte(`{"start_time":"1970-01-01T00:00:00.000Z"`)) {
		t.Errorf("%s", got)
	}
}

func TestFault48ALineIsBoundedWhateverItsParts(t *testing.T) {
	rec := request()
	huge := strings.Repeat("\x00", 1<<20)
	rec.Method, rec.Path, rec.Authority = []byte(huge), []byte(huge), []byte(huge)
	rec.UserAgent, rec.RequestID = []byte(huge), []byte(huge)
	rec.SNI, rec.Err, rec.DNSError, rec.Name, rec.Reason = huge, huge, huge, huge, decision.NoEndpoint
	line := new(encoder).encode(&rec)
	if !json.Valid(line) || len(line) > 256<<10 {
		t.Errorf("line of %d bytes, valid %v", len(line), json.Valid(line))
	}
}

// FuzzLogLine checks that whatever a caller or endpoint puts into a record, the
// result is one line of valid JSON and valid UTF-8.
func FuzzLogLine(f *testing.F) {
	f.Add([]byte("/"), "curl", "www.baidu.com", "connection refused", uint8(5), uint32(1))
	f.Add([]byte("\x00\xff\"\\\n\u2028"), "\xc3", "a\xed\xa0\x80b", "\x1b[31m", uint8(2), uint32(1<<31|3))
	f.Add(bytes.Repeat([]byte("é"), maxPath), "", "", "", uint8(0), uint32(0))
	f.Fuzz(func(t *testing.T, path []byte, agent, name, failure string, reason uint8, flags uint32) {
		rec := request()
		rec.Path, rec.UserAgent, rec.Authority = path, []byte(agent), []byte(name)
		rec.Method, rec.SNI, rec.Name, rec.Route = []byte(name), name, name, name
		rec.Entry.Name, rec.Entry.File, rec.EndpointName = name, agent, failure
		rec.Err, rec.DNSError, rec.Details = failure, failure, failure
		rec.Reason, rec.Flags = decision.Reason(reason), decision.Flags(flags)
		line := new(encoder).encode(&rec)
		if !json.Valid(line) {
			t.Errorf("not JSON: %q", line)
		}
		if !utf8.Valid(line) {
			t.Errorf("not UTF-8: %q", line)
		}
		if bytes.IndexByte(line, '\n') != len(line)-1 {
			t.Errorf("not one line: %q", line)
		}
	})
}

// What an encoder remembers of one line never shows in another: whatever differs
// between two records, it writes what one that has written nothing would.
func TestLinesShareNothingButWhatIsTheSame(t *testing.T) {
	used := new(encoder)
	check := func(what string, rec *decision.Record) {
		t.Helper()
		got, want := string(used.encode(rec)), string(new(encoder).encode(rec))
		if got != want {
			t.Errorf("%s:\n got %s\nwant %s", what, got, want)
		}
	}
	base := request()
	var vary func(what string, v reflect.Value, rec *decision.Record)
	vary = func(what string, v reflect.Value, rec *decision.Record) {
		check("before "+what, &base)
		switch v.Kind() {
		case reflect.String:
			v.SetString(v.String() + "x")
		case reflect.Uint8:
			v.SetUint((v.Uint() + 1) % 2)
		case reflect.Int:
			v.SetInt(v.Int() + 1)
		case reflect.Struct:
			if v.Type() == reflect.TypeFor[mesh.Ref]() {
				for i := range v.NumField() {
					vary(what+"."+v.Type().Field(i).Name, v.Field(i), rec)
				}
				return
			}
			v.SetZero()
		default:
			return
		}
		check(what, rec)
	}
	for f := range reflect.TypeFor[decision.Record]().Fields() {
		rec := base
		vary(f.Name, reflect.ValueOf(&rec).Elem().FieldByIndex(f.Index), &rec)
	}
	long := base
	long.Entry.File = strings.Repeat("x", maxPlace+1)
	check("long", &long)
	check("after a long one", &base)
	for _, p := range used.places.slots {
		if cap(p.text) > 2*maxPlace {
			t.Errorf("%d bytes are kept", cap(p.text))
		}
	}
}

func BenchmarkLine(b *testing.B) {
	rec := passed()
	var e encoder
	b.ReportAllocs()
	for b.Loop() {
		e.encode(&rec)
	}
}
