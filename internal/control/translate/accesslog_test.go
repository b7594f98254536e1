package translate

import (
	"slices"
	"strings"
	"testing"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	hcmv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/http_connection_manager/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/proto"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/mesh"
	"github.com/fairlead/fairlead/internal/xds"
)

// meshed is a Source with a mesh-wide configuration of its own.
type meshed struct {
	services
	mesh config.Mesh
}

func (m meshed) Mesh() config.Mesh { return m.mesh }

// logsOf are the formats of every chain of every listener; "" where there is none.
func logsOf(t *testing.T, s *Set) (formats []string, off bool) {
	t.Helper()
	must := func(err error) {
		if err != nil {
			t.Fatal(err)
		}
	}
	for r := range s.WithPrefix(xds.ListenerType, "") {
		var l listenerv3.Listener
		must(proto.Unmarshal(r.Body.GetValue(), &l))
		if v := l.GetMetadata().GetFilterMetadata()[xds.MetadataKey].GetFields()[xds.AccessLogKey]; v != nil {
			off = r.Name == xds.VirtualOutbound && !v.GetBoolValue()
		}
		for _, c := range append(l.GetFilterChains(), l.GetDefaultFilterChain()) {
			filter := c.GetFilters()[0].GetTypedConfig()
			var hcm hcmv3.HttpConnectionManager
			var tcp tcpproxyv3.TcpProxy
			var logs []*accesslogv3.AccessLog
			if filter.MessageIs(&hcm) {
				must(filter.UnmarshalTo(&hcm))
				logs = hcm.GetAccessLog()
			} else {
				must(filter.UnmarshalTo(&tcp))
				logs = tcp.GetAccessLog()
			}
			format := ""
			for _, log := range logs {
				var file filev3.FileAccessLog
				must(log.GetTypedConfig().UnmarshalTo(&file))
				f := file.GetLogFormat()
				format = file.GetPath() + " " + f.GetTextFormatSource().GetInlineString()
				if j := f.GetJsonFormat(); j != nil {
					format += j.GetFields()["ms"].GetStringValue() + " of JSON"
				}
			}
			formats = append(formats, format)
		}
	}
	return formats, off
}

func TestAChosenFormOfLogIsInEachChain(t *testing.T) {
	all := services{"x.example": service("x.example", mesh.HTTP, 80), "y.example": service("y.example", mesh.TCP, 5432)}
	for _, tt := range []struct {
		name string
		log  config.AccessLog
		want string
		off  bool
	}{
		{"none is chosen", config.AccessLog{}, "", false},
		{"a file alone is no form", config.AccessLog{File: "/dev/stderr"}, "", false},
		{"no log is wanted", config.AccessLog{Off: true}, "", true},
		{"text", config.AccessLog{Text: "%DURATION%"}, "/dev/stdout %DURATION%", false},
		{"JSON to a file", config.AccessLog{File: "/tmp/log", Fields: map[string]any{"ms": "%DURATION%"}}, "/tmp/log %DURATION% of JSON", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			m := config.Default()
			m.AccessLog = tt.log
			tr, _ := New(View{Namespace: "default", Policy: mesh.RegistryOnly}, meshed{all, m})
			formats, off := logsOf(t, tr.Set())
			if len(formats) < 5 || slices.ContainsFunc(formats, func(f string) bool { return f != tt.want }) || off != tt.off {
				t.Errorf("formats %s, off %t; want %q in each, off %t", strings.Join(formats, "|"), off, tt.want, tt.off)
			}
		})
	}
}
