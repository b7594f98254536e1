package decode

import (
	"errors"
	"fmt"

	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	listenerv3 "github.com/envoyproxy/go-control-plane/envoy/config/listener/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	tcpproxyv3 "github.com/envoyproxy/go-control-plane/envoy/extensions/filters/network/tcp_proxy/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/proxy/accesslog"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// logReason is why access_log may be ignored but in one place.
const logReason = "lines look as the default chain of virtualOutbound says"

// logFormat reads from virtualOutbound what lines of the access log look like: all
// of a proxy look alike, and this listener is always there.
func logFormat(l *config.Listener, m *listenerv3.Listener) error {
	if l.Name != xds.VirtualOutbound {
		return nil
	}
	if v := m.GetMetadata().GetFilterMetadata()[xds.MetadataKey].GetFields()[xds.AccessLogKey]; v != nil {
		x, ok := v.GetKind().(*structpb.Value_BoolValue)
		if !ok {
			return fmt.Errorf("metadata.filter_metadata[%s].%s is neither true nor false", xds.MetadataKey, xds.AccessLogKey)
		}
		if !x.BoolValue {
			l.AccessLog = accesslog.None()
			return nil
		}
	}
	for _, f := range m.GetDefaultFilterChain().GetFilters() {
		var t tcpproxyv3.TcpProxy
		if !f.GetTypedConfig().MessageIs(&t) {
			continue
		}
		if err := unmarshal(f.GetTypedConfig().GetValue(), &t); err != nil {
			return err // which chain has told already
		}
		for i, log := range t.GetAccessLog() {
			p := index("default_filter_chain.filters[0].access_log", i)
			format, err := fileLog(p, log)
			if err != nil {
				return fmt.Errorf("%s: %w", p, err)
			}
			if format != nil {
				l.AccessLog = format
				return nil
			}
		}
	}
	return nil
}

// fileLog returns nil for a logger of another kind: which there are beside the
// proxy's own is not its affair.
func fileLog(path string, m *accesslogv3.AccessLog) (*accesslog.Format, error) {
	var file filev3.FileAccessLog
	if !m.GetTypedConfig().MessageIs(&file) {
		return nil, nil //nolint:nilnil // as said above
	}
	if m.GetFilter() != nil {
		return nil, errors.New("filter is not supported by this proxy")
	}
	if err := unmarshal(m.GetTypedConfig().GetValue(), &file); err != nil {
		return nil, err
	}
	fields := fieldSet{
		"path":   "the proxy was told its file when it was started",
		"format": acted, "json_format": acted, "typed_json_format": acted, "log_format": acted,
	}
	if err := fields.check(join(path, "typed_config"), &file); err != nil {
		return nil, err
	}
	switch f := file.GetAccessLogFormat().(type) {
	case *filev3.FileAccessLog_Format:
		return accesslog.CompileText(f.Format, false)
	case *filev3.FileAccessLog_JsonFormat:
		return accesslog.CompileJSON(f.JsonFormat.AsMap(), false)
	case *filev3.FileAccessLog_TypedJsonFormat:
		return accesslog.CompileJSON(f.TypedJsonFormat.AsMap(), false)
	case *filev3.FileAccessLog_LogFormat:
		return substitution(join(path, "typed_config.log_format"), f.LogFormat)
	}
	return accesslog.CompileText(accesslog.Text, false)
}

func substitution(path string, m *corev3.SubstitutionFormatString) (*accesslog.Format, error) {
	fields := fieldSet{
		"text_format": acted, "text_format_source": acted, "json_format": acted, "omit_empty_values": acted,
		"json_format_options": "members are always written in the order of their keys",
		"content_type":        "lines have none",
	}
	if err := fields.check(path, m); err != nil {
		return nil, err
	}
	switch f := m.GetFormat().(type) {
	case *corev3.SubstitutionFormatString_TextFormat:
		return accesslog.CompileText(f.TextFormat, m.GetOmitEmptyValues())
	case *corev3.SubstitutionFormatString_TextFormatSource:
		if s, ok := f.TextFormatSource.GetSpecifier().(*corev3.DataSource_InlineString); ok {
			return accesslog.CompileText(s.InlineString, m.GetOmitEmptyValues())
		}
		return nil, errors.New("text_format_source: no inline_string, and this proxy supports nothing else")
	case *corev3.SubstitutionFormatString_JsonFormat:
		return accesslog.CompileJSON(f.JsonFormat.AsMap(), m.GetOmitEmptyValues())
	}
	return nil, errors.New("log_format: no format")
}
