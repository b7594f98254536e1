package api

import (
	"encoding/json"
	"errors"
	"io"
	"strings"

	meshv1 "istio.io/api/mesh/v1alpha1"

	"github.com/fairlead/fairlead/internal/config"
	"github.com/fairlead/fairlead/internal/proxy/accesslog"
)

const (
	logFile     = "accessLogFile"
	logFormat   = "accessLogFormat"
	logEncoding = "accessLogEncoding"
)

// accessLog is what a valid mesh-wide configuration says of the access log. Who
// says nothing of its form does not choose one, and who writes accessLogFile as
// an empty text, Istio's word for it, wants none.
func accessLog(o *Object, m *meshv1.MeshConfig) config.AccessLog {
	if m.AccessLogFile == "" && o.has(join(meshField, logFile)) {
		return config.AccessLog{Off: true}
	}
	l := config.AccessLog{File: m.AccessLogFile}
	switch {
	case m.AccessLogEncoding == meshv1.MeshConfig_JSON && m.AccessLogFormat != "":
		l.Fields, _ = jsonFormat(m.AccessLogFormat) // it was validated
	case m.AccessLogEncoding == meshv1.MeshConfig_JSON:
		l.Fields = accesslog.JSON()
	case m.AccessLogFormat != "":
		l.Text = m.AccessLogFormat
	case o.has(join(meshField, logEncoding)):
		l.Text = accesslog.Text
	}
	return l
}

// accessLog checks that the format can be read.
func (v *validator) accessLog(m *meshv1.MeshConfig) {
	if m.AccessLogFormat == "" {
		return
	}
	field := join(meshField, logFormat)
	if m.AccessLogEncoding != meshv1.MeshConfig_JSON {
		if _, err := accesslog.CompileText(m.AccessLogFormat, false); err != nil {
			v.err(field, "%v", err)
		}
		return
	}
	object, err := jsonFormat(m.AccessLogFormat)
	if err != nil {
		v.err(field, "is no JSON object, which %s: JSON asks for: %v", logEncoding, err)
		return
	}
	if _, err := accesslog.CompileJSON(object, false); err != nil {
		v.err(field, "%v", err)
	}
}

// jsonFormat reads a format of JSON.
func jsonFormat(text string) (object map[string]any, err error) {
	d := json.NewDecoder(strings.NewReader(text))
	if err := d.Decode(&object); err != nil {
		return nil, err
	}
	if object == nil {
		return nil, errors.New("it is null")
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("more follows behind the object")
	}
	return object, nil
}
