package decode

import (
	"strings"
	"testing"

	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"

	"github.com/fairlead/fairlead/internal/decision"
)

// logged is a listener whose default chain has an access log.
func logged(name, log string) string {
	return `{"name":"` + name + `","address":{"socket_address":{"address":"0.0.0.0","port_value":15001}},"default_filter_chain":{"name":"c","filters":[{"name":"tcp",
		"typed_config":{"@type":"type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy","cluster":"c","stat_prefix":"c","access_log":[` + log + `]}}]}}`
}

func file(more string) string {
	return `{"name":"file","typed_config":{"@type":"type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog","path":"/dev/stdout"` + more + `}}`
}

func TestTheFormOfTheAccessLogIsVirtualOutbounds(t *testing.T) {
	for _, tt := range []struct{ name, log, want string }{
		{"text", file(`,"log_format":{"text_format_source":{"inline_string":"%BYTES_SENT% b"}}`), "7 b\n"},
		{"text in the old field", file(`,"log_format":{"text_format":"%BYTES_SENT%"}`), "7\n"},
		{"text in the oldest field", file(`,"format":"%BYTES_SENT%"`), "7\n"},
		{"JSON", file(`,"log_format":{"json_format":{"a":{"b":"%BYTES_SENT%"}}}`), `{"a":{"b":7}}` + "\n"},
		{"JSON without what is missing", file(`,"log_format":{"json_format":{"a":"%ROUTE_NAME%"},"omit_empty_values":true}`), "{}\n"},
		{"JSON in the old field", file(`,"typed_json_format":{"b":"%BYTES_SENT%"}`), `{"b":7}` + "\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			l, err := Listener("virtualOutbound", raw(t, &listenerv3.Listener{}, logged("virtualOutbound", tt.log)))
			if err != nil {
				t.Fatal(err)
			}
			if got := string(l.AccessLog.AppendLine(nil, &decision.Record{Sent: 7})); got != tt.want {
				t.Errorf("line %q, want %q", got, tt.want)
			}
		})
	}
	t.Run("a listener of traffic", func(t *testing.T) {
		l, err := Listener("0.0.0.0_80", raw(t, &listenerv3.Listener{}, logged("0.0.0.0_80", file(`,"format":"%X%"`))))
		if err != nil || l.AccessLog != nil {
			t.Errorf("%v, %v: it says nothing", l, err)
		}
	})
	t.Run("a logger of another kind", func(t *testing.T) {
		text := strings.Replace(logged("virtualOutbound", file("")), `"path":"/dev/stdout"`, "", 1)
		text = strings.ReplaceAll(strings.ReplaceAll(text, "file.v3.FileAccessLog\",", "file.v3.FileAccessLog\""), "access_loggers.file.v3.FileAccessLog", "filters.listener.original_dst.v3.OriginalDst")
		l, err := Listener("virtualOutbound", raw(t, &listenerv3.Listener{}, text))
		if err != nil || l.AccessLog != nil {
			t.Errorf("%v, %v: it is none of ours", l, err)
		}
	})
	t.Run("none", func(t *testing.T) {
		text := strings.Replace(logged("virtualOutbound", ""), `{`, `{"metadata":{"filter_metadata":{"fairlead.dev":{"access_log":false}}},`, 1)
		l, err := Listener("virtualOutbound", raw(t, &listenerv3.Listener{}, text))
		if err != nil || l.AccessLog == nil || len(l.AccessLog.AppendLine(nil, &decision.Record{})) > 0 {
			t.Errorf("%v, %v", l, err)
		}
	})
	for _, tt := range []struct{ name, log, want string }{
		{"an operator that is none", file(`,"format":"%X%"`), "default_filter_chain.filters[0].access_log[0]: operator %X%: no such operator"},
		{"a filter", strings.Replace(file(""), `{`, `{"filter":{"not_health_check_filter":{}},`, 1), "filter is not supported"},
		{"a file with the format", file(`,"log_format":{"text_format_source":{"filename":"/x"}}`), "no inline_string"},
		{"formatters", file(`,"log_format":{"text_format":"x","formatters":[{"name":"f"}]}`), "formatters is not supported"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := Listener("virtualOutbound", raw(t, &listenerv3.Listener{}, logged("virtualOutbound", tt.log)))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q in it", err, tt.want)
			}
		})
	}
}
