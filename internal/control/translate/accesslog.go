package translate

import (
	accesslogv3 "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	corev3 "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	filev3 "github.com/envoyproxy/go-control-plane/envoy/extensions/access_loggers/file/v3"
	"google.golang.org/protobuf/types/known/structpb"

	"github.com/fairlead/fairlead/internal/config"
)

// defaultLogFile is where lines go whose file nobody named: Istio's.
const defaultLogFile = "/dev/stdout"

// accessLogs makes what listeners say of lines whose form was chosen. Each chain
// has them, since that is where Envoy looks; they are packed once.
func accessLogs(l config.AccessLog) []*accesslogv3.AccessLog {
	if !l.IsSet() {
		return nil
	}
	format := &corev3.SubstitutionFormatString{}
	if l.Fields != nil {
		fields, err := structpb.NewStruct(l.Fields)
		if err != nil {
			panic("translate: " + err.Error()) // it is decoded JSON, or ours
		}
		format.Format = &corev3.SubstitutionFormatString_JsonFormat{JsonFormat: fields}
	} else {
		format.Format = &corev3.SubstitutionFormatString_TextFormatSource{TextFormatSource: &corev3.DataSource{
			Specifier: &corev3.DataSource_InlineString{InlineString: l.Text},
		}}
	}
	path := l.File
	if path == "" {
		path = defaultLogFile
	}
	return []*accesslogv3.AccessLog{{
		Name: "envoy.access_loggers.file",
		ConfigType: &accesslogv3.AccessLog_TypedConfig{TypedConfig: pack(&filev3.FileAccessLog{
			Path:            path,
			AccessLogFormat: &filev3.FileAccessLog_LogFormat{LogFormat: format},
		})},
	}}
}
