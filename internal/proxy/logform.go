package proxy

import (
	"fmt"
	"strings"

	"github.com/fairlead/fairlead/internal/proxy/accesslog"
	"github.com/fairlead/fairlead/internal/proxy/config"
	"github.com/fairlead/fairlead/internal/xds"
)

// A LogForm is what lines of an access log look like. It is immutable.
type LogForm struct {
	format *accesslog.Format // nil: our JSON
}

// ParseLogForm reads "json", the proxy's own form; "text", Istio's; or a text with
// operators of Envoy's between percent signs.
func ParseLogForm(s string) (*LogForm, error) {
	switch {
	case s == "json":
		return &LogForm{}, nil
	case s == "text":
		s = accesslog.Text
	case !strings.Contains(s, "%"):
		return nil, fmt.Errorf("%q is no form of an access log; use json, text, or a text with operators such as %%START_TIME%%", s)
	}
	f, err := accesslog.CompileText(s, false)
	if err != nil {
		return nil, fmt.Errorf("form of the access log: %w", err)
	}
	return &LogForm{f}, nil
}

// formatLog makes lines look as whoever started the proxy says, else as the
// configuration does.
func (p *proxy) formatLog(c *config.Config) {
	if p.o.LogForm != nil {
		return // it is in force already
	}
	var f *accesslog.Format
	if l := c.Listener(xds.VirtualOutbound); l != nil {
		f = l.AccessLog
	}
	p.log.SetFormat(f)
}
